"""A mesh of a radiance field: marching cubes of the density, only inside occupied kept cells, with vertex colours."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lg_field.meshing.mesh import Mesh, color_vertices, marching_cubes, touching
from lg_field.meshing.tools import otsu
from lg_field.radiance.field import RadianceField


def default_threshold(field: RadianceField) -> float:
    """The density that absorbs half of the light over a hundredth of the scene box's diagonal."""
    diagonal = math.dist(field.grid.lower, field.grid.upper)
    return math.log(2.0) / (0.01 * diagonal)


@torch.no_grad()
def automatic_threshold(field: RadianceField, bounds: Float[Tensor, "2 3"], nodes: int = 64) -> float:
    """The density that best parts empty from solid (Otsu) within a box.

    Densities range over decades, so it is their opacity over a hundredth of the scene box's diagonal that is parted.

    Args:
        field: trained field.
        bounds: (2, 3) scene-space box.
        nodes: samples per axis.

    Returns:
        A density; `default_threshold` where nothing can be parted.
    """
    length = 0.01 * math.dist(field.grid.lower, field.grid.upper)
    steps = (torch.arange(nodes) + 0.5) / nodes
    unit = torch.stack(torch.meshgrid(steps, steps, steps, indexing="ij"), dim=-1).view(-1, 3)
    points = (bounds[0].cpu() + unit * (bounds[1] - bounds[0]).cpu()).to(field.cells.device)
    points = points[field.is_occupied(points)]
    parts = [1.0 - torch.exp(-field.density(part) * length) for part in points.split(2**18)]
    try:
        opacity = otsu(torch.cat(parts).cpu().numpy()) if parts else 0.0
    except ValueError:
        return default_threshold(field)
    return -math.log1p(-opacity) / length if 0.0 < opacity < 1.0 else default_threshold(field)


def mesh_bounds(field: RadianceField) -> Float[Tensor, "2 3"]:
    """Box to mesh by default, scene units: `OccupancyGrid.near_bounds`."""
    return field.occupancy.near_bounds().cpu()


def radiance_mesh(
    field: RadianceField,
    resolution: int,
    threshold: float | None = None,
    bounds: Float[Tensor, "2 3"] | None = None,
    colors: bool = True,
    block: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> Mesh:
    """Mesh the surface of a density.

    Args:
        field: trained field; what a crop removed is empty, so the cut is closed.
        resolution: voxels along the longest side of `bounds`.
        threshold: density of the surface, per scene unit; None = `default_threshold`.
        bounds: (2, 3) scene-space box; None = `mesh_bounds`.
        colors: ask the field for vertex colours, seen from outside.
        block: voxels per block and axis; bounds memory.
        progress: called with blocks done and blocks in all.

    Returns:
        Mesh in scene space.

    Raises:
        EmptyMeshError: no density reaches the threshold.
    """
    device = field.cells.device
    lower, upper = mesh_bounds(field) if bounds is None else bounds

    def active(boxes: Tensor) -> Tensor:
        return blocks_with_rows(field, boxes)

    def seen(points: Tensor, directions: Tensor) -> Tensor:
        features = field(points.to(device))[1]
        return field.rgb(features, directions.to(device)).cpu()

    mesh = marching_cubes(
        lambda points: field.density(points.to(device)).cpu(),
        tuple(lower.tolist()),
        tuple(upper.tolist()),
        resolution,
        default_threshold(field) if threshold is None else threshold,
        active=active,
        mask=lambda points: field.is_occupied(points.to(device)).cpu(),
        block=block,
        progress=progress,
    )
    return color_vertices(mesh, seen) if colors else mesh


def blocks_with_rows(field: RadianceField, boxes: Float[Tensor, "boxes 2 3"]) -> Bool[Tensor, " boxes"]:
    """(B, 2, 3) scene-space boxes -> (B,) bool: False where the box touches no kept cell."""
    kept = field.grid.boxes(field.cells.cpu())
    if field.unwarp_boxes is not None:
        kept = field.unwarp_boxes(kept)
    return touching(boxes.double().cpu(), kept)
