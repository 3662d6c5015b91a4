"""Rays end where nothing more can be seen: samples are asked front to back, those behind a surface not at all."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lg_field.radiance.compositing import Samples

PICTURES, TRAINING = 1e-3, 1e-4
"""Part of the light below which what lies behind is not asked for: in pictures, and in training."""
FIRST, GROWTH = 8, 1.25
"""Samples of each ray in the first round, and how many times as many the next ones have."""

Look = Callable[[Int64[Tensor, " asked"]], tuple[Tensor, Tensor]]
"""From the (n,) numbers of samples to their (n,) density and (n, C) features."""


def look_front_to_back(
    look: Look, samples: Samples, num_rays: int, least_light: float
) -> tuple[Int64[Tensor, " asked"], Float[Tensor, " asked"], Float[Tensor, "asked features"]]:
    """Ask for samples in rounds, some of each ray at a time, until less than `least_light` of the light gets through.

    What is left out weighs less than `least_light` in all along a ray: the sum of all weights behind a place is at most
    the transmittance there. How a ray is asked does not depend on the other rays.

    Args:
        look: asks the field; differentiable if it is.
        samples: packed samples.
        num_rays: N.
        least_light: transmittance in [0, 1) at which a ray ends; 0: never.

    Returns:
        (n,) numbers of the samples asked, rising; (n,) their density and (n, C) their features.
    """
    if least_light <= 0.0 or len(samples.rays) == 0:
        every = torch.arange(len(samples.rays), device=samples.rays.device)
        return every, *look(every)
    counts = torch.bincount(samples.rays, minlength=num_rays)
    begins, lengths = counts.cumsum(0) - counts, samples.lengths
    passed, asked = torch.zeros(num_rays, dtype=torch.float64, device=counts.device), []
    first, size = 0, FIRST
    rays = counts.nonzero()[:, 0]
    while len(rays):
        some = (counts[rays] - first).clamp_max(size)
        index = _runs(begins[rays] + first, some)
        density, features = look(index)
        asked.append((index, density, features))
        passed.index_add_(0, samples.rays[index], (density.detach() * lengths[index]).double())
        first, size = first + size, math.ceil(size * GROWTH)
        rays = rays[(counts[rays] > first) & (passed[rays] < -math.log(least_light))]
    index, density, features = (torch.cat(parts) for parts in zip(*asked))
    index, order = index.sort()
    return index, density[order], features[order]


def _runs(begins: Tensor, counts: Tensor) -> Tensor:
    """begins[0], begins[0] + 1, ..., counts[0] of them; then those of begins[1], ..."""
    before = counts.cumsum(0) - counts
    shifts = (begins - before).repeat_interleave(counts)
    return shifts + torch.arange(len(shifts), device=shifts.device)
