"""Scene space to domain: the identity for bounded scenes, nerfstudio's L-infinity contraction for unbounded ones."""

from __future__ import annotations

import torch
from torch import Tensor

LIMIT = 1e4
"""Max norm of the farthest point that contracted ones stand for."""


def contract(points: Tensor) -> Tensor:
    """(..., 3) scene points -> (..., 3) in (-2, 2): x inside the unit cube, (2 - 1/|x|) x/|x| outside, |.| = max norm.

    The same map as nerfstudio's `SceneContraction(order=inf)` (mip-NeRF 360, eq. 10, with the max norm).
    """
    norm = points.abs().amax(-1, keepdim=True).clamp_min(1.0)
    return points * ((2.0 - 1.0 / norm) / norm)


def uncontract(points: Tensor, limit: float = LIMIT) -> Tensor:
    """Inverse of `contract`; points at the border of (-2, 2) go to at most `limit`."""
    norm = points.abs().amax(-1, keepdim=True).clamp_min(1.0)
    scene_norm = 1.0 / (2.0 - norm).clamp_min(1.0 / limit)
    return points * (scene_norm / norm)


def contraction_rate(points: Tensor) -> Tensor:
    """Length in contracted space by length in scene space, along the way from the origin, at contracted points.

    Args:
        points: (..., 3) in (-2, 2).

    Returns:
        (...): 1 inside the unit cube, (2 - |c|)^2 outside, |.| = max norm.
    """
    return (2.0 - points.abs().amax(-1).clamp(1.0, 2.0)).square()


def uncontract_boxes(boxes: Tensor, limit: float = LIMIT) -> Tensor:
    """(n, 2, 3) axis-aligned boxes of contracted space -> boxes around what they are in scene space.

    `uncontract` scales a point by a factor that grows with its max norm, so the factors at a box's nearest and
    farthest point bound every coordinate.
    """
    nearest = boxes[:, 0].clamp_min(0.0).maximum(-boxes[:, 1].clamp_max(0.0)).amax(-1)
    farthest = boxes.abs().amax((1, 2))
    factors = []
    for norm in (nearest, farthest):
        norm = norm.clamp(1.0, 2.0 - 1.0 / limit)
        factors.append(1.0 / (norm * (2.0 - norm)))
    corners = torch.stack([boxes * f[:, None, None] for f in factors], dim=1).flatten(1, 2)
    return torch.stack([corners.amin(1), corners.amax(1)], dim=1)
