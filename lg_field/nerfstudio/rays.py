"""Rays of training pixels: nerfstudio's own, without what no model of ours reads."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.model_components.ray_generators import RayGenerator
from torch import Tensor

STEPS, CLOSE = 10, 1e-6
"""Newton steps at most, and the length of one after which there is none."""


class PixelRays(RayGenerator):
    """nerfstudio's ray generator. On a CPU rays of perspective cameras have no `pixel_area`, which took two more rays
    for each, and lens distortion is taken away in as many steps as it needs: a tenth of a training step."""

    def __init__(self, cameras: Cameras) -> None:
        """
        Args:
            cameras: of the training images.
        """
        super().__init__(cameras)
        others = cameras.times is not None or cameras.metadata is not None
        self.plain = bool((cameras.camera_type == CameraType.PERSPECTIVE.value).all()) and not others
        self.distorted = cameras.distortion_params is not None and bool((cameras.distortion_params != 0).any())

    def forward(self, ray_indices: Int[Tensor, "rays 3"]) -> RayBundle:
        """Rays of pixels.

        Args:
            ray_indices: (N, 3) image, row and column of each.
        """
        if not self.plain or self.cameras.camera_to_worlds.device.type != "cpu":
            return super().forward(ray_indices)
        cameras, photos = self.cameras, ray_indices[:, 0]
        coords = self.image_coords[ray_indices[:, 1], ray_indices[:, 2]].flip(1)
        middles, focals = torch.cat([cameras.cx, cameras.cy, cameras.fx, cameras.fy], dim=1)[photos].split(2, dim=1)
        places = (coords - middles) / focals
        if self.distorted and cameras.distortion_params is not None:
            places = undistorted(places, cameras.distortion_params[photos])
        ahead = torch.cat([places[:, :1], -places[:, 1:], torch.full_like(places[:, :1], -1.0)], dim=1).float()
        poses = cameras.camera_to_worlds[photos]
        directions = (poses[:, :, :3] * ahead[:, None]).sum(-1)
        norm = directions.norm(dim=-1, keepdim=True)
        return RayBundle(
            origins=poses[:, :, 3],
            directions=directions / norm,
            pixel_area=None,  # type: ignore[arg-type]
            camera_indices=photos[:, None],
            metadata={"directions_norm": norm},
        )


def undistorted(places: Float[Tensor, "points 2"], lens: Float[Tensor, "points 6"]) -> Float[Tensor, "points 2"]:
    """Where points would be without lens distortion (OpenCV's model).

    Args:
        places: (n, 2) on the plane at distance 1, y down.
        lens: (n, 6) k1, k2, k3, k4, p1, p2 of each.

    Returns:
        (n, 2), to `CLOSE`; a point at which the model folds stays where Newton's steps left it.
    """
    k1, k2, k3, k4 = lens[:, :4, None].unbind(1)
    p, q = lens[:, 4:], lens[:, 4:].flip(1)
    found = places
    for _ in range(STEPS):
        other, square = found.flip(1), found.square()
        r, both = square.sum(1, keepdim=True), found.prod(1, keepdim=True)
        scale = 1.0 + r * (k1 + r * (k2 + r * (k3 + r * k4)))
        slope = 2.0 * (k1 + r * (2.0 * k2 + r * (3.0 * k3 + r * 4.0 * k4)))
        error = found * scale + 2.0 * both * p + q * (r + 2.0 * square) - places
        own = scale + slope * square + 2.0 * p * other + 6.0 * q * found
        cross = slope * both + 2.0 * (p * found).sum(1, keepdim=True)
        determinant = own.prod(1, keepdim=True) - cross.square()
        step = (error * own.flip(1) - error.flip(1) * cross) / determinant
        step = torch.where(determinant.abs() > 1e-3, step, 0.0)
        found = found - step
        if float(step.abs().amax()) < CLOSE:
            break
    return found
