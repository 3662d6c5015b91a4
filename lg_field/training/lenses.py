"""Rays of photos' pixels: lenses with their distortion, many photos at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lg_field.captures import Photo
from lg_field.radiance.views import Views

ROUNDS = 10
"""Newton's steps that undo a distortion, at most."""
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


def slope(flat: Float[Tensor, "n 2"], numbers: Float[Tensor, "n 6"]) -> Float[Tensor, "n 2 2"]:
    """Derivative of `distorted`: row by row that of x and of y, by x and by y."""
    square = flat.square().sum(-1, keepdim=True)
    k = numbers[:, :4]
    radial = 1.0 + (k * torch.cat([square, square**2, square**3, square**4], dim=-1)).sum(-1)
    growth = (k * torch.cat([torch.ones_like(square), 2 * square, 3 * square**2, 4 * square**3], dim=-1)).sum(-1)
    (x, y), p1, p2 = flat.unbind(-1), numbers[:, 4], numbers[:, 5]
    mixed = 2 * x * y * growth + 2 * p1 * x + 2 * p2 * y
    of_x = torch.stack([radial + 2 * x * x * growth + 2 * p1 * y + 6 * p2 * x, mixed], dim=-1)
    of_y = torch.stack([mixed, radial + 2 * y * y * growth + 2 * p2 * x + 6 * p1 * y], dim=-1)
    return torch.stack([of_x, of_y], dim=-2)


def undistorted(seen: Float[Tensor, "n 2"], numbers: Float[Tensor, "n 6"]) -> Float[Tensor, "n 2"]:
    """Inverse of `distorted`, by Newton's method from the place itself."""
    flat = seen.clone()
    for _ in range(ROUNDS):
        away, matrix = distorted(flat, numbers) - seen, slope(flat, numbers)
        (a, b), (c, d) = (row.unbind(-1) for row in matrix.unbind(-2))
        determinant = a * d - b * c
        step = torch.stack([d * away[:, 0] - b * away[:, 1], a * away[:, 1] - c * away[:, 0]], dim=-1)
        flat = flat - torch.where((determinant.abs() > FLAT)[:, None], step / determinant[:, None], 0.0)
    return flat
