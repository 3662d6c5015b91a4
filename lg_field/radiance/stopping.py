"""Rays end where nothing more can be seen: samples are asked front to back, those behind a surface not at all."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from lg_field.radiance.compositing import Samples, transmittances

PICTURES, TRAINING = 1e-3, 1e-4
"""Part of the light below which what lies behind is not asked for: in pictures, and in training."""
FIRST, GROWTH = 8, 1.25
"""Samples of each ray in the first round, and how many times as many the next ones have."""

Look = Callable[[Samples], tuple[Tensor, ...]]
"""From n samples to their (n,) density, and more (n, ...) of them."""
LookAt = Callable[[Samples, Tensor], tuple[Tensor, ...]]
"""The same, told also which (n,) of all samples they are."""
Answer = tuple[Any, ...]
"""n packed `Samples`, their (n,) density, and what else was said of them."""


def look_front_to_back(look: Look, samples: Samples, num_rays: int, least_light: float) -> Answer:
    """Ask for samples in rounds, some of each ray at a time, until less than `least_light` of the light gets through.

    What is left out weighs less than `least_light` in all along a ray: the sum of all weights behind a place is at most
    the transmittance there. How a ray is asked does not depend on the other rays.

    Args:
        look: asks the field; differentiable if it is.
        samples: packed samples.
        num_rays: N.
        least_light: transmittance in [0, 1) at which a ray ends; 0: never.

    Returns:
        The n samples asked, packed; their (n,) density; what else was said of them.
    """
    return ask_in_rounds(lambda some, _: look(some), samples, num_rays, least_light)


def ask_in_rounds(look: LookAt, samples: Samples, num_rays: int, least_light: float) -> Answer:
    """`look_front_to_back` for what has to know which samples it is asked for."""
    if least_light <= 0.0 or len(samples.rays) == 0:
        return samples, *look(samples, torch.arange(len(samples.rays), device=samples.rays.device))
    counts = torch.bincount(samples.rays, minlength=num_rays)
    begins = counts.cumsum(0) - counts
    passed, asked = torch.zeros(num_rays, dtype=torch.float64, device=counts.device), []
    first, sizes = 0, round_sizes()
    rays = counts.nonzero()[:, 0]
    while len(rays):
        size = next(sizes)
        some = (counts[rays] - first).clamp_max(size)
        index = _runs(begins[rays] + first, some)
        part = Samples(*(values[index] for values in samples))
        density, *more = look(part, index)
        asked.append((index, *part, density, *more))
        passed.index_add_(0, part.rays, (density.detach() * part.lengths).double())
        first += size
        rays = rays[(counts[rays] > first) & (passed[rays] < -math.log(least_light))]
    if len(asked) == 1:
        return part, density, *more
    index, *values = (torch.cat(parts) for parts in zip(*asked))
    place = torch.full_like(samples.rays, -1)
    place[index] = torch.arange(len(index), device=index.device)
    order = place[place >= 0]
    values = [value[order] for value in values]
    return Samples(*values[:3]), *values[3:]


def round_sizes() -> Iterator[int]:
    """How many samples of each ray are asked in one round after the other."""
    size = FIRST
    while True:
        yield size
        size = math.ceil(size * GROWTH)


def look_at_once(look: Look, samples: Samples, num_rays: int, least_light: float) -> Answer:
    """The same for values that want gradients: all samples are asked in one go, which costs less than rounds do, and
    those that less than `least_light` gets through to are left out. Their gradients are zeros, which backends skip.

    Arguments and results are those of `look_front_to_back`.
    """
    density, *more = look(samples)
    if least_light <= 0.0:
        return samples, density, *more
    through = transmittances(density.detach() * samples.lengths, samples, num_rays)
    seen = (through >= least_light).nonzero()[:, 0]
    return Samples(*(values[seen] for values in samples)), density[seen], *(values[seen] for values in more)


def _runs(begins: Tensor, counts: Tensor) -> Tensor:
    """begins[0], begins[0] + 1, ..., counts[0] of them; then those of begins[1], ..."""
    before = counts.cumsum(0) - counts
    shifts = (begins - before).repeat_interleave(counts)
    return shifts + torch.arange(len(shifts), device=shifts.device)
