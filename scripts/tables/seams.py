"""What is seen of a shape's cell borders: jumps of occupancy across them, and how normals turn near them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from lg_field.meshing.metrics import nearest
from lg_field.networks import LocalGlobalNetwork
from lg_field.signals.shapes.occupancy import OccupancyData


def seams(field: LocalGlobalNetwork, data: OccupancyData, mesh: Any) -> dict[str, float]:
    """Mean jump of occupancy over half a voxel near the surface, across cell borders and inside cells; and how far
    normals of the mesh turn from the source's, within a voxel of a border and elsewhere (mean degrees)."""
    assert data.source is not None
    jump_across, jump_inside = jumps(field, data)
    _, cosine, places = nearest(mesh.vertices, mesh.faces, data.source.vertices, data.source.faces, 200_000)
    angle = np.degrees(np.arccos(cosine.clip(0, 1)))
    voxel = (places - np.asarray(data.signal.origin)) / data.signal.spacing
    size = np.asarray(data.signal.shape) / np.asarray(field.grid.counts)
    near = (np.abs(voxel / size - np.round(voxel / size)) * size < 1.0).any(1)
    return {
        "jump_across": jump_across,
        "jump_inside": jump_inside,
        "angle_border": float(angle[near].mean()) if near.any() else 0.0,
        "angle_elsewhere": float(angle[~near].mean()),
    }


@torch.no_grad()
def jumps(field: LocalGlobalNetwork, data: OccupancyData, distance: float = 0.5) -> tuple[float, float]:
    """Mean |difference| of occupancy between two points `distance` voxels apart along an axis, at surface voxels: on
    either side of the border between two cells with rows, and in one cell."""
    generator = torch.Generator().manual_seed(0)
    surface = data.voxels.surface()
    picked = surface[torch.randint(len(surface), (200_000,), generator=generator)]
    voxel = torch.stack(torch.unravel_index(picked, data.signal.shape), dim=-1).double() + 0.5
    size = torch.tensor(data.signal.shape, dtype=torch.float64) / torch.tensor(field.grid.counts)
    across, inside = [], []
    for axis in range(3):
        border = torch.round(voxel[:, axis] / size[axis]) * size[axis]
        close = (voxel[:, axis] - border).abs() <= 1.0
        moved = voxel[close].clone()
        moved[:, axis] = border[close]
        for middle, found, same in ((moved, across, False), (voxel, inside, True)):
            ends = [middle.clone(), middle.clone()]
            for end, sign in zip(ends, (-0.5, 0.5)):
                end[:, axis] += sign * distance
            x = [(e / torch.tensor(data.signal.shape) * 2 - 1).float().to(field.cells.device) for e in ends]
            rows = [field.locate_rows(p) for p in x]
            right = (rows[0] >= 0) & (rows[1] >= 0) & ((rows[0] == rows[1]) == same)
            values = [(field(p[right], chunk=1 << 14) * 0.5 + 0.5).clamp(0, 1) for p in x]
            found.append((values[0] - values[1]).abs().flatten())
    return tuple(float(torch.cat(d).mean()) if sum(map(len, d)) else 0.0 for d in (across, inside))  # type: ignore
