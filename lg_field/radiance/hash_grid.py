"""The grid of the shared part: several resolutions over the whole domain, hashed where they are fine.

The multi-resolution hash encoding of instant-ngp (Müller et al., SIGGRAPH 2022, section 3), entry for entry as
tiny-cuda-nn lays it out, so that one table serves both (`tcnn.py`). Unlike the cells' own grids it is kept whole by
every crop.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lg_field.radiance.feature_grid import corner_weights, corners, weighted_sum

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
            (8, L, M) int32 and (8, L, M) weights that sum to 1 over the corners.
        """
        lines, weights, first = [], [], 0
        place = unit.clamp(0.0, 1.0).T.contiguous()  # axes first: every operation runs along the points
        for level in range(self.levels):
            resolution, entries = self.resolution(level), self.entries(level)
            scaled = place * (resolution - 1) + 0.5
            low = scaled.floor()
            dense = resolution**3 <= entries
            # Of a hash only the last bits count, so 32 of them are enough whatever overflows.
            factors = (1, resolution, resolution**2) if dense else tuple(p & (entries - 1) for p in PRIMES)
            first_corner = low.int() * torch.tensor(factors, dtype=torch.int32, device=unit.device)[:, None]
            steps = torch.tensor([[0, f] for f in factors], dtype=torch.int32, device=unit.device)
            nodes = corners(first_corner[:, None] + steps[:, :, None], torch.add if dense else torch.bitwise_xor)
            nodes = torch.where(nodes >= entries, nodes - entries, nodes) if dense else nodes & (entries - 1)
            lines.append(nodes + first)
            weights.append(corner_weights(scaled - low))
            first += entries
        return torch.stack(lines, dim=1), torch.stack(weights, dim=1)

    def encode(self, table: Tensor, unit: Tensor) -> Tensor:
        """(num_entries, F) table, (M, 3) in [0, 1] -> (M, L F), level by level."""
        lines, weights = self.lines(unit)
        by_level = weighted_sum(table, lines.flatten(1), weights.flatten(1)).view(self.levels, len(unit), self.features)
        return by_level.permute(1, 0, 2).flatten(1)
