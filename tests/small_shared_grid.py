"""A scene that needs no training and whose shared part has a grid, and what it says."""

from __future__ import annotations

import torch

from lg_field import PartitionGrid
from lg_field.radiance.field import RadianceField, RadianceSizes
from lg_field.table.cell_table import CellTable

TABLE = "hash_table"
"""The grid's name."""


def make(seed: int = 0, contraction: bool = False, filled: float = 0.2, **sizes) -> RadianceField:
    """27 cells of 64 voxels, some of them occupied; a dense level and two hashed ones, whose nodes' borders are voxels'
    borders here and there."""
    torch.manual_seed(seed)
    shape = {"local_width": 4, "global_width": 8, "grid_nodes": 3, "occupancy_voxels": 4, "hash_levels": 3}
    shape |= {"hash_base_res": 7, "log2_hashmap_size": 10, "density_bias": 0.0, "contraction": contraction, **sizes}
    reach = 2.0 if contraction else 1.3
    field = RadianceField(PartitionGrid((3, 3, 3), (-reach, -1.0, -1.0), (reach, 1.0, 1.1)), RadianceSizes(**shape))
    if contraction:
        field = RadianceField(PartitionGrid((3, 3, 3), (-2.0,) * 3, (2.0,) * 3), RadianceSizes(**shape))
    with torch.no_grad():
        field.hash_table.normal_()
        field.local.normal_()
    field.occupancy.restore_(torch.rand_like(field.occupied, dtype=torch.float32) < filled)
    return field.eval()


def occupied_points(field: RadianceField, count: int = 3000) -> torch.Tensor:
    """Points of occupied voxels, many of them on the voxels' borders."""
    places = torch.rand(count, 3) * torch.tensor(field.grid.counts)
    r = field.sizes.occupancy_voxels
    places[::2] = (places[::2] * r).round() / r
    points = field.frame.from_places(places)
    return points[field.is_occupied(points) & (field.rows_of_unit(field.frame.to_unit(points)) >= 0)]


def said(field: RadianceField, points: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        density, features = field(points)
    return torch.cat([density[:, None], features], dim=1)


def entries(field: RadianceField) -> int:
    return len(field.hash_table)


def same(a: CellTable, b: CellTable) -> bool:
    left, right = a.state_dict(), b.state_dict()
    keys = left.keys() - {"_extra_state"}
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in keys)
