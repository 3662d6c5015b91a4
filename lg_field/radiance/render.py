"""Rendering rays and pictures of a radiance field: no data set, no nerfstudio."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lg_field.radiance import occupancy
from lg_field.radiance.compositing import Samples, composite
from lg_field.radiance.field import RadianceField
from lg_field.radiance.sampling import LINEAR_UNTIL, march, ray_box
from lg_field.radiance.scene import Scene

RAYS = {"cpu": 1 << 13, "cuda": 1 << 16}
"""Rays at a time."""


class Picture(NamedTuple):
    """What rays see."""

    rgb: Tensor
    """(..., 3) in [0, 1], on the scene's background."""
    accumulation: Tensor
    """(..., 1) opacity along the ray."""
    depth: Tensor
    """(..., 1) mean distance along the ray, scene units; the far plane where nothing is hit."""


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

    def rays(self) -> tuple[Tensor, Tensor]:
        """(height, width, 3) float32 origins and unit directions through the middles of the pixels."""
        y, x = torch.meshgrid(torch.arange(self.height), torch.arange(self.width), indexing="ij")
        focal = self.focal * self.height
        right, up = (x + 0.5 - self.width / 2) / focal, -(y + 0.5 - self.height / 2) / focal
        directions = torch.stack([right, up, -torch.ones_like(right)], dim=-1).double() @ self.to_scene[:3, :3].T
        directions = directions / directions.norm(dim=-1, keepdim=True)
        return self.to_scene[:3, 3].expand_as(directions).float(), directions.float()


def field_samples(
    field: RadianceField, origins: Tensor, directions: Tensor, near: Tensor, far: Tensor, step: float, jitter: bool
) -> Samples:
    """Packed samples of rays in the field's occupied space.

    Args:
        field: the field.
        origins: (N, 3) scene units.
        directions: (N, 3) unit vectors.
        near: (N,) first distance.
        far: (N,) last distance.
        step: length of a step, scene units.
        jitter: shift the steps of each ray at random (training).
    """
    if field.sizes.contraction:
        return march(origins, directions, near, far, step, field.is_occupied, LINEAR_UNTIL, jitter)
    enter, leave = ray_box(origins, directions, field.occupied_bounds())
    near, far = torch.maximum(near, enter), torch.minimum(far, leave)
    voxel = min(field.grid.cell_size) / field.sizes.occupancy_voxels
    block = 1 + int(2.0 * occupancy.MARGIN * voxel / step - 1e-3)  # the steps are less than the margin from its middle
    near_occupied = field.is_near_occupied if block > 2 else None
    return march(
        *(origins, directions, near, far, step, field.is_occupied),
        jitter=jitter,
        block=block if near_occupied else 1,
        near_occupied=near_occupied,
    )


def view_samples(field: RadianceField, scene: Scene, origins: Tensor, directions: Tensor) -> tuple[Samples, Tensor]:
    """Packed samples of rays between the scene's near and far plane, and the (M, 3) points in their middles."""
    near, far = torch.full_like(origins[:, 0], scene.near), torch.full_like(origins[:, 0], scene.far)
    samples = field_samples(field, origins, directions, near, far, scene.step, jitter=False)
    return samples, torch.addcmul(origins[samples.rays], directions[samples.rays], samples.middles[:, None])


@torch.no_grad()
def render_rays(field: RadianceField, scene: Scene, origins: Tensor, directions: Tensor) -> Picture:
    """Render rays as nerfstudio's evaluation of the run does.

    Args:
        field: the field.
        scene: near, far, step and background.
        origins: (N, 3) scene units.
        directions: (N, 3) unit vectors.
    """
    count = len(origins)
    samples, positions = view_samples(field, scene, origins, directions)
    density, features = field(positions)
    colors = field.rgb(features, directions[samples.rays])
    rgb, accumulation, depth = composite(density, colors, samples, count, scene.far)
    rgb = rgb + rgb.new_tensor(scene.background) * (1.0 - accumulation)
    return Picture(rgb.clamp(0.0, 1.0), accumulation, depth)


def render(
    field: RadianceField, scene: Scene, camera: Camera, progress: Callable[[int, int], None] | None = None
) -> Picture:
    """Render a picture.

    Args:
        field: the field; it says the device.
        scene: its description.
        camera: from where.
        progress: called with rays done and in all.

    Returns:
        (height, width, ...) on the CPU.
    """
    device = field.cells.device
    origins, directions = (v.view(-1, 3) for v in camera.rays())
    size, parts = RAYS.get(device.type, 1 << 14), []
    for first in range(0, len(origins), size):
        rays = (v[first : first + size].to(device) for v in (origins, directions))
        parts.append(Picture(*(v.cpu() for v in render_rays(field, scene, *rays))))
        if progress is not None:
            progress(min(first + size, len(origins)), len(origins))
    shape = (camera.height, camera.width, -1)
    return Picture(*(torch.cat(values).view(shape) for values in zip(*parts)))


def orbit(
    field: RadianceField, scene: Scene, count: int, width: int, height: int, elevation: float | None = None
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
        elevation: degrees above the horizon; None = the training camera's, 20 without one.
    """
    lower, upper = field.occupied_bounds().double().cpu()
    if field.sizes.contraction:
        lower, upper = lower.clamp(-1.0, 1.0), upper.clamp(-1.0, 1.0)
    middle, radius = (lower + upper) / 2, float((upper - lower).norm()) / 2
    up = torch.tensor(scene.up, dtype=torch.float64)
    up = up / up.norm()
    distance = radius / math.sin(math.atan(0.5 / scene.focal * min(1.0, width / height)))
    offset = None
    if scene.camera is not None:
        offset = torch.tensor(scene.camera, dtype=torch.float64)[:3, 3] - middle
        if field.region is None and len(field.cells) and float(offset.norm()) > 1e-6:
            distance = float(offset.norm())
    start = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64) if offset is None else offset
    side = start - (start @ up) * up
    if float(side.norm()) < 1e-6:
        side = torch.linalg.cross(up, torch.tensor([0.3, 0.5, 0.8], dtype=torch.float64))
    side = side / side.norm()
    if elevation is None:
        elevation = 20.0 if offset is None else math.degrees(math.asin(float(offset @ up / offset.norm())))
    rise = math.radians(min(80.0, max(-80.0, elevation)))
    across = torch.linalg.cross(up, side)
    for k in range(count):
        angle = 2.0 * math.pi * k / count
        back = math.cos(rise) * (math.cos(angle) * side + math.sin(angle) * across) + math.sin(rise) * up
        yield Camera(look_along(middle + distance * back, -back, up), scene.focal, width, height)


def look_along(eye: Tensor, forward: Tensor, up: Tensor) -> Tensor:
    """(4, 4) camera to scene of a camera at `eye` that looks along `forward`."""
    right = torch.linalg.cross(forward, up)
    right = right / right.norm()
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, :4] = torch.stack([right, torch.linalg.cross(right, forward), -forward, eye], dim=1)
    return matrix
