"""Which lines of the shared part's grid the cells of a field read."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from lg_field.radiance import occupancy
from lg_field.radiance.frame import Frame
from lg_field.radiance.hash_grid import ROUNDING, HashGrid

VOXELS = 1 << 19
"""Occupied voxels whose entries are looked up at a time."""


def lines_read(
    grid: HashGrid, frame: Frame, cells: Int64[Tensor, " rows"], occupied: Bool[Tensor, "rows voxels"]
) -> Bool[Tensor, " lines"]:
    """Which entries of the grid points in occupied voxels of rows read.

    Args:
        grid: the grid.
        frame: where the cells are.
        cells: (P,) of the rows.
        occupied: (P, r^3) which voxels of each hold something.
    """
    found = torch.zeros(grid.num_entries, dtype=torch.bool, device=occupied.device)
    margin, per_axis = ROUNDING * max(a / b for a, b in zip(frame.grid.counts, frame.origin.counts)), 1
    while per_axis**3 < occupied.shape[1]:
        per_axis += 1
    for some in torch.arange(len(cells), device=cells.device).split(max(1, VOXELS // occupied.shape[1])):
        row, voxel = occupied[some].nonzero().unbind(1)
        low = occupancy.voxels_of(cells[some][row], voxel, frame.grid, per_axis)
        places = torch.stack([low, low + 1], dim=1).double() / per_axis
        boxes = frame.places_to_unit(places.flatten(0, 1)).unflatten(0, (-1, 2))
        found |= grid.read(boxes + margin * boxes.new_tensor([[-1.0], [1.0]]))
    return found
