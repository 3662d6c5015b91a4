"""From the mouse to cells: the first cell along a ray that holds something, the cells within a rectangle."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lg_field.radiance.compositing import render_weights
from lg_field.radiance.field import RadianceField
from lg_field.radiance.scene import Scene
from lg_field.viewer.outputs import sample_rays

VISIBLE = 0.02
"""Opacity along a ray below which there is nothing to pick."""


class Pose(NamedTuple):
    """A camera, as far as it decides where points are on the screen."""

    to_scene: Tensor
    """(4, 4) float64 camera to scene, OpenGL axes."""
    fov: float
    """Vertical field of view, radians."""
    aspect: float
    """Width over height."""


def first_cell(field: RadianceField, scene: Scene, origin: Tensor, direction: Tensor) -> int | None:
    """The cell in which a ray has met half of the opacity it meets in all; None where it meets nothing.

    Args:
        field: the field.
        scene: near, far and step.
        origin: (3,) scene units.
        direction: (3,) unit vector.
    """
    device = field.cells.device
    rays = sample_rays(field, scene, origin.float()[None].to(device), direction.float()[None].to(device))
    met = render_weights(rays.density, rays.samples, 1).cumsum(0)
    if len(met) == 0 or float(met[-1]) < VISIBLE:
        return None
    hit = int(torch.searchsorted(met, met[-1] / 2).clamp_max(len(met) - 1))
    return int(field.cells[field.rows_of_unit(field.to_unit(rays.positions[hit : hit + 1]))[0]])


def on_screen(points: Tensor, pose: Pose) -> Tensor:
    """(n, 3) scene points -> (n, 2) float64 screen positions, x right and y down in [0, 1]; NaN behind the camera."""
    local = (points.double() - pose.to_scene[:3, 3]) @ pose.to_scene[:3, :3]
    ahead = -local[:, 2]
    reach = torch.tan(torch.tensor(pose.fov / 2, dtype=torch.float64)) * ahead
    x, y = local[:, 0] / (reach * pose.aspect), -local[:, 1] / reach
    seen = torch.stack([x, y], dim=1) / 2 + 0.5
    return torch.where((ahead > 1e-9)[:, None], seen, torch.nan)


def in_rectangle(points: Tensor, pose: Pose, low: tuple[float, float], high: tuple[float, float]) -> Tensor:
    """(n, 3) scene points -> (n,) bool: on the screen between two corners (x, y), however deep."""
    at = on_screen(points, pose)
    return ((at >= at.new_tensor(low)) & (at <= at.new_tensor(high))).all(1)
