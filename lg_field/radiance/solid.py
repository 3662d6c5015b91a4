"""Which voxels hold something solid, and not only haze: pieces that haze alone connects are told apart by these."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lg_field.radiance.components import Pieces, scene_boxes
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
    return shown.clone() if opacity <= 0.0 else shown & (voxel_opacity(field, shown) >= opacity)


def voxel_opacity(field: RadianceField, shown: Bool[Tensor, "nx ny nz"]) -> Float[Tensor, "nx ny nz"]:
    """What a way as long as a side of a voxel absorbs, at the densest of eight points of it.

    Args:
        field: the field; says the density.
        shown: the voxels that are looked at, by their index on its lattice.

    Returns:
        float64 part of the light, 0..1; 0 of other voxels.
    """
    found = torch.zeros(shown.shape, dtype=torch.float64)
    index = shown.nonzero()
    found[tuple(index.unbind(1))] = eighths_opacity(field, index).amax(1)
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
    near = torch.nn.functional.max_pool3d(own[None, None].float(), 3, stride=1, padding=1)[0, 0] > 0
    return own | (near & shown & (pieces.labels == 0))
