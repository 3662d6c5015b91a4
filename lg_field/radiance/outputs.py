"""What rays can show, by name: colour, opacity, depth, which cell, how dense, how large the jump at a border."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from lg_field.radiance.cameras import Camera
from lg_field.radiance.compositing import accumulate, render_weights
from lg_field.radiance.composition import Part, parts_of
from lg_field.radiance.render import Asked, Picture, ask_view, in_pieces, picture, show
from lg_field.radiance.scene import Scene
from lg_field.radiance.seams import SOLID, look
from lg_field.radiance.stopping import PICTURES
from lg_field.radiance.volume import Volume

OUTPUTS = ("rgb", "accumulation", "depth", "cells", "density", "seam")
EXTRAS = OUTPUTS[3:]
"""Those that a picture does not have."""
WHOLE = ("density",)
"""Those that need rays asked to their end, not only as far as anything can be seen."""
GROUP = 15485863
"""Numbers of cells of different scenes lie so far apart, as colours tell them."""
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


def render_output(
    field: Volume, scene: Scene, camera: Camera, name: str, least_light: float = PICTURES
) -> Float[Tensor, "height width channels"]:
    """One of `OUTPUTS` as a camera sees it, on the CPU, a piece at a time as `render.render` does.

    Args:
        field: the field.
        scene: its description.
        camera: from where.
        name: which.
        least_light: rays may end where less than this part of the light gets through, unless the output needs them
            whole.

    Raises:
        ValueError: no output of this name.
    """

    def look(origins: Tensor, directions: Tensor) -> tuple[Tensor]:
        asked = ask_view(field, scene, origins, directions, min(least_light, least_light_of(name)))
        return (ray_output(asked, scene, name)[0],)

    return in_pieces(field, scene, camera, look)[0]


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
    count = len(asked.origins)
    if name == "cells":
        weights = render_weights(asked.density, asked.samples, count)
        return accumulate(weights, cell_colors(asked), asked.samples, count).clamp(0.0, 1.0)
    if name == "density":
        largest = asked.density.new_zeros(count).scatter_reduce(0, asked.samples.rays, asked.density, "amax")
        return -torch.expm1(-largest * step)[:, None]
    if name == "seam":
        surface = Surface(asked.origins, asked.directions, seen.accumulation, seen.depth)
        return torch.stack([seam(some, surface, step) for some in same_cells(parts_of(asked.field))]).amax(0)
    raise ValueError(f"output must be one of {', '.join(OUTPUTS)}, got {name!r}")


def same_cells(parts: Sequence[Part]) -> list[list[Part]]:
    """Parts by the cells they are made of: those of one scene that stand in one place have them in common."""
    found: dict[object, list[Part]] = {}
    for part in parts:
        found.setdefault((part.place, part.field.frame), []).append(part)
    return list(found.values())


def cell_colors(asked: Asked) -> Float[Tensor, "samples 3"]:
    """Colours of the cells that samples are in, in [0.15, 1]: a cell's own, whatever part of its scene has it; copies
    of a scene in other places have others."""
    parts = parts_of(asked.field)
    owners = torch.zeros_like(asked.samples.rays) if asked.owners is None else asked.owners
    numbers, positions = torch.zeros_like(owners), asked.positions
    of = {part.name: group for group, some in enumerate(same_cells(parts)) for part in some}
    for number, part in enumerate(parts):
        mine = (owners == number).nonzero()[:, 0]
        field = part.field
        rows = field.rows_of_unit(field.frame.to_unit(part.inward.points(positions[mine]))).clamp_min(0)
        numbers[mine] = field.cells[rows] + of[part.name] * GROUP
    return distinct_colors(numbers)


class Surface(NamedTuple):
    """What rays hit."""

    origins: Float[Tensor, "rays 3"]
    directions: Float[Tensor, "rays 3"]
    accumulation: Float[Tensor, "rays 1"]
    depth: Float[Tensor, "rays 1"]


def seam(parts: Sequence[Part], surface: Surface, step: float) -> Float[Tensor, "rays 1"]:
    """Jump of colour times opacity of a step across the cell borders beside the surface that a ray hits.

    The largest of the three axes; 0 farther than `SEAM_REACH` from a border, and where the other side has no row.

    Args:
        parts: which have their cells in common.
        surface: of rays, units in which the parts stand.
        step: length of a marching step in those units.
    """
    first, scale = parts[0], parts[0].place.scale
    jump, frame = torch.zeros_like(surface.depth), first.field.frame
    place = frame.to_places(first.inward.points(surface.origins + surface.directions * surface.depth))
    ahead = first.inward.directions(surface.directions)
    for axis in range(3):
        away = (place[:, axis] - place[:, axis].round()).abs()
        near = ((surface.accumulation[:, 0] > SOLID) & (away < SEAM_REACH)).nonzero()[:, 0]
        sides, owned = [], torch.ones(len(near), dtype=torch.bool, device=jump.device)
        for shift in (-1e-3, 1e-3):
            moved = place[near]
            moved[:, axis] = moved[:, axis].round() + shift
            unit = frame.places_to_unit(moved)
            said = [look(part.field, frame.from_unit(unit), ahead[near], step / scale) for part in parts]
            sides.append(torch.stack(said).sum(0).clamp_max(1.0))
            owned &= torch.stack([part.field.rows_of_unit(unit) >= 0 for part in parts]).any(0)
        found = (sides[0] - sides[1]).abs().amax(1) * owned
        jump[near, 0] = torch.maximum(jump[near, 0], found)
    return jump


def distinct_colors(cells: Integer[Tensor, "*batch"]) -> Float[Tensor, "*batch 3"]:
    """Colours of cell numbers, in [0.15, 1]: one of its own for each, far from its neighbours'."""
    x = cells.long()[..., None] * torch.tensor([2654435761, 2246822519, 3266489917], device=cells.device)
    x = (x ^ (x >> 15)) * 2246822519 & 0xFFFFFFFF
    return 0.15 + 0.85 * ((x ^ (x >> 13)) & 255).float() / 255.0
