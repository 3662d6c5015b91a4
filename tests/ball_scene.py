"""Scenes whose occupied voxels are balls, set by hand: solid there, with random weights, and no training."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from small_scene import small_scene

from lg_field.radiance.components import lattice_of, middles
from lg_field.radiance.field import RadianceField
from lg_field.radiance.views import Views

Ball = tuple[float, float, float, float]
"""Center and radius, scene units."""
LARGE, MEDIUM, SMALL = (-0.4, -0.3, 0.2, 0.45), (0.5, 0.4, -0.2, 0.3), (0.6, -0.7, 0.7, 0.13)


def ball_scene(balls: Sequence[Ball] = (LARGE, MEDIUM, SMALL), contraction: bool = False) -> RadianceField:
    """All cells of a small scene; voxels are occupied where their middle is in one of the balls."""
    field = small_scene(kept=1.0, contraction=contraction)
    occupy(field, balls)
    return field


def occupy(field: RadianceField, balls: Sequence[Ball]) -> None:
    """Occupy the voxels whose middle is in one of the balls, and no others."""

    def inside(points: torch.Tensor) -> torch.Tensor:
        away = [(points - points.new_tensor(ball[:3])).norm(dim=-1) <= ball[3] for ball in balls]
        return torch.stack(away).any(0) if away else torch.zeros(len(points), dtype=torch.bool)

    occupy_where(field, inside)


def occupy_where(field: RadianceField, holds: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Occupy the voxels with their middle where a function of (n, 3) points says so, and no others."""
    grid = field.occupancy
    every = torch.ones(lattice_of(grid).counts, dtype=torch.bool)
    inside = holds(middles(grid, every.nonzero()))
    r = grid.per_axis
    counts = [n for c in field.grid.counts for n in (c, r)]
    rows = inside.view(counts).permute(0, 2, 4, 1, 3, 5).reshape(field.grid.num_cells, -1)
    grid.restore_(rows[field.cells])


def random_points(count: int = 4000, reach: float = 1.0, seed: int = 0) -> torch.Tensor:
    return (torch.rand(count, 3, generator=torch.Generator().manual_seed(seed)) * 2 - 1) * reach


def circle(count: int = 6, distance: float = 4.0, focal: float = 1.6) -> Views:
    """Cameras around the origin that look at it, z up."""
    poses = []
    for k in range(count):
        angle = torch.tensor(2 * torch.pi * k / count, dtype=torch.float64)
        back = torch.stack([angle.cos(), angle.sin(), torch.tensor(0.4, dtype=torch.float64)])
        back = back / back.norm()
        right = torch.linalg.cross(torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64), back)
        right = right / right.norm()
        poses.append(torch.stack([right, torch.linalg.cross(back, right), back, back * distance], dim=1))
    flat = torch.full((count, 2), focal, dtype=torch.float64)
    return Views(torch.stack(poses), flat, torch.full_like(flat, 0.5))


def bias_of_density(field: RadianceField) -> int:
    """The number of a row that is added to the logarithm of the density."""
    x = field.grid.boxes(field.cells).mean(1)[:1].float()
    with torch.no_grad():
        before = field.density(x)
        for column in range(field.local.shape[1] - 1, -1, -1):
            field.local[:, column] = 1.0
            after = field.density(x)
            field.local[:, column] = 0.0
            if torch.allclose(after / before, torch.tensor(math.e)):
                return column
    raise AssertionError("there is none")
