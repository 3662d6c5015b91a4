"""Occupancy at one bit a voxel: 512^3 take 16 MB, 1024^3 take 128 MB, and no operation here unpacks the whole."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

SLAB_VOXELS = 1 << 24
"""Voxels unpacked at a time."""


@dataclass(frozen=True)
class BitGrid:
    """Booleans on a regular grid (x, y, z), eight to a byte along z."""

    shape: tuple[int, int, int]
    bits: np.ndarray
    """(nx, ny, ceil(nz / 8)) uint8, first voxel in the highest bit; unused bits are 0."""

    @staticmethod
    def from_slabs(shape: Sequence[int], slab: Callable[[int, int], np.ndarray]) -> BitGrid:
        """Pack what `slab(first, last)` gives: (last - first, ny, nz) booleans, a few MB at a time."""
        nx, ny, nz = (int(n) for n in shape)
        bits = np.empty((nx, ny, -(-nz // 8)), dtype=np.uint8)
        for first, last in slabs((nx, ny, nz)):
            bits[first:last] = np.packbits(slab(first, last), axis=2)
        return BitGrid((nx, ny, nz), bits)

    @staticmethod
    def from_array(array: np.ndarray) -> BitGrid:
        """Pack a (nx, ny, nz) array; everything but 0 and False is inside."""
        return BitGrid.from_slabs(array.shape, lambda first, last: array[first:last] != 0)

    def slab(self, first: int, last: int) -> np.ndarray:
        """(last - first, ny, nz) bool."""
        return np.unpackbits(self.bits[first:last], axis=2, count=self.shape[2]).view(bool)

    def count(self) -> int:
        """Voxels inside."""
        return sum(int(np.count_nonzero(self.slab(first, last))) for first, last in slabs(self.shape))

    def cell_states(self, edges: Sequence[Sequence[int]], margin: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What the cells of a partition hold.

        Args:
            edges: per axis the first voxel of each cell, then the number of voxels.
            margin: voxels beyond its borders that count as a cell's too.

        Returns:
            Three bool arrays (cx, cy, cz): a voxel of the cell itself is inside; some voxel of the cell or its margin
            is; all of them are.
        """
        counts = tuple(len(e) - 1 for e in edges)
        own, some, every = (np.zeros(counts, dtype=bool) for _ in range(3))
        grown = [[(max(0, a - margin), min(e[-1], b + margin)) for a, b in itertools.pairwise(e)] for e in edges]
        for i, (first, last) in enumerate(grown[0]):
            any_x, all_x = np.zeros(self.shape[1:], bool), np.ones(self.shape[1:], bool)
            for a, b in slabs((last - first, *self.shape[1:])):
                part = self.slab(first + a, first + b)
                any_x, all_x = any_x | part.any(0), all_x & part.all(0)
            own_x = self._any_x(edges[0][i], edges[0][i + 1])
            for j, k in np.ndindex(*counts[1:]):
                (y0, y1), (z0, z1) = grown[1][j], grown[2][k]
                own[i, j, k] = own_x[edges[1][j] : edges[1][j + 1], edges[2][k] : edges[2][k + 1]].any()
                some[i, j, k] = any_x[y0:y1, z0:z1].any()
                every[i, j, k] = all_x[y0:y1, z0:z1].all()
        return own, some, every

    def _any_x(self, first: int, last: int) -> np.ndarray:
        bits = np.bitwise_or.reduce(self.bits[first:last], axis=0)
        return np.unpackbits(bits, axis=1, count=self.shape[2]).view(bool)

    def surface(self) -> Tensor:
        """(S,) int64 flat numbers of the voxels with another value than one of their six neighbours."""
        found = []
        nx, ny, nz = self.shape
        for first, last in slabs(self.shape):
            low, high = max(0, first - 1), min(nx, last + 1)
            part = self.slab(low, high)
            edge = np.zeros(part.shape, dtype=bool)
            for axis in range(3):
                a, b = ([slice(None)] * 3 for _ in range(2))
                a[axis], b[axis] = slice(None, -1), slice(1, None)
                differs = part[tuple(a)] != part[tuple(b)]
                edge[tuple(a)] |= differs
                edge[tuple(b)] |= differs
            found.append(np.flatnonzero(edge[first - low : last - low]) + first * ny * nz)
        return torch.from_numpy(np.concatenate(found))


def bits_at(bits: Tensor, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Single voxels of a `BitGrid`'s bits on any device: (n,) voxel numbers per axis -> (n,) bool."""
    byte = bits.view(-1)[(x * bits.shape[1] + y) * bits.shape[2] + (z >> 3)]
    return (byte >> (7 - (z & 7)).to(torch.uint8)) & 1 == 1


def slabs(shape: Sequence[int]) -> Iterator[tuple[int, int]]:
    """First and last-plus-one plane of the parts of a grid that are unpacked at a time; multiples of 8 where it can."""
    step = max(1, SLAB_VOXELS // max(1, shape[1] * shape[2]))
    step = step // 8 * 8 if step > 8 else step
    for first in range(0, shape[0], step):
        yield first, min(shape[0], first + step)
