"""At which density the surface of a scene lies: where the light that cameras see comes from."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from lg_field.meshing.tools import otsu
from lg_field.radiance.compositing import transmittances
from lg_field.radiance.composition import parts_of
from lg_field.radiance.memory_bound import rays_at_once, samples_at_once
from lg_field.radiance.render import ask_view
from lg_field.radiance.scene import Scene
from lg_field.radiance.volume import Volume

POINTS = 1 << 18
"""Points that a field is asked about at a time at most."""
NODES = 6
"""Points of a box that each camera looks at, per axis."""
FEW = 50
"""Rays that must end in the box."""
QUANTILE = 0.05
"""Part of the rays that may pass through the surface, and"""
MARGIN = 0.5
"""what nodes of a lattice, which seldom lie where it is densest, meet of the density there."""


def default_threshold(field: Volume) -> float:
    """The density that absorbs half of the light over a hundredth of the scene box's diagonal."""
    return math.log(2.0) / (0.01 * diagonal(field))


def diagonal(field: Volume) -> float:
    """Length of the scene box's diagonal; of several parts the longest."""
    return max(part.place.scale * math.dist(part.field.grid.lower, part.field.grid.upper) for part in parts_of(field))


def points_at_once(field: Volume) -> int:
    """Points that a field is asked about at a time, within its `memory`."""
    return min(POINTS, *(samples_at_once(part.field) for part in parts_of(field)))


def automatic_threshold(field: Volume, bounds: Float[Tensor, "2 3"]) -> float:
    """The density that best parts empty from solid within a box, or less, where what cameras see is thinner.

    Args:
        field: trained field.
        bounds: (2, 3) scene-space box.

    Returns:
        A density; `default_threshold` where nothing can be told.
    """
    parted, seen = parting_threshold(field, bounds), seen_threshold(field, bounds)
    return parted if seen is None else min(parted, seen)


@torch.no_grad()
def parting_threshold(field: Volume, bounds: Float[Tensor, "2 3"], nodes: int = 64) -> float:
    """The density that best parts empty from solid (Otsu) within a box.

    Densities range over decades, so it is their opacity over a hundredth of the scene box's diagonal that is parted.

    Args:
        field: trained field.
        bounds: (2, 3) scene-space box.
        nodes: samples per axis.

    Returns:
        A density; `default_threshold` where nothing can be parted.
    """
    length = 0.01 * diagonal(field)
    points = box_nodes(bounds, nodes).to(field.cells.device)
    points = points[field.is_occupied(points)]
    parts = [1.0 - torch.exp(-field.density(part) * length) for part in points.split(points_at_once(field))]
    try:
        opacity = otsu(torch.cat(parts).cpu().numpy()) if parts else 0.0
    except ValueError:
        return default_threshold(field)
    return -math.log1p(-opacity) / length if 0.0 < opacity < 1.0 else default_threshold(field)


@torch.no_grad()
def seen_threshold(field: Volume, bounds: Float[Tensor, "2 3"]) -> float | None:
    """A density that nearly all rays of the training cameras meet before half of their light is gone.

    A higher one leaves holes in what cameras see. Only rays that lose half of their light within the box count.

    Args:
        field: trained field; its description says where cameras were.
        bounds: (2, 3) scene-space box.

    Returns:
        A density; None where no camera is known, or too few rays end in the box.
    """
    scene = field.description
    if not isinstance(scene, Scene) or not scene.viewpoints:
        return None
    places = torch.tensor(scene.viewpoints, dtype=torch.float32)
    away = box_nodes(bounds, NODES) - places[:, None]
    directions = torch.nn.functional.normalize(away, dim=-1).flatten(0, 1).to(field.cells.device)
    origins = places[:, None].expand_as(away).flatten(0, 1).to(directions)
    found = [
        _met(field, scene, origins[part], directions[part], bounds.to(directions))
        for part in torch.arange(len(origins)).split(rays_at_once(field, scene.step))
    ]
    met = torch.cat(found)
    return MARGIN * float(met.quantile(QUANTILE)) if len(met) >= FEW else None


def _met(field: Volume, scene: Scene, origins: Tensor, directions: Tensor, bounds: Tensor) -> Tensor:
    """The highest density that each ray meets before half of its light is gone, of those that lose it in the box."""
    count = len(origins)
    asked = ask_view(field, scene, origins, directions)
    samples, thickness = asked.samples, asked.density * asked.samples.lengths
    through = transmittances(thickness, samples, count)
    lit = through > 0.5
    highest = torch.zeros_like(origins[:, 0]).scatter_reduce_(0, samples.rays, asked.density * lit, "amax")
    half = (lit & (through * torch.exp(-thickness) <= 0.5)).nonzero()[:, 0]
    at = asked.positions[half]
    inside = ((at >= bounds[0]) & (at <= bounds[1])).all(-1)
    return highest[samples.rays[half[inside]]].cpu()


def box_nodes(bounds: Float[Tensor, "2 3"], nodes: int) -> Float[Tensor, "points 3"]:
    """(nodes^3, 3) float32 points evenly within a box, on the CPU."""
    steps = (torch.arange(nodes) + 0.5) / nodes
    low, high = bounds.float().cpu()
    return low + torch.cartesian_prod(steps, steps, steps) * (high - low)
