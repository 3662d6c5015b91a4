"""How much is asked for at a time, so that a picture keeps within a bound on memory however much space is full.

Pictures are cut by samples: a piece of one has so few rays that all their steps may be in occupied space (haze, a field
before its first look for empty space), and its samples are asked in parts.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from lg_field.radiance.compositing import Samples
from lg_field.radiance.sampling import LINEAR_UNTIL
from lg_field.radiance.volume import Volume

if TYPE_CHECKING:
    from lg_field.radiance.field import RadianceField

MEMORY = 2.0
"""GB that the samples of a picture may take at a time."""
GIGABYTE = 1e9
RAYS = {"cpu": 1 << 13, "cuda": 1 << 16}
"""Rays at a time at most."""
STEP_BYTES = {"cpu": 64}
"""Of a step while rays are marched, by device; a CPU keeps only those in occupied space."""
MARCHED_BYTES = 288
"""The same of other devices."""
KEPT_NUMBERS = 11
"""Of each sample from when it was asked until its ray is composited, beside what the field says of it."""


@functools.singledispatch
def rays_at_once(field: Volume, step: float) -> int:
    """Rays of a picture that may be marched and asked at a time.

    Args:
        field: the field; it says how much `memory` there is, and the device.
        step: length of a marching step near the origin, scene units.

    Other volumes than fields register theirs.
    """
    return rays_of_field(cast("RadianceField", field), step)


def rays_of_field(field: RadianceField, step: float) -> int:
    """`rays_at_once` of a field."""
    device = field.cells.device.type
    longest = 2.0 * LINEAR_UNTIL if field.frame.contraction else field.occupancy.reach()
    steps = math.ceil(longest / step) + 1
    said = field.sizes.color_features if field.sizes.color_width else 4
    kept = 2 * 4 * (KEPT_NUMBERS + said)  # joining parts doubles them
    of_ray = steps * max(kept, STEP_BYTES.get(device, MARCHED_BYTES))
    return max(1, min(RAYS.get(device, RAYS["cpu"]), int(0.6 * GIGABYTE * field.memory / of_ray)))


def samples_at_once(field: RadianceField) -> int:
    """Samples that a field may be asked about at a time, from what its networks keep of one."""
    sizes, chain = field.sizes, field.chain
    inputs = 2 * (chain.in_features + chain.global_in)
    widths = chain.depth * (2 * chain.global_width + 5 * chain.local_width) + 4 * chain.out_features
    corners = 8 * 8 * (1 + sizes.hash_levels) if field.features.shape[1] or sizes.hash_levels else 0
    return max(1, int(0.4 * GIGABYTE * field.memory / (4 * (inputs + widths + corners + 64))))


def in_parts(look: Callable[[Samples], tuple[Tensor, ...]], most: int) -> Callable[[Samples], tuple[Tensor, ...]]:
    """What asks about samples, `most` of them at a time."""

    def parts(samples: Samples) -> tuple[Tensor, ...]:
        if len(samples.rays) <= most:
            return look(samples)
        found = [look(Samples(*some)) for some in zip(*(values.split(most) for values in samples))]
        return tuple(torch.cat(values) for values in zip(*found))

    return parts
