"""Values of a fine lattice near a surface only: coarse nodes find it, fine ones follow it wherever it goes.

Nodes are grouped into bricks of `STRIDE`^3. The first node of every brick is evaluated; where neighbours among these
lie on different sides of the surface, their bricks are evaluated whole. A brick left out stands for the side of its
first node; wherever an evaluated node beside it says otherwise, it is evaluated too, until no such place is left. So
the surface is that of the dense lattice, node for node, but for separate pieces that slip between all coarse nodes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

STRIDE = 4
"""Nodes of a brick per axis."""
BATCH = 1 << 12
"""Bricks evaluated at a time."""
Evaluate = Callable[[np.ndarray], np.ndarray]


class NarrowBand:
    """Node values of a lattice, evaluated near one threshold only."""

    def __init__(
        self,
        evaluate: Evaluate,
        nodes: np.ndarray,
        threshold: float,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """
        Args:
            evaluate: (n, 3) int64 nodes -> (n,) float32 values.
            nodes: (3,) nodes per axis.
            threshold: value of the surface.
            progress: called with coarse planes done and planes in all.
        """
        self.evaluate, self.nodes, self.threshold = evaluate, np.asarray(nodes), threshold
        self.count = -(-self.nodes // STRIDE)
        self.local = np.stack(np.meshgrid(*[np.arange(STRIDE)] * 3, indexing="ij"), -1).reshape(-1, 3)
        self.coarse = np.empty(self.count, dtype=np.float32)
        plane = np.stack(np.meshgrid(*map(np.arange, self.count[1:]), indexing="ij"), -1).reshape(-1, 2) * STRIDE
        for i in range(self.count[0]):
            at = np.concatenate([np.full((len(plane), 1), i * STRIDE), plane], axis=1)
            self.coarse[i] = evaluate(at).reshape(self.count[1:])
            if progress is not None:
                progress(i + 1, int(self.count[0]))
        self.inside = self.coarse >= threshold
        self.slot = np.full(self.count, -1, dtype=np.int32)
        """Place of each brick in `values`, -1 where it was not evaluated."""
        self.values = np.empty((0, STRIDE**3), dtype=np.float32)
        self._follow(np.argwhere(_mixed(self.inside)))

    def block(self, origin: np.ndarray, size: int) -> np.ndarray:
        """Values of (size + 1)^3 nodes from `origin`, both multiples of `STRIDE`; 0 outside the lattice."""
        bricks = size // STRIDE + 1
        first = np.asarray(origin) // STRIDE
        low, high = np.maximum(first, 0), np.minimum(first + bricks, self.count)
        wide = np.zeros((bricks * STRIDE,) * 3, dtype=np.float32)
        view = wide.reshape((bricks, STRIDE) * 3).transpose(0, 2, 4, 1, 3, 5)
        if (low < high).all():
            window = tuple(slice(a, b) for a, b in zip(low, high))
            part = view[tuple(slice(a, b) for a, b in zip(low - first, high - first))]
            part[...] = self.coarse[window][..., None, None, None]
            slots = self.slot[window]
            known = slots >= 0
            part[known] = self.values[slots[known]].reshape(-1, STRIDE, STRIDE, STRIDE)
        for axis, last in enumerate(self.nodes - np.asarray(origin)):
            wide[(slice(None),) * axis + (slice(max(0, int(last)), None),)] = 0.0
        return wide[: size + 1, : size + 1, : size + 1]

    def blocks(self, size: int) -> list[tuple[int, ...]]:
        """Blocks of `size` voxels, sorted, whose voxels have an evaluated node; -1 is the layer before the first."""
        first_node = np.argwhere(self.slot >= 0) * STRIDE
        ends = ((first_node - 1) // size + 1, (first_node + STRIDE - 1) // size + 1)
        found = np.zeros(self.nodes // size + 2, dtype=bool)  # with the layer before the first
        for pick in np.ndindex(2, 2, 2):
            found[tuple(ends[end][:, axis] for axis, end in enumerate(pick))] = True
        return [tuple(b) for b in (np.argwhere(found) - 1).tolist()]

    def _follow(self, bricks: np.ndarray) -> None:
        """Evaluate bricks, and then those that the surface enters from them."""
        known = [self.values]
        while len(bricks):
            fresh = np.concatenate([self._evaluated(bricks[i : i + BATCH]) for i in range(0, len(bricks), BATCH)])
            filled = sum(map(len, known))
            self.slot[tuple(bricks.T)] = np.arange(filled, filled + len(bricks))
            known.append(fresh)
            bricks = self._entered(bricks, fresh >= self.threshold)
        self.values = np.concatenate(known)

    def _evaluated(self, bricks: np.ndarray) -> np.ndarray:
        """(n, 3) bricks -> (n, STRIDE^3) values; the part of a brick beyond the lattice is 0."""
        at = (bricks[:, None] * STRIDE + self.local).reshape(-1, 3)
        values, within = np.zeros(len(at), dtype=np.float32), (at < self.nodes).all(1)
        values[within] = self.evaluate(at[within])
        return values.reshape(len(bricks), -1)

    def _entered(self, bricks: np.ndarray, inside: np.ndarray) -> np.ndarray:
        """Bricks not evaluated whose side differs from that of a node beside them in one of these, (m, 3)."""
        sides, found = inside.reshape(-1, STRIDE, STRIDE, STRIDE), []
        for offset in itertools.product((-1, 0, 1), repeat=3):
            beside = bricks + offset
            rows = np.flatnonzero(((beside >= 0) & (beside < self.count)).all(1))
            rows = rows[self.slot[tuple(beside[rows].T)] < 0]
            layer = sides[(rows, *({-1: 0, 0: slice(None), 1: STRIDE - 1}[o] for o in offset))]
            other = self.inside[tuple(beside[rows].T)]
            differs = layer.reshape(len(rows), STRIDE ** offset.count(0)) != other[:, None]
            found.append(beside[rows][differs.any(1)])
        return np.unique(np.concatenate(found), axis=0)


def _mixed(inside: np.ndarray) -> np.ndarray:
    """Bricks at the lower corner of a cube of coarse nodes with both sides, which hold most of its nodes.

    Beyond the lattice is outside; the cubes that begin there count for the first bricks.
    """
    some = every = np.pad(inside, [(1, 1)] * 3)
    for axis in range(3):
        low, high = _halves(axis)
        some, every = some[low] | some[high], every[low] & every[high]
    mixed = some & ~every
    for axis in range(3):
        mixed[(slice(None),) * axis + (1,)] |= mixed[(slice(None),) * axis + (0,)]
    return mixed[1:, 1:, 1:]


def _halves(axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Everything but the last, and but the first, along an axis."""
    before = (slice(None),) * axis
    return (*before, slice(None, -1)), (*before, slice(1, None))
