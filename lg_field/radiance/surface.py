"""A mesh of a radiance field: marching cubes of the density, only inside occupied kept cells, with vertex colours."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lg_field.meshing.bounds import common, hull, region_bounds
from lg_field.meshing.mesh import EmptyMeshError, Mesh, color_vertices, marching_cubes, touching
from lg_field.radiance.composition import Part, parts_of
from lg_field.radiance.field import RadianceField
from lg_field.radiance.fused import fused_colors, fused_density
from lg_field.radiance.threshold import default_threshold, diagonal, points_at_once
from lg_field.radiance.volume import Volume

REACHES = (1.0, 20.0, math.inf)
"""Half sides of the cubes within which unbounded scenes are meshed: the uncontracted one, one that holds a
neighbourhood, everything."""
VOXELS = 1 << 20
"""Voxels looked at at a time."""
WHOLE = 2.0
"""Half side of the cube of an unbounded scene within which all is meshed whole if there is nothing outside."""
GRAZING = 0.4
"""Cosine between a surface's normal and the way to a viewpoint from which on that is wholly in front."""
DEEP = 0.01
"""How far below a surface its colour is looked for, in diagonals of the scene box, and"""
STEPS = 6
"""at how many points."""


class MeshBounds(NamedTuple):
    """Which part of a scene is meshed where nothing else is asked for."""

    box: Tensor
    """(2, 3) float64 scene-space corners."""
    left_out: float
    """Share of the occupied voxels of the kept region that lie outside, wholly or in part."""


def mesh_bounds(field: Volume) -> MeshBounds:
    """The box around all occupied voxels that the field's exact region touches, at most as large as that region.

    Unbounded scenes reach too far to be meshed whole. Where their region has no end and they reach beyond `WHOLE`, the
    smallest cube of `REACHES` that holds something bounds the box, too.

    Raises:
        EmptyMeshError: no voxel is occupied there.
    """
    limits, parts = region_bounds(field.region), parts_of(field)
    unbounded = any(part.field.sizes.contraction for part in parts)
    open_ended = unbounded and not bool(limits.isfinite().all())
    found = [_Content(reach) for reach in (REACHES if open_ended else (math.inf,))]
    for boxes in itertools.chain.from_iterable(map(_shown_boxes, parts)):
        if field.region is not None:
            boxes = boxes[field.region.touches(boxes)]
        for content in found:
            content.add(boxes)
    everything = found[-1].box
    if everything is not None and bool((everything.abs() <= WHOLE).all()):
        found = found[-1:]
    nearest = next((c for c in found if c.box is not None), None)
    if nearest is None or nearest.box is None:
        raise EmptyMeshError("the scene holds nothing there: no voxel is occupied")
    box = common(nearest.box, limits)
    if not bool((box[0] < box[1]).all()):
        raise EmptyMeshError("the scene holds nothing there: no occupied voxel lies in the region")
    return MeshBounds(box, 1.0 - nearest.whole / found[-1].whole)


def _shown_boxes(part: Part) -> Iterator[Tensor]:
    """The occupied voxels of a part that its exact region touches, as boxes around where they stand."""
    for boxes in occupied_boxes(part.field):
        if part.field.region is not None:
            boxes = boxes[part.field.region.touches(boxes)]
        yield part.outward.boxes(boxes)


class _Content:
    """Occupied voxels within a cube around the origin."""

    def __init__(self, reach: float) -> None:
        self.cube = torch.tensor([[-reach] * 3, [reach] * 3], dtype=torch.float64)
        self.whole = 0
        self.box: Tensor | None = None

    def add(self, boxes: Tensor) -> None:
        """Count (n, 2, 3) voxels that lie in the cube, and grow the box around all that it has of them."""
        self.whole += int((boxes.abs() <= self.cube[1] + 1e-6).all(2).all(1).sum())
        inner = common(boxes, self.cube)
        inner = inner[(inner[:, 1] - inner[:, 0] > 1e-6).all(1)]  # more than rounding
        if len(inner):
            self.box = hull(inner if self.box is None else torch.cat([inner, self.box[None]]))


def occupied_boxes(field: RadianceField) -> Iterator[Tensor]:
    """The occupied voxels of kept cells as (n, 2, 3) float64 scene-space boxes, some at a time. Voxels of contracted
    space are curved: these are boxes around them."""
    r, grid = field.sizes.occupancy_voxels, field.grid
    size = torch.tensor(grid.cell_size, dtype=torch.float64) / r
    for rows in torch.arange(field.num_rows).split(max(1, VOXELS // r**3)):
        row, voxel = field.occupied[rows.to(field.occupied.device)].cpu().nonzero().unbind(1)
        inner = torch.stack([voxel // (r * r), voxel // r % r, voxel % r], dim=-1)
        place = grid.unravel(field.cells.cpu()[rows][row]) * r + inner
        lower = torch.tensor(grid.lower, dtype=torch.float64) + place * size
        boxes = torch.stack([lower, lower + size], dim=1)
        yield boxes if field.unwarp_boxes is None else field.unwarp_boxes(boxes)


def radiance_mesh(
    field: Volume,
    resolution: int,
    threshold: float | None = None,
    bounds: Float[Tensor, "2 3"] | None = None,
    colors: bool = True,
    block: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> Mesh:
    """Mesh the surface of a density.

    Args:
        field: trained field; what a crop removed, be it cells or the outside of its exact region, is empty, so the
            cut is closed.
        resolution: voxels along the longest side of `bounds`.
        threshold: density of the surface, per scene unit; None = `default_threshold`.
        bounds: (2, 3) scene-space box; None = `mesh_bounds`.
        colors: ask the field for vertex colours: `surface_colors` of `lit_points`.
        block: voxels per block and axis; bounds memory, as the field's `memory` does.
        progress: called with blocks done and blocks in all.

    Returns:
        Mesh in scene space.

    Raises:
        EmptyMeshError: no density reaches the threshold.
    """
    device = field.cells.device
    lower, upper = mesh_bounds(field).box if bounds is None else bounds

    def active(boxes: Tensor) -> Tensor:
        return blocks_with_rows(field, boxes)

    places = getattr(field.description, "viewpoints", ())

    def seen(points: Tensor, inward: Tensor) -> Tensor:
        inward = inward.to(device)
        lit = lit_points(field, points.to(device), inward)
        return surface_colors(field, lit, inward, points.new_tensor(places).view(-1, 3)).cpu()

    most = points_at_once(field)
    mesh = marching_cubes(
        lambda points: held_density(field, points.to(device)).cpu(),
        tuple(lower.tolist()),
        tuple(upper.tolist()),
        resolution,
        default_threshold(field) if threshold is None else threshold,
        active=active,
        mask=lambda points: field.is_occupied(points.to(device)).cpu(),
        zero_outside=True,
        block=block,
        max_points=most,
        progress=progress,
    )
    return color_vertices(mesh, seen, most) if colors else mesh


def surface_colors(
    field: Volume,
    points: Float[Tensor, "points 3"],
    inward: Float[Tensor, "points 3"],
    viewpoints: Float[Tensor, "places axes"],
) -> Float[Tensor, "points 3"]:
    """Colours of surface points: the mean over the viewpoints in front of the surface, over all where none is;
    in between, where viewpoints only graze it, in between.

    What no camera saw is not known: colours straight from above may be of a direction that none looked along.

    Args:
        field: trained field.
        points: scene units.
        inward: unit directions from straight above the surface.
        viewpoints: (n, 3) places of cameras; none: seen from straight above.
    """
    features = field(points)[1]  # type: ignore[operator]
    if not viewpoints.numel():
        return field.rgb(features, inward)
    if isinstance(field, RadianceField) and not field.sizes.color_width:
        fused = fused_colors(field, features, points, inward, viewpoints.to(points), GRAZING)
        if fused is not None:
            return fused
    total, count = torch.zeros_like(points), torch.zeros_like(points[:, :1])
    everywhere = torch.zeros_like(points)
    for place in viewpoints.to(points):
        directions = torch.nn.functional.normalize(points - place, dim=-1)
        color = field.rgb(features, directions)
        front = ((directions * inward).sum(-1, keepdim=True) / GRAZING).clamp(0.0, 1.0)
        total, count, everywhere = total + front * color, count + front, everywhere + color
    known = count.clamp_max(1.0)
    return known * total / count.clamp_min(1e-12) + (1.0 - known) * everywhere / len(viewpoints)


@torch.no_grad()
def held_density(field: Volume, points: Float[Tensor, "points 3"]) -> Float[Tensor, " points"]:
    """Density per scene unit at scene points; 0, without asking the networks, where nothing is occupied."""
    fused = fused_density(field, points, held=True) if isinstance(field, RadianceField) else None
    if fused is not None:
        return fused
    held = field.is_occupied(points)
    density = points.new_zeros(len(points))
    density[held] = field.density(points[held])
    return density


@torch.no_grad()
def lit_points(
    field: Volume, points: Float[Tensor, "points 3"], inward: Float[Tensor, "points 3"]
) -> Float[Tensor, "points 3"]:
    """For each surface point the one below it at which the light of a ray straight from above stops, on average: the
    surface of a threshold lies in the haze before what is seen.

    Args:
        field: trained field.
        points: scene units.
        inward: unit directions from straight above the surface.
    """
    step = DEEP * diagonal(field) / STEPS
    through = torch.ones_like(points[:, :1])
    depth, total = torch.zeros_like(through), torch.zeros_like(through)
    for k in range(STEPS):
        below = points + (k * step) * inward
        absorbed = -torch.expm1(-held_density(field, below) * step)[:, None]
        depth, total = depth + (k * step) * through * absorbed, total + through * absorbed
        through = through * (1.0 - absorbed)
    return points + inward * (depth / total.clamp_min(1e-12))


def blocks_with_rows(field: Volume, boxes: Float[Tensor, "b 2 3"]) -> Bool[Tensor, " b"]:
    """(B, 2, 3) scene-space boxes -> (B,) bool: False where the box touches no kept cell."""
    kept = []
    for part in parts_of(field):
        cells = part.field.grid.boxes(part.field.cells.cpu())
        cells = cells if part.field.unwarp_boxes is None else part.field.unwarp_boxes(cells)
        kept.append(part.outward.boxes(cells))
    return touching(boxes.double().cpu(), torch.cat(kept))
