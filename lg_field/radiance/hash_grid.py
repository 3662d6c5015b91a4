"""The grid of the shared part: several resolutions over the whole domain, hashed where they are fine.

The multi-resolution hash encoding of instant-ngp (Müller et al., SIGGRAPH 2022, section 3), entry for entry as
tiny-cuda-nn lays it out, so that one table serves both (`tcnn.py`). A crop keeps the entries that what it keeps reads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lg_field.constants import constant
from lg_field.networks.initialization import uniform
from lg_field.radiance.feature_grid import corner_weights, corners, weighted_sum
from lg_field.table.kept_lines import KeptLines

PRIMES = (1, 2654435761, 805459861)
ROUNDING = 2.0**-20
"""Whoever computes in float32: points this part of the largest number from a box may be taken to be in it."""
MANY = 4
"""For more lookups than this many times the entries it is faster to have them all in their places first."""
NODES = 1 << 20
"""Nodes looked at at a time."""


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

    def _dense(self, level: int) -> bool:
        """Whether every node of a level has an entry of its own."""
        return self.resolution(level) ** 3 <= self.entries(level)

    def _factors(self, level: int) -> tuple[int, ...]:
        """What a node's index along each axis is multiplied with. Of a hash only the last bits count, so 32 of them are
        enough whatever overflows."""
        resolution, entries = self.resolution(level), self.entries(level)
        return (1, resolution, resolution**2) if self._dense(level) else tuple(p & (entries - 1) for p in PRIMES)

    def _join(self, level: int) -> Callable[[Tensor, Tensor], Tensor]:
        """What joins the multiplied indices of a node."""
        return torch.add if self._dense(level) else torch.bitwise_xor

    def _entry(self, level: int, joined: Tensor) -> Tensor:
        """Joined indices -> number of the entry in its level."""
        entries = self.entries(level)
        if not self._dense(level):
            return joined & (entries - 1)
        return torch.where(joined >= entries, joined - entries, joined)

    def read(self, boxes: Float[Tensor, "boxes 2 3"]) -> Bool[Tensor, " lines"]:
        """Which lines of the table points in boxes read.

        Args:
            boxes: (n, 2, 3) lower and upper corners, unit coordinates, float64. What is outside of [0, 1] reads what
                its nearest point in there does.

        Returns:
            (num_entries,) bool: no line that `lines` gives for a point in a box is left out.
        """
        found = torch.zeros(self.num_entries, dtype=torch.bool, device=boxes.device)
        if len(boxes) == 0:
            return found
        lower, upper = (boxes[:, 0] - ROUNDING).clamp(0.0, 1.0), (boxes[:, 1] + ROUNDING).clamp(0.0, 1.0)
        first = 0
        for level, entries in enumerate(map(self.entries, range(self.levels))):
            steps = self.resolution(level) - 1
            low, high = (torch.floor(corner * steps + 0.5).long() for corner in (lower, upper))
            self._mark(level, low, high + 1, found[first : first + entries])
            first += entries
        return found

    def _mark(
        self, level: int, low: Int64[Tensor, "boxes 3"], high: Int64[Tensor, "boxes 3"], found: Bool[Tensor, " entries"]
    ) -> None:
        """Mark the entries of all nodes from `low` to `high`, these included."""
        low, high = _distinct(low, high, self.resolution(level) + 1)
        size = (high - low).amax(0) + 1
        inner = torch.cartesian_prod(*(torch.arange(int(n), device=low.device) for n in size[1:]))
        factors = constant(self._factors(level), low, torch.int32)
        for some, last in zip(*(corner.split(max(1, NODES // len(inner))) for corner in (low, high))):
            others = torch.minimum(some[:, None, 1:] + inner, last[:, None, 1:]).int() * factors[1:]
            plane = self._join(level)(others[..., 0], others[..., 1])
            for step in range(int(size[0])):
                x = torch.minimum(some[:, :1] + step, last[:, :1]).int() * factors[0]
                found[self._entry(level, self._join(level)(x, plane)).flatten().long()] = True

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


def _distinct(
    low: Int64[Tensor, "boxes 3"], high: Int64[Tensor, "boxes 3"], nodes: int
) -> tuple[Int64[Tensor, "fewer 3"], Int64[Tensor, "fewer 3"]]:
    """Boxes of nodes 0..`nodes` - 1, each of them once."""
    size = high - low
    most = size.amax(0) + 1
    key = low[:, 0]
    for number, limit in ((low[:, 1], nodes), (low[:, 2], nodes), *((size[:, k], int(most[k])) for k in range(3))):
        key = key * limit + number
    order = key.argsort()
    new = torch.ones_like(order, dtype=torch.bool)
    new[1:] = key[order].diff() != 0
    kept = order[new]
    return low[kept], high[kept]
