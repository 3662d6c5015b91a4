"""Extending a cropped shape: its removed cells come back."""

from __future__ import annotations

import torch
from jaxtyping import Int64
from torch import Tensor

from lg_field.networks import LocalGlobalNetwork
from lg_field.signals.decode import signal_of
from lg_field.signals.settings import CompleteShape
from lg_field.signals.shapes.occupancy import OccupancyData, shape_cells
from lg_field.table.editing import regrow


def extend_shape(
    field: LocalGlobalNetwork, target: OccupancyData
) -> tuple[LocalGlobalNetwork, Int64[Tensor, " fresh"]]:
    """Give a cropped shape its cells back: fresh rows where the target has surface, full cells where it is full.

    Args:
        field: encodes part of `target`; untouched.
        target: the whole shape, in the same voxels.

    Returns:
        The field and the (n,) fresh rows, to be trained with `Fit(..., rows=...)`.

    Raises:
        ValueError: other voxels, or nothing to add.
    """
    signal = signal_of(field)
    if target.signal != signal:
        ours, theirs = (f"{s.shape} of {s.spacing:g} from {s.origin}" for s in (signal, target.signal))
        raise ValueError(f"a shape is extended within its voxels: the field has {ours}, the target {theirs}")
    cells = shape_cells(target, field.grid, CompleteShape().margin)
    missing = cells.rows[~torch.isin(cells.rows, field.cells.cpu())]
    if len(missing) == 0:
        raise ValueError("the field has a row for every cell with surface already: there is nothing to add")
    larger = regrow(field, missing)
    full = cells.full[~torch.isin(cells.full, larger.cells.cpu())]
    larger.full, larger.region = full.to(field.cells.device) if len(full) else None, None
    return larger, torch.isin(larger.cells.cpu(), missing).nonzero()[:, 0]
