"""What training knows of a field's rows beside their parameters: how much is in their voxels, and what was seen."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lg_field.radiance.occupancy_grid import OccupancyGrid

OF_ROWS = ("thickness", "seen")
"""Tensors of an occupancy grid with a line per row."""
WITHOUT_STATE = (
    "the checkpoint has no training state (it is of an earlier version): training goes on with estimates of what was "
    "seen and other random numbers"
)


ELSEWHERE = (
    "the checkpoint is of a run whose scene was placed otherwise in these photos, by another version of lg-field or by "
    "other photos: its field would be looked at from wrong places. Train it anew, or go on with its scene file"
)
SAME = 1e-2
"""Differences of places, in radii of the scene, that are roundings."""


def check_place(before: Float[Tensor, "4 4"] | None, now: Float[Tensor, "4 4"] | None, amid: bool) -> None:
    """Raise ValueError if a run's scene was placed otherwise than it is now.

    Args:
        before: from the data to scene space, of the checkpoint; None = it does not say it.
        now: as found now; None = the place was told.
        amid: cameras are amid what they see, which versions whose checkpoints do not say it placed otherwise.
    """
    if now is None:
        return
    moved = amid if before is None else float((before @ torch.linalg.inv(now) - torch.eye(4)).abs().max()) > SAME
    if moved:
        raise ValueError(ELSEWHERE)


def of_rows(grid: OccupancyGrid) -> dict[str, Tensor]:
    """Copies of these tensors, by name."""
    return {name: getattr(grid, name).clone() for name in OF_ROWS}


def bring_back(state: dict[str, Any], grid: OccupancyGrid) -> None:
    """Put them into a grid of the same rows.

    Raises:
        ValueError: of other rows.
    """
    for name in OF_ROWS:
        if state[name].shape != getattr(grid, name).shape:
            got, want = tuple(state[name].shape), tuple(getattr(grid, name).shape)
            raise ValueError(f"the training state's {name} has shape {got}, the field's rows need {want}")
        getattr(grid, name).copy_(state[name])


def selected_state(state: dict[str, Any], rows: Tensor) -> dict[str, Any]:
    """The training state of a crop that keeps these (n,) rows."""
    return state | {name: state[name][rows].clone() for name in OF_ROWS}
