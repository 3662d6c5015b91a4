"""A picture of the cameras and the sparse points, from above and from the side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, UInt8

from lg_field.photos.frame import Poses

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

PANEL = 760
MARGIN = 40
SHOWN = 0.95
"""Part of the points, nearest to the middle, that the picture is made to hold; far ones may lie outside."""
CAMERA, FIRST, INK, PAPER = (200, 60, 30), (20, 90, 200), (40, 40, 40), (255, 255, 255)
VIEWS = (("from above", (0, 1)), ("from the side", (0, 2)))


def report_picture(
    poses: Poses, points: Float[np.ndarray, "points 3"], colors: UInt8[np.ndarray, "points 3"], title: str
) -> Image:
    """Draw two views side by side in one scale: x to the right, and y (from above) or z (from the side) upward.

    Args:
        poses: of the cameras, z up. The first camera is blue.
        points: sparse points.
        colors: of the points.
        title: a line written above.
    """
    from PIL import Image, ImageDraw, ImageFont

    picture = Image.new("RGB", (2 * PANEL, PANEL + MARGIN), PAPER)
    middle, scale = _window(poses[:, :3, 3], points)
    font = ImageFont.load_default(18)
    for number, (name, axes) in enumerate(VIEWS):
        panel = Image.new("RGB", (PANEL, PANEL), PAPER)
        _draw_points(panel, points, colors, middle, scale, axes)
        draw = ImageDraw.Draw(panel)
        for index in reversed(range(len(poses))):
            _draw_camera(draw, poses[index], middle, scale, axes, FIRST if index == 0 else CAMERA)
        _draw_axes(draw, middle, scale, axes)
        draw.text((10, PANEL - 28), name, INK, font)
        picture.paste(panel, (number * PANEL, MARGIN))
    draw = ImageDraw.Draw(picture)
    draw.text((10, 9), title, INK, font)
    draw.line([(PANEL, MARGIN), (PANEL, PANEL + MARGIN)], (200, 200, 200))
    return picture


def _window(cameras: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, float]:
    """Middle of the world shown, and pixels a unit, so that all cameras and most points are seen."""
    seen = cameras
    if len(points):
        distance = np.linalg.norm(points - np.median(points, axis=0), axis=1)
        reach = 3.0 * np.linalg.norm(cameras - np.median(points, axis=0), axis=1).max()
        near = points[distance <= min(np.quantile(distance, SHOWN), reach)]
        seen = np.concatenate([cameras, near])
    low, high = seen.min(axis=0), seen.max(axis=0)
    return (low + high) / 2, (PANEL - 2 * MARGIN) / max(float((high - low).max()), 1e-9)


def _project(points: np.ndarray, middle: np.ndarray, scale: float, axes: tuple[int, int]) -> np.ndarray:
    """(n, 3) points of the world to (n, 2) pixels of a panel."""
    flat = (points - middle)[:, list(axes)] * scale
    return flat * [1.0, -1.0] + PANEL / 2


def _draw_points(
    panel: Image, points: np.ndarray, colors: np.ndarray, middle: np.ndarray, scale: float, axes: tuple[int, int]
) -> None:
    """2 by 2 pixels for each point; near ones (by the axis that is not shown) over far ones."""
    from PIL import Image as Pillow

    hidden = 3 - sum(axes)
    order = np.argsort(points[:, hidden] * (1.0 if hidden == 2 else -1.0), kind="stable")
    pixels = np.floor(_project(points[order], middle, scale, axes)).astype(int)
    canvas = np.asarray(panel).copy()
    for across in (0, 1):
        for down in (0, 1):
            x, y = pixels[:, 0] + across, pixels[:, 1] + down
            inside = (x >= 0) & (x < PANEL) & (y >= 0) & (y < PANEL)
            canvas[y[inside], x[inside]] = np.minimum(colors[order][inside], 225)
    panel.paste(Pillow.fromarray(canvas))


def _draw_camera(
    draw: ImageDraw, pose: np.ndarray, middle: np.ndarray, scale: float, axes: tuple[int, int], color: tuple[int, ...]
) -> None:
    """A pyramid in front of the camera, its upper edge twice as thick."""
    size = 18.0 / scale
    corners = np.array([[-0.6, 0.45, -1.0], [0.6, 0.45, -1.0], [0.6, -0.45, -1.0], [-0.6, -0.45, -1.0]]) * size
    world = np.concatenate([np.zeros((1, 3)), corners]) @ pose[:3, :3].T + pose[:3, 3]
    tip, *edge = [(float(x), float(y)) for x, y in _project(world, middle, scale, axes)]
    for corner in edge:
        draw.line([tip, corner], color)
    draw.line([*edge, edge[0]], color)
    draw.line(edge[:2], color, width=2)


def _draw_axes(draw: ImageDraw, middle: np.ndarray, scale: float, axes: tuple[int, int]) -> None:
    """The origin and the directions of the two axes."""
    length = 40.0 / scale
    ends = np.concatenate([np.zeros((1, 3)), np.eye(3)[list(axes)] * length])
    start, *tips = [(float(x), float(y)) for x, y in _project(ends, middle, scale, axes)]
    for tip, axis in zip(tips, axes, strict=True):
        draw.line([start, tip], (0, 140, 60), width=3)
        draw.text((tip[0] + 3, tip[1] - 12), "xyz"[axis], (0, 140, 60))
