"""Which box to mesh: around what a field holds, cut to the region that a crop kept."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lg_field.space.regions import Region


def region_bounds(region: Region | None, dim: int = 3) -> Float[Tensor, "2 dim"]:
    """The smallest axis-aligned box that surely holds a region, in the region's units.

    Args:
        region: any; None for all of space.
        dim: axes of the space.

    Returns:
        (2, dim) float64 lower and upper corner, infinite where the region has no end: what a removed box leaves is not
        bounded by that box. Of an intersection without a point the lower corner may lie above the upper one.
    """
    if region is not None:
        return region.bounds()
    return torch.tensor([[-torch.inf] * dim, [torch.inf] * dim], dtype=torch.float64)


def hull(boxes: Float[Tensor, "n 2 dim"]) -> Float[Tensor, "2 dim"]:
    """The smallest box around n >= 1 boxes."""
    return torch.stack([boxes[:, 0].amin(0), boxes[:, 1].amax(0)])


def common(first: Float[Tensor, "*n 2 dim"], second: Float[Tensor, "2 dim"]) -> Float[Tensor, "*n 2 dim"]:
    """What boxes have in common with another; the lower corner is not below the upper one where that is nothing."""
    return torch.stack([torch.maximum(first[..., 0, :], second[0]), torch.minimum(first[..., 1, :], second[1])], dim=-2)
