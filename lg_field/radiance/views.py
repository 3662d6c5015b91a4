"""Pinhole cameras and what they see, and boxes. Cameras have OpenGL axes: x right, y up, looking along -z."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

VIEWPOINTS = 32
"""Cameras that stand for all."""


@dataclass(frozen=True)
class Views:
    """Pinhole cameras, distortion left out."""

    poses: Float[Tensor, "views 3 4"]
    """float64, camera to world."""
    focals: Float[Tensor, "views 2"]
    """Focal lengths (x, y) in image widths and heights."""
    centers: Float[Tensor, "views 2"]
    """Principal points (x, y), from the left upper corner, in image widths and heights."""

    def __getitem__(self, index: int) -> Views:
        """One view, as a list of one."""
        one = slice(index, index + 1)
        return Views(self.poses[one], self.focals[one], self.centers[one])

    @property
    def origins(self) -> Float[Tensor, "views 3"]:
        """Camera centres."""
        return self.poses[:, :, 3]

    @property
    def axes(self) -> Float[Tensor, "views 3"]:
        """Unit optical axes."""
        return -self.poses[:, :, 2] / self.poses[:, :, 2].norm(dim=-1, keepdim=True)

    def project(self, points: Float[Tensor, "points 3"]) -> tuple[Tensor, Tensor]:
        """Where points are seen.

        Returns:
            (views, points, 2) place in image widths and heights, in [0, 1] inside the image, and (views, points) depth
            along the optical axis, in world units; places behind a camera mean nothing.
        """
        away = points[None].to(self.poses) - self.origins[:, None]
        right, up, back = (torch.einsum("vpk,vk->vp", away, self.poses[:, :, axis]) for axis in range(3))
        depth = -back
        safe = torch.where(depth > 1e-9, depth, torch.full_like(depth, 1e-9))
        flat = torch.stack([right / safe, -up / safe], dim=-1)
        return self.centers[:, None] + flat * self.focals[:, None], depth

    def rays(self, places: Float[Tensor, "places 2"]) -> tuple[Float[Tensor, "rays 3"], Float[Tensor, "rays 3"]]:
        """Rays through places of the images, view by view.

        Args:
            places: in image widths and heights, from the left upper corner.

        Returns:
            (views * places, 3) float64 origins and unit directions, in world units.
        """
        flat = (places.to(self.poses) - self.centers[:, None]) / self.focals[:, None]
        local = torch.stack([flat[..., 0], -flat[..., 1], -torch.ones_like(flat[..., 0])], dim=-1)
        away = torch.einsum("vij,vpj->vpi", self.poses[:, :, :3], local)
        origins = self.origins[:, None].expand_as(away)
        return origins.flatten(0, 1), (away / away.norm(dim=-1, keepdim=True)).flatten(0, 1)

    def at_corners(self, depth: float) -> Float[Tensor, "corners 3"]:
        """World points that the four corners of each image show at a depth along the optical axis."""
        places = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 2)
        flat = (places - self.centers[:, None]) / self.focals[:, None] * depth
        local = torch.stack([flat[..., 0], -flat[..., 1], torch.full_like(flat[..., 0], -depth)], dim=-1)
        away = torch.einsum("vij,vcj->vci", self.poses[:, :, :3], local)
        return (self.origins[:, None] + away).flatten(0, 1)


def far_apart(points: Float[Tensor, "points 3"], count: int = VIEWPOINTS) -> Float[Tensor, "count 3"]:
    """So many of some points, each as far from those before as can be; the first again and again where there are no
    more."""
    chosen = [0]
    away = (points - points[0]).norm(dim=-1)
    for _ in range(min(count, len(points)) - 1):
        chosen.append(int(away.argmax()))
        away = torch.minimum(away, (points - points[chosen[-1]]).norm(dim=-1))
    return points[chosen + [0] * (count - len(chosen))]


def corners(box: Float[Tensor, "2 3"]) -> Float[Tensor, "8 3"]:
    """All corners of a box, float64, from its lower and upper one."""
    picks = torch.cartesian_prod(*[torch.arange(2)] * 3)
    return torch.stack([box[picks[:, axis], axis] for axis in range(3)], dim=1).double()


def bounds(points: Float[Tensor, "points 3"]) -> Float[Tensor, "2 3"]:
    """The box around points."""
    return torch.stack([points.amin(0), points.amax(0)])
