"""The CPU kernels of what surrounds the chain, asked for in a radiance field's words; None where torch has to do it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from lg_field.ops.backends.cpu import encode
from lg_field.ops.backends.cpu.march import Voxels, march_voxels
from lg_field.ops.backends.cpu.march import why_not as why_not_march
from lg_field.ops.backends.cpu.shade import shade
from lg_field.ops.backends.cpu.shade import why_not as why_not_shade
from lg_field.radiance.compositing import Samples
from lg_field.radiance.sampling import steps_of_rays

if TYPE_CHECKING:
    from lg_field.radiance.field import RadianceField


def fused_inputs(field: RadianceField, unit: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor | None] | None:
    """`RadianceField`'s inputs of the chain at points sorted by row; None where the kernel cannot do it.

    Args:
        field: the field.
        unit: (M, 3) unit coordinates.
        offsets: (P + 1,) first point of each row, then M.
    """
    sizes, grid, table = field.sizes, field.hash_grid, field.hash_table
    has_global, has_levels = field.chain.global_width > 0, grid is not None and table is not None
    if not field.features.shape[1] or (has_levels and field.implementation == "tcnn"):
        return None
    wanted = encode.EncodeSizes(
        counts=field.frame.origin.counts,  # type: ignore[arg-type]
        nodes=sizes.grid_nodes,
        grid_features=sizes.grid_features,
        local_frequencies=sizes.local_frequencies,
        global_frequencies=sizes.global_frequencies,
        has_global=has_global,
        grid_in_global=has_global and sizes.global_reads_grid and field.chain.local_width > 0,
        **({} if grid is None or not has_global else _levels(grid)),
    )
    entries = unit.new_empty(0, 0)
    if table is not None and has_global:
        entries = field.kept_lines["hash_table"].spread(field._trainable_lines(table))
    if encode.why_not(wanted, unit, field.features, entries) is not None:
        return None
    rows = field._trainable_rows(field.features)
    local_x, global_x = encode.encode(unit, offsets, field.occupancy.corners(), rows, entries, wanted)
    return local_x, global_x if has_global else None


def _levels(grid: object) -> dict[str, int]:
    return {
        "levels": grid.levels,  # type: ignore[attr-defined]
        "level_features": grid.features,  # type: ignore[attr-defined]
        "log2_size": grid.log2_size,  # type: ignore[attr-defined]
        "base_res": grid.base_res,  # type: ignore[attr-defined]
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
    grid, frame = field.occupancy, field.frame
    if why_not_march(origins, directions, near, far) is not None or grid.dense().numel() >= 2**31:
        return None
    s_near, s_far, count, shift = steps_of_rays(near, far, step, linear, jitter)
    origin = frame.origin
    where = Voxels(
        counts=frame.grid.counts,  # type: ignore[arg-type]
        per_axis=grid.per_axis,
        lower=origin.lower,  # type: ignore[arg-type]
        upper=origin.upper,  # type: ignore[arg-type]
        cells=origin.counts,  # type: ignore[arg-type]
        shift=frame.shift,  # type: ignore[arg-type]
        contraction=frame.contraction,
    )
    near_voxels = grid.near() if block > 1 else None
    found = march_voxels(
        *((origins, directions), (s_near, s_far), shift, step, count, where, grid.dense(), linear, block, near_voxels)
    )
    samples = Samples(*found)
    if field.region is None:
        return samples
    inside = field.region.contains(samples.positions(origins, directions)).nonzero()[:, 0]
    return Samples(*(values[inside] for values in samples))


def fused_shade(
    field: RadianceField, out: Tensor, order: Tensor, rays: Tensor, directions: Tensor
) -> tuple[Tensor, Tensor, Tensor] | None:
    """`RadianceField.looks`'s results from the chain's (n, 28) outputs; None where torch has to do it.

    Args:
        field: a field without a colour layer.
        out: of the samples that have a row, sorted by row.
        order: (n,) number of the sample of each.
        rays: (M,) ray of each sample.
        directions: (N, 3) of the rays.
    """
    if why_not_shade(out, directions) is not None:
        return None
    return shade(out, order, rays, directions, field.sizes.density_bias)
