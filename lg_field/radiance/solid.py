"""Which voxels hold something solid, and not only haze: pieces that haze alone connects are told apart by these."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lg_field.radiance.components import Pieces, index_by_axis, lattice_of, mask_of, scene_boxes
from lg_field.radiance.field import RadianceField

VOXELS = 1 << 15
"""Voxels looked at at a time."""


def solid_voxels(field: RadianceField, shown: Bool[Tensor, "nx ny nz"], opacity: float) -> Bool[Tensor, "nx ny nz"]:
    """Those of some voxels in which a way as long as a side absorbs at least so much, at one of eight points.

    Args:
        field: the field; says the density.
        shown: the voxels, by their index on its lattice.
        opacity: part of the light, 0..1; 0 = all of them.
    """
    if opacity <= 0.0:
        return shown.clone()
    numbers = shown.reshape(-1).nonzero()[:, 0]
    return mask_of(numbers[densest(field, numbers) >= opacity], shown.shape)


def voxel_opacity(field: RadianceField, shown: Bool[Tensor, "nx ny nz"]) -> Float[Tensor, "nx ny nz"]:
    """What a way as long as a side of a voxel absorbs, at the densest of eight points of it.

    Args:
        field: the field; says the density.
        shown: the voxels that are looked at, by their index on its lattice.

    Returns:
        float64 part of the light, 0..1; 0 of other voxels.
    """
    found = torch.zeros(shown.shape, dtype=torch.float64)
    numbers = shown.reshape(-1).nonzero()[:, 0]
    found.view(-1)[numbers] = densest(field, numbers)
    return found


def densest(field: RadianceField, numbers: Int64[Tensor, " n"]) -> Float[Tensor, " n"]:
    """`voxel_opacity` of some voxels alone, by their numbers on the lattice."""
    counts, found = lattice_of(field.occupancy).counts, torch.zeros(len(numbers), dtype=torch.float64)
    for some in torch.arange(len(numbers)).split(VOXELS):
        found[some] = eighths_opacity(field, index_by_axis(numbers[some], counts)).amax(1)
    return found


def eighths() -> Float[Tensor, "8 3"]:
    """Where in a voxel the eight points are at which it is asked, of [0, 1]^3: the middles of its eighths, float64."""
    return torch.cartesian_prod(*[torch.tensor([0.25, 0.75], dtype=torch.float64)] * 3)


@torch.no_grad()
def eighths_opacity(field: RadianceField, index: Int64[Tensor, "n 3"]) -> Float[Tensor, "n 8"]:
    """What a way as long as a side of a voxel absorbs at each of its eight points, float64 part of the light, 0..1.

    Args:
        field: the field; says the density.
        index: of the voxels, on its lattice.
    """
    found = torch.zeros(len(index), 8, dtype=torch.float64)
    for some in torch.arange(len(index)).split(VOXELS):
        boxes = scene_boxes(field.occupancy, index[some])
        places = (index[some, None] + eighths()).flatten(0, 1) / field.occupancy.per_axis
        points = field.frame.from_places(places).float().to(field.cells.device)
        density = field.density(points).view(-1, 8).double().cpu()
        found[some] = -torch.expm1(-density * (boxes[:, 1] - boxes[:, 0]).amin(-1, keepdim=True))
    return found


def with_skin(pieces: Pieces, numbers: list[int], shown: Bool[Tensor, "nx ny nz"]) -> Bool[Tensor, "nx ny nz"]:
    """Some pieces of solid voxels, with the others that are shown next to them, unless those are of other pieces.

    Args:
        pieces: of the solid voxels.
        numbers: which, counted from 1.
        shown: all voxels, solid or not.
    """
    own = pieces.voxels(numbers)
    index = torch.cat([pieces.index(number) for number in numbers])
    if not len(index):
        return own
    low, high = (index.amin(0) - 1).clamp_min(0).tolist(), (index.amax(0) + 2).tolist()
    box = tuple(slice(a, b) for a, b in zip(low, high))
    near = torch.zeros_like(own)
    near[box] = widened(own[box]) & shown[box]
    near.view(-1)[pieces.numbers] = False
    return own | near


def widened(voxels: Bool[Tensor, "nx ny nz"]) -> Bool[Tensor, "nx ny nz"]:
    """Some voxels and those that share a face, an edge or a corner with one."""
    for axis in range(3):
        wide, count = voxels.clone(), voxels.shape[axis] - 1
        wide.narrow(axis, 1, count).logical_or_(voxels.narrow(axis, 0, count))
        wide.narrow(axis, 0, count).logical_or_(voxels.narrow(axis, 1, count))
        voxels = wide
    return voxels
