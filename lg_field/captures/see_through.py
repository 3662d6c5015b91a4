"""What photos show of their backdrop through a thing: within a handle, between legs.

Such a region has the backdrop's colour, as paint on the thing may have, and the thing goes all around it. It is a hole
where other cameras, from behind, see the backdrop, too, at every point that the thing may have on the way of its light:
points inside the visual hull (Laurentini, IEEE PAMI 16(2), 1994) of what lies within the photos' outer backdrop; points
that cameras see through holes that are known already are empty. Paint has something behind it that these cameras see.
What no camera sees from behind stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from lg_field.captures.capture import Backdrop, Lens, Photo
from lg_field.captures.cut_out import parted
from lg_field.captures.photo_file import read_photo

SIDE = 192
"""Pixels of the longer side of what is looked at."""
LEAST = 12
"""Pixels of a region, of so small photos, that may be a hole."""
RAYS = 16
"""Pixels of a region whose light is followed."""
STEPS, NEAR, FAR = 128, 0.3, 1.7
"""Points of a way, from the first to the second number, in distances from the camera to what all look at."""
FIRST = 16
"""Photos that are looked at first: where none of them shows such a region, the others are not read."""
VIEWS = 48
"""Cameras that are asked about each point."""
MISSES, SHOWN = 0.1, 1 / 3
"""The hull: part of the photos that show a point which may show backdrop there, and part of all that must show it."""
BEHIND = 0.3
"""Cosine from which on a camera is behind a point."""
AGREE = (2, 0.1)
"""Cameras behind a point, and part of those there are, that must see the backdrop there."""
ROUNDS = 4
"""Holes that are known say of others that they are some."""
MOST = 0.5
"""Part of the ways from which on their region is a hole."""


class View(NamedTuple):
    """A small photo and its camera."""

    photo: Photo
    solid: np.ndarray
    """(height, width) bool: what is not outer backdrop, and a pixel around it."""
    pieces: np.ndarray
    """(height, width) int: which region of the backdrop's colour within the thing each pixel is of; 0 = of none."""
    plain: np.ndarray
    """(height, width) bool: of the backdrop's colour, outside or within."""
    holes: np.ndarray
    """(height, width) bool: which of these regions are known to be holes."""

    @staticmethod
    def of(photo: Photo, backdrop: Backdrop) -> View:
        """Read small.

        Raises:
            CaptureError: a broken photo, or SciPy is missing.
        """
        from scipy import ndimage

        scale = min(1.0, SIDE / max(photo.lens.width, photo.lens.height))
        pixels = read_photo(replace(photo, backdrop=None), False, scale)
        _, outside, pieces = parted(pixels, backdrop)
        sizes = np.bincount(pieces.ravel())
        sizes[0] = 0
        pieces = np.where(sizes[pieces] >= LEAST, pieces, 0)
        solid = ndimage.binary_dilation(~outside, np.ones((3, 3)))
        return View(photo, solid, pieces, outside | (pieces > 0), np.zeros_like(outside))

    def at(self, points: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
        """Which (n, 3) points are in the photo, and their rows and columns."""
        lens, pose = self.photo.lens, self.photo.pose
        local = (points - pose[:3, 3]) @ pose[:3, :3]
        depth = -local[:, 2]
        safe = np.where(depth > 1e-9, depth, 1.0)
        x, y = bent(lens, local[:, 0] / safe, -local[:, 1] / safe)
        height, width = self.solid.shape
        column = np.floor((lens.fx * x + lens.cx) * (width / lens.width))
        row = np.floor((lens.fy * y + lens.cy) * (height / lens.height))
        inside = (depth > 1e-9) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
        place = [np.where(inside, v, 0.0).astype(np.int64) for v in (row, column)]
        return inside, (place[0], place[1])

    def directions(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """(n, 3) unit directions through the middles of pixels."""
        lens, (height, width) = self.photo.lens, self.solid.shape
        wanted_x = ((columns + 0.5) * (lens.width / width) - lens.cx) / lens.fx
        wanted_y = ((rows + 0.5) * (lens.height / height) - lens.cy) / lens.fy
        x, y = wanted_x, wanted_y
        for _ in range(10):
            now_x, now_y = bent(lens, x, y)
            x, y = x + wanted_x - now_x, y + wanted_y - now_y
        local = np.stack([x, -y, -np.ones_like(x)], axis=1)
        away: np.ndarray = (local / np.linalg.norm(local, axis=1, keepdims=True)) @ self.photo.pose[:3, :3].T
        return away


def bent(lens: Lens, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where a lens shows directions x / z, y / z (OpenCV's model)."""
    k1, k2, k3, k4, p1, p2 = lens.distortion
    square = x * x + y * y
    radial = 1.0 + square * (k1 + square * (k2 + square * (k3 + square * k4)))
    return (
        x * radial + 2.0 * p1 * x * y + p2 * (square + 2.0 * x * x),
        y * radial + p1 * (square + 2.0 * y * y) + 2.0 * p2 * x * y,
    )


def holes_of(photos: Sequence[Photo], backdrop: Backdrop) -> list[np.ndarray | None]:
    """Where each photo shows its backdrop through the thing.

    Args:
        photos: with a pose each.
        backdrop: of all.

    Returns:
        Of each photo a small (height, width) bool picture of its holes; None where it has none.

    Raises:
        CaptureError: a broken photo, or SciPy is missing.
    """
    few = spread(len(photos), FIRST)
    known = {k: View.of(photos[k], backdrop) for k in few}
    if not any(view.pieces.any() for view in known.values()):
        return [None] * len(photos)
    views = [known.get(k) or View.of(photo, backdrop) for k, photo in enumerate(photos)]
    focus = looked_at([photo.pose for photo in photos])
    asked = spread(len(views), VIEWS)
    left = [(k, number) for k, view in enumerate(views) for number in np.unique(view.pieces[view.pieces > 0])]
    for _ in range(ROUNDS):
        others = {k: [views[other] for other in asked if other != k] for k in {k for k, _ in left}}
        new = [(k, n) for k, n in left if is_hole(views[k], views[k].pieces == n, others[k], focus)]
        for k, number in new:
            views[k].holes[views[k].pieces == number] = True
        left = [one for one in left if one not in new]
        if not new:
            break
    return [view.holes if view.holes.any() else None for view in views]


def spread(count: int, most: int) -> list[int]:
    """At most so many of the numbers from 0 to `count` - 1, evenly among them."""
    found: list[int] = np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int)).tolist()
    return found


def is_hole(view: View, region: np.ndarray, others: Sequence[View], focus: np.ndarray) -> bool:
    """Whether light comes through a region of a photo from the backdrop behind.

    Args:
        view: the photo.
        region: (height, width) bool.
        others: asked.
        focus: (3,) what all cameras look at.
    """
    rows, columns = region.nonzero()
    some = spread(len(rows), RAYS)
    along, origin = view.directions(rows[some], columns[some]), view.photo.pose[:3, 3]
    steps = np.linspace(NEAR, FAR, STEPS) * np.linalg.norm(focus - origin)
    points = (origin + along[:, None] * steps[:, None]).reshape(-1, 3)
    forward = np.repeat(along, STEPS, axis=0)
    shown, missed, behind, agree, empty = (np.zeros(len(points)) for _ in range(5))
    for other in others:
        inside, place = other.at(points)
        shown += inside
        missed += inside & ~other.solid[place]
        back = other.photo.pose[:3, 3] - points
        back = inside & ((back * forward).sum(1) > BEHIND * np.linalg.norm(back, axis=1))
        behind += back
        agree += back & other.plain[place]
        empty += inside & other.holes[place]
    hull = (shown >= max(2.0, SHOWN * len(others))) & (missed <= MISSES * shown)
    through = (agree >= np.maximum(AGREE[0], AGREE[1] * behind)) | (empty >= AGREE[0])
    ways = (through | ~hull).reshape(-1, STEPS).all(1) & hull.reshape(-1, STEPS).any(1)
    return bool(ways.mean() >= MOST)


def looked_at(poses: Sequence[np.ndarray]) -> np.ndarray:
    """The point nearest to the axes of all cameras, (3,)."""
    matrix, right = np.eye(3) * 1e-6, np.zeros(3)
    for pose in poses:
        across = np.eye(3) - np.outer(pose[:3, 2], pose[:3, 2])
        matrix += across
        right += across @ pose[:3, 3]
    point: np.ndarray = np.linalg.solve(matrix, right)
    return point
