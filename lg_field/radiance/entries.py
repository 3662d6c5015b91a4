"""Which entries of the shared part's grid a scene reads: what a crop keeps of it."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from lg_field.radiance import occupancy
from lg_field.radiance.frame import Frame
from lg_field.radiance.hash_grid import ROUNDING, HashGrid

VOXELS = 1 << 19
"""Occupied voxels looked at at a time."""


def entries_read(
    grid: HashGrid, frame: Frame, cells: Int64[Tensor, " rows"], occupied: Bool[Tensor, "rows voxels"]
) -> Bool[Tensor, " entries"]:
    """Which entries points in occupied voxels of some cells read.

    Args:
        grid: the shared part's.
        frame: where the cells are.
        cells: (n,) their numbers.
        occupied: (n, r^3) their voxels.

    Returns:
        (num_entries,) bool.
    """
    found = torch.zeros(grid.num_entries, dtype=torch.bool, device=occupied.device)
    per_axis = round(occupied.shape[1] ** (1 / 3))
    margin = ROUNDING * max(a / b for a, b in zip(frame.grid.counts, frame.origin.counts))
    for some in torch.arange(len(cells), device=cells.device).split(max(1, VOXELS // occupied.shape[1])):
        row, voxel = occupied[some].nonzero().unbind(1)
        low = occupancy.voxels_of(cells[some][row], voxel, frame.grid, per_axis)
        places = torch.stack([low, low + 1], dim=1).double() / per_axis
        boxes = frame.places_to_unit(places.flatten(0, 1)).unflatten(0, (-1, 2))
        found |= grid.read(boxes + margin * boxes.new_tensor([[-1.0], [1.0]]))
    return found
