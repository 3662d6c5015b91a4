"""The grid of the shared part: several resolutions over the whole domain, hashed where they are fine.

The multi-resolution hash encoding of instant-ngp (Müller et al., SIGGRAPH 2022, section 3), entry for entry as
tiny-cuda-nn lays it out, so that one table serves both (`tcnn.py`). Unlike the cells' own grids it is kept whole by
every crop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lg_field.radiance.feature_grid import weighted_sum

PRIMES = (1, 2654435761, 805459861)


@dataclass(frozen=True)
class HashGrid:
    """Sizes of the grid. Each level is twice as fine as the one before."""

    levels: int
    """L."""
    features: int
    """F: features per entry."""
    log2_size: int
    """A level has at most 2^this entries; one with more nodes is hashed."""
    base_res: int
    """Nodes per axis of the first level."""

    def resolution(self, level: int) -> int:
        """Nodes per axis."""
        return self.base_res << level

    def entries(self, level: int) -> int:
        """Lines of the table that a level has: its nodes, rounded up to a multiple of 8, or 2^log2_size."""
        return min(-(-(self.resolution(level) ** 3) // 8) * 8, 1 << self.log2_size)

    @property
    def num_entries(self) -> int:
        """Lines of the table in all."""
        return sum(self.entries(level) for level in range(self.levels))

    def init_table(self) -> Tensor:
        """(num_entries, F) of fresh entries, uniform in +- 1e-4."""
        return (torch.rand(self.num_entries, self.features) * 2 - 1) * 1e-4

    def lines(self, unit: Tensor) -> tuple[Tensor, Tensor]:
        """Lines and weights of trilinear interpolation on every level.

        Args:
            unit: (M, 3) in [0, 1] (clamped).

        Returns:
            (M, L, 8) int64 and (M, L, 8) weights that sum to 1 over the corners.
        """
        lines, weights, first = [], [], 0
        for level in range(self.levels):
            resolution, entries = self.resolution(level), self.entries(level)
            place = unit.clamp(0.0, 1.0) * (resolution - 1) + 0.5
            low = place.floor()
            x, y, z = (low.long()[:, :, None] + torch.arange(2, device=unit.device)).unbind(1)
            if resolution**3 <= entries:
                node = corners(x, y * resolution, z * resolution**2, torch.add) % entries
            else:
                node = corners(*(v * prime for v, prime in zip((x, y, z), PRIMES)), torch.bitwise_xor) & (entries - 1)
            lines.append(node + first)
            part = place - low
            weights.append(corners(*torch.stack([1.0 - part, part], dim=2).unbind(1), torch.mul))
            first += entries
        return torch.stack(lines, dim=1), torch.stack(weights, dim=1)

    def encode(self, table: Tensor, unit: Tensor) -> Tensor:
        """(num_entries, F) table, (M, 3) in [0, 1] -> (M, L F), level by level."""
        lines, weights = self.lines(unit)
        return weighted_sum(table, lines.flatten(0, 1), weights.flatten(0, 1)).view(len(unit), -1)


def corners(x: Tensor, y: Tensor, z: Tensor, join: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """(M, 2) values of the lower and the upper neighbour along each axis -> (M, 8) joined, z fastest."""
    return join(join(x[:, :, None, None], y[:, None, :, None]), z[:, None, None, :]).flatten(1)
