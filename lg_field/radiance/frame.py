"""Where the cells of a radiance field are: from scene points to what its networks see of them, and back.

Four kinds of coordinates, all of three axes:

- *scene*: nerfstudio's scene space, in which rays and regions are given;
- *unit*: the frame's box is [0, 1]^3 (of an unbounded scene: of contracted space); the networks see these;
- *places*: counted in cells of the grid, whole numbers are borders, 0 to `counts` within the domain;
- *local*: in one cell, [0, 1] within it; its feature grid is read at these.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
from jaxtyping import Float, Int64

from lg_field.arrays import Array, Tensor, torch
from lg_field.constants import constant
from lg_field.space.contraction import contract, contraction_rate, uncontract, uncontract_boxes
from lg_field.space.ownership import index_of_places
from lg_field.space.partition import PartitionGrid
from lg_field.space.regions import BoxMap

HORIZON = 1e4
"""Unbounded scenes: bounds of what reaches farther end here, scene units."""


@dataclass(frozen=True)
class Frame:
    """Geometry of a radiance field; never changes: another grid is another frame."""

    grid: PartitionGrid
    """The cells: of the scene box, or of [-2, 2]^3 for an unbounded scene."""
    contraction: bool = False
    """Unbounded scene: the grid divides contracted space (mip-NeRF 360, eq. 10, with the max norm)."""
    box: tuple[float, ...] = ()
    """Lower, then upper corner of the box that unit coordinates refer to: the domain the scene had before it grew.
    () = the grid's domain."""
    contracted_density: bool = False
    """Unbounded scene: networks say the density per length of contracted space, not of the scene."""

    def __post_init__(self) -> None:
        """Raise ValueError unless the box consists of cells of a grid of three axes."""
        if self.grid.dim != 3:
            raise ValueError(f"a scene has three axes, the grid {self.grid.dim}")
        if not self.box:
            return
        for low, size, c, n, *ours in zip(
            self.grid.lower, self.grid.cell_size, self.origin.counts, self.shift, self.origin.lower, self.origin.upper
        ):
            misfit = max(abs(low + k * size - edge) for k, edge in zip((n, n + c), ours))
            if misfit > 1e-3 * size:
                raise ValueError(f"the frame {self.box} does not consist of cells of {self.grid}")

    @cached_property
    def origin(self) -> PartitionGrid:
        """The cells within the box: the grid before the domain grew."""
        if not self.box:
            return self.grid
        lower, upper = self.box[:3], self.box[3:]
        counts = tuple(round((up - low) / size) for low, up, size in zip(lower, upper, self.grid.cell_size))
        return PartitionGrid(counts, lower, upper)

    @cached_property
    def shift(self) -> tuple[int, ...]:
        """Cells per axis that the grid has before those of `origin`."""
        return tuple(
            round((low - first) / size)
            for low, first, size in zip(self.origin.lower, self.grid.lower, self.grid.cell_size)
        )

    def on(self, grid: PartitionGrid) -> Frame:
        """The frame with other cells."""
        return replace(self, grid=grid)

    # -- from scene space and back

    def to_unit(self, positions: Float[Tensor, "points 3"]) -> Float[Tensor, "points 3"]:
        """Scene points -> unit coordinates; [0, 1] inside the box."""
        domain = contract(positions) if self.contraction else positions
        lower, size = self._box(domain)
        return (domain - lower) / size

    def from_unit(self, unit: Float[Array, "points 3"]) -> Float[Array, "points 3"]:
        """Inverse of `to_unit`."""
        lower, size = self._box(unit)
        domain = lower + unit * size
        return uncontract(domain) if self.contraction else domain

    def per_length(
        self, density: Float[Tensor, " points"], unit: Float[Tensor, "points 3"]
    ) -> Float[Tensor, " points"]:
        """Density per scene unit at (M, 3) unit coordinates, from (M,) what networks say there."""
        if not (self.contraction and self.contracted_density):
            return density
        lower, size = self._box(unit)
        return density * contraction_rate(lower + unit * size)

    @property
    def corner_and_size(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """(3,) lower corner and (3,) size of the box."""
        return self.origin.lower, tuple(high - low for low, high in zip(self.origin.lower, self.origin.upper))

    def _box(self, like: Array) -> tuple[Array, Array]:
        """(3,) lower corner and (3,) size of the box, as numbers of the type of another tensor or array."""
        if isinstance(like, np.ndarray):
            low, high = (constant(corner, like) for corner in (self.origin.lower, self.origin.upper))
            return low, high - low
        return _corner_and_size(self.origin.lower, self.origin.upper, like.dtype, like.device)

    def unit_to_places(self, unit: Float[Tensor, "points 3"]) -> Float[Tensor, "points 3"]:
        """Unit coordinates -> places."""
        places = unit * constant(self.origin.counts, unit)
        return places + constant(self.shift, unit) if any(self.shift) else places

    def places_to_unit(self, places: Float[Array, "points 3"]) -> Float[Array, "points 3"]:
        """Inverse of `unit_to_places`."""
        moved = places - constant(self.shift, places) if any(self.shift) else places
        return moved / constant(self.origin.counts, places)

    def to_places(self, positions: Float[Tensor, "points 3"]) -> Float[Tensor, "points 3"]:
        """Scene points -> places."""
        return self.unit_to_places(self.to_unit(positions))

    def from_places(self, places: Float[Array, "points 3"]) -> Float[Array, "points 3"]:
        """Inverse of `to_places`."""
        return self.from_unit(self.places_to_unit(places))

    # -- cells

    def locate(self, unit: Float[Tensor, "points 3"]) -> Int64[Tensor, " points"]:
        """Unit coordinates -> number of the cell that owns the point, -1 outside the domain."""
        places = unit * constant(self.origin.counts, unit)
        index = index_of_places(places, self.grid.counts, self.shift if any(self.shift) else None)
        nearest = index.clamp(constant((0, 0, 0), index), constant(tuple(c - 1 for c in self.grid.counts), index))
        return torch.where((index == nearest).all(-1), self.grid.ravel(nearest), -1)

    def local(
        self, unit: Float[Tensor, "points 3"], corners: Float[Tensor, "rows 3"], rows: Int64[Tensor, " points"]
    ) -> Float[Tensor, "points 3"]:
        """Local coordinates of points in the cells of some rows; beyond [0, 1] outside of them.

        Args:
            unit: (M, 3) unit coordinates.
            corners: (P, 3) of each row's cell.
            rows: (M,) row asked at each point.
        """
        return unit * constant(self.origin.counts, unit) - corners[rows]

    def corners(self, cells: Int64[Tensor, " rows"]) -> Float[Tensor, "rows 3"]:
        """(P, 3) float32 lower corner of the cell of each row, counted in cells from that of the box."""
        return (self.grid.unravel(cells) - constant(self.shift, cells)).float()

    # -- lengths and bounds, scene units

    def step_length(self, steps_per_scene: int) -> float:
        """Length of a marching step near the origin: this many make the diagonal of the box."""
        return math.dist(self.origin.lower, self.origin.upper) / steps_per_scene

    def step_lengths(self, positions: Float[Tensor, "points 3"], step: float) -> Float[Tensor, " points"]:
        """Length of a marching step at scene points; `step` is its length near the origin."""
        from lg_field.radiance.sampling import steps_at

        return steps_at(positions, step, self.contraction)

    @property
    def unwarp_boxes(self) -> BoxMap | None:
        """From boxes of the grid's domain to boxes around them in scene space; None where they are the same."""
        return uncontract_boxes if self.contraction else None

    def bounds(self, boxes: Float[Tensor, "boxes 2 3"]) -> Float[Tensor, "2 3"]:
        """Scene-space box around boxes of places.

        Args:
            boxes: (n, 2, 3) lower and upper corners, n >= 1.

        Returns:
            (2, 3), of the boxes' type. Of an unbounded scene it holds everything in the boxes that is nearer than
            `HORIZON` along each axis, and reaches no farther.
        """
        if not self.contraction:
            around = torch.stack([boxes[:, 0].amin(0), boxes[:, 1].amax(0)])
            return self.from_places(around)
        parts = []
        for some in boxes.split(2**18):
            lower, size = (some.new_tensor(v, dtype=torch.float64) for v in (self.grid.lower, self.grid.cell_size))
            scene = uncontract_boxes(lower + some * size, HORIZON).clamp(-HORIZON, HORIZON)
            parts.append(torch.stack([scene[:, 0].amin(0), scene[:, 1].amax(0)]))
        found = torch.stack(parts)
        return torch.stack([found[:, 0].amin(0), found[:, 1].amax(0)]).to(boxes.dtype)


@lru_cache(maxsize=64)
def _corner_and_size(
    lower: tuple[float, ...], upper: tuple[float, ...], dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    with torch.inference_mode(False):
        low, high = (torch.tensor(corner, dtype=dtype, device=device) for corner in (lower, upper))
        return low, high - low
