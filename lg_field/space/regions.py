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

from lg_field.space.partition import PartitionGrid

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

    @staticmethod
    def sphere(center: Sequence[float], radius: float) -> Region:
        """The ball around `center`.

        Raises:
            ValueError: a radius that is not positive.
        """
        return Sphere(tuple(float(v) for v in center), float(radius))

    @abstractmethod
    def touches(self, boxes: Tensor) -> Tensor:
        """(n, 2, d) float64 axis-aligned boxes -> (n,) bool: False only where box and region are apart."""

    @abstractmethod
    def covers(self, boxes: Tensor) -> Tensor:
        """(n, 2, d) float64 axis-aligned boxes -> (n,) bool: True only where the region holds all of the box."""

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

    def __or__(self, other: Region) -> Region:
        """The points in either."""
        return Union((self, other))

    def __invert__(self) -> Region:
        """The points outside."""
        return self.part if isinstance(self, Complement) else Complement(self)


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

    def covers(self, boxes: Tensor) -> Tensor:
        return ((boxes[:, 0] >= boxes.new_tensor(self.lower)) & (boxes[:, 1] < boxes.new_tensor(self.upper))).all(-1)

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

    def covers(self, boxes: Tensor) -> Tensor:
        return self.contains(corners(boxes)).all(1)

    def to_dict(self) -> dict[str, Any]:
        rotation = [list(row) for row in self.rotation]
        return {"type": "oriented_box", "center": list(self.center), "rotation": rotation, "size": list(self.size)}


@dataclass(frozen=True)
class Sphere(Region):
    """A ball, of any dimension."""

    center: tuple[float, ...]
    radius: float

    def __post_init__(self) -> None:
        if not (all(map(math.isfinite, self.center)) and math.isfinite(self.radius) and self.radius > 0):
            raise ValueError(f"a sphere needs a finite center and a positive radius, got {self.center}, {self.radius}")

    def contains(self, points: Tensor) -> Tensor:
        return (points - points.new_tensor(self.center)).norm(dim=-1) <= self.radius

    def touches(self, boxes: Tensor) -> Tensor:
        center = boxes.new_tensor(self.center)
        return self.contains(torch.minimum(torch.maximum(center, boxes[:, 0]), boxes[:, 1]))

    def covers(self, boxes: Tensor) -> Tensor:
        return self.contains(corners(boxes)).all(1)

    def to_dict(self) -> dict[str, Any]:
        return {"type": "sphere", "center": list(self.center), "radius": self.radius}


@dataclass(frozen=True)
class Complement(Region):
    """Points outside a region."""

    part: Region

    def contains(self, points: Tensor) -> Tensor:
        return ~self.part.contains(points)

    def touches(self, boxes: Tensor) -> Tensor:
        return ~self.part.covers(boxes)

    def covers(self, boxes: Tensor) -> Tensor:
        return ~self.part.touches(boxes)

    def to_dict(self) -> dict[str, Any]:
        return {"type": "complement", "part": self.part.to_dict()}


@dataclass(frozen=True)
class Scaled(Region):
    """A region given in other units: it holds the points p with `p * scale + offset` in `part`."""

    part: Region
    scale: tuple[float, ...]
    """Positive, one per axis."""
    offset: tuple[float, ...]

    def __post_init__(self) -> None:
        if not all(math.isfinite(s) and s > 0 and math.isfinite(o) for s, o in zip(self.scale, self.offset)):
            raise ValueError(f"scales must be positive and offsets finite, got {self.scale} and {self.offset}")

    def contains(self, points: Tensor) -> Tensor:
        return self.part.contains(points * points.new_tensor(self.scale) + points.new_tensor(self.offset))

    def touches(self, boxes: Tensor) -> Tensor:
        return self.part.touches(boxes * boxes.new_tensor(self.scale) + boxes.new_tensor(self.offset))

    def covers(self, boxes: Tensor) -> Tensor:
        return self.part.covers(boxes * boxes.new_tensor(self.scale) + boxes.new_tensor(self.offset))

    def to_dict(self) -> dict[str, Any]:
        scale, offset = list(self.scale), list(self.offset)
        return {"type": "scaled", "part": self.part.to_dict(), "scale": scale, "offset": offset}


@dataclass(frozen=True)
class Union(Region):
    """Points in any of several regions."""

    parts: tuple[Region, ...]

    def __post_init__(self) -> None:
        _check_parts(self.parts)

    def contains(self, points: Tensor) -> Tensor:
        return torch.stack([part.contains(points) for part in self.parts]).any(0)

    def touches(self, boxes: Tensor) -> Tensor:
        return torch.stack([part.touches(boxes) for part in self.parts]).any(0)

    def covers(self, boxes: Tensor) -> Tensor:
        return torch.stack([part.covers(boxes) for part in self.parts]).any(0)

    def touched(self, grid: PartitionGrid, unwarp_boxes: BoxMap | None = None) -> Tensor:
        return torch.cat([part.touched(grid, unwarp_boxes) for part in self.parts]).unique()

    def to_dict(self) -> dict[str, Any]:
        return {"type": "union", "parts": [part.to_dict() for part in self.parts]}


@dataclass(frozen=True)
class Intersection(Region):
    """Points in all of several regions."""

    parts: tuple[Region, ...]

    def __post_init__(self) -> None:
        _check_parts(self.parts)

    def contains(self, points: Tensor) -> Tensor:
        return torch.stack([part.contains(points) for part in self.parts]).all(0)

    def touches(self, boxes: Tensor) -> Tensor:
        return torch.stack([part.touches(boxes) for part in self.parts]).all(0)

    def covers(self, boxes: Tensor) -> Tensor:
        return torch.stack([part.covers(boxes) for part in self.parts]).all(0)

    def touched(self, grid: PartitionGrid, unwarp_boxes: BoxMap | None = None) -> Tensor:
        kept = self.parts[0].touched(grid, unwarp_boxes)
        for part in self.parts[1:]:
            kept = kept[torch.isin(kept, part.touched(grid, unwarp_boxes))]
        return kept

    def to_dict(self) -> dict[str, Any]:
        return {"type": "intersection", "parts": [part.to_dict() for part in self.parts]}


def transformed(region: Region, matrix: Tensor) -> Region:
    """A region of 3D space, moved by a similarity (scale, rotation, shift), e.g. from world to scene units.

    Args:
        region: boxes, turned boxes, spheres, and what is made of them.
        matrix: (4, 4).

    Raises:
        ValueError: a region given in other units (signals), or not of 3D space.
    """
    turn = matrix[:3, :3].double()
    scale = float(torch.linalg.det(turn).abs() ** (1 / 3))

    def moved(point: Sequence[float]) -> tuple[float, ...]:
        return tuple((turn @ torch.tensor(point, dtype=torch.float64) + matrix[:3, 3].double()).tolist())

    if isinstance(region, Complement):
        return ~transformed(region.part, matrix)
    if isinstance(region, (Union, Intersection)):
        return type(region)(tuple(transformed(part, matrix) for part in region.parts))
    if isinstance(region, Sphere) and len(region.center) == 3:
        return Sphere(moved(region.center), region.radius * scale)
    if isinstance(region, Box) and len(region.lower) == 3:
        center = [(low + up) / 2 for low, up in zip(region.lower, region.upper)]
        axes, size = torch.eye(3, dtype=torch.float64), [up - low for low, up in zip(region.lower, region.upper)]
    elif isinstance(region, OrientedBox):
        center, axes, size = list(region.center), torch.tensor(region.rotation, dtype=torch.float64), list(region.size)
    else:
        raise ValueError(f"only regions of 3D space can be moved, got {region.to_dict()}")
    new_center, new_size, new_axes = moved(center), [s * scale for s in size], turn @ axes / scale
    if torch.allclose(new_axes, torch.eye(3, dtype=torch.float64), atol=1e-6):
        return Region.box(
            [c - s / 2 for c, s in zip(new_center, new_size)], [c + s / 2 for c, s in zip(new_center, new_size)]
        )
    rotation = tuple(tuple(row) for row in new_axes.tolist())
    return OrientedBox(new_center, rotation, tuple(new_size))  # type: ignore[arg-type]


def region_from_dict(data: dict[str, Any]) -> Region:
    """Inverse of `Region.to_dict`.

    Raises:
        ValueError: not a region.
    """
    kind = data.get("type") if isinstance(data, dict) else None
    try:
        if kind == "box":
            return Region.box(data["lower"], data["upper"])
        if kind == "sphere":
            return Region.sphere(data["center"], data["radius"])
        if kind == "oriented_box":
            center, size = _floats(data["center"]), _floats(data["size"])
            return OrientedBox(center, tuple(_floats(row) for row in data["rotation"]), size)  # type: ignore
        if kind == "complement":
            return Complement(region_from_dict(data["part"]))
        if kind == "scaled":
            return Scaled(region_from_dict(data["part"]), _floats(data["scale"]), _floats(data["offset"]))
        if kind in ("intersection", "union"):
            parts = tuple(region_from_dict(part) for part in data["parts"])
            return Intersection(parts) if kind == "intersection" else Union(parts)
    except KeyError as error:
        raise ValueError(f"a region of type {kind} needs {error}") from error
    except TypeError as error:
        raise ValueError(f"a region of type {kind} has a field of the wrong type: {error}") from error
    kinds = "box, oriented_box, sphere, union, intersection, complement or scaled"
    raise ValueError(f"not a region: 'type' must be {kinds}, got {kind!r}")


def _floats(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(float(v) for v in values)


def _check_parts(parts: tuple[Region, ...]) -> None:
    if not parts:
        raise ValueError("a union or intersection needs at least one part")


def corners(boxes: Tensor) -> Tensor:
    """(n, 2, d) boxes -> (n, 2^d, d) their corners."""
    dim = boxes.shape[-1]
    picks = torch.cartesian_prod(*[torch.arange(2)] * dim).reshape(-1, dim).to(boxes.device)
    return boxes[:, picks, torch.arange(dim, device=boxes.device)]


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
