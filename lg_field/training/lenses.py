"""Rays of photos' pixels: lenses with their distortion, many photos at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lg_field.captures import Photo
from lg_field.radiance.views import Views
from lg_field.training.camera_fit import rotations

ROUNDS = 10
"""Newton's steps that undo a distortion, at most,"""
CLOSE = 1e-12
"""and the length of one after which there is none, focal lengths."""
FLAT = 1e-3
"""A distortion whose determinant is smaller is not undone any further: beyond the fold no place is right."""


@dataclass(frozen=True)
class Lenses:
    """Cameras of n photos, in the photos' coordinates; pixels are those of the photos as they are trained on."""

    poses: Float[Tensor, "photos 3 4"]
    """float64, camera to world, OpenGL axes."""
    sizes: Int64[Tensor, "photos 2"]
    """Width and height in pixels."""
    focals: Float[Tensor, "photos 2"]
    """float64: x, y in pixels."""
    centers: Float[Tensor, "photos 2"]
    """float64: principal points x, y, pixels from the left upper corner."""
    distortion: Float[Tensor, "photos 6"]
    """float64: k1, k2, k3, k4, p1, p2 (see `captures.Lens`)."""
    fisheye: Tensor
    """(photos,) bool."""

    @staticmethod
    def of(photos: Sequence[Photo], sizes: Sequence[tuple[int, int]]) -> Lenses:
        """Cameras of photos that have been read with these (width, height)."""
        fitted = [photo.lens.resized(*size) for photo, size in zip(photos, sizes)]

        def table(rows: list[tuple[float, ...]]) -> Tensor:
            return torch.tensor(rows, dtype=torch.float64)

        return Lenses(
            torch.from_numpy(np.stack([photo.pose[:3] for photo in photos])),
            torch.tensor([(lens.width, lens.height) for lens in fitted]),
            table([(lens.fx, lens.fy) for lens in fitted]),
            table([(lens.cx, lens.cy) for lens in fitted]),
            table([lens.distortion for lens in fitted]),
            torch.tensor([lens.fisheye for lens in fitted]),
        )

    def views(self) -> Views:
        """As pinhole cameras, distortion left out."""
        return Views(self.poses, self.focals / self.sizes, self.centers / self.sizes)

    def moved(self, matrix: Float[Tensor, "4 4"]) -> Lenses:
        """The cameras after a similarity of the world, float64."""
        scale = torch.linalg.det(matrix[:3, :3]) ** (1 / 3)
        poses = matrix[:3, :3] @ self.poses
        poses[..., :3] /= scale
        poses[..., 3] += matrix[:3, 3]
        return Lenses(poses, self.sizes, self.focals, self.centers, self.distortion, self.fisheye)

    def turned(self, change: Float[Tensor, " 6"]) -> Lenses:
        """The cameras moved along x, y, z and turned about them, each about its own place: (6,) float64, radians."""
        poses = self.poses.clone()
        poses[..., :3] = rotations(change[3:]) @ poses[..., :3]
        poses[..., 3] += change[:3]
        return replace(self, poses=poses)

    def rays(
        self, photos: Int64[Tensor, " rays"], rows: Int64[Tensor, " rays"], columns: Int64[Tensor, " rays"]
    ) -> tuple[Float[Tensor, "rays 3"], Float[Tensor, "rays 3"]]:
        """Rays through the middles of pixels.

        Args:
            photos: (n,) number of the photo,
            rows: (n,) of the pixel, from the top,
            columns: (n,) from the left.

        Returns:
            (n, 3) float32 origins, and unit directions.
        """
        pixels = torch.stack([columns, rows], dim=-1) + 0.5
        flat = (pixels - self.centers[photos]) / self.focals[photos]
        numbers, fisheye = self.distortion[photos], self.fisheye[photos]
        if bool(self.distortion.any()):
            flat = undistorted(flat, numbers)
        angle = flat.norm(dim=-1).clamp(1e-12, torch.pi)
        ahead = torch.where(fisheye, angle.cos(), torch.ones_like(angle))
        aside = torch.where(fisheye, angle.sin() / angle, torch.ones_like(angle))[:, None] * flat
        local = torch.stack([aside[:, 0], -aside[:, 1], -ahead], dim=-1)
        poses = self.poses[photos]
        away = (poses[:, :, :3] @ local[..., None])[..., 0]
        return poses[:, :, 3].float(), (away / away.norm(dim=-1, keepdim=True)).float()


def distorted(flat: Float[Tensor, "n 2"], numbers: Float[Tensor, "n 6"]) -> Float[Tensor, "n 2"]:
    """Where a lens shows places of the plane one focal length ahead (OpenCV's model); of a fisheye, places as far from
    the middle as their angle.

    Args:
        flat: x, y without distortion.
        numbers: k1, k2, k3, k4, p1, p2.
    """
    square = flat.square().sum(-1, keepdim=True)
    powers = torch.cat([square, square**2, square**3, square**4], dim=-1)
    radial = 1.0 + (numbers[:, :4] * powers).sum(-1, keepdim=True)
    p1, p2 = numbers[:, 4], numbers[:, 5]
    (x, y), s = flat.unbind(-1), square[:, 0]
    aside = torch.stack([2 * p1 * x * y + p2 * (s + 2 * x * x), 2 * p2 * x * y + p1 * (s + 2 * y * y)], dim=-1)
    return flat * radial + aside


def undistorted(
    places: Float[Tensor, "points 2"], lens: Float[Tensor, "points 6"], close: float = CLOSE
) -> Float[Tensor, "points 2"]:
    """Inverse of `distorted`, by Newton's method from the place itself: where points would be without the lens.

    Args:
        places: (n, 2) on the plane at distance 1, y down.
        lens: (n, 6) k1, k2, k3, k4, p1, p2 of each.
        close: no more steps once all are shorter.

    Returns:
        (n, 2), of the type of `places`; a point at which the model folds stays where Newton's steps left it.
    """
    k1, k2, k3, k4 = lens[:, :4, None].unbind(1)
    p, q = lens[:, 4:], lens[:, 4:].flip(1)
    found = places
    for _ in range(ROUNDS):
        other, square = found.flip(1), found.square()
        r, both = square.sum(1, keepdim=True), found.prod(1, keepdim=True)
        scale = 1.0 + r * (k1 + r * (k2 + r * (k3 + r * k4)))
        slope = 2.0 * (k1 + r * (2.0 * k2 + r * (3.0 * k3 + r * 4.0 * k4)))
        error = found * scale + 2.0 * both * p + q * (r + 2.0 * square) - places
        own = scale + slope * square + 2.0 * p * other + 6.0 * q * found
        cross = slope * both + 2.0 * (p * found).sum(1, keepdim=True)
        determinant = own.prod(1, keepdim=True) - cross.square()
        step = (error * own.flip(1) - error.flip(1) * cross) / determinant
        step = torch.where(determinant.abs() > FLAT, step, 0.0)
        found = found - step
        if bool((step.abs() < close).all()):
            break
    return found
