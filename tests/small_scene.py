"""A scene that needs no training: opaque cells of many colours."""

from __future__ import annotations

import torch

from lg_field.radiance.field import RadianceField, RadianceSizes
from lg_field.radiance.render import look_along
from lg_field.radiance.scene import Scene
from lg_field.space.partition import PartitionGrid

EYE = (3.0, 0.6, 0.8)
"""Where its camera is; it looks at the origin."""


def small_scene(
    counts: tuple[int, int, int] = (4, 4, 4),
    kept: float = 0.5,
    contraction: bool = False,
    nodes: int = 2,
    hash_levels: int = 0,
) -> RadianceField:
    """A random part of the cells of [-1, 1]^3 (contracted: [-2, 2]^3), dense throughout."""
    torch.manual_seed(0)
    reach = 2.0 if contraction else 1.0
    grid = PartitionGrid(counts, (-reach,) * 3, (reach,) * 3)
    cells = torch.randperm(grid.num_cells)[: round(kept * grid.num_cells)].sort().values
    shape = RadianceSizes(
        grid_nodes=nodes,
        grid_features=2,
        local_width=4,
        global_width=8,
        color_width=8,
        density_bias=4.0,
        contraction=contraction,
        hash_levels=hash_levels,
        log2_hashmap_size=8 if hash_levels else 13,
    )
    field = RadianceField(grid, shape, cells)
    with torch.no_grad():
        field.local.copy_(torch.randn_like(field.local) * 0.5)
        field.color[2].weight.mul_(6.0)
    eye = torch.tensor(EYE, dtype=torch.float64)
    camera = look_along(eye, -eye / eye.norm(), torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))
    world = ((2.0, 0.0, 0.0, 1.0), (0.0, 2.0, 0.0, 0.0), (0.0, 0.0, 2.0, 0.0), (0.0, 0.0, 0.0, 1.0))
    field.description = Scene(world, step=0.05, camera=tuple(map(tuple, camera.tolist())))
    return field.eval()
