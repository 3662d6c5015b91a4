"""Where the scene of a capture is: from the photos' coordinates to scene space, and on to the data set's units."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lg_field.captures import Capture
from lg_field.radiance.placement import Placement, place, stay
from lg_field.training.lenses import Lenses
from lg_field.training.scene_frame import scene_frame


class ScenePlace(NamedTuple):
    """Where a scene is."""

    placement: Placement
    """In the capture's frame (`scene_frame`)."""
    matrix: Tensor
    """(4, 4) float64: from the photos' coordinates to scene space."""
    to_world: Tensor
    """(4, 4) float64: from scene space to the data set's own units."""


def find_place(
    capture: Capture, lenses: Lenses, alphas: Float[Tensor, "views height width"] | None = None
) -> ScenePlace:
    """Find where a scene is; blender scenes are where they are, in their box.

    Args:
        capture: whose format has a frame, and perhaps sparse points.
        lenses: of the training photos.
        alphas: of them, small; None = they show all there is.
    """
    motion, scale, half = scene_frame(capture)
    frame = torch.from_numpy(np.diag([scale] * 3 + [1.0]) @ motion)
    views, points = lenses.moved(frame).views(), None
    if capture.points is not None:
        points = torch.from_numpy(capture.points) @ frame[:3, :3].T + frame[:3, 3]
    if capture.format == "blender":
        placement = stay(views, torch.tensor([[-half] * 3, [half] * 3]), alphas)
    else:
        placement = place(views, points, alphas)
    matrix = placement.matrix() @ frame
    return ScenePlace(placement, matrix, torch.from_numpy(capture.to_world) @ torch.linalg.inv(matrix))
