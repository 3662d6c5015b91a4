"""Training rays where what an operation begins costs more than what it computes: few of them, on a GPU one wait.

The same as `field_samples` and `ask`, but for: on a GPU all steps of all rays are looked at in one go; what is known of
them (unit coordinates, voxels, rows) goes along; points beside the samples are asked in the same call; samples that no
light gets through to stay and weigh nothing. On a CPU the kernels do it, who leave out what says nothing; torch alone
is faster there with one thing after the other.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lg_field.radiance.beside import Answers, Beside
from lg_field.radiance.compositing import Samples, weights_and_light
from lg_field.radiance.encodings import spherical_harmonics, view_dependence
from lg_field.radiance.field import RadianceField
from lg_field.radiance.fused import asks_at_once as asks_at_once
from lg_field.radiance.fused import can_light, fused_look, fused_place, rows_of_places
from lg_field.radiance.fused_training import fused_light_of_looks, fused_march_training
from lg_field.radiance.gradient_scaling import NearScaling
from lg_field.radiance.render import Asked, clipped, field_samples
from lg_field.radiance.sampling import march_at_once, steps_of_rays

Rays = tuple[Tensor, Tensor]
Looked = tuple[Tensor, Tensor, Tensor]


class Marched(NamedTuple):
    """Samples of training rays, and where they are."""

    samples: Samples
    """M packed samples in occupied voxels."""
    unit: Float[Tensor, "samples 3"]
    """(M, 3) unit coordinates of their middles."""
    voxels: Int64[Tensor, " samples"]
    """(M,) their voxels: numbers in `OccupancyGrid.occupied`, flattened."""
    rows: Int64[Tensor, " samples"]
    """(M,) the row that owns each."""


class AskedAtOnce(NamedTuple):
    """What a field says of training rays and of the points beside them."""

    asked: Asked
    """Of the rays, with the samples' weights."""
    answers: Answers
    """Of the points beside them."""


@torch.no_grad()
def march_training(
    field: RadianceField,
    origins: Float[Tensor, "rays 3"],
    directions: Float[Tensor, "rays 3"],
    near: Float[Tensor, " rays"],
    far: Float[Tensor, " rays"],
    step: float,
) -> Marched:
    """Jittered samples of rays in the field's occupied space: see `field_samples`, whose arguments these are."""
    grid, frame = field.occupancy, field.frame
    if origins.is_cpu:
        marched = fused_march_training(field, origins, directions, near, far, step)
        if marched is not None:
            return Marched(*marched, rows_of_places(field, *marched[1:]))
        samples = field_samples(field, origins, directions, near, far, step, jitter=True)
        found = fused_place(field, origins, directions, samples)
        if found is not None:
            return Marched(samples, *found, rows_of_places(field, *found))
    near, far, reach, linear = clipped(field, origins, directions, near, far)
    s_near, s_far, count, shift = steps_of_rays(near, far, step, linear, True, reach)
    looked: list[tuple[Tensor, Tensor]] = []

    def occupied(points: Tensor) -> Tensor:
        unit = frame.to_unit(points)
        numbers = grid.numbers_at(frame.unit_to_places(unit))  # of rays that are clipped to the domain
        looked.append((unit, numbers))
        hit = grid.dense()[numbers]
        return hit if field.region is None else hit & field.region.contains(points)

    samples, hit = march_at_once((origins, directions), (s_near, s_far), shift, step, count, occupied, linear)
    unit, numbers = (values[hit] for values in looked[0])
    voxels = grid.places_of_voxels()[numbers]
    return Marched(samples, unit, voxels, rows_of_places(field, unit, voxels))


def ask_at_once(
    field: RadianceField,
    origins: Float[Tensor, "rays 3"],
    directions: Float[Tensor, "rays 3"],
    marched: Marched,
    beside: Beside,
    overlap: float = 0.0,
    least_light: float = 0.0,
    scaled_until: float = 0.0,
) -> AskedAtOnce:
    """Ask a field in the middles of samples and beside them; differentiable.

    Args:
        field: the field.
        origins: (N, 3) scene units.
        directions: (N, 3) unit vectors.
        marched: the rays' samples.
        beside: other points.
        overlap: as in `RadianceField.forward`.
        least_light: samples that less than this part of the light gets through to weigh nothing; 0: all weigh.
        scaled_until: gradients of samples nearer than this are scaled down (`NearScaling`).
    """
    scaling = NearScaling(marched.samples, scaled_until)
    samples, unit = marched.samples, marched.unit
    if origins.requires_grad or directions.requires_grad:
        unit = field.frame.to_unit(samples.positions(origins, directions))
    border, free = 2 * len(beside.near), len(beside.unit) - 2 * len(beside.near)
    others = field.rows_of_unit(beside.located) if beside.rows is None else beside.rows
    rows = torch.cat([field.moved_rows(unit, marched.rows, overlap), others])
    owned, count = rows >= 0, [len(unit), border, free]
    both = owned[count[0] : count[0] + border].view(2, -1).all(0)
    fused = _ask_kernels(field, (origins, directions), samples, torch.cat([unit, beside.unit]), rows, beside, both)
    if fused is not None:
        return _with_light(field, (origins, directions), samples, fused, both, count, least_light, scaling)
    density, features = field.of_rows(torch.cat([unit, beside.unit]), rows.clamp_min(0), owned=True)
    density, border_density, free_density = (density * owned).split(count)
    harmonics = spherical_harmonics(directions)[torch.cat([samples.rays, beside.rays])]
    if field.sizes.color_width:
        features, more = features.split([count[0], border + free])
        colors, dependence = None, None
        border_colors = field.rgb_of(more[:border], harmonics[count[0] : count[0] + border])
    else:
        colors, border_colors, _ = field.rgb_of(features, harmonics).split(count)
        dependence = view_dependence(features)[: count[0]]
        colors, features = scaling(colors), features[:, :0]
    thickness = density * samples.lengths
    opacity = -torch.expm1(-thickness) if field.sizes.contraction else None
    weights, shown = weights_and_light(scaling(thickness), samples, len(origins), least_light)
    density, features = scaling(density), scaling(features)
    if least_light > 0.0 and dependence is not None:
        dependence = dependence * shown
    asked = Asked(field, origins, directions, samples, density, features, colors, dependence, weights, opacity)
    return AskedAtOnce(asked, Answers(both, border_density, border_colors, free_density))


def _ask_kernels(
    field: RadianceField, rays: Rays, samples: Samples, unit: Tensor, rows: Tensor, beside: Beside, both: Tensor
) -> Looked | None:
    """Density, colour and view dependence of samples and points beside them by the CPU's kernels; None where torch has
    to find them. Points on borders that count for nothing are not asked: their density is 0."""
    starts = samples.starts
    if not unit.is_cpu or field.sizes.color_width or not can_light(field, starts, rays[1], starts):
        return None
    asked = rows.clone()
    asked[len(samples.rays) :][: 2 * len(both)].masked_fill_(~(both & beside.near).repeat(2), -1)
    return fused_look(field, unit, asked, torch.cat([samples.rays, beside.rays]), rays[1])


def _with_light(
    field: RadianceField,
    rays: Rays,
    samples: Samples,
    looked: Looked,
    both: Tensor,
    count: list[int],
    least_light: float,
    scaling: NearScaling,
) -> AskedAtOnce:
    """`ask_at_once`'s results from what kernels say of samples, points on borders and points anywhere, `count` of
    each."""
    num_samples, border, _ = count
    lit = fused_light_of_looks(field, looked, samples, len(rays[0]), least_light, scaling.until, border)
    assert lit is not None
    density, colors = (scaling(values[:num_samples]) for values in looked[:2])
    features = colors.new_zeros(len(colors), 0)
    asked = Asked(field, *rays, samples, density, features, colors, lit.seen, lit.weights, lit.opacity, lit.sums)
    return AskedAtOnce(asked, Answers(both, lit.border_density, lit.border_rgb, lit.free_density))
