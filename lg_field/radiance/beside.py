"""Points that a training step asks a field about beside its samples: on borders of cells, and anywhere.

On a GPU, and where the CPU's kernels look, they go along with the samples, and those that say nothing count for
nothing: a call costs more than its points do, and on a GPU choosing them by their values keeps the host waiting.
Elsewhere they are asked on their own (`seams.border_disagreement`, `RadianceField.opacity`): what is not needed is not
computed.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lg_field.constants import constant, counting
from lg_field.radiance.field import RadianceField
from lg_field.radiance.fused_training import fused_beside, fused_disagreement

REACH = 0.1
"""Part of a cell's width from a border within which points speak for it."""
ASIDE = 1e-3
"""The same part within which the two sides of a border are looked for."""


class Beside(NamedTuple):
    """Points to be asked about together with samples: k on borders, by the rows on either side, then those anywhere."""

    located: Float[Tensor, "asked 3"]
    """(n, 3) unit coordinates: the row that owns each is asked,"""
    unit: Float[Tensor, "asked 3"]
    """(n, 3) unit coordinates: about this point."""
    near: Bool[Tensor, " border"]
    """(k,) whether each point on a border speaks for it: a sample is near."""
    rays: Int64[Tensor, " asked"]
    """(n,) in the direction of which ray each is seen."""
    lengths: Float[Tensor, " asked"]
    """(n,) length at each of a step that is 1 long near the origin."""
    rows: Int64[Tensor, " asked"] | None = None
    """(n,) the row that owns each located point, -1 for none, where that is known already."""


class Answers(NamedTuple):
    """What a field says of them."""

    both: Bool[Tensor, " border"]
    """(k,) whether both sides of each border have a row to be asked."""
    density: Float[Tensor, " twice_border"]
    """(2 k,) on borders, per scene unit, a side at a time."""
    colors: Float[Tensor, "twice_border 3"]
    """(2 k, 3) there, in [0, 1]."""
    free: Float[Tensor, " free"]
    """(n - 2 k,) density at the points anywhere, 0 where there is no row."""


@torch.no_grad()
def points_beside(
    field: RadianceField,
    unit: Float[Tensor, "samples 3"],
    rays: Int64[Tensor, " samples"],
    on_borders: int,
    anywhere: int,
) -> Beside:
    """Points on borders near some of the samples, evenly among them from a random one on, and random points of the
    domain.

    Args:
        field: the field.
        unit: (M, 3) unit coordinates of samples.
        rays: (M,) their rays.
        on_borders: about as many; twice as many samples are looked at, as about half are near a border.
        anywhere: so many.
    """
    every = max(1, len(rays) // max(1, 2 * on_borders))
    begin = int(torch.randint(every, ()))
    frame, count, some = field.frame, 2 * on_borders, slice(begin, None, every)
    free = torch.rand(anywhere, 3, device=unit.device)
    chosen = min(count, len(range(begin, len(rays), every)))
    placed = fused_beside(field, unit, rays, (chosen, begin, every), free, (ASIDE, REACH))
    if placed is not None:
        return Beside(*placed)
    places = frame.unit_to_places(unit[some][:count])
    rounded = places.round()
    away, axis = (places - rounded).abs().min(dim=1, keepdim=True)
    there = rounded + constant((((-ASIDE,),), ((ASIDE,),), ((0.0,),)), places)
    moved = frame.places_to_unit(torch.where(axis == counting(3, axis), there, places).flatten(0, 1))
    before, after, border = moved.chunk(3) if len(moved) else (moved,) * 3
    located, asked = torch.cat([before, after, free]), torch.cat([border, border, free])
    seen = rays[some][:count]
    seen = torch.cat([seen, seen, constant((0,), seen).expand(anywhere)])
    lengths = constant(1.0, unit).expand(len(asked))
    if frame.contraction:
        lengths = frame.step_lengths(frame.from_unit(asked), 1.0)
    return Beside(located, asked, away[:, 0] < REACH, seen, lengths)


def disagreement(beside: Beside, answers: Answers, step: float, backend: str = "torch") -> Float[Tensor, ""]:
    """Mean squared difference of what the two sides of borders say of the points on them, as in
    `seams.border_disagreement`; 0 where no point is on a border of two cells that have rows.

    Args:
        beside: the points.
        answers: what the field says of them.
        step: length of a marching step near the origin, scene units.
        backend: which code finds it, a name in `ops.backends.BACKENDS`.
    """
    both, lengths = beside.near & answers.both, beside.lengths[: len(answers.density)]
    fused = fused_disagreement(backend, both, lengths * step, answers.density, answers.colors)
    if fused is not None:
        return fused
    through = torch.expm1(answers.density * (lengths * -step))[:, None]  # opacity, times -1
    ours, theirs = torch.cat([answers.colors * through, through], dim=1).chunk(2)
    return ((ours - theirs).square() * both[:, None]).sum() / (4.0 * both.sum()).clamp_min(1.0)


def haze(beside: Beside, answers: Answers, step: float) -> Float[Tensor, " free"]:
    """Part of the light that a marching step absorbs at the points that are anywhere; `step` as in `disagreement`."""
    return -torch.expm1(answers.free * (beside.lengths[len(answers.density) :] * -step))
