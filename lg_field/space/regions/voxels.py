"""Sets of voxels: regions as fine as what a scene knows of where it is empty."""

from __future__ import annotations

import base64
import binascii
import math
import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool

from lg_field.arrays import Array, Tensor, like, like_number, namespace, torch, whole
from lg_field.space.contraction import contract, uncontract_boxes
from lg_field.space.partition import PartitionGrid
from lg_field.space.regions.base import CELLS, BoxMap, Region, finite
from lg_field.space.regions.similarity import Similarity

MAX_VOXELS = 1 << 28
"""A lattice of more voxels is not read."""
EDGE = 1e-6
"""Boxes that reach less than this part of a voxel into the next one do not touch it."""


@dataclass(frozen=True)
class VoxelSet(Region, kind="voxels"):
    """Some voxels of a lattice over a box of three axes, or over contracted space."""

    counts: tuple[int, ...]
    """Voxels per axis (3,)."""
    lower: tuple[float, ...]
    """(3,) lower corner of the lattice."""
    upper: tuple[float, ...]
    """(3,) upper corner."""
    contracted: bool
    """The lattice divides contracted space; points are of scene space all the same."""
    bits: bytes
    """One bit for each voxel, row by row, last axis fastest, first voxel in the highest bit; compressed by zlib."""

    def __post_init__(self) -> None:
        if not len(self.counts) == len(self.lower) == len(self.upper) == 3:
            raise ValueError(f"voxels need counts, lower and upper of 3 axes, got {self.counts}")
        if math.prod(self.counts) > MAX_VOXELS:
            raise ValueError(f"a lattice has at most {MAX_VOXELS:,} voxels, got {self.counts}")
        if not self._dense.any():
            raise ValueError("a set of voxels needs at least one")

    @staticmethod
    def of(dense: Bool[Tensor, "nx ny nz"], lattice: PartitionGrid, contracted: bool) -> VoxelSet:
        """The voxels that are True.

        Args:
            dense: of each voxel, by its index per axis.
            lattice: the voxels, as cells.
            contracted: the lattice divides contracted space.

        Raises:
            ValueError: none is, or a lattice of another size.
        """
        if tuple(dense.shape) != lattice.counts:
            raise ValueError(f"the lattice has {lattice.counts} voxels, got {tuple(dense.shape)}")
        packed = np.packbits(dense.cpu().numpy().reshape(-1))
        return VoxelSet(lattice.counts, lattice.lower, lattice.upper, contracted, zlib.compress(packed.tobytes(), 9))

    @cached_property
    def lattice(self) -> PartitionGrid:
        """The voxels, as cells."""
        return PartitionGrid(self.counts, self.lower, self.upper)

    @property
    def dense(self) -> Bool[Tensor, "nx ny nz"]:
        """Whether each voxel is one of them."""
        return torch.from_numpy(self._dense)

    @cached_property
    def _dense(self) -> Bool[np.ndarray, "nx ny nz"]:
        """`dense`, in numpy.

        Raises:
            ValueError: bits of another number of voxels.
        """
        count = self.lattice.num_cells
        size = -(-count // 8)
        try:
            inflate = zlib.decompressobj()
            packed = inflate.decompress(self.bits, size + 1)
        except zlib.error as error:
            raise ValueError(f"the bits of a set of voxels are damaged: {error}") from error
        if len(packed) != size or not inflate.eof:
            raise ValueError(f"the bits of a set of voxels are not those of {count:,} voxels")
        bits = np.unpackbits(np.frombuffer(packed, np.uint8), count=count)
        return bits.astype(bool).reshape(self.counts)

    @cached_property
    def _sums(self) -> np.ndarray:
        """(nx + 1, ny + 1, nz + 1) int64: how many of them lie before each node."""
        return np.pad(self._dense.astype(np.int64), (1, 0)).cumsum(0).cumsum(1).cumsum(2)

    @property
    def dim(self) -> int:
        return 3

    @property
    def noun(self) -> str:
        return "a set of voxels"

    def _contains(self, points: Array) -> Array:
        number = self.lattice.locate(contract(points) if self.contracted else points)
        dense = like_number(points, self._dense.reshape(-1))
        return dense[number.clip(0, None)] & (number >= 0)

    def _touches(self, boxes: Array) -> Array:
        return self._count(self._contracted(boxes))[0] > 0

    def _covers(self, boxes: Array) -> Array:
        boxes = self._contracted(boxes)
        inside = (boxes[:, 0] >= like(boxes, self.lower)) & (boxes[:, 1] <= like(boxes, self.upper))
        found, of = self._count(boxes)
        return inside.all(-1) & (found == of)

    def _count(self, boxes: Array) -> tuple[Array, Array]:
        """Of the voxels that (n, 2, 3) boxes of the domain touch, (n,) how many are of the set, and how many there
        are."""
        xp = namespace(boxes)
        low, size, counts = (like_number(boxes, np.array(v)) for v in (self.lower, self.lattice.cell_size, self.counts))
        places = ((boxes - low) / size).clip(-1.0, float(max(self.counts)) + 1.0)
        first = whole(xp.floor(places[:, 0] + EDGE))
        last = xp.maximum(whole(xp.ceil(places[:, 1] - EDGE)), first + 1)
        apart = ((last <= 0) | (first >= counts)).any(-1)
        first, last = (xp.minimum(end.clip(0, None), counts) for end in (first, last))
        sums, found = like_number(boxes, self._sums), 0
        for pick in np.ndindex(2, 2, 2):
            node = tuple((last if p else first)[:, axis] for axis, p in enumerate(pick))
            found = found + (-1) ** (3 - sum(pick)) * sums[node]
        return xp.where(apart, 0, found), (last - first).prod(-1)

    def _contracted(self, boxes: Array) -> Array:
        """Boxes of scene space as boxes around what they are in the lattice's domain."""
        if not self.contracted:
            return boxes
        xp = namespace(boxes)
        nearest = xp.amax(xp.maximum(boxes[:, 0].clip(0.0, None), -boxes[:, 1].clip(None, 0.0)), -1)
        factors = []
        for norm in (nearest, xp.amax(xp.abs(boxes), (1, 2))):
            norm = norm.clip(1.0, None)
            factors.append((2.0 - 1.0 / norm) / norm)
        ends = xp.concatenate([boxes * f[:, None, None] for f in factors], axis=1)
        return xp.stack([xp.amin(ends, 1), xp.amax(ends, 1)], axis=1)

    def _touched(self, grid: PartitionGrid, unwarp_boxes: BoxMap | None) -> np.ndarray:
        if self.contracted != (unwarp_boxes is not None):
            return super()._touched(grid, unwarp_boxes)
        parts = [np.arange(first, min(first + CELLS, grid.num_cells)) for first in range(0, grid.num_cells, CELLS)]
        return np.concatenate([cells[self._count(grid.boxes(cells))[0] > 0] for cells in parts])

    def bounds(self) -> Tensor:
        index = self.dense.nonzero()
        ends = torch.stack([index.amin(0), index.amax(0) + 1]).double()
        low, size = (torch.tensor(v, dtype=torch.float64) for v in (self.lower, self.lattice.cell_size))
        box = low + ends * size
        return uncontract_boxes(box[None])[0] if self.contracted else box

    def voxels(self, lattice: PartitionGrid, contracted: bool) -> Tensor | None:
        return self.dense if (lattice, contracted) == (self.lattice, self.contracted) else None

    def moved(self, by: Similarity) -> Region:
        raise ValueError("a set of voxels is of the space of its scene, and cannot be moved")

    def to_dict(self) -> dict[str, Any]:
        return {
            "type": self.kind,
            "counts": list(self.counts),
            "lower": list(self.lower),
            "upper": list(self.upper),
            "contracted": self.contracted,
            "bits": base64.b64encode(self.bits).decode("ascii"),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any], levels: int) -> VoxelSet:
        counts, contracted, text = data["counts"], data["contracted"], data["bits"]
        if not isinstance(counts, (list, tuple)) or any(type(c) is not int or c < 1 for c in counts):
            raise ValueError(f"counts of voxels must be whole numbers of at least 1, got {str(counts)[:60]}")
        if type(contracted) is not bool or not isinstance(text, str):
            raise ValueError("a set of voxels says true or false for 'contracted', and its bits as text")
        try:
            bits = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise ValueError(f"the bits of a set of voxels must be base64: {error}") from error
        return cls(tuple(counts), finite(data["lower"]), finite(data["upper"]), contracted, bits)
