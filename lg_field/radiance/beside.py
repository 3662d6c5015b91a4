"""Points that a training step asks a field about beside its samples: on borders of cells, and anywhere.

On a CPU they are asked on their own (`seams.border_disagreement`, `RadianceField.opacity`): what is not needed is not
computed. On a GPU a call costs more than its points do, and choosing them by their values keeps the host waiting; so
there the points go along with the samples, and those that say nothing count for nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lg_field.constants import constant, counting
from lg_field.radiance.compositing import Samples
from lg_field.radiance.field import RadianceField

REACH = 0.1
"""Part of a cell's width from a border within which points speak for it."""
ASIDE = 1e-3
"""The same part within which the two sides of a border are looked for."""


class Beside(NamedTuple):
    """Points to be asked about together with a step's samples."""

    located: Float[Tensor, "asked 3"]
    """(n, 3) unit coordinates: the row that owns each is asked,"""
    unit: Float[Tensor, "asked 3"]
    """(n, 3) unit coordinates: about this point."""
    near: Bool[Tensor, " border"]
    """(k,) whether each of the points on borders speaks for one; the first 2 k of all are these, a side at a time."""
    rays: Int64[Tensor, " border"]
    """(k,) in the direction of which ray each is seen."""
    lengths: Float[Tensor, " asked"]
    """(n,) length at each of a step that is 1 long near the origin."""


class Answers(NamedTuple):
    """What a field says of them."""

    rows: Int64[Tensor, " asked"]
    """(n,) the row that was asked, -1 where there is none."""
    density: Float[Tensor, " asked"]
    """(n,) per scene unit."""
    features: Float[Tensor, "asked features"]
    """(n, color_features)."""


@torch.no_grad()
def points_beside(
    field: RadianceField,
    samples: Samples,
    origins: Float[Tensor, "rays 3"],
    directions: Float[Tensor, "rays 3"],
    on_borders: int,
    anywhere: int,
) -> Beside:
    """Points on borders near some of the samples, evenly among them from a random one on, and random points of the
    domain.

    Args:
        field: the field.
        samples: M packed samples.
        origins: (N, 3) of their rays, scene units.
        directions: (N, 3) unit vectors.
        on_borders: about as many; twice as many places are looked at, as about half are near a border.
        anywhere: so many.
    """
    every = max(1, len(samples.rays) // max(1, 2 * on_borders))
    first = int(torch.randint(every, ()))
    some = Samples(*(values[first::every][: 2 * on_borders] for values in samples))
    frame = field.frame
    places = frame.to_places(some.positions(origins, directions))
    rounded = places.round()
    away, axis = (places - rounded).abs().min(dim=1, keepdim=True)
    there = rounded + constant((((-ASIDE,),), ((ASIDE,),), ((0.0,),)), places)
    moved = frame.places_to_unit(torch.where(axis == counting(3, axis), there, places).flatten(0, 1))
    before, after, border = moved.chunk(3)
    free = torch.rand(anywhere, 3, device=places.device)
    located, unit = torch.cat([before, after, free]), torch.cat([border, border, free])
    lengths = frame.step_lengths(frame.from_unit(unit), 1.0) if frame.contraction else torch.ones_like(unit[:, 0])
    return Beside(located, unit, away[:, 0] < REACH, some.rays, lengths)


def disagreement(
    field: RadianceField,
    beside: Beside,
    answers: Answers,
    harmonics: Float[Tensor, "rays 9"],
    step: float,
) -> Float[Tensor, ""]:
    """Mean squared difference of what the two sides of borders say of the points on them, as in
    `seams.border_disagreement`; 0 where no point is on a border of two cells that have rows.

    Args:
        field: the field.
        beside: the points.
        answers: what the field says of them.
        harmonics: (N, 9) of the rays' directions.
        step: length of a marching step near the origin, scene units.
    """
    count = len(beside.near)
    sides = answers.rows[: 2 * count].view(2, count)
    both = beside.near & (sides >= 0).all(0)
    opacity = -torch.expm1(-answers.density[: 2 * count] * (beside.lengths[: 2 * count] * step))[:, None]
    seen = harmonics[beside.rays].repeat(2, 1)
    color = field.rgb_of(answers.features[: 2 * count], seen)
    ours, theirs = torch.cat([color * opacity, opacity], dim=1).chunk(2)
    return ((ours - theirs).square().mean(1) * both).sum() / both.sum().clamp_min(1)


def haze(beside: Beside, answers: Answers, step: float) -> Float[Tensor, " free"]:
    """Part of the light that a marching step absorbs at the points that are anywhere; `step` as in `disagreement`."""
    first = 2 * len(beside.near)
    return -torch.expm1(-answers.density[first:] * (beside.lengths[first:] * step))
