"""Which entries of the shared part's grid a scene reads: what a crop keeps of it."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int64

from lg_field.arrays import Array, doubles, index_of, like, like_number, namespace
from lg_field.radiance import occupancy
from lg_field.radiance.frame import Frame
from lg_field.radiance.hash_layout import ROUNDING, HashLayout

VOXELS = 1 << 19
"""Occupied voxels looked at at a time."""


def entries_read(
    grid: HashLayout, frame: Frame, cells: Int64[Array, " rows"], occupied: Bool[Array, "rows voxels"]
) -> Bool[Array, " entries"]:
    """Which entries points in occupied voxels of some cells read.

    Args:
        grid: the shared part's.
        frame: where the cells are.
        cells: (n,) their numbers.
        occupied: (n, r^3) their voxels.

    Returns:
        (num_entries,) bool.
    """
    xp, found = namespace(occupied), like_number(occupied, np.zeros(grid.num_entries, dtype=bool))
    per_axis = round(occupied.shape[1] ** (1 / 3))
    margin = ROUNDING * max(a / b for a, b in zip(frame.grid.counts, frame.origin.counts))
    step = max(1, VOXELS // occupied.shape[1])
    for first in range(0, len(cells), step):
        row, voxel = index_of(occupied[first : first + step]).T
        low = occupancy.voxels_of(cells[first + row], voxel, frame.grid, per_axis)
        places = doubles(xp.stack([low, low + 1], axis=1)) / per_axis
        boxes = frame.places_to_unit(places.reshape(-1, 3)).reshape(-1, 2, 3)
        found |= grid.read(boxes + margin * like(boxes, [[-1.0], [1.0]]))
    return found
