"""A procedural city of any size, known exactly: blocks with a house each, streets between them, cameras in the streets.

    from city import City
    city = City(64)
    origins, directions = city.rays(1024, seed=0)
    rgba, distance = city.look(origins, directions)

The city is made of numbers hashed from each block's place, so that it is the same on every machine and no part of it is
kept in memory. Houses are boxes; the ground is z = 0; above is nothing (alpha 0). A block is 1 unit wide.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

STREET = 0.15
"""From a block's border to its house."""
LOW, HIGH = 0.3, 1.6
"""Least and greatest height of houses."""
EYES = 0.25
"""Height of the cameras."""
REACH = 24
"""Blocks that a ray looks through at most: what is farther away is not seen."""
SHELL_VOXELS = 1 << 15
"""Voxels of `City.shell` looked at at a time."""
HELD_OUT = 1 << 40
"""Seed of rays that are trained with in no step."""


def hashed(*numbers: Tensor) -> Tensor:
    """Numbers in [0, 1) (float64) that follow of integers and look random."""
    mixed = torch.zeros_like(numbers[0])
    for number in numbers:
        mixed = ((mixed ^ (number + 1)) * 0x9E3779B1) & 0xFFFFFFFF
        mixed = ((mixed ^ (mixed >> 15)) * 0x85EBCA77) & 0xFFFFFFFF
        mixed = mixed ^ (mixed >> 13)
    return mixed.double() / 2.0**32


@dataclass(frozen=True)
class City:
    """`blocks` x `blocks` blocks; x and y in [0, blocks], z up from 0."""

    blocks: int

    @property
    def box(self) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        """Lower and upper corner of all there is, with a margin below the ground."""
        return (0.0, 0.0, -0.1), (float(self.blocks), float(self.blocks), HIGH + 0.1)

    def heights(self, block: Tensor) -> Tensor:
        """(n,) height of the house in each of (n, 2) blocks."""
        return LOW + (HIGH - LOW) * hashed(block[:, 0], block[:, 1])

    def houses(self, block: Tensor) -> tuple[Tensor, Tensor]:
        """(n, 3) lower and (n, 3) upper corners of the houses in (n, 2) blocks, float64."""
        zero = torch.zeros_like(block[:, :1], dtype=torch.float64)
        lower = torch.cat([block + STREET, zero], dim=1)
        return lower, torch.cat([block + (1.0 - STREET), self.heights(block)[:, None]], dim=1)

    def distance(self, points: Tensor) -> Tensor:
        """(n,) distance of (n, 3) points to the nearest surface in their own block: the walls and roof of its house,
        or the ground outside of it."""
        block = points[:, :2].floor().clamp(0, self.blocks - 1).long()
        lower, upper = self.houses(block)
        beyond = torch.maximum(lower - points, points - upper)
        house = beyond.clamp_min(0.0).norm(dim=1) + beyond.amax(1).clamp_max(0.0)
        return torch.minimum(house.abs(), points[:, 2].abs().where(beyond[:, :2].amax(1) > 0.0, house.abs()))

    def rays(self, count: int, seed: int) -> tuple[Tensor, Tensor]:
        """(n, 3) origins in the streets and (n, 3) unit directions, float32."""
        generator = torch.Generator().manual_seed(seed)
        along = torch.rand(count, generator=generator) * self.blocks
        street = torch.randint(1, max(2, self.blocks), (count,), generator=generator).float()
        across = torch.rand(count, generator=generator) < 0.5
        x, y = torch.where(across, along, street), torch.where(across, street, along)
        origins = torch.stack([x, y, torch.full_like(x, EYES)], dim=1)
        turn = torch.rand(count, generator=generator) * 2.0 * torch.pi
        tilt = (torch.rand(count, generator=generator) - 0.35) * 1.2
        flat = tilt.cos()
        return origins, torch.stack([turn.cos() * flat, turn.sin() * flat, tilt.sin()], dim=1)

    def look(self, origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """What rays see, exactly.

        Args:
            origins: (n, 3), in streets.
            directions: (n, 3) unit vectors.

        Returns:
            (n, 4) float32 colours with alpha, and (n,) distance to what is seen, infinite where nothing is.
        """
        start, ahead = origins.double(), directions.double()
        ahead = torch.where(ahead.abs() < 1e-9, torch.full_like(ahead, 1e-9), ahead)
        nearest = torch.where(ahead[:, 2] < 0.0, -start[:, 2] / ahead[:, 2], torch.inf)
        ground = start[:, :2] + ahead[:, :2] * nearest[:, None].clamp_max(1e6)
        nearest[(ground < 0.0).any(1) | (ground > self.blocks).any(1)] = torch.inf
        color = self._colors(ground.floor().long(), torch.full_like(ground[:, 0], 3).long(), ground)
        block = start[:, :2].floor().long()
        way = ahead[:, :2].sign().long()
        for _ in range(REACH):
            lower, upper = self.houses(block)
            a, b = (lower - start) / ahead, (upper - start) / ahead
            enter, leave = torch.minimum(a, b), torch.maximum(a, b).amin(1)
            first, axis = enter.max(1)
            inside = (block >= 0).all(1) & (block < self.blocks).all(1)
            hit = inside & (first < leave) & (first > 0.0) & (first < nearest)
            there = start + ahead * first[:, None]
            wall = there.gather(1, torch.stack([(axis + 1) % 3, (axis + 2) % 3], dim=1))
            color = torch.where(hit[:, None], self._colors(block, axis, wall), color)
            nearest = torch.where(hit, first, nearest)
            border = (block + (way > 0).long() - start[:, :2]) / ahead[:, :2]
            side = border.argmin(1, keepdim=True)
            block = block.scatter_add(1, side, way.gather(1, side))
        seen = nearest.isfinite()
        return torch.cat([color * seen[:, None], seen[:, None]], dim=1).float(), nearest

    def psnr(self, look: Callable[..., Any], far: float, rays: int = 2048) -> float:
        """How well a field shows what cameras in the streets see, on black, dB.

        Args:
            look: `RadianceTrainer.look`.
            far: where rays end, scene units.
            rays: how many are looked along, 256 at a time.
        """
        origins, directions = self.rays(rays, HELD_OUT)
        truth, total = self.look(origins, directions)[0][:, :3], 0.0
        for some in torch.arange(rays).split(256):
            ends = torch.full((len(some),), 0.01), torch.full((len(some),), far)
            _, seen = look((origins[some], directions[some], *ends), torch.zeros(3), None, 1e-3)
            total += float((seen.rgb - truth[some]).square().double().sum())
        return -10.0 * math.log10(max(total / (3 * rays), 1e-10))

    def _colors(self, block: Tensor, axis: Tensor, place: Tensor) -> Tensor:
        """(n, 3) of places on surfaces: a hue for each block and side, and windows or slabs of a tenth of a unit."""
        key = (block[:, 0], block[:, 1], axis)
        hue = torch.stack([hashed(*key, torch.full_like(axis, channel)) for channel in range(3)], dim=1)
        tiles = (place * 10.0).floor().long()
        return (0.25 + 0.75 * hue) * (0.6 + 0.4 * ((tiles.sum(1) % 2) == 0).double())[:, None]

    def shell(self, counts: tuple[int, int, int], margin: float = 0.0) -> Tensor:
        """(nx, ny, nz) bool: voxels of a grid over `box` that a surface passes through, and some beside these."""
        lower, upper = (torch.tensor(corner, dtype=torch.float64) for corner in self.box)
        size = (upper - lower) / torch.tensor(counts)
        parts = []
        for x in torch.arange(counts[0]).split(max(1, SHELL_VOXELS // (counts[1] * counts[2]))):
            index = torch.cartesian_prod(x, *(torch.arange(n) for n in counts[1:]))
            near = self.distance(lower + (index + 0.5) * size) < 0.5 * float(size.norm()) + margin
            parts.append(near.view(len(x), *counts[1:]))
        return torch.cat(parts)
