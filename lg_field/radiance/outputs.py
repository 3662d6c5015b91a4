"""What rays can show, by name: colour, opacity, depth, which cell, how dense, how large the jump at a border."""

from __future__ import annotations

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from lg_field.radiance.compositing import accumulate, render_weights
from lg_field.radiance.field import RadianceField
from lg_field.radiance.render import Asked, Picture, picture, show
from lg_field.radiance.scene import Scene
from lg_field.radiance.seams import SOLID, look
from lg_field.radiance.stopping import PICTURES

OUTPUTS = ("rgb", "accumulation", "depth", "cells", "density", "seam")
EXTRAS = OUTPUTS[3:]
"""Those that a picture does not have."""
OF_FIELDS = ("cells", "seam")
"""Those that only single fields have."""
WHOLE = ("density",)
"""Those that need rays asked to their end, not only as far as anything can be seen."""
SEAM_REACH = 0.1
"""Part of a cell's width from a border within which its jump is shown."""


def least_light_of(name: str) -> float:
    """Part of the light below which rays may end (see `render.ask`) where an output is wanted."""
    return 0.0 if name in WHOLE else PICTURES


@torch.no_grad()
def ray_output(
    asked: Asked, scene: Scene, name: str
) -> tuple[Float[Tensor, "rays channels"], Float[Tensor, "rays 1"], Float[Tensor, "rays 1"]]:
    """One of `OUTPUTS`.

    Args:
        asked: rays with the field asked along them, as far as `least_light_of` says.
        scene: far plane, background and step.
        name: which.

    Returns:
        (N, 3) colour in [0, 1], or an (N, 1) number; (N, 1) accumulation, and (N, 1) depth in scene units.

    Raises:
        ValueError: no output of this name.
    """
    if name == "rgb":
        seen = show(asked, scene.far, asked.origins.new_tensor(scene.background))
        return seen.rgb, seen.accumulation, seen.depth
    surface = surface_of(asked, scene.far)
    if name == "accumulation":
        return surface.accumulation, surface.accumulation, surface.depth
    if name == "depth":
        hit = torch.where(surface.accumulation > SOLID, surface.depth, torch.nan)
        return hit, surface.accumulation, surface.depth
    return extra_output(asked, name, surface, scene.step), surface.accumulation, surface.depth


def surface_of(asked: Asked, far: float) -> Picture:
    """Accumulation and depth along the rays, without colour: `rgb` is (N, 0)."""
    seen = picture(asked, asked.density.new_zeros(len(asked.density), 3), far, None)  # as a picture's, to the bit
    return seen._replace(rgb=seen.rgb[:, :0])


@torch.no_grad()
def extra_output(asked: Asked, name: str, seen: Picture, step: float) -> Float[Tensor, "rays channels"]:
    """`cells` (N, 3), `density` (N, 1) largest along the ray as the opacity of a step, or `seam` (N, 1); in [0, 1].

    Args:
        asked: rays with the field asked along them.
        name: which.
        seen: their accumulation and depth.
        step: length of a marching step, scene units.

    Raises:
        ValueError: no output of this name.
    """
    count, field = len(asked.origins), asked.field
    if name in OF_FIELDS and not isinstance(field, RadianceField):
        raise ValueError(f"output {name!r} is of single fields, not of several put together")
    if name == "cells" and isinstance(field, RadianceField):
        weights = render_weights(asked.density, asked.samples, count)
        rows = field.rows_of_unit(field.frame.to_unit(asked.positions)).clamp_min(0)
        return accumulate(weights, distinct_colors(field.cells[rows]), asked.samples, count).clamp(0.0, 1.0)
    if name == "density":
        largest = asked.density.new_zeros(count).scatter_reduce(0, asked.samples.rays, asked.density, "amax")
        return -torch.expm1(-largest * step)[:, None]
    if name == "seam" and isinstance(field, RadianceField):
        return seam(field, asked.origins, asked.directions, seen.accumulation, seen.depth, step)
    raise ValueError(f"output must be one of {', '.join(OUTPUTS)}, got {name!r}")


def seam(
    field: RadianceField,
    origins: Float[Tensor, "rays 3"],
    directions: Float[Tensor, "rays 3"],
    accumulation: Float[Tensor, "rays 1"],
    depth: Float[Tensor, "rays 1"],
    step: float,
) -> Float[Tensor, "rays 1"]:
    """Jump of colour times opacity of a step across the cell borders beside the surface that a ray hits.

    The largest of the three axes; 0 farther than `SEAM_REACH` from a border, and where the other side has no row.
    """
    jump, frame = torch.zeros_like(depth), field.frame
    place = frame.to_places(origins + directions * depth)
    for axis in range(3):
        away = (place[:, axis] - place[:, axis].round()).abs()
        near = ((accumulation[:, 0] > SOLID) & (away < SEAM_REACH)).nonzero()[:, 0]
        sides, owned = [], torch.ones(len(near), dtype=torch.bool, device=depth.device)
        for shift in (-1e-3, 1e-3):
            moved = place[near]
            moved[:, axis] = moved[:, axis].round() + shift
            unit = frame.places_to_unit(moved)
            sides.append(look(field, frame.from_unit(unit), directions[near], step))
            owned &= field.rows_of_unit(unit) >= 0
        found = (sides[0] - sides[1]).abs().amax(1) * owned
        jump[near, 0] = torch.maximum(jump[near, 0], found)
    return jump


def distinct_colors(cells: Integer[Tensor, "*batch"]) -> Float[Tensor, "*batch 3"]:
    """Colours of cell numbers, in [0.15, 1]: one of its own for each, far from its neighbours'."""
    x = cells.long()[..., None] * torch.tensor([2654435761, 2246822519, 3266489917], device=cells.device)
    x = (x ^ (x >> 15)) * 2246822519 & 0xFFFFFFFF
    return 0.15 + 0.85 * ((x ^ (x >> 13)) & 255).float() / 255.0
