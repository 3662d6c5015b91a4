"""The CPU's kernels of what a training step does around `fused_look`, asked for in a radiance field's words; None where
something else has to do it."""

from __future__ import annotations

import torch
from torch import Tensor

from lg_field.ops.backends import may_take
from lg_field.ops.backends.cpu import beside, light, march
from lg_field.radiance.compositing import Samples
from lg_field.radiance.field import RadianceField
from lg_field.radiance.fused import can_light, voxels_of
from lg_field.radiance.render import steps_together
from lg_field.radiance.sampling import LINEAR_UNTIL
from lg_field.space.contraction import LIMIT


def fused_march_training(
    field: RadianceField, origins: Tensor, directions: Tensor, near: Tensor, far: Tensor, step: float
) -> tuple[Samples, Tensor, Tensor] | None:
    """Jittered `render.field_samples`, whose arguments these are, with their (M, 3) unit coordinates and (M,)
    `places_of_voxels`."""
    grid, contraction = field.occupancy, field.frame.contraction
    if not may_take(field.backend, "cpu") or field.region is not None or grid.dense().numel() >= 2**31:
        return None
    if origins.requires_grad or march.why_not(origins, directions, near, far) is not None or not len(near):
        return None
    linear, box = (LINEAR_UNTIL, None) if contraction else (None, grid.bounds())
    block = steps_together(field, step)
    numbers, starts, ends, unit, voxels = march.march_and_place(
        (origins, directions),
        (near, far),
        torch.rand_like(near) - 0.5,
        step,
        voxels_of(field),
        grid.dense(),
        grid.places_of_voxels(),
        box,
        linear,
        block,
        grid.near() if block > 1 else None,
    )
    return Samples(numbers, starts, ends), unit, voxels


def fused_beside(
    field: RadianceField,
    unit: Tensor,
    rays: Tensor,
    some: tuple[int, int, int],
    anywhere: Tensor,
    sides: tuple[float, float],
) -> beside.Placed | None:
    """`beside.place_beside`, whose arguments these are; `sides`: the first two of `beside.Lengths`."""
    grid = field.occupancy
    if not may_take(field.backend, "cpu") or field.rows_elsewhere or not grid.voxels_tell_rows:
        return None
    if beside.why_not(unit, anywhere) is not None:
        return None
    where, lengths = (voxels_of(field), grid.places_of_voxels()), beside.Lengths(*sides, LINEAR_UNTIL, LIMIT)
    return beside.place_beside((unit, rays), some, anywhere, where, lengths)


def fused_light_of_looks(
    field: RadianceField,
    looked: tuple[Tensor, Tensor, Tensor],
    samples: Samples,
    num_rays: int,
    least_light: float,
    until: float,
    border: int,
) -> light.Lit | None:
    """`light.light_of_looks`, whose arguments these are; opacity of contracted scenes."""
    if not can_light(field, looked[0], looked[1], samples.starts):
        return None
    intervals, opacity = (samples.rays, samples.starts, samples.ends), field.frame.contraction
    return light.light_of_looks(looked, intervals, num_rays, least_light, until, border, opacity)


def fused_disagreement(backend: str, counts: Tensor, lengths: Tensor, density: Tensor, rgb: Tensor) -> Tensor | None:
    """`beside.disagreement`, whose last arguments these are, if a field's `backend` allows it."""
    if not may_take(backend, "cpu") or beside.why_not(lengths, density, rgb) is not None:
        return None
    return beside.disagreement(counts, lengths, density, rgb)
