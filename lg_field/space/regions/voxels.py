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
import torch
from jaxtyping import Bool
from torch import Tensor

from lg_field.space.contraction import contract, uncontract_boxes
from lg_field.space.partition import PartitionGrid
from lg_field.space.regions.base import BoxMap, Region, finite
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
        if not bool(self.dense.any()):
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

    @cached_property
    def dense(self) -> Bool[Tensor, "nx ny nz"]:
        """Whether each voxel is one of them.

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
        return torch.from_numpy(bits.astype(bool)).view(self.counts)

    @cached_property
    def _sums(self) -> Tensor:
        """(nx + 1, ny + 1, nz + 1) int64: how many of them lie before each node."""
        sums = torch.nn.functional.pad(self.dense.long(), (1, 0) * 3)
        return sums.cumsum(0).cumsum(1).cumsum(2)

    @property
    def dim(self) -> int:
        return 3

    @property
    def noun(self) -> str:
        return "a set of voxels"

    def _contains(self, points: Tensor) -> Tensor:
        number = self.lattice.locate(contract(points) if self.contracted else points)
        dense = self.dense.to(points.device).view(-1)
        return dense[number.clamp_min(0)] & (number >= 0)

    def _touches(self, boxes: Tensor) -> Tensor:
        return self._count(self._contracted(boxes))[0] > 0

    def _covers(self, boxes: Tensor) -> Tensor:
        boxes = self._contracted(boxes)
        inside = (boxes[:, 0] >= boxes.new_tensor(self.lower)) & (boxes[:, 1] <= boxes.new_tensor(self.upper))
        found, of = self._count(boxes)
        return inside.all(-1) & (found == of)

    def _count(self, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Of the voxels that (n, 2, 3) boxes of the domain touch, (n,) how many are of the set, and how many there
        are."""
        low, size = (boxes.new_tensor(v, dtype=torch.float64) for v in (self.lower, self.lattice.cell_size))
        counts = torch.tensor(self.counts, device=boxes.device)
        places = (boxes.double() - low) / size
        places = places.clamp(-1.0, float(max(self.counts)) + 1.0)
        first = (places[:, 0] + EDGE).floor().long()
        last = (places[:, 1] - EDGE).ceil().long().maximum(first + 1)
        apart = ((last <= 0) | (first >= counts)).any(-1)
        first, last = first.clamp_min(0).minimum(counts), last.clamp_min(0).minimum(counts)
        sums, found = self._sums.to(boxes.device), 0
        for pick in np.ndindex(2, 2, 2):
            node = torch.stack([(last if p else first)[:, axis] for axis, p in enumerate(pick)])
            found = found + (-1) ** (3 - sum(pick)) * sums[tuple(node)]
        return torch.where(apart, 0, found), (last - first).prod(-1)

    def _contracted(self, boxes: Tensor) -> Tensor:
        """Boxes of scene space as boxes around what they are in the lattice's domain."""
        if not self.contracted:
            return boxes
        nearest = boxes[:, 0].clamp_min(0.0).maximum(-boxes[:, 1].clamp_max(0.0)).amax(-1)
        factors = []
        for norm in (nearest, boxes.abs().amax((1, 2))):
            norm = norm.clamp_min(1.0)
            factors.append((2.0 - 1.0 / norm) / norm)
        ends = torch.stack([boxes * f[:, None, None] for f in factors], dim=1).flatten(1, 2)
        return torch.stack([ends.amin(1), ends.amax(1)], dim=1)

    def _touched(self, grid: PartitionGrid, unwarp_boxes: BoxMap | None) -> Tensor:
        if self.contracted != (unwarp_boxes is not None):
            return super()._touched(grid, unwarp_boxes)
        parts = torch.arange(grid.num_cells).split(2**16)
        return torch.cat([cells[self._count(grid.boxes(cells))[0] > 0] for cells in parts])

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
