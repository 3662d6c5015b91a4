"""How visible the borders of cells are: jumps of colour and opacity across them against the same distance inside."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from lg_field.description import Scene
from lg_field.radiance.field import RadianceField
from lg_field.radiance.render import Camera, render

SOLID = 0.5
"""Accumulation from which a ray counts as having hit a surface."""


class Seams(NamedTuple):
    """Mean absolute differences between two points on a surface, one marching step apart along an axis."""

    opacity_across: float
    """Of the opacity of a step, points in two cells."""
    opacity_inside: float
    """Points in one cell."""
    color_across: float
    """Of the colour times that opacity, mean over channels."""
    color_inside: float
    pairs_across: int
    """Pairs that a border parts."""

    @property
    def ratio(self) -> float:
        """Jump across borders over jump inside cells, mean of opacity and colour: 1 = no seam."""
        pairs = ((self.opacity_across, self.opacity_inside), (self.color_across, self.color_inside))
        return sum(a / max(b, 1e-9) for a, b in pairs) / 2


@torch.no_grad()
def measure_seams(field: RadianceField, scene: Scene, cameras: Iterable[Camera], repeats: int = 4) -> Seams:
    """Compare pairs of points around the surfaces that some cameras see.

    Args:
        field: the field.
        scene: its description; pairs are a marching step apart.
        cameras: where to look from.
        repeats: pairs drawn per axis and surface point, each up to a step off the surface.

    Raises:
        ValueError: the cameras see no surface, or no border of two cells on one.
    """
    points, directions = _surfaces(field, scene, cameras)
    jumps, parted = [], []
    generator = torch.Generator().manual_seed(0)
    for axis in [0, 1, 2] * repeats:
        shift = (torch.rand(len(points), 3, generator=generator).to(points) - 0.5) * 2 * scene.step
        step = torch.zeros(3, device=points.device)
        step[axis] = scene.step / 2
        ends = [points + shift - step, points + shift + step]
        rows = [field.rows_of_unit(field.to_unit(end)) for end in ends]
        owned = (rows[0] >= 0) & (rows[1] >= 0)
        looks = [look(field, end[owned], directions[owned], scene.step) for end in ends]
        jumps.append((looks[0] - looks[1]).abs())
        parted.append((rows[0] != rows[1])[owned])
    jump, border = torch.cat(jumps), torch.cat(parted)
    across, inside = jump[border], jump[~border]
    if len(across) == 0 or len(inside) == 0:
        raise ValueError("no surface that these cameras see crosses a border between two cells")
    (oa, ca), (oi, ci) = ((j[:, 3].mean(), j[:, :3].mean()) for j in (across, inside))
    return Seams(float(oa), float(oi), float(ca), float(ci), len(across))


def _surfaces(field: RadianceField, scene: Scene, cameras: Iterable[Camera]) -> tuple[Tensor, Tensor]:
    """(n, 3) points that the cameras see, and the (n, 3) directions they are seen in."""
    points, directions = [], []
    for camera in cameras:
        picture = render(field, scene, camera)
        solid = picture.accumulation[..., 0] > SOLID
        starts, ways = (v[solid] for v in camera.rays())
        points.append(starts + ways * picture.depth[solid])
        directions.append(ways)
    if not sum(map(len, points)):
        raise ValueError("the cameras see no surface")
    return torch.cat(points).to(field.cells.device), torch.cat(directions).to(field.cells.device)


def look(field: RadianceField, points: Tensor, directions: Tensor, step: float) -> Tensor:
    """(n, 4): colour times the opacity of a step, and that opacity."""
    density, features = field(points)
    opacity = -torch.expm1(-density * step)[:, None]
    return torch.cat([field.rgb(features, directions) * opacity, opacity], dim=1)
