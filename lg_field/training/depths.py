"""How far the sparse points of a capture are in the pixels that show them."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lg_field.captures.capture import Seen

DEPTH_SHARE = 0.125
"""Part of a step's pixels that are drawn among those of known depth, if there are any."""


def depth_image(
    seen: Seen | None, points: Float[Tensor, "points 3"], origin: Float[Tensor, "3"], width: int, height: int
) -> Float[Tensor, "height width"]:
    """(height, width) distance from a camera to the sparse points that its photo shows; 0 in pixels without one, the
    nearest where there are several.

    Args:
        seen: which points, and where in the photo; None = none.
        points: (n, 3) all of the capture's, scene units.
        origin: (3,) of the camera, likewise.
        width, height: pixels.
    """
    if seen is None:
        return torch.zeros(height, width)
    column, row = (torch.from_numpy(seen.places) * torch.tensor([width, height])).long().unbind(-1)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    away = (points[torch.from_numpy(seen.points)] - origin).norm(dim=-1).float()
    nearest = torch.full((height * width,), torch.inf)
    nearest.scatter_reduce_(0, (row * width + column)[inside], away[inside], "amin")
    return nearest.where(nearest.isfinite(), 0.0).view(height, width)
