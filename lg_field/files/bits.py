"""Booleans as bits: how tensors lie in a file."""

from __future__ import annotations

from jaxtyping import Bool, UInt8

from lg_field.arrays import Tensor, torch
from lg_field.table.outline import BOOL, Form


def stored_form(form: Form) -> Form:
    """What a tensor saved as it is looks like in a file: booleans are packed into bits along the last axis."""
    return Form("uint8", (*form.shape[:-1], -(-form.shape[-1] // 8))) if form.dtype == BOOL else form


def stored_shape(template: Tensor) -> tuple[int, ...]:
    """Shape of a tensor in a file."""
    return stored_form(Form(type_name(template), tuple(template.shape))).shape


def stored_dtype(template: Tensor) -> torch.dtype:
    """Type in a file of a tensor saved as it is."""
    found: torch.dtype = getattr(torch, stored_form(Form(type_name(template), (1,))).dtype)
    return found


def type_name(tensor: Tensor) -> str:
    """What a tensor's type is called."""
    return str(tensor.dtype).removeprefix("torch.")


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
