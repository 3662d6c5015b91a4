"""What a capture is: photos of one scene, each with its camera, and what was found or guessed while reading them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from lg_field.errors import UserError

SPLITS = ("train", "val", "test")


class CaptureError(UserError):
    """A capture that cannot be read: the message names file, fault and cure in one line."""


@dataclass(frozen=True)
class Lens:
    """Intrinsics of a camera, in pixels of an image of its size; the middle of the first pixel is at (0.5, 0.5)."""

    width: int
    """Pixels."""
    height: int
    """Pixels."""
    fx: float
    """Focal length in pixel widths."""
    fy: float
    """Focal length in pixel heights."""
    cx: float
    """Principal point, pixels from the left edge."""
    cy: float
    """Principal point, pixels from the upper edge."""
    fisheye: bool = False
    """Equidistant projection (OpenCV's fisheye model) instead of perspective."""
    distortion: tuple[float, ...] = (0.0,) * 6
    """k1, k2, k3, k4, p1, p2: radial of r^2, r^4, r^6, r^8, and tangential. Fisheye: of the angle, p1 = p2 = 0."""
    rational: tuple[float, ...] = ()
    """k1, k2, p1, p2, k3, k4, k5, k6 of OpenCV's rational model: photos are undistorted when read. () = none."""

    def __post_init__(self) -> None:
        numbers = (self.fx, self.fy, self.cx, self.cy, *self.distortion, *self.rational)
        if not all(map(math.isfinite, numbers)):
            raise CaptureError(f"intrinsics must be finite numbers, got {numbers}")
        if min(self.width, self.height) < 1 or min(self.fx, self.fy) <= 0.0:
            raise CaptureError(
                f"image size and focal lengths must be positive, got {self.width} x {self.height} and "
                f"{self.fx:g}, {self.fy:g}"
            )

    def resized(self, width: int, height: int) -> Lens:
        """The same camera for the same picture with another number of pixels."""
        x, y = width / self.width, height / self.height
        return replace(self, width=width, height=height, fx=self.fx * x, fy=self.fy * y, cx=self.cx * x, cy=self.cy * y)


@dataclass(frozen=True)
class Seen:
    """Which sparse points a photo shows."""

    points: np.ndarray
    """(n,) int64 numbers of the points in `Capture.points`."""
    places: np.ndarray
    """(n, 2) where in the photo, from its left upper corner, in its widths and heights."""


@dataclass(frozen=True)
class Backdrop:
    """What photos show behind the one thing in them."""

    color: tuple[int, int, int]
    """Red, green and blue, of 255."""
    tolerance: int
    """Largest difference of a channel of what is still backdrop."""
    graded: bool = False
    """It is evenly lighter and darker from place to place (uneven light, a lens that darkens corners)."""
    holes: np.ndarray | None = field(default=None, compare=False)
    """(height, width) bool, smaller than the photo: where it is seen through the thing; None = nowhere."""


@dataclass(frozen=True)
class Photo:
    """One photo."""

    image: Path
    """Its file."""
    pose: np.ndarray
    """(4, 4) float64 camera to the capture's coordinates, OpenGL axes (x right, y up, looking along -z); rigid."""
    lens: Lens
    """Its camera, for the image as `read_photo` gives it."""
    upright: bool = False
    """The file is turned by its EXIF orientation when it is read."""
    mask: Path | None = None
    """A picture that is bright where the photo counts."""
    seen: Seen | None = None
    """Sparse points that were found in it; None = it is not known."""
    backdrop: Backdrop | None = None
    """What it shows where the scene is empty; None = it is not known, or its own alpha says where that is."""


@dataclass(frozen=True)
class Cube:
    """Instant-ngp's unit cube: a point p of the photos' coordinates is at (p - middle) scale from its middle."""

    middle: np.ndarray
    """(3,) float64."""
    scale: float
    """Cubes per length."""
    sides: float
    """aabb_scale: the scene lies in a cube with sides of so many unit cubes about the same middle."""


@dataclass(frozen=True)
class Capture:
    """Photos of one scene."""

    format: str
    """blender, instant-ngp, nerfstudio or colmap."""
    folder: Path
    """Where it was read from."""
    photos: tuple[Photo, ...]
    """All of them, each once."""
    splits: Mapping[str, tuple[int, ...]]
    """Numbers of the photos for `train`, `val` and `test`."""
    alpha: bool
    """Whether any photo has an alpha channel; those without are opaque."""
    to_world: np.ndarray
    """(4, 4) float64 similarity from the photos' coordinates to the data set's own units."""
    cube: Cube | None = None
    """Where instant-ngp looks for the scene; None for other formats."""
    points: np.ndarray | None = None
    """(n, 3) float64 sparse points, in the photos' coordinates."""
    colors: np.ndarray | None = None
    """(n, 3) uint8 of the points."""
    notes: tuple[str, ...] = ()
    """What was left out, guessed or changed, a line each."""

    def part(self, split: str) -> list[Photo]:
        """The photos of a split."""
        return [self.photos[k] for k in self.splits[split]]


def check_pose(pose: object, name: str, key: str = "transform_matrix") -> np.ndarray:
    """A camera pose as a rigid (4, 4) float64 matrix.

    Args:
        pose: (4, 4) or (3, 4) numbers, camera to world.
        name: whose, for the message, and
        key: the entry that holds it.

    Raises:
        CaptureError: not numbers, transposed, mirrored, or scaled differently along its axes.
    """
    try:
        matrix = np.array(pose, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise CaptureError(f"{name}: {key} must be a 4 x 4 matrix of numbers ({error})") from error
    if matrix.shape == (3, 4):
        matrix = np.concatenate([matrix, [[0.0, 0.0, 0.0, 1.0]]])
    if matrix.shape != (4, 4):
        raise CaptureError(f"{name}: {key} must be 4 x 4 numbers, got shape {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise CaptureError(f"{name}: {key} holds NaN or infinite numbers, finite ones are needed")
    if not np.allclose(matrix[3], (0.0, 0.0, 0.0, 1.0), atol=1e-6):
        hint = ": it looks transposed, write it by rows" if np.allclose(matrix[:3, 3], 0.0) else ""
        raise CaptureError(f"{name}: the last row of {key} must be 0 0 0 1, got {matrix[3].tolist()}{hint}")
    turn = matrix[:3, :3]
    lengths = np.linalg.norm(turn, axis=0)
    skew = turn.T @ turn / np.outer(lengths, lengths) - np.eye(3) if lengths.min() > 0 else np.ones((3, 3))
    if np.abs(skew).max() > 1e-2 or lengths.max() > 1.01 * lengths.min():
        raise CaptureError(
            f"{name}: the first three columns of {key} must be at right angles and of one length, got "
            f"lengths {np.round(lengths, 4).tolist()}"
        )
    left, _, right = np.linalg.svd(turn)
    nearest = left @ right
    if np.linalg.det(nearest) < 0.0:
        raise CaptureError(f"{name}: {key} mirrors the scene (its determinant is negative): flip one axis")
    matrix[:3, :3] = nearest if np.abs(turn / lengths.mean() - nearest).max() > 1e-6 else turn
    return matrix
