"""Regions: the part of space an edit keeps. What a user asks for, exactly; cells are only its hull."""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lg_field.partition import PartitionGrid

BoxMap = Callable[[Tensor], Tensor]
"""Maps axis-aligned boxes (n, 2, d) of a grid's domain to boxes around them in the space regions are given in."""


class Region(ABC):
    """A set of points, in the units of the space it is given in (for scenes: nerfstudio's scene space)."""

    @staticmethod
    def box(lower: Sequence[float], upper: Sequence[float]) -> Region:
        """The half-open axis-aligned box `[lower, upper)`.

        Raises:
            ValueError: corners of different length, not numbers, or a lower corner not below the upper one.
        """
        return Box(tuple(float(v) for v in lower), tuple(float(v) for v in upper))

    @abstractmethod
    def contains(self, points: Tensor) -> Tensor:
        """(..., d) points -> (...) bool."""

    @abstractmethod
    def touches(self, boxes: Tensor) -> Tensor:
        """(n, 2, d) float64 axis-aligned boxes -> (n,) bool: False only where box and region are apart."""

    def touched(self, grid: PartitionGrid, unwarp_boxes: BoxMap | None = None) -> Tensor:
        """Cells the region touches; in curved space a few that it only nearly touches come along.

        Args:
            grid: cells of the domain.
            unwarp_boxes: from the domain to the region's space; None where they are the same.

        Returns:
            Sorted (n,) int64 cell numbers.
        """
        found = []
        for cells in torch.arange(grid.num_cells).split(2**14):
            boxes = grid.boxes(cells)
            if unwarp_boxes is not None:
                boxes = unwarp_boxes(_subdivide(boxes, 4))
            found.append(self.touches(_widen(boxes)).view(len(cells), -1).any(1))
        return torch.cat(found).nonzero()[:, 0]

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON; `region_from_dict` reads it."""

    def __and__(self, other: Region) -> Region:
        """The points in both."""
        if isinstance(self, Box) and isinstance(other, Box):
            return self.intersect(other)
        return Intersection((self, other))


@dataclass(frozen=True)
class Box(Region):
    """Axis-aligned half-open box."""

    lower: tuple[float, ...]
    upper: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.lower) != len(self.upper):
            raise ValueError(f"box corners need the same length, got {len(self.lower)} and {len(self.upper)}")
        for axis, (low, high) in enumerate(zip(self.lower, self.upper)):
            if not low < high:
                raise ValueError(
                    f"box is empty on axis {axis}: its lower corner {low:g} is not below its upper corner {high:g}; "
                    "give the lower corner first, then the upper one"
                )

    def intersect(self, other: Box) -> Box:
        """The common box.

        Raises:
            ValueError: the boxes do not overlap.
        """
        lower = tuple(max(a, b) for a, b in zip(self.lower, other.lower))
        upper = tuple(min(a, b) for a, b in zip(self.upper, other.upper))
        if any(not low < high for low, high in zip(lower, upper)):
            raise ValueError(f"boxes {self.to_dict()} and {other.to_dict()} do not overlap: nothing would be kept")
        return Box(lower, upper)

    def contains(self, points: Tensor) -> Tensor:
        return ((points >= points.new_tensor(self.lower)) & (points < points.new_tensor(self.upper))).all(-1)

    def touches(self, boxes: Tensor) -> Tensor:
        return ((boxes[:, 0] < boxes.new_tensor(self.upper)) & (boxes[:, 1] > boxes.new_tensor(self.lower))).all(-1)

    def touched(self, grid: PartitionGrid, unwarp_boxes: BoxMap | None = None) -> Tensor:
        if len(self.lower) != grid.dim:
            raise ValueError(f"the box has {len(self.lower)} axes, the field has {grid.dim}")
        if unwarp_boxes is None:
            return grid.touched_by_box(self.lower, self.upper)
        return super().touched(grid, unwarp_boxes)

    def to_dict(self) -> dict[str, Any]:
        return {"type": "box", "lower": list(self.lower), "upper": list(self.upper)}


@dataclass(frozen=True)
class OrientedBox(Region):
    """A turned box in 3D, as nerfstudio's viewer gives it."""

    center: tuple[float, float, float]
    rotation: tuple[tuple[float, float, float], ...]
    """Rotation matrix by rows; its columns are the box's axes."""
    size: tuple[float, float, float]
    """Full extents along the box's axes."""

    def __post_init__(self) -> None:
        turn = torch.tensor(self.rotation, dtype=torch.float64)
        if turn.shape != (3, 3) or not torch.allclose(turn @ turn.T, torch.eye(3, dtype=torch.float64), atol=1e-4):
            raise ValueError(f"rotation must be an orthonormal 3x3 matrix, got {self.rotation}")
        if not all(math.isfinite(c) and s > 0 for c, s in zip(self.center, self.size)):
            raise ValueError(f"the box needs a finite center and positive sizes, got {self.center} and {self.size}")

    def contains(self, points: Tensor) -> Tensor:
        inner = (points - points.new_tensor(self.center)) @ points.new_tensor(self.rotation)
        return (inner.abs() <= points.new_tensor(self.size) / 2).all(-1)

    def touches(self, boxes: Tensor) -> Tensor:
        """By separating axes: three of each box and their nine cross products."""
        turn, half = boxes.new_tensor(self.rotation), boxes.new_tensor(self.size) / 2
        middle, extent = boxes.mean(1) - boxes.new_tensor(self.center), (boxes[:, 1] - boxes[:, 0]) / 2
        eye = torch.eye(3, dtype=boxes.dtype, device=boxes.device)
        crossed = [torch.linalg.cross(eye[i], turn[:, j]) for i, j in itertools.product(range(3), range(3))]
        axes = torch.stack([*eye, *turn.T, *crossed], dim=1)
        reach = extent @ axes.abs() + half @ (turn.T @ axes).abs()
        return ((middle @ axes).abs() <= reach + 1e-9).all(-1)

    def to_dict(self) -> dict[str, Any]:
        rotation = [list(row) for row in self.rotation]
        return {"type": "oriented_box", "center": list(self.center), "rotation": rotation, "size": list(self.size)}


@dataclass(frozen=True)
class Intersection(Region):
    """Points in all of several regions."""

    parts: tuple[Region, ...]

    def contains(self, points: Tensor) -> Tensor:
        return torch.stack([part.contains(points) for part in self.parts]).all(0)

    def touches(self, boxes: Tensor) -> Tensor:
        return torch.stack([part.touches(boxes) for part in self.parts]).all(0)

    def touched(self, grid: PartitionGrid, unwarp_boxes: BoxMap | None = None) -> Tensor:
        kept = self.parts[0].touched(grid, unwarp_boxes)
        for part in self.parts[1:]:
            kept = kept[torch.isin(kept, part.touched(grid, unwarp_boxes))]
        return kept

    def to_dict(self) -> dict[str, Any]:
        return {"type": "intersection", "parts": [part.to_dict() for part in self.parts]}


def region_from_dict(data: dict[str, Any]) -> Region:
    """Inverse of `Region.to_dict`.

    Raises:
        ValueError: not a region.
    """
    kind = data.get("type") if isinstance(data, dict) else None
    if kind == "box":
        return Region.box(data["lower"], data["upper"])
    if kind == "oriented_box":
        center, size = tuple(data["center"]), tuple(data["size"])
        return OrientedBox(center, tuple(tuple(row) for row in data["rotation"]), size)
    if kind == "intersection":
        return Intersection(tuple(region_from_dict(part) for part in data["parts"]))
    raise ValueError(f"not a region: 'type' must be box, oriented_box or intersection, got {kind!r}")


def _subdivide(boxes: Tensor, parts: int) -> Tensor:
    """(n, 2, d) -> (n * parts^d, 2, d), each box cut into equal parts."""
    dim = boxes.shape[-1]
    steps = torch.cartesian_prod(*[torch.arange(parts)] * dim).reshape(-1, dim).to(boxes)
    lower, size = boxes[:, None, 0], (boxes[:, None, 1] - boxes[:, None, 0]) / parts
    return torch.stack([lower + steps * size, lower + (steps + 1) * size], dim=2).flatten(0, 1)


def _widen(boxes: Tensor) -> Tensor:
    """Boxes grown by what float32 coordinates are rounded to."""
    margin = 1e-6 * boxes.abs().amax(1)
    return torch.stack([boxes[:, 0] - margin, boxes[:, 1] + margin], dim=1)
