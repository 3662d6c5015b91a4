"""Where the scene of a capture is, from the photos' coordinates to scene space and on to the data set's units; and
whether it ends: the cells that training begins with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lg_field.captures import Capture
from lg_field.radiance.placement import Placement, near_cubic, place, stay
from lg_field.space.partition import PartitionGrid
from lg_field.training.lenses import Lenses
from lg_field.training.methods import FIRST_CELLS
from lg_field.training.scene_frame import scene_frame
from lg_field.training.stereo import seen_points

Space = Literal["auto", "bounded", "contracted"]
"""bounded: the scene's box is all there is; contracted: the scene goes on for ever; auto: by the data."""
CONTRACTED, UNIT = 2.0, 1.0
"""Half the side of the domain: of a scene in contracted space, and of one that ends but has no box."""


class ScenePlace(NamedTuple):
    """Where a scene is."""

    placement: Placement
    """In the capture's frame (`scene_frame`)."""
    matrix: Tensor
    """(4, 4) float64: from the photos' coordinates to scene space."""
    to_world: Tensor
    """(4, 4) float64: from scene space to the data set's own units."""

    def points(self, capture: Capture) -> Float[Tensor, "points 3"] | None:
        """(n, 3) float64 sparse points of the capture in scene space; None = it has none."""
        if capture.points is None:
            return None
        return torch.from_numpy(capture.points) @ self.matrix[:3, :3].T + self.matrix[:3, 3]


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
        photos = capture.part("train")
        images, upright = [photo.image for photo in photos], [photo.upright for photo in photos]
        placement = place(views, points, alphas, seek=lambda: seen_points(views, images, upright))
    matrix = placement.matrix() @ frame
    return ScenePlace(placement, matrix, torch.from_numpy(capture.to_world) @ torch.linalg.inv(matrix))


def goes_on(space: Space, bounded: bool) -> bool:
    """Whether a scene is trained in contracted space.

    Args:
        space: what was asked for.
        bounded: the data say where the scene ends.
    """
    return space == "contracted" or (space == "auto" and not bounded)


def first_grid(
    box: Float[Tensor, "2 3"] | None,
    contracted: bool,
    cells: int = FIRST_CELLS,
    counts: Sequence[int] | None = None,
) -> PartitionGrid:
    """The cells that training begins with.

    Args:
        box: lower and upper corner of the scene, scene units; None = what the cameras look at.
        contracted: the scene goes on for ever: its cells divide contracted space.
        cells: about so many, nearly cubic,
        counts: or so many per axis.
    """
    half = CONTRACTED if contracted else UNIT
    lower, upper = ([-half] * 3, [half] * 3) if contracted or box is None else box.tolist()
    counts = counts or near_cubic([high - low for low, high in zip(lower, upper)], cells)
    return PartitionGrid(tuple(counts), tuple(lower), tuple(upper))
