"""Cameras: one that makes rays, and circles of them around a scene."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lg_field.radiance.scene import Scene
from lg_field.radiance.volume import Volume

FIRST_ELEVATION = 20.0
"""Degrees above the horizon of an orbit around a scene that keeps no training camera."""


@dataclass(frozen=True)
class Camera:
    """A pinhole camera."""

    to_scene: Tensor
    """(4, 4) float64: camera to scene, OpenGL axes (x right, y up, looking along -z)."""
    focal: float
    """Focal length in picture heights."""
    width: int
    """Pixels."""
    height: int
    """Pixels."""

    def rays(self) -> tuple[Float[Tensor, "height width 3"], Float[Tensor, "height width 3"]]:
        """(height, width, 3) float32 origins and unit directions through the middles of the pixels."""
        y, x = torch.meshgrid(torch.arange(self.height), torch.arange(self.width), indexing="ij")
        focal = self.focal * self.height
        right, up = (x + 0.5 - self.width / 2) / focal, -(y + 0.5 - self.height / 2) / focal
        directions = torch.stack([right, up, -torch.ones_like(right)], dim=-1).double() @ self.to_scene[:3, :3].T
        directions = directions / directions.norm(dim=-1, keepdim=True)
        return self.to_scene[:3, 3].expand_as(directions).float(), directions.float()


def orbit(
    field: Volume, scene: Scene, count: int, width: int, height: int, elevation: float | None = None
) -> Iterator[Camera]:
    """Cameras on a circle around what the field holds, looking at its middle.

    A whole scene is seen from as far and as high as the training camera that its description keeps; a crop, or a scene
    without one, from where it fills the picture.

    Args:
        field: the field.
        scene: its description.
        count: cameras.
        width: pixels.
        height: pixels.
        elevation: degrees above the horizon; None = the training camera's, `FIRST_ELEVATION` without one.
    """
    lower, upper = field.occupancy.near_bounds().double().cpu()
    middle, radius = (lower + upper) / 2, float((upper - lower).norm()) / 2
    up = torch.tensor(scene.up, dtype=torch.float64)
    up = up / up.norm()
    distance = radius / math.sin(math.atan(0.5 / scene.focal * min(1.0, width / height)))
    offset = None
    if scene.camera is not None:
        offset = torch.tensor(scene.camera, dtype=torch.float64)[:3, 3] - middle
        if field.region is None and len(field.cells) and float(offset.norm()) > 1e-6:
            distance = float(offset.norm())
    side, rise = _direction(offset, up, elevation)
    across = torch.linalg.cross(up, side)
    for k in range(count):
        angle = 2.0 * math.pi * k / count
        back = math.cos(rise) * (math.cos(angle) * side + math.sin(angle) * across) + math.sin(rise) * up
        yield Camera(look_along(middle + distance * back, -back, up), scene.focal, width, height)


def _direction(offset: Tensor | None, up: Tensor, elevation: float | None) -> tuple[Tensor, float]:
    """Where a circle begins: (3,) horizontal unit vector from the middle, and radians above the horizon.

    Args:
        offset: (3,) from the middle to the training camera, None without one.
        up: (3,) unit vector.
        elevation: degrees that are asked for; None = the training camera's.
    """
    start = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64) if offset is None else offset
    side = start - (start @ up) * up
    if float(side.norm()) < 1e-6:
        side = torch.linalg.cross(up, torch.tensor([0.3, 0.5, 0.8], dtype=torch.float64))
    if elevation is None:
        elevation = FIRST_ELEVATION if offset is None else math.degrees(math.asin(float(offset @ up / offset.norm())))
    return side / side.norm(), math.radians(min(80.0, max(-80.0, elevation)))


def look_along(eye: Float[Tensor, " 3"], forward: Float[Tensor, " 3"], up: Float[Tensor, " 3"]) -> Float[Tensor, "4 4"]:
    """(4, 4) camera to scene of a camera at `eye` that looks along `forward`."""
    right = torch.linalg.cross(forward, up)
    right = right / right.norm()
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, :4] = torch.stack([right, torch.linalg.cross(right, forward), -forward, eye], dim=1)
    return matrix
