"""Which entries of the shared part's grid points read: in tensors or in numpy, with no table at hand."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64

from lg_field.arrays import Array, like, like_number, namespace, whole
from lg_field.constants import constant
from lg_field.space.partition import lattice_points

PRIMES = (1, 2654435761, 805459861)
ROUNDING = 2.0**-20
"""Whoever computes in float32: points this part of the largest number from a box may be taken to be in it."""
NODES = 1 << 20
"""Nodes looked at at a time."""


@dataclass(frozen=True)
class HashLayout:
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

    def _dense(self, level: int) -> bool:
        """Whether every node of a level has an entry of its own."""
        return self.resolution(level) ** 3 <= self.entries(level)

    def _factors(self, level: int) -> tuple[int, ...]:
        """What a node's index along each axis is multiplied with. Of a hash only the last bits count, so 32 of them are
        enough whatever overflows."""
        resolution, entries = self.resolution(level), self.entries(level)
        return (1, resolution, resolution**2) if self._dense(level) else tuple(p & (entries - 1) for p in PRIMES)

    def _join(self, level: int) -> Callable[[Array, Array], Array]:
        """What joins the multiplied indices of a node."""
        return operator.add if self._dense(level) else operator.xor

    def _entry(self, level: int, joined: Array) -> Array:
        """Joined indices -> number of the entry in its level."""
        entries = self.entries(level)
        if not self._dense(level):
            return joined & (entries - 1)
        return namespace(joined).where(joined >= entries, joined - entries, joined)

    def read(self, boxes: Float[Array, "boxes 2 3"]) -> Bool[Array, " lines"]:
        """Which lines of the table points in boxes read.

        Args:
            boxes: (n, 2, 3) lower and upper corners, unit coordinates, float64. What is outside of [0, 1] reads what
                its nearest point in there does.

        Returns:
            (num_entries,) bool: no line that is read for a point in a box is left out.
        """
        xp, found = namespace(boxes), like_number(boxes, np.zeros(self.num_entries, dtype=bool))
        if len(boxes) == 0:
            return found
        lower, upper = (boxes[:, 0] - ROUNDING).clip(0.0, 1.0), (boxes[:, 1] + ROUNDING).clip(0.0, 1.0)
        first = 0
        for level, entries in enumerate(map(self.entries, range(self.levels))):
            steps = self.resolution(level) - 1
            low, high = (whole(xp.floor(corner * steps + 0.5)) for corner in (lower, upper))
            self._mark(level, low, high + 1, found[first : first + entries])
            first += entries
        return found

    def _mark(
        self, level: int, low: Int64[Array, "boxes 3"], high: Int64[Array, "boxes 3"], found: Bool[Array, " entries"]
    ) -> None:
        """Mark the entries of all nodes from `low` to `high`, these included."""
        xp = namespace(low)
        low, high = _distinct(low, high, self.resolution(level) + 1)
        size = (xp.amax(high - low, 0) + 1).tolist()
        inner = like(low, lattice_points(size[1:]))
        factors = constant(self._factors(level), low, xp.int32)
        step = max(1, NODES // len(inner))
        for at in range(0, len(low), step):
            some, last = low[at : at + step], high[at : at + step]
            others = xp.asarray(xp.minimum(some[:, None, 1:] + inner, last[:, None, 1:]), dtype=xp.int32) * factors[1:]
            plane = self._join(level)(others[..., 0], others[..., 1])
            for move in range(size[0]):
                x = xp.asarray(xp.minimum(some[:, :1] + move, last[:, :1]), dtype=xp.int32) * factors[0]
                found[whole(self._entry(level, self._join(level)(x, plane)).reshape(-1))] = True


def _distinct(
    low: Int64[Array, "boxes 3"], high: Int64[Array, "boxes 3"], nodes: int
) -> tuple[Int64[Array, "fewer 3"], Int64[Array, "fewer 3"]]:
    """Boxes of nodes 0..`nodes` - 1, each of them once."""
    xp, size = namespace(low), high - low
    most = xp.amax(size, 0) + 1
    key = low[:, 0]
    for number, limit in ((low[:, 1], nodes), (low[:, 2], nodes), *((size[:, k], int(most[k])) for k in range(3))):
        key = key * limit + number
    order = key.argsort()
    kept = order[xp.concatenate([order[:1] == order[:1], xp.diff(key[order]) != 0])]
    return low[kept], high[kept]
