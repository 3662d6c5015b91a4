"""Rays of training pixels: nerfstudio's own, without what no model of ours reads."""

from __future__ import annotations

import torch
from jaxtyping import Int
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.model_components.ray_generators import RayGenerator
from torch import Tensor

from lg_field.training.lenses import undistorted

CLOSE = 1e-6
"""How near to where it was without distortion a point is."""


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
            places = undistorted(places, cameras.distortion_params[photos], CLOSE)
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
