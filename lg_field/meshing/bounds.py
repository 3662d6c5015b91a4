"""Which box to mesh: around what a field holds, cut to the region that a crop kept."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lg_field.space.regions import (
    Box,
    Complement,
    Intersection,
    OrientedBox,
    Region,
    Scaled,
    Sphere,
    Union,
)


def region_bounds(region: Region | None, dim: int = 3) -> Float[Tensor, "2 dim"]:
    """The smallest axis-aligned box that surely holds a region, in the region's units.

    Args:
        region: any; None for all of space.
        dim: axes of the space.

    Returns:
        (2, dim) float64 lower and upper corner, infinite where the region has no end: what a removed box leaves is not
        bounded by that box. Of an intersection without a point the lower corner may lie above the upper one.
    """
    everywhere = torch.tensor([[-torch.inf] * dim, [torch.inf] * dim], dtype=torch.float64)
    if isinstance(region, Box):
        return torch.tensor([region.lower, region.upper], dtype=torch.float64)
    if isinstance(region, Sphere):
        center = torch.tensor(region.center, dtype=torch.float64)
        return torch.stack([center - region.radius, center + region.radius])
    if isinstance(region, OrientedBox):
        center = torch.tensor(region.center, dtype=torch.float64)
        reach = torch.tensor(region.rotation, dtype=torch.float64).abs() @ torch.tensor(region.size).double() / 2
        return torch.stack([center - reach, center + reach])
    if isinstance(region, Scaled):
        inner, scale, offset = region_bounds(region.part, dim), region.scale, region.offset
        return (inner - inner.new_tensor(offset)) / inner.new_tensor(scale)
    if isinstance(region, (Union, Intersection)):
        parts = torch.stack([region_bounds(part, dim) for part in region.parts])
        low, high = parts[:, 0], parts[:, 1]
        if isinstance(region, Union):
            return torch.stack([low.amin(0), high.amax(0)])
        return torch.stack([low.amax(0), high.amin(0)])
    if isinstance(region, Complement) and isinstance(region.part, Complement):
        return region_bounds(region.part.part, dim)
    return everywhere


def hull(boxes: Float[Tensor, "n 2 dim"]) -> Float[Tensor, "2 dim"]:
    """The smallest box around n >= 1 boxes."""
    return torch.stack([boxes[:, 0].amin(0), boxes[:, 1].amax(0)])


def common(first: Float[Tensor, "*n 2 dim"], second: Float[Tensor, "2 dim"]) -> Float[Tensor, "*n 2 dim"]:
    """What boxes have in common with another; the lower corner is not below the upper one where that is nothing."""
    return torch.stack([torch.maximum(first[..., 0, :], second[0]), torch.minimum(first[..., 1, :], second[1])], dim=-2)
