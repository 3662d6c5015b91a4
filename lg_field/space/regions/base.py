"""What every region is, the operators that join regions, and the registry of kinds by which JSON names them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from lg_field.arrays import Array, Tensor, like, namespace, torch
from lg_field.space.partition import PartitionGrid, lattice_points
from lg_field.space.regions.similarity import Similarity

BoxMap = Callable[[Array], Array]
"""Maps axis-aligned boxes (n, 2, d) of a grid's domain to boxes around them in the space regions are given in."""
KINDS: dict[str, Any] = {}
"""The kinds of regions, by the name that JSON gives them. A subclass of `Region` with a kind registers itself."""
CELLS = 1 << 14
"""Cells looked at at a time."""
MAX_NESTING = 64
"""Regions made of regions are at most so many levels deep."""


class Region(ABC):
    """A set of points, in the units of the space it is given in (for scenes: nerfstudio's scene space).

    Subclasses say what it holds (`_contains`, `_touches`, `_covers`); what they are given is of the right dimension, in
    tensors or in numpy arrays.
    """

    kind: ClassVar[str]
    """Name of the kind in JSON."""

    def __init_subclass__(cls, kind: str = "", **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if kind:
            cls.kind = kind
            KINDS[kind] = cls

    # -- making and joining

    @staticmethod
    def box(lower: Sequence[float], upper: Sequence[float]) -> Region:
        """The half-open axis-aligned box `[lower, upper)`.

        Raises:
            ValueError: corners of different length, not numbers, or a lower corner not below the upper one.
        """
        box: Region = KINDS["box"](floats(lower), floats(upper))
        return box

    @staticmethod
    def sphere(center: Sequence[float], radius: float) -> Region:
        """The ball around `center`.

        Raises:
            ValueError: a radius that is not positive.
        """
        sphere: Region = KINDS["sphere"](floats(center), floats([radius])[0])
        return sphere

    def __and__(self, other: Region) -> Region:
        """The points in both."""
        return self._and(other)

    def _and(self, other: Region) -> Region:
        both: Region = KINDS["intersection"]((*self.parts_of("intersection"), *other.parts_of("intersection")))
        return both

    def __or__(self, other: Region) -> Region:
        """The points in either."""
        either: Region = KINDS["union"]((*self.parts_of("union"), *other.parts_of("union")))
        return either

    def __sub__(self, other: Region) -> Region:
        """The points that are not in the other one.

        Raises:
            ValueError: each part of this one is a part of the other, so that nothing is left.
        """
        if set(self.parts_of("union")) <= set(other.parts_of("union")):
            raise ValueError(f"nothing would be kept: {self.noun} without itself holds nothing")
        return self & ~other

    def __invert__(self) -> Region:
        """The points outside."""
        outside: Region = KINDS["complement"](self)
        return outside

    def parts_of(self, kind: str) -> tuple[Region, ...]:
        """What this region joins if it is of a joining kind, else itself: regions joined twice nest no deeper."""
        return (self,)

    # -- dimension

    @property
    @abstractmethod
    def dim(self) -> int:
        """Number of axes of the space it is in."""

    @property
    @abstractmethod
    def noun(self) -> str:
        """What a message calls it: "a sphere"."""

    @property
    def nesting(self) -> int:
        """Levels of regions made of regions."""
        return 1

    def check_dim(self, dim: int, owner: str) -> None:
        """Raise ValueError unless the region is of `dim` axes; `owner` says what has them ("the field has")."""
        if self.dim != dim:
            raise ValueError(f"{self.noun} of {self.dim} {'axis' if self.dim == 1 else 'axes'}, {owner} {dim}")

    # -- which points

    def contains(self, points: Float[Array, "*batch d"]) -> Bool[Array, "*batch"]:
        """(..., d) points -> (...) bool.

        Raises:
            ValueError: points of another dimension.
        """
        self.check_dim(points.shape[-1], "the points have")
        return self._contains(points)

    def touches(self, boxes: Float[Array, "n 2 d"]) -> Bool[Array, " n"]:
        """(n, 2, d) axis-aligned boxes -> (n,) bool: False only where box and region are apart.

        Raises:
            ValueError: boxes of another dimension.
        """
        self.check_dim(boxes.shape[-1], "the boxes have")
        return self._touches(boxes)

    def covers(self, boxes: Float[Array, "n 2 d"]) -> Bool[Array, " n"]:
        """(n, 2, d) axis-aligned boxes -> (n,) bool: True only where the region holds all of the box.

        Raises:
            ValueError: boxes of another dimension.
        """
        self.check_dim(boxes.shape[-1], "the boxes have")
        return self._covers(boxes)

    def touched(self, grid: PartitionGrid, unwarp_boxes: BoxMap | None = None) -> Int64[Tensor, " touched"]:
        """Cells the region touches; in curved space a few that it only nearly touches come along.

        Args:
            grid: cells of the domain.
            unwarp_boxes: from the domain to the region's space; None where they are the same.

        Returns:
            Sorted (n,) int64 cell numbers.

        Raises:
            ValueError: a grid of another dimension.
        """
        return torch.from_numpy(self.touched_cells(grid, unwarp_boxes))

    def touched_cells(self, grid: PartitionGrid, unwarp_boxes: BoxMap | None = None) -> Int64[np.ndarray, " touched"]:
        """`touched`, in numpy."""
        self.check_dim(grid.dim, "the field has")
        return self._touched(grid, unwarp_boxes)

    def bounds(self) -> Float64[Tensor, "2 d"]:
        """The smallest axis-aligned box that surely holds it: (2, d) float64 corners, infinite where it has no end. Of
        an intersection without a point the lower corner may lie above the upper one."""
        return torch.tensor([[-torch.inf] * self.dim, [torch.inf] * self.dim], dtype=torch.float64)

    # -- which voxels

    def voxels(self, lattice: PartitionGrid, contracted: bool) -> Bool[Tensor, "nx ny nz"] | None:
        """The voxels of a lattice that it consists of; None where it is not made of whole voxels of that lattice.

        Args:
            lattice: the voxels, as cells.
            contracted: the lattice divides contracted space.
        """
        return None

    def split_voxels(
        self, lattice: PartitionGrid, contracted: bool
    ) -> tuple[Bool[Tensor, "nx ny nz"] | None, Region | None]:
        """What it consists of: the points in these voxels (None: any) that are in this region (None: anywhere)."""
        whole = self.voxels(lattice, contracted)
        return (None, self) if whole is None else (whole, None)

    @abstractmethod
    def _contains(self, points: Array) -> Array:
        """`contains`, of points of the region's dimension."""

    @abstractmethod
    def _touches(self, boxes: Array) -> Array:
        """`touches`, of boxes of the region's dimension."""

    @abstractmethod
    def _covers(self, boxes: Array) -> Array:
        """`covers`, of boxes of the region's dimension."""

    def _touched(self, grid: PartitionGrid, unwarp_boxes: BoxMap | None) -> np.ndarray:
        """`touched_cells`, by asking every cell's box."""
        found = []
        for first in range(0, grid.num_cells, CELLS):
            boxes = grid.boxes(np.arange(first, min(first + CELLS, grid.num_cells)))
            count = len(boxes)
            if unwarp_boxes is not None:
                boxes = unwarp_boxes(_subdivide(boxes, 4))
            found.append(self._touches(_widen(boxes)).reshape(count, -1).any(1))
        return np.concatenate(found).nonzero()[0]

    # -- moving and storing

    def moved(self, by: Similarity) -> Region:
        """The region moved by a similarity of 3D space.

        Raises:
            ValueError: a region that is not of 3D space, or given in other units.
        """
        raise ValueError(f"only regions of 3D space can be moved, got {str(self.to_dict())[:200]}")

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON; `region_from_dict` reads it."""

    @classmethod
    @abstractmethod
    def from_dict(cls, data: dict[str, Any], levels: int) -> Region:
        """Inverse of `to_dict` for this kind; regions within may be `levels` deep."""


def both(first: Region | None, second: Region | None) -> Region | None:
    """The points in both; None = everything."""
    return second if first is None else first if second is None else first & second


def region_from_dict(data: Any, levels: int = MAX_NESTING) -> Region:
    """Inverse of `Region.to_dict`, for data from anyone.

    Args:
        data: of JSON.
        levels: regions made of regions may be so deep.

    Raises:
        ValueError: not a region, in one line.
    """
    kind = data.get("type") if isinstance(data, dict) else None
    if not isinstance(kind, str) or kind not in KINDS:
        got = repr(kind if isinstance(data, dict) else type(data).__name__)[:40]
        raise ValueError(f"not a region: 'type' must be one of {', '.join(KINDS)}, got {got}")
    if levels < 1:
        raise ValueError(f"regions may be at most {MAX_NESTING} levels deep")
    try:
        region: Region = KINDS[kind].from_dict(data, levels - 1)
    except KeyError as error:
        raise ValueError(f"a region of type {kind} needs {error}") from error
    return region


def transformed(region: Region, matrix: Float[Tensor, "4 4"]) -> Region:
    """A region of 3D space, moved by a similarity (scale, rotation, shift), e.g. from world to scene units.

    Args:
        region: boxes, turned boxes, spheres, and what is made of them.
        matrix: (4, 4).

    Raises:
        ValueError: a region given in other units (signals) or not of 3D space; a matrix that is no similarity.
    """
    return region.moved(Similarity.of_matrix(matrix))


def floats(values: Sequence[float]) -> tuple[float, ...]:
    """Numbers as floats.

    Raises:
        ValueError: not numbers, or too large for one.
    """
    try:
        return tuple(float(v) for v in values)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"a region needs numbers, got {str(values)[:60]}: {error}") from error


def finite(values: Any) -> tuple[float, ...]:
    """Numbers of JSON from anyone.

    Raises:
        ValueError: not a list of finite numbers.
    """
    if not isinstance(values, (list, tuple)) or any(type(v) not in (int, float) for v in values):
        raise ValueError(f"a region needs lists of numbers, got {str(values)[:60]}")
    result = floats(values)
    if not all(map(math.isfinite, result)):
        raise ValueError(f"a region's numbers must be finite, got {str(values)[:60]}; give one beyond the edge instead")
    return result


def corners(boxes: Float[Array, "n 2 d"]) -> Float[Array, "n corners d"]:
    """(n, 2, d) boxes -> (n, 2^d, d) their corners."""
    upper = like(boxes, lattice_points((2,) * boxes.shape[-1])) > 0
    return namespace(boxes).where(upper, boxes[:, 1:], boxes[:, :1])


def _subdivide(boxes: Float64[np.ndarray, "n 2 d"], parts: int) -> Float64[np.ndarray, "m 2 d"]:
    """(n, 2, d) -> (n * parts^d, 2, d), each box cut into equal parts."""
    steps = lattice_points((parts,) * boxes.shape[-1]).astype(boxes.dtype)
    lower, size = boxes[:, None, 0], (boxes[:, None, 1] - boxes[:, None, 0]) / parts
    return np.stack([lower + steps * size, lower + (steps + 1) * size], axis=2).reshape(-1, 2, boxes.shape[-1])


def _widen(boxes: Float[np.ndarray, "n 2 d"]) -> Float[np.ndarray, "n 2 d"]:
    """Boxes grown by what float32 coordinates are rounded to."""
    margin = 1e-6 * np.abs(boxes).max(1)
    return np.stack([boxes[:, 0] - margin, boxes[:, 1] + margin], axis=1)
