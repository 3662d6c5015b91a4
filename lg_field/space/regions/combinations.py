"""Regions made of regions: the outside of one, one in other units, several joined."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce
from operator import and_, or_
from typing import Any, ClassVar

import numpy as np

from lg_field.arrays import Array, Tensor, like, torch
from lg_field.space.partition import PartitionGrid
from lg_field.space.regions.base import MAX_NESTING, BoxMap, Region, finite, region_from_dict
from lg_field.space.regions.similarity import Similarity


def check_nesting(region: Region) -> None:
    """Raise ValueError if a region is made of regions that are made of regions, and so on, too many times."""
    if region.nesting > MAX_NESTING:
        raise ValueError(f"regions may be at most {MAX_NESTING} levels deep: crop with --snap to drop the old ones")


@dataclass(frozen=True)
class Complement(Region, kind="complement"):
    """Points outside a region."""

    part: Region

    def __post_init__(self) -> None:
        check_nesting(self)

    @property
    def dim(self) -> int:
        return self.part.dim

    @property
    def noun(self) -> str:
        return f"the outside of {self.part.noun}"

    @property
    def nesting(self) -> int:
        return 1 + self.part.nesting

    def __invert__(self) -> Region:
        return self.part

    def _contains(self, points: Array) -> Array:
        return ~self.part._contains(points)

    def _touches(self, boxes: Array) -> Array:
        return ~self.part._covers(boxes)

    def _covers(self, boxes: Array) -> Array:
        return ~self.part._touches(boxes)

    def bounds(self) -> Tensor:
        return self.part.part.bounds() if isinstance(self.part, Complement) else super().bounds()

    def voxels(self, lattice: PartitionGrid, contracted: bool) -> Tensor | None:
        inside = self.part.voxels(lattice, contracted)
        return None if inside is None else ~inside

    def moved(self, by: Similarity) -> Region:
        return ~self.part.moved(by)

    def to_dict(self) -> dict[str, Any]:
        return {"type": self.kind, "part": self.part.to_dict()}

    @classmethod
    def from_dict(cls, data: dict[str, Any], levels: int) -> Complement:
        return cls(region_from_dict(data["part"], levels))


@dataclass(frozen=True)
class Scaled(Region, kind="scaled"):
    """A region given in other units: it holds the points p with `p * scale + offset` in `part`."""

    part: Region
    scale: tuple[float, ...]
    """Positive, one per axis."""
    offset: tuple[float, ...]

    def __post_init__(self) -> None:
        if not all(math.isfinite(s) and s > 0 for s in self.scale) or not all(map(math.isfinite, self.offset)):
            raise ValueError(f"scales must be positive and offsets finite, got {self.scale} and {self.offset}")
        if len(self.offset) != len(self.scale):
            raise ValueError(f"scale and offset need one number per axis, got {self.scale} and {self.offset}")
        self.part.check_dim(len(self.scale), "its scale has")
        check_nesting(self)

    @property
    def dim(self) -> int:
        return self.part.dim

    @property
    def noun(self) -> str:
        return self.part.noun

    @property
    def nesting(self) -> int:
        return 1 + self.part.nesting

    def _contains(self, points: Array) -> Array:
        return self.part._contains(self._scaled(points))

    def _touches(self, boxes: Array) -> Array:
        return self.part._touches(self._scaled(boxes))

    def _covers(self, boxes: Array) -> Array:
        return self.part._covers(self._scaled(boxes))

    def bounds(self) -> Tensor:
        inner = self.part.bounds()
        return (inner - inner.new_tensor(self.offset)) / inner.new_tensor(self.scale)

    def _scaled(self, values: Array) -> Array:
        return values * like(values, self.scale) + like(values, self.offset)

    def to_dict(self) -> dict[str, Any]:
        scale, offset = list(self.scale), list(self.offset)
        return {"type": self.kind, "part": self.part.to_dict(), "scale": scale, "offset": offset}

    @classmethod
    def from_dict(cls, data: dict[str, Any], levels: int) -> Scaled:
        return cls(region_from_dict(data["part"], levels), finite(data["scale"]), finite(data["offset"]))


@dataclass(frozen=True)
class Joined(Region):
    """Several regions of one space."""

    parts: tuple[Region, ...]
    article: ClassVar[str]

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError("a union or intersection needs at least one part")
        for part in self.parts[1:]:
            part.check_dim(self.parts[0].dim, f"{self.parts[0].noun} beside it has")
        check_nesting(self)

    @property
    def dim(self) -> int:
        return self.parts[0].dim

    @property
    def noun(self) -> str:
        return f"{self.article} {self.kind}"

    @property
    def nesting(self) -> int:
        return 1 + max(part.nesting for part in self.parts)

    def parts_of(self, kind: str) -> tuple[Region, ...]:
        return self.parts if kind == self.kind else (self,)

    def part_bounds(self) -> tuple[Tensor, Tensor]:
        """(n, d) lower and upper corners of the parts."""
        lower, upper = torch.stack([part.bounds() for part in self.parts]).unbind(1)
        return lower, upper

    def part_voxels(self, lattice: PartitionGrid, contracted: bool) -> list[Tensor] | None:
        """The parts' voxels; None if one of them does not consist of whole ones."""
        found = [part.voxels(lattice, contracted) for part in self.parts]
        whole = [voxels for voxels in found if voxels is not None]
        return whole if len(whole) == len(found) else None

    def moved(self, by: Similarity) -> Region:
        return type(self)(tuple(part.moved(by) for part in self.parts))

    def to_dict(self) -> dict[str, Any]:
        return {"type": self.kind, "parts": [part.to_dict() for part in self.parts]}

    @classmethod
    def from_dict(cls, data: dict[str, Any], levels: int) -> Joined:
        parts = data["parts"]
        if not isinstance(parts, list):
            raise ValueError(f"the parts of a region must be a list, got {type(parts).__name__}")
        return cls(tuple(region_from_dict(part, levels) for part in parts))


@dataclass(frozen=True)
class Union(Joined, kind="union"):
    """Points in any of several regions."""

    article: ClassVar[str] = "a"

    def _contains(self, points: Array) -> Array:
        return reduce(or_, (part._contains(points) for part in self.parts))

    def _touches(self, boxes: Array) -> Array:
        return reduce(or_, (part._touches(boxes) for part in self.parts))

    def _covers(self, boxes: Array) -> Array:
        return reduce(or_, (part._covers(boxes) for part in self.parts))

    def bounds(self) -> Tensor:
        lower, upper = self.part_bounds()
        return torch.stack([lower.amin(0), upper.amax(0)])

    def voxels(self, lattice: PartitionGrid, contracted: bool) -> Tensor | None:
        found = self.part_voxels(lattice, contracted)
        return None if found is None else torch.stack(found).any(0)

    def _touched(self, grid: PartitionGrid, unwarp_boxes: BoxMap | None) -> np.ndarray:
        return np.unique(np.concatenate([part._touched(grid, unwarp_boxes) for part in self.parts]))


@dataclass(frozen=True)
class Intersection(Joined, kind="intersection"):
    """Points in all of several regions."""

    article: ClassVar[str] = "an"

    def _contains(self, points: Array) -> Array:
        return reduce(and_, (part._contains(points) for part in self.parts))

    def _touches(self, boxes: Array) -> Array:
        return reduce(and_, (part._touches(boxes) for part in self.parts))

    def _covers(self, boxes: Array) -> Array:
        return reduce(and_, (part._covers(boxes) for part in self.parts))

    def bounds(self) -> Tensor:
        lower, upper = self.part_bounds()
        return torch.stack([lower.amax(0), upper.amin(0)])

    def voxels(self, lattice: PartitionGrid, contracted: bool) -> Tensor | None:
        found = self.part_voxels(lattice, contracted)
        return None if found is None else torch.stack(found).all(0)

    def split_voxels(self, lattice: PartitionGrid, contracted: bool) -> tuple[Tensor | None, Region | None]:
        found = [part.split_voxels(lattice, contracted) for part in self.parts]
        masks = [mask for mask, _ in found if mask is not None]
        rest = tuple(part for _, part in found if part is not None)
        left = None if not rest else rest[0] if len(rest) == 1 else Intersection(rest)
        return torch.stack(masks).all(0) if masks else None, left

    def _touched(self, grid: PartitionGrid, unwarp_boxes: BoxMap | None) -> np.ndarray:
        kept = self.parts[0]._touched(grid, unwarp_boxes)
        for part in self.parts[1:]:
            kept = kept[np.isin(kept, part._touched(grid, unwarp_boxes))]
        return kept
