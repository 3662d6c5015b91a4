"""The kernels of what surrounds the chain, asked for in a radiance field's words; None where torch has to do it.

Which ones, the field's `backend` says: those of the CPU, Triton's for a GPU, or none.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lg_field.ops.backends import may_take
from lg_field.ops.backends.cpu import colors as surface_colors
from lg_field.ops.backends.cpu import encode, light, looks, march, rounds, shade
from lg_field.ops.backends.triton import encode as triton_encode
from lg_field.ops.backends.triton import march as triton_march
from lg_field.ops.backends.triton import shade as triton_shade
from lg_field.ops.sizes import ChainSizes
from lg_field.ops.sorting import RowSort
from lg_field.radiance.compositing import Samples, depths
from lg_field.radiance.hash_grid import HashGrid
from lg_field.radiance.sampling import steps_of_rays, to_steps
from lg_field.radiance.sizes import RadianceSizes
from lg_field.radiance.trainable import shared_tensors, trainable_shared

if TYPE_CHECKING:
    from lg_field.radiance.field import RadianceField
    from lg_field.radiance.volume import Volume

ENCODERS = {"cpu": encode, "triton": triton_encode}
SHADERS = {"cpu": shade, "triton": triton_shade}
"""Backend -> its kernels."""


def _first(field: RadianceField, kernels: Mapping[str, ModuleType], *asked: Any) -> Any:
    """The first kernels that the field's backend allows and that can do what is asked for; None: there are none."""
    usable = (m for name, m in kernels.items() if may_take(field.backend, name) and m.why_not(*asked) is None)
    return next(usable, None)


def fused_inputs(field: RadianceField, unit: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor | None] | None:
    """`RadianceField`'s inputs of the chain at points sorted by row; None where the kernel cannot do it.

    Args:
        field: the field.
        unit: (M, 3) unit coordinates.
        offsets: (P + 1,) first point of each row, then M.
    """
    asked = _reads(field, unit)
    if asked is None:
        return None
    wanted, entries = asked
    kernels = _first(field, ENCODERS, wanted, unit, field.features, entries)
    if kernels is None:
        return None
    rows = field._trainable_rows(field.features)
    local_x, global_x = kernels.encode(unit, offsets, field.occupancy.corners(), rows, entries, wanted)
    return local_x, global_x if wanted.has_global else None


def _reads(field: RadianceField, unit: Tensor) -> tuple[encode.EncodeSizes, Tensor] | None:
    """What the chain reads of points, and the entries of the shared grid, (0, 0) without one; None where no kernel
    knows it."""
    wanted, table = _sizes_read(field), field.hash_table
    if wanted is None:
        return None
    entries = unit.new_empty(0, 0)
    if table is not None and wanted.has_global:
        lines = field.kept_lines["hash_table"]
        learns = torch.is_grad_enabled()
        entries = lines.spread(field._trainable_lines(table)) if learns else lines.spread_once(table)
    return wanted, entries


def _sizes_read(field: RadianceField) -> encode.EncodeSizes | None:
    """What the chain reads of points; None where no kernel knows it."""
    grid = field.hash_grid
    if not field.features.shape[1] or (
        grid is not None and field.implementation == "tcnn" and field.hash_table is not None
    ):
        return None
    return _encode_sizes(field.frame.origin.counts, field.sizes, field.chain, grid)


@functools.lru_cache(maxsize=64)
def _encode_sizes(
    counts: tuple[int, ...], sizes: RadianceSizes, chain: ChainSizes, grid: HashGrid | None
) -> encode.EncodeSizes:
    has_global = chain.global_width > 0
    levels = {} if grid is None or not has_global else _levels(grid)
    return encode.EncodeSizes(
        counts=counts,  # type: ignore[arg-type]
        nodes=sizes.grid_nodes,
        grid_features=sizes.grid_features,
        local_frequencies=sizes.local_frequencies,
        global_frequencies=sizes.global_frequencies,
        has_global=has_global,
        grid_in_global=has_global and sizes.global_reads_grid and chain.local_width > 0,
        **levels,
    )


def _levels(grid: HashGrid) -> dict[str, int]:
    return {
        "levels": grid.levels,
        "level_features": grid.features,
        "log2_size": grid.log2_size,
        "base_res": grid.base_res,
    }


def fused_march(
    field: RadianceField,
    origins: Tensor,
    directions: Tensor,
    near: Tensor,
    far: Tensor,
    step: float,
    linear: float | None,
    jitter: bool,
    block: int,
) -> Samples | None:
    """`sampling.march` through the field's occupied voxels, whose arguments these are; None where torch has to do it.

    Args:
        block: steps to look at together; 1: there are no such looks.
    """
    grid, rays = field.occupancy, (origins, directions)
    if grid.dense().numel() >= 2**31:
        return None
    if may_take(field.backend, "cpu") and march.why_not(*rays, near, far) is None:
        s_near, s_far, count, shift = steps_of_rays(near, far, step, linear, jitter)
        near_voxels = grid.near() if block > 1 else None
        looks = step, count, voxels_of(field), grid.dense(), linear, block, near_voxels
        found = march.march_voxels(rays, (s_near, s_far), shift, *looks)
    elif may_take(field.backend, "triton") and triton_march.why_not(*rays, near, far) is None:
        shift = torch.rand_like(near) - 0.5 if jitter else torch.zeros_like(near)
        span = to_steps(near, linear), to_steps(far, linear)
        found = triton_march.march_voxels(rays, span, shift, step, voxels_of(field), grid.dense(), linear)
    else:
        return None
    samples = Samples(*found)
    if field.region is None:
        return samples
    inside = field.region.contains(samples.positions(origins, directions)).nonzero()[:, 0]
    return Samples(*(values[inside] for values in samples))


def asks_at_once(field: RadianceField, origins: Tensor, directions: Tensor) -> bool:
    """Whether a training step should ask for everything in one go (`at_once.py`): on a GPU, and where the CPU's kernels
    do it, who leave out what is not needed."""
    if not origins.is_cpu:
        return True
    if field.sizes.color_width or origins.requires_grad or not may_take(field.backend, "cpu"):
        return False
    near, can_march = origins[:, 0], march.why_not(origins, directions) is None
    return can_march and _can_look(field, origins, directions) and can_light(field, near, directions, near)


def _can_look(field: RadianceField, unit: Tensor, directions: Tensor) -> bool:
    """Whether the CPU's kernels can say what samples look like (`looks.why_not`)."""
    wanted, tables = _sizes_read(field), [field.local, field.features]
    if wanted is None:
        return False
    tables += [] if field.hash_table is None else [field.hash_table]
    shared = shared_tensors(field)
    return looks.why_not(wanted, field.chain, unit, directions, *tables, shared=shared) is None


def fused_place(
    field: RadianceField, origins: Tensor, directions: Tensor, samples: Samples
) -> tuple[Tensor, Tensor] | None:
    """(M, 3) unit coordinates of samples and (M,) `places_of_voxels` of the voxels they are in; None where torch has to
    find them."""
    if not may_take(field.backend, "cpu") or march.why_not(origins, directions, samples.starts) is not None:
        return None
    places = field.occupancy.places_of_voxels()
    intervals = samples.rays, samples.starts, samples.ends
    return march.place((origins, directions), intervals, voxels_of(field), places)


def fused_owners(
    field: RadianceField, origins: Tensor, directions: Tensor, samples: Samples
) -> tuple[Tensor, Tensor] | None:
    """`RadianceField.owners` of samples in the field's occupied voxels; None where torch has to find them."""
    found = None if origins.requires_grad else fused_place(field, origins, directions, samples)
    return None if found is None else (found[0], rows_of_places(field, *found))


def rows_of_places(field: RadianceField, unit: Tensor, places: Tensor) -> Tensor:
    """(M,) the row that owns each of (M, 3) unit coordinates, in voxels of (M,) `places_of_voxels`."""
    grid = field.occupancy
    if grid.voxels_tell_rows:
        return torch.div(places, grid.per_axis**3, rounding_mode="floor")
    return field.rows_of_unit(unit)


def voxels_of(field: RadianceField) -> march.Voxels:
    """Where the field's voxels are."""
    frame, origin = field.frame, field.frame.origin
    return march.Voxels(
        counts=frame.grid.counts,  # type: ignore[arg-type]
        per_axis=field.occupancy.per_axis,
        lower=origin.lower,  # type: ignore[arg-type]
        upper=origin.upper,  # type: ignore[arg-type]
        cells=origin.counts,  # type: ignore[arg-type]
        shift=frame.shift,  # type: ignore[arg-type]
        contraction=frame.contraction,
    )


@functools.singledispatch
def fused_look(
    field: RadianceField, unit: Tensor, rows: Tensor, rays: Tensor, directions: Tensor
) -> tuple[Tensor, Tensor, Tensor] | None:
    """`RadianceField.looks`, whose arguments these are, in one operation; None where the kernels cannot do it.

    Fields whose rows are elsewhere register theirs."""
    if not unit.is_cpu or not may_take(field.backend, "cpu"):
        return None
    asked = _reads(field, unit) if _can_look(field, unit, directions) else None
    if asked is None:
        return None
    inputs, entries = asked
    tables, shared = (
        (field._trainable_rows(field.local), field._trainable_rows(field.features), entries),
        trainable_shared(field),
    )
    places = unit, *encode.sort_points(rows, field.num_rows)
    sizes, corners = (inputs, field.chain), field.occupancy.corners()
    how = field.sizes.density_bias, _contracted(field)
    return looks.look(places, (rays, directions), corners, tables, shared, sizes, *how)


def _contracted(field: RadianceField) -> shade.Box | None:
    """The box of unit coordinates, where networks say densities per length of contracted space."""
    frame = field.frame
    if not (frame.contraction and frame.contracted_density):
        return None
    lower, size = frame.corner_and_size
    return lower, size


def fused_density(field: RadianceField, positions: Tensor, held: bool = False) -> Tensor | None:
    """(M,) density per scene unit at (M, 3) scene points, without gradients; None where the kernels cannot find it.

    Args:
        held: 0 where no voxel is occupied, and outside of the exact region.
    """
    grid = field.occupancy
    if torch.is_grad_enabled() or not may_take(field.backend, "cpu") or march.why_not(positions) is not None:
        return None
    places, occupied = grid.places_of_voxels(), grid.dense() if held else None
    unit, voxels = march.find(positions, voxels_of(field), places, occupied)
    rows = torch.where(voxels >= 0, rows_of_places(field, unit, voxels), -1)
    if field.region is not None:
        rows = torch.where(field.region.contains(positions), rows, -1)
    return fused_density_of(field, unit, rows)


@functools.singledispatch
def fused_density_of(field: RadianceField, unit: Tensor, rows: Tensor) -> Tensor | None:
    """`fused_density` at (M, 3) unit coordinates, by (M,) rows (-1: none)."""
    tables = [t for t in (field.local, field.features, field.hash_table) if t is not None]
    wanted, shared = _sizes_read(field), trainable_shared(field)
    if wanted is None or looks.why_not_density(wanted, field.chain, unit, *tables, shared=shared) is not None:
        return None
    read = _reads(field, unit)
    if read is None:
        return None
    points, corners = (unit, *encode.sort_points(rows, field.num_rows)), field.occupancy.corners()
    sizes, how = (read[0], field.chain), (field.sizes.density_bias, _contracted(field))
    return looks.density(points, corners, (field.local, field.features, read[1]), shared, sizes, *how)


def fused_colors(
    field: Volume, features: Tensor, points: Tensor, inward: Tensor, places: Tensor, grazing: float
) -> Tensor | None:
    """`colors.facing_colors`, whose arguments these are; None where torch has to find them."""
    given = features, points, inward, places
    if not may_take(field.backend, "cpu") or surface_colors.why_not(*given) is not None:
        return None
    return surface_colors.facing_colors(*given, grazing)


def fused_rounds(
    field: RadianceField,
    origins: Tensor,
    directions: Tensor,
    samples: Samples,
    sizes: Iterable[int],
    least_light: float,
) -> tuple[Samples, Tensor, Tensor, Tensor] | None:
    """Samples in the field's occupied voxels asked front to back: those that were asked, and `RadianceField.looks` of
    them. None where the kernels cannot do it.

    Args:
        field: the field.
        origins: (N, 3) scene units.
        directions: (N, 3) unit vectors.
        samples: M packed ones.
        sizes: samples of each ray in each round.
        least_light: transmittance at which a ray ends; 0: never.
    """
    grid, frame = field.occupancy, field.frame
    if (
        field.sizes.color_width
        or field.rows_elsewhere
        or not (grid.voxels_tell_rows and may_take(field.backend, "cpu"))
    ):
        return None
    if torch.is_grad_enabled() or rounds.why_not(origins, directions, samples.starts) is not None:
        return None
    asked = _reads(field, origins) if _can_look(field, origins, directions) else None
    if asked is None:
        return None
    inputs, entries = asked
    where, tables = (
        (voxels_of(field), grid.places_of_voxels(), grid.corners()),
        (field.local, field.features, entries),
    )
    limit = -math.log(least_light) if least_light > 0.0 else math.inf
    wiring, bias = (inputs, field.chain), field.sizes.density_bias
    scaled = frame.contraction and frame.contracted_density
    found, looked = rounds.look_in_rounds(
        (origins, directions),
        (samples.rays, samples.starts, samples.ends),
        where,
        tables,
        shared_tensors(field),
        wiring,
        bias,
        (sizes, limit),
        scaled,
    )
    return Samples(*found), *looked


def fused_shade(
    field: RadianceField, out: Tensor, by_row: RowSort, rays: Tensor, directions: Tensor
) -> tuple[Tensor, Tensor, Tensor] | None:
    """`RadianceField.looks`'s results from the chain's (n, 28) outputs; None where torch has to do it.

    Args:
        field: a field without a colour layer.
        out: of the samples that have a row, sorted by row.
        by_row: how they were sorted.
        rays: (M,) ray of each sample.
        directions: (N, 3) of the rays.
    """
    kernels = _first(field, SHADERS, out, directions)
    if kernels is None:
        return None
    density, rgb, dependence = kernels.shade(out, by_row.order, rays, directions, field.sizes.density_bias)
    if by_row.kept is not None:  # samples without a row were sorted to some row
        density, dependence = (torch.where(by_row.kept, values, 0.0) for values in (density, dependence))
    return density, rgb, dependence


def fused_composite(
    field: Volume, density: Tensor, colors: Tensor, samples: Samples, num_rays: int, far: float
) -> tuple[Tensor, Tensor, Tensor] | None:
    """`compositing.composite`, whose arguments these are; None where torch has to do it."""
    lit = fused_light(field, density, colors, samples, num_rays)
    if lit is not None:
        return seen_of_sums(lit[1], far)
    if not may_take(field.backend, "triton") or triton_shade.why_not_composite(density, colors, samples.starts):
        return None
    seen = triton_shade.composite(density, colors, *samples, num_rays)
    return seen_of_sums(seen, far)


def can_light(field: Volume, density: Tensor, colors: Tensor, starts: Tensor) -> bool:
    """Whether `fused_light` finds the light of samples with such (M,) densities, (M, 3) colours and (M,) distances."""
    return may_take(field.backend, "cpu") and light.why_not(density, colors, starts) is None


def fused_light(
    field: Volume, density: Tensor, colors: Tensor, samples: Samples, num_rays: int, least_light: float = 0.0
) -> tuple[Tensor, Tensor, Tensor] | None:
    """(M,) weights, (N, 5) what rays see and (M,) light that gets through to samples: `light.light`, whose arguments
    these are; None where its kernel cannot do it."""
    if not can_light(field, density, colors, samples.starts):
        return None
    intervals = samples.rays, samples.starts, samples.ends
    return light.light(density, colors, intervals, num_rays, least_light)


def seen_of_sums(sums: Tensor, far: float) -> tuple[Tensor, Tensor, Tensor]:
    """`compositing.composite`'s results from (N, 5) sums of weighted colours, weights and weighted distances."""
    rgb, accumulation, depth = sums.split([3, 1, 1], dim=1)
    return rgb, accumulation, depths(depth, accumulation, far)
