"""What else a ray can show than its colour: which cell, how dense, how large the jump at a cell's border."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lg_field.radiance.compositing import Samples, accumulate, composite, render_weights
from lg_field.radiance.field import RadianceField
from lg_field.radiance.render import view_samples
from lg_field.radiance.scene import Scene
from lg_field.radiance.seams import SOLID, look
from lg_field.viewer.cells import distinct_colors, ramp

OUTPUTS = ("rgb", "accumulation", "depth", "cells", "density", "seam")
SEAM_REACH = 0.1
"""Part of a cell's width from a border within which its jump is shown."""


class Sampled(NamedTuple):
    """Rays with the field asked along them."""

    origins: Tensor
    """(N, 3) scene units."""
    directions: Tensor
    """(N, 3) unit vectors."""
    samples: Samples
    positions: Tensor
    """(M, 3) of the samples."""
    density: Tensor
    """(M,) there."""
    features: Tensor | None = None
    """(M, C) for the colour there; only `rgb` needs them."""


@torch.no_grad()
def sample_rays(field: RadianceField, scene: Scene, origins: Tensor, directions: Tensor) -> Sampled:
    """Ask the field along (N, 3) rays, as `render_rays` does."""
    samples, positions = view_samples(field, scene, origins, directions)
    return Sampled(origins, directions, samples, positions, *field(positions))


@torch.no_grad()
def ray_output(field: RadianceField, scene: Scene, rays: Sampled, name: str) -> tuple[Tensor, Tensor, Tensor]:
    """One of `OUTPUTS` for rays.

    Returns:
        (N, 3) colour in [0, 1], or an (N, 1) number; (N, 1) accumulation, and (N, 1) depth in scene units.
    """
    count = len(rays.origins)
    if name == "rgb":
        assert rays.features is not None
        colors = field.rgb(rays.features, rays.directions[rays.samples.rays])
        rgb, accumulation, depth = composite(rays.density, colors, rays.samples, count, scene.far)
        rgb = rgb + rgb.new_tensor(scene.background) * (1.0 - accumulation)
        return rgb.clamp(0.0, 1.0), accumulation, depth
    accumulation, depth = surface_of(rays, scene.far)
    if name == "accumulation":
        return accumulation, accumulation, depth
    if name == "depth":
        return torch.where(accumulation > SOLID, depth, torch.nan), accumulation, depth
    return extra_output(field, rays, name, accumulation, depth, scene.step), accumulation, depth


def surface_of(rays: Sampled, far: float) -> tuple[Tensor, Tensor]:
    """(N, 1) accumulation and (N, 1) depth along the ray, scene units."""
    _, accumulation, depth = composite(
        rays.density, rays.density.new_zeros(len(rays.density), 0), rays.samples, len(rays.origins), far
    )
    return accumulation, depth


@torch.no_grad()
def extra_output(
    field: RadianceField, rays: Sampled, name: str, accumulation: Tensor, depth: Tensor, step: float
) -> Tensor:
    """`cells` (N, 3), `density` (N, 1) largest along the ray as the opacity of a step, or `seam` (N, 1); in [0, 1].

    Args:
        field: the field.
        rays: and what it says along the rays.
        name: which.
        accumulation: (N, 1).
        depth: (N, 1).
        step: length of a marching step, scene units.
    """
    count = len(rays.origins)
    if name == "cells":
        weights = render_weights(rays.density, rays.samples, count)
        rows = field.rows_of_unit(field.to_unit(rays.positions)).clamp_min(0)
        return accumulate(weights, distinct_colors(field.cells[rows]), rays.samples, count).clamp(0.0, 1.0)
    if name == "density":
        largest = rays.density.new_zeros(count).scatter_reduce(0, rays.samples.rays, rays.density, "amax")
        return -torch.expm1(-largest * step)[:, None]
    if name == "seam":
        return seam(field, rays.origins, rays.directions, accumulation, depth, step)
    raise ValueError(f"output must be one of {', '.join(OUTPUTS)}, got {name!r}")


def seam(
    field: RadianceField, origins: Tensor, directions: Tensor, accumulation: Tensor, depth: Tensor, step: float
) -> Tensor:
    """(N, 1) jump of colour times opacity of a step across the cell borders beside the surface that a ray hits.

    The largest of the three axes; 0 farther than `SEAM_REACH` from a border, and where the other side has no row.
    """
    jump = torch.zeros_like(depth)
    place = field.unit_to_cells(field.to_unit(origins + directions * depth))
    for axis in range(3):
        away = (place[:, axis] - place[:, axis].round()).abs()
        near = ((accumulation[:, 0] > SOLID) & (away < SEAM_REACH)).nonzero()[:, 0]
        sides, owned = [], torch.ones(len(near), dtype=torch.bool, device=depth.device)
        for shift in (-1e-3, 1e-3):
            moved = place[near]
            moved[:, axis] = moved[:, axis].round() + shift
            unit = field.cells_to_unit(moved)
            sides.append(look(field, field.from_unit(unit), directions[near], step))
            owned &= field.rows_of_unit(unit) >= 0
        found = (sides[0] - sides[1]).abs().amax(1) * owned
        jump[near, 0] = torch.maximum(jump[near, 0], found)
    return jump


def to_picture(values: Tensor) -> np.ndarray:
    """(H, W, 3) colours in [0, 1], or (H, W, 1) numbers (NaN = nothing there) -> (H, W, 3) uint8."""
    if values.shape[-1] == 3:
        return (values * 255.0).round().to(torch.uint8).numpy()
    numbers = values[..., 0].double().numpy()
    known = np.isfinite(numbers)
    low, high = (numbers[known].min(), numbers[known].max()) if known.any() else (0.0, 1.0)
    scaled = (np.where(known, numbers, low) - low) / max(high - low, 1e-12)
    return ramp(scaled.reshape(-1)).reshape(*numbers.shape, 3) * known[..., None].astype(np.uint8)
