"""The grid of the shared part: several resolutions over the whole domain, hashed where they are fine.

The multi-resolution hash encoding of instant-ngp (Müller et al., SIGGRAPH 2022, section 3), entry for entry as
tiny-cuda-nn lays it out, so that one table serves both (`tcnn.py`). A crop keeps the entries that what it keeps reads.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lg_field.constants import constant
from lg_field.networks.initialization import uniform
from lg_field.radiance.feature_grid import corner_weights, corners, weighted_sum
from lg_field.radiance.hash_layout import HashLayout
from lg_field.table.kept_lines import KeptLines

MANY = 4
"""For more lookups than this many times the entries it is faster to have them all in their places first."""


class HashGrid(HashLayout):
    """The grid: its entries and how points read them."""

    def init_table(self) -> Tensor:
        """(num_entries, F) of fresh entries, uniform in +- 1e-4."""
        return uniform((self.num_entries, self.features), 1e-4)

    def lines(self, unit: Tensor) -> tuple[Tensor, Tensor]:
        """Lines and weights of trilinear interpolation on every level.

        Args:
            unit: (M, 3) in [0, 1] (clamped).

        Returns:
            (8, L, M) int32 and (8, L, M) weights that sum to 1 over the corners.
        """
        levels = range(self.levels)
        place = unit.clamp(0.0, 1.0).T.contiguous()  # axes first: every operation runs along the points
        scaled = place[:, None] * constant(tuple((self.resolution(k) - 1.0,) for k in levels), place) + 0.5
        low = scaled.floor()
        factors = tuple(zip(*map(self._factors, levels)))  # axis by axis
        steps = tuple(tuple(tuple((f * s,) for f in axis) for s in (0, 1)) for axis in factors)
        first_corner = low.int() * constant(tuple(tuple((f,) for f in axis) for axis in factors), low, torch.int32)
        pairs = first_corner[:, None] + constant(steps, low, torch.int32)
        dense = sum(map(self._dense, levels))  # levels grow, so those that are not hashed come first
        parts = [self._entries(slice(a, b), pairs[:, :, a:b]) for a, b in ((0, dense), (dense, self.levels)) if a < b]
        return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0], corner_weights(scaled - low)

    def _entries(self, levels: slice, pairs: Tensor) -> Tensor:
        """(8, n, M) lines of some levels, all of them dense or none, from (3, 2, n, M) multiplied indices."""
        numbers = range(self.levels)[levels]
        joined = corners(pairs, self._join(numbers[0]))
        entries = tuple(map(self.entries, numbers))
        first = constant(tuple((sum(map(self.entries, range(k))),) for k in numbers), joined)
        if not self._dense(numbers[0]):
            return (joined & constant(tuple((n - 1,) for n in entries), joined)) + first
        size = constant(tuple((n,) for n in entries), joined)
        return torch.where(joined >= size, joined - size, joined) + first

    def encode(self, table: Tensor, unit: Tensor, kept: KeptLines | None = None) -> Tensor:
        """Features of every level at points.

        Args:
            table: (num_entries, F), or the kept entries of it.
            unit: (M, 3) in [0, 1].
            kept: which entries the table holds, None = all. The others count as zeros.

        Returns:
            (M, L F), level by level.
        """
        lines, weights = self.lines(unit)
        if kept is not None and lines.numel() > MANY * kept.total:
            table = kept.spread(table)
        elif kept is not None and not kept.whole:
            lines = kept.places(lines, absent=len(table))
            table = torch.cat([table, table.new_zeros(1, self.features)])
        by_level = weighted_sum(table, lines.flatten(1), weights.flatten(1)).view(self.levels, len(unit), self.features)
        return by_level.permute(1, 0, 2).flatten(1)
