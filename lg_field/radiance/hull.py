"""The visual hull: what the alphas of all images leave of a scene (Laurentini, IEEE PAMI 16(2), 1994)."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lg_field.radiance.views import Views

SOME = 0.05
"""Alpha of a pixel, or of one next to it, that may be of what is cut out: small alphas blur what is thin."""


def visual_hull(
    views: Views,
    alphas: Float[Tensor, "views height width"],
    points: Float[Tensor, "points 3"],
    misses: float = 0.1,
    least: float = 1 / 3,
) -> Bool[Tensor, " points"]:
    """Which points may belong to what is cut out: inside the alpha of nearly all images that show them.

    Args:
        views: the cameras.
        alphas: in [0, 1], of each view.
        points: world points.
        misses: part of those images that may say otherwise (poses, distortion and masks are never exact).
        least: part of all images that must show a point.

    Returns:
        False also where fewer images, or only one, show the point.
    """
    count, (height, width) = len(alphas), alphas.shape[1:]
    solid = torch.nn.functional.max_pool2d(alphas[:, None].float(), 3, stride=1, padding=1)[:, 0] > SOME
    left = torch.arange(len(points))  # points that may still belong to it
    shown, missed = torch.zeros(len(points)), torch.zeros(len(points))
    for k in range(count):
        places, depth = (v[0] for v in views[k].project(points[left]))
        seen = (depth > 0) & ((places >= 0) & (places < 1)).all(-1)
        column = (places[:, 0] * width).long().clamp(0, width - 1)
        row = (places[:, 1] * height).long().clamp(0, height - 1)
        shown += seen
        missed += seen & ~solid[k, row, column]
        kept = missed <= misses * count
        left, shown, missed = left[kept], shown[kept], missed[kept]
    hull = torch.zeros(len(points), dtype=torch.bool)
    hull[left] = (shown >= max(2.0, count * least)) & (missed <= misses * shown)
    return hull


def hull_box(
    views: Views,
    alphas: Float[Tensor, "views height width"],
    start: Float[Tensor, "2 3"],
    rotation: Float[Tensor, "3 3"],
    nodes: int = 48,
    rounds: int = 3,
) -> Float[Tensor, "2 3"] | None:
    """The box around what is cut out, found by carving a coarse grid again and again.

    Args:
        views: the cameras.
        alphas: in [0, 1], of each view.
        start: lower and upper corner of where to look, in turned axes, world units.
        rotation: world to turned axes.
        nodes: voxels per axis.
        rounds: carvings, each within the box of the one before.

    Returns:
        float64 corners in turned axes with a margin of a voxel and a half; None where nothing is inside all images.
    """
    box = start.double()
    for _ in range(rounds):
        steps = (torch.arange(nodes, dtype=torch.float64) + 0.5) / nodes
        unit = torch.stack(torch.meshgrid(steps, steps, steps, indexing="ij"), dim=-1).view(-1, 3)
        points = box[0] + unit * (box[1] - box[0])
        hull = visual_hull(views, alphas, points @ rotation)
        if not bool(hull.any()):
            return None
        margin = 1.5 * (box[1] - box[0]) / nodes
        box = torch.stack([points[hull].amin(0) - margin, points[hull].amax(0) + margin])
    return box


def hull_voxels(
    views: Views,
    alphas: Float[Tensor, "views height width"],
    box: Float[Tensor, "2 3"],
    rotation: Float[Tensor, "3 3"],
    nodes: int = 64,
) -> Bool[Tensor, "n n n"]:
    """The visual hull on a grid over a box in turned axes, grown by a voxel in all directions."""
    steps = (torch.arange(nodes, dtype=torch.float64) + 0.5) / nodes
    unit = torch.stack(torch.meshgrid(steps, steps, steps, indexing="ij"), dim=-1).view(-1, 3)
    hull = visual_hull(views, alphas, (box[0] + unit * (box[1] - box[0])) @ rotation)
    grown = torch.nn.functional.max_pool3d(hull.view(1, 1, nodes, nodes, nodes).float(), 3, stride=1, padding=1)
    return grown[0, 0] > 0
