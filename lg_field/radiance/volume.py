"""What rays are sent through: a field, or several fields that share a space."""

from __future__ import annotations

from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor

from lg_field.space.regions import Region
from lg_field.table.description import Description


class Volume:
    """Density and colour at scene points. Renders, orbits and meshes are made of one."""

    cells: Tensor
    """(P,) int64 kept cells."""
    region: Region | None
    """The exact region shown; None = everything."""
    description: Description | None
    """A `Scene`, where it is one."""
    occupancy: Any
    """What holds something: `is_occupied`, `bounds` and `near_bounds`, as `OccupancyGrid` has them."""
    backend: str = "auto"
    """Which code computes it, a name in `ops.backends.BACKENDS`."""

    @property
    def num_rows(self) -> int:
        """How many cells are kept."""
        raise NotImplementedError

    def density(self, positions: Float[Tensor, "points 3"]) -> Float[Tensor, " points"]:
        """Density per scene unit at scene points."""
        raise NotImplementedError

    def is_occupied(self, positions: Float[Tensor, "points 3"]) -> Bool[Tensor, " points"]:
        """Whether scene points are in an occupied voxel of a kept cell, and in the kept region."""
        raise NotImplementedError

    def rgb(
        self,
        features: Float[Tensor, "points features"],
        directions: Float[Tensor, "points 3"],
        appearance: Float[Tensor, "points width"] | None = None,
    ) -> Float[Tensor, "points 3"]:
        """Colour in [0, 1] of what was said of points, seen along directions."""
        raise NotImplementedError
