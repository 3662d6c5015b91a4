"""Booleans as bits: how tensors lie in a file."""

from __future__ import annotations

import torch
from jaxtyping import Bool, UInt8
from torch import Tensor


def stored_shape(template: Tensor) -> tuple[int, ...]:
    """Shape in the file: booleans are packed into bits along the last axis."""
    if template.dtype != torch.bool:
        return tuple(template.shape)
    return (*template.shape[:-1], -(-template.shape[-1] // 8))


def stored_dtype(template: Tensor) -> torch.dtype:
    """Type in the file of a tensor saved as it is."""
    return torch.uint8 if template.dtype == torch.bool else template.dtype


def pack_bits(values: Bool[Tensor, "*rows n"]) -> UInt8[Tensor, "*rows bytes"]:
    """(..., n) bool -> (..., ceil(n / 8)) uint8, first value in the highest bit."""
    padded = torch.nn.functional.pad(values.to(torch.uint8), (0, -values.shape[-1] % 8))
    weights = torch.tensor([128, 64, 32, 16, 8, 4, 2, 1], dtype=torch.uint8, device=values.device)
    return (padded.unflatten(-1, (-1, 8)) * weights).sum(-1, dtype=torch.uint8)


def unpack_bits(packed: UInt8[Tensor, "*rows bytes"], template: Tensor) -> Bool[Tensor, "*rows n"]:
    """Inverse of `pack_bits`; the last axis is as long as the template's."""
    shifts = torch.arange(7, -1, -1, dtype=torch.uint8, device=packed.device)
    bits = (packed[..., None] >> shifts) & 1
    return bits.flatten(-2)[..., : template.shape[-1]].bool()
