"""From the mouse to cells: the first cell along a ray that holds something, the cells within a rectangle."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from lg_field.radiance.compositing import render_weights
from lg_field.radiance.field import RadianceField
from lg_field.radiance.render import ask_view
from lg_field.radiance.scene import Scene

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


def first_point(
    field: RadianceField, scene: Scene, origin: Float[Tensor, " 3"], direction: Float[Tensor, " 3"]
) -> Float[Tensor, " 3"] | None:
    """Where a ray has met half of the opacity it meets in all; None where it meets nothing.

    Args:
        field: the field.
        scene: near, far and step.
        origin: (3,) scene units.
        direction: (3,) unit vector.
    """
    device = field.cells.device
    asked = ask_view(field, scene, origin.float()[None].to(device), direction.float()[None].to(device))
    met = render_weights(asked.density, asked.samples, 1).cumsum(0)
    if len(met) == 0 or float(met[-1]) < VISIBLE:
        return None
    hit = int(torch.searchsorted(met, met[-1] / 2).clamp_max(len(met) - 1))
    return asked.positions[hit]


def first_cell(
    field: RadianceField, scene: Scene, origin: Float[Tensor, " 3"], direction: Float[Tensor, " 3"]
) -> int | None:
    """The cell of `first_point`; None where there is none."""
    point = first_point(field, scene, origin, direction)
    return None if point is None else int(field.cells[field.rows_of_unit(field.frame.to_unit(point[None]))[0]])


def on_screen(points: Float[Tensor, "points 3"], pose: Pose) -> Float64[Tensor, "points 2"]:
    """(n, 3) scene points -> (n, 2) float64 screen positions, x right and y down in [0, 1]; NaN behind the camera."""
    local = (points.double() - pose.to_scene[:3, 3]) @ pose.to_scene[:3, :3]
    ahead = -local[:, 2]
    reach = torch.tan(torch.tensor(pose.fov / 2, dtype=torch.float64)) * ahead
    x, y = local[:, 0] / (reach * pose.aspect), -local[:, 1] / reach
    seen = torch.stack([x, y], dim=1) / 2 + 0.5
    return torch.where((ahead > 1e-9)[:, None], seen, torch.nan)


def in_rectangle(
    points: Float[Tensor, "points 3"], pose: Pose, low: tuple[float, float], high: tuple[float, float]
) -> Bool[Tensor, " points"]:
    """(n, 3) scene points -> (n,) bool: on the screen between two corners (x, y), however deep."""
    at = on_screen(points, pose)
    return ((at >= at.new_tensor(low)) & (at <= at.new_tensor(high))).all(1)
