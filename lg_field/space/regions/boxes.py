"""Boxes: along the axes, and turned."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from lg_field.arrays import Array, Tensor, like, torch
from lg_field.space.partition import PartitionGrid
from lg_field.space.regions.base import BoxMap, Region, corners, finite
from lg_field.space.regions.similarity import Similarity


@dataclass(frozen=True)
class Box(Region, kind="box"):
    """Axis-aligned half-open box, of any dimension."""

    lower: tuple[float, ...]
    upper: tuple[float, ...]

    def __post_init__(self) -> None:
        if not len(self.lower) == len(self.upper) > 0:
            raise ValueError(f"box corners need the same length, got {len(self.lower)} and {len(self.upper)}")
        for axis, (low, high) in enumerate(zip(self.lower, self.upper)):
            if not low < high:
                raise ValueError(
                    f"box is empty on axis {axis}: its lower corner {low:g} is not below its upper corner {high:g}; "
                    "give the lower corner first, then the upper one"
                )

    @property
    def dim(self) -> int:
        return len(self.lower)

    @property
    def noun(self) -> str:
        return "a box"

    def _and(self, other: Region) -> Region:
        return self.intersect(other) if isinstance(other, Box) else super()._and(other)

    def intersect(self, other: Box) -> Box:
        """The common box.

        Raises:
            ValueError: the boxes do not overlap, or are of different dimensions.
        """
        other.check_dim(self.dim, "the other box has")
        lower = tuple(max(a, b) for a, b in zip(self.lower, other.lower))
        upper = tuple(min(a, b) for a, b in zip(self.upper, other.upper))
        if any(not low < high for low, high in zip(lower, upper)):
            raise ValueError(f"boxes {self.to_dict()} and {other.to_dict()} do not overlap: nothing would be kept")
        return Box(lower, upper)

    def _contains(self, points: Array) -> Array:
        return ((points >= like(points, self.lower)) & (points < like(points, self.upper))).all(-1)

    def _touches(self, boxes: Array) -> Array:
        return ((boxes[:, 0] < like(boxes, self.upper)) & (boxes[:, 1] > like(boxes, self.lower))).all(-1)

    def _covers(self, boxes: Array) -> Array:
        return ((boxes[:, 0] >= like(boxes, self.lower)) & (boxes[:, 1] < like(boxes, self.upper))).all(-1)

    def _touched(self, grid: PartitionGrid, unwarp_boxes: BoxMap | None) -> np.ndarray:
        if unwarp_boxes is None:
            return grid.cells_of_box(self.lower, self.upper)
        return super()._touched(grid, unwarp_boxes)

    def bounds(self) -> Tensor:
        return torch.tensor([self.lower, self.upper], dtype=torch.float64)

    def moved(self, by: Similarity) -> Region:
        if self.dim != 3:
            return super().moved(by)
        center = tuple((low + up) / 2 for low, up in zip(self.lower, self.upper))
        size = tuple(up - low for low, up in zip(self.lower, self.upper))
        return _moved_box(center, torch.eye(3, dtype=torch.float64), size, by)

    def to_dict(self) -> dict[str, Any]:
        return {"type": self.kind, "lower": list(self.lower), "upper": list(self.upper)}

    @classmethod
    def from_dict(cls, data: dict[str, Any], levels: int) -> Box:
        return cls(finite(data["lower"]), finite(data["upper"]))


@dataclass(frozen=True)
class OrientedBox(Region, kind="oriented_box"):
    """A turned box in 3D, as nerfstudio's viewer gives it; closed."""

    center: tuple[float, float, float]
    rotation: tuple[tuple[float, float, float], ...]
    """Rotation matrix by rows; its columns are the box's axes."""
    size: tuple[float, float, float]
    """Full extents along the box's axes."""

    def __post_init__(self) -> None:
        if not len(self.center) == len(self.size) == len(self.rotation) == 3:
            raise ValueError(f"a turned box needs a center and a size of 3 axes, got {self.center} and {self.size}")
        turn = np.array(self.rotation, dtype=np.float64) if all(len(r) == 3 for r in self.rotation) else None
        if turn is None or not np.allclose(turn @ turn.T, np.eye(3), atol=1e-4):
            raise ValueError(f"rotation must be an orthonormal 3x3 matrix, got {self.rotation}")
        if not all(math.isfinite(c) and math.isfinite(s) and s > 0 for c, s in zip(self.center, self.size)):
            raise ValueError(f"the box needs a finite center and positive sizes, got {self.center} and {self.size}")

    @property
    def dim(self) -> int:
        return 3

    @property
    def noun(self) -> str:
        return "a turned box"

    def _contains(self, points: Array) -> Array:
        inner = (points - like(points, self.center)) @ like(points, self.rotation)
        return (abs(inner) <= like(points, self.size) / 2).all(-1)

    def _touches(self, boxes: Array) -> Array:
        """By separating axes: three of each box and their nine cross products."""
        turn, eye = np.array(self.rotation), np.eye(3)
        crossed = [np.cross(eye[i], turn[:, j]) for i, j in itertools.product(range(3), range(3))]
        axes = np.stack([*eye, *turn.T, *crossed], axis=1)
        reach = like(boxes, np.array(self.size) / 2 @ abs(turn.T @ axes))
        middle, extent = boxes.mean(1) - like(boxes, self.center), (boxes[:, 1] - boxes[:, 0]) / 2
        return (abs(middle @ like(boxes, axes)) <= extent @ like(boxes, abs(axes)) + reach + 1e-9).all(-1)

    def _covers(self, boxes: Array) -> Array:
        return self._contains(corners(boxes)).all(1)

    def bounds(self) -> Tensor:
        center = torch.tensor(self.center, dtype=torch.float64)
        reach = torch.tensor(self.rotation, dtype=torch.float64).abs() @ torch.tensor(self.size).double() / 2
        return torch.stack([center - reach, center + reach])

    def moved(self, by: Similarity) -> Region:
        return _moved_box(self.center, torch.tensor(self.rotation, dtype=torch.float64), self.size, by)

    def to_dict(self) -> dict[str, Any]:
        rotation = [list(row) for row in self.rotation]
        return {"type": self.kind, "center": list(self.center), "rotation": rotation, "size": list(self.size)}

    @classmethod
    def from_dict(cls, data: dict[str, Any], levels: int) -> OrientedBox:
        center, rotation, size = finite(data["center"]), data["rotation"], finite(data["size"])
        if not isinstance(rotation, (list, tuple)):
            raise ValueError(f"rotation must be an orthonormal 3x3 matrix, got {str(rotation)[:60]}")
        return cls(center, tuple(finite(row) for row in rotation), size)  # type: ignore[arg-type, misc]


def _moved_box(center: tuple[float, ...], axes: Tensor, size: tuple[float, ...], by: Similarity) -> Region:
    """A box of 3D space, moved: an axis-aligned one if it is not turned, up to rounding.

    Args:
        center: (3,)
        axes: (3, 3) float64 whose columns are the box's axes.
        size: (3,) full extents along them.
    """
    new_center, new_size, new_axes = by.point(center), [s * by.scale for s in size], by.turn @ axes / by.scale
    if torch.allclose(new_axes, torch.eye(3, dtype=torch.float64), atol=1e-6):
        return Box(
            tuple(c - s / 2 for c, s in zip(new_center, new_size)),
            tuple(c + s / 2 for c, s in zip(new_center, new_size)),
        )
    rotation = tuple(tuple(row) for row in new_axes.tolist())
    return OrientedBox(new_center, rotation, tuple(new_size))  # type: ignore[arg-type]
