"""Weights as small whole numbers: how a file of `int8` holds a tensor, and back.

A row of a tensor is cut into segments, each with a scale of its own: a number is its scale times a whole number of one
byte or, where rounding would show, of two. Sine layers turn an error of their phase into one of the signal, so their
first weights and their biases have two bytes; shared matrices, which every cell reads, have two as well. What a row
holds follows of that row alone, so a crop of a file is the file of a crop.

In the file the high bytes lie under the tensor's own name (I8), scales under `NAME_scale` (F32) and low bytes under
`NAME_fine` (U8); all are read by rows. Tensors without an entry in `layouts` stay float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from lg_field.ops import ChainSizes
from lg_field.table.cell_table import CellTable

SCALE, FINE = "_scale", "_fine"
"""End the names of the tensors that a tensor of whole numbers needs beside it."""
COARSEST, FINEST = 127, 32767
"""Largest whole number of one byte, and of two."""
SCALE_BITS = 16
"""Bits of a scale: few enough that scales found again from rounded values are the same to the bit."""
SMALLEST = 1e-30
"""Numbers in segments without a larger one become zeros."""


class Segment(NamedTuple):
    """Columns of a tensor that share a scale in each row."""

    start: int
    stop: int
    fine: bool
    """Two bytes a number, not one."""

    @property
    def width(self) -> int:
        """Columns."""
        return self.stop - self.start


class Layout(NamedTuple):
    """How a tensor of (rows, columns) is held."""

    segments: tuple[Segment, ...]
    """All columns, in order."""
    by_column: bool = False
    """One scale for each column of all rows, a power of two: for tensors whose lines are kept or dropped one by one."""

    @property
    def num_fine(self) -> int:
        """Columns of two bytes."""
        return sum(segment.width for segment in self.segments if segment.fine)

    def beside(self, shape: tuple[int, ...]) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
        """What a tensor of this shape needs beside it: end of the name -> type and shape."""
        scales = (1, shape[1]) if self.by_column else (shape[0], len(self.segments))
        needed: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {SCALE: (torch.float32, scales)}
        return needed | ({FINE: (torch.uint8, (shape[0], self.num_fine))} if self.num_fine else {})


def layouts(field: CellTable) -> dict[str, Layout]:
    """How a file of `int8` holds each of a field's tensors that it holds as whole numbers.

    Args:
        field: of any kind, also on the meta device.
    """
    chain = next(
        (v for v in (getattr(field, "chain", None), getattr(field, "sizes", None)) if isinstance(v, ChainSizes)), None
    )
    found: dict[str, Layout] = {}
    for name, value in field.state_dict().items():
        if not torch.is_tensor(value) or not value.is_floating_point() or value.dim() != 2 or not value.shape[1]:
            continue
        if name in field.line_names:
            found[name] = Layout((Segment(0, value.shape[1], False),), by_column=True)
        elif name == "local" and chain is not None and chain.row_size == value.shape[1]:
            found[name] = Layout(tuple(row_segments(chain)))
        else:
            found[name] = Layout((Segment(0, value.shape[1], name not in field.row_names),))
    return found


def row_segments(chain: ChainSizes) -> list[Segment]:
    """The weights and biases of each layer of a row."""
    at, found, sensitive = 0, [], chain.rate > 1.0
    for number, (fan_in, fan_out) in enumerate(chain.local_layers()):
        for width, fine in ((fan_in * fan_out, sensitive and number == 0), (fan_out, sensitive)):
            found.append(Segment(at, at + width, fine))
            at += width
    return found


def compact(values: Float[Tensor, "rows columns"], layout: Layout) -> dict[str, Tensor]:
    """Values as whole numbers: end of the name -> tensor, "" for the high bytes.

    Raises:
        ValueError: NaN or infinite values.
    """
    values = values.detach().float().cpu()
    if not bool(values.isfinite().all()):
        raise ValueError("values that are NaN or infinite have no scale")
    if layout.by_column:
        scales = _power_of_two(
            values.abs().amax(0, keepdim=True) if len(values) else values.new_zeros(1, values.shape[1])
        )
        return {"": _whole(values, scales, COARSEST).to(torch.int8), SCALE: scales}
    high, low, scale = [], [], []
    for start, stop, fine in layout.segments:
        some, most = values[:, start:stop], FINEST if fine else COARSEST
        scale.append(_few_bits(some.abs().amax(1, keepdim=True).double() / most))
        whole = _whole(some, scale[-1], most)
        high.append(whole >> 8 if fine else whole)
        low += [whole & 255] if fine else []
    parts = {"": torch.cat(high, dim=1).to(torch.int8), SCALE: torch.cat(scale, dim=1)}
    return parts | ({FINE: torch.cat(low, dim=1).to(torch.uint8)} if low else {})


def restore(parts: Mapping[str, Tensor], layout: Layout) -> Float[Tensor, "rows columns"]:
    """The float32 values of whole numbers, as `compact` gives them.

    Raises:
        ValueError: scales that are not finite, or negative.
    """
    scales, at, found = parts[SCALE], 0, []
    if not bool(((scales >= 0) & scales.isfinite()).all()):
        raise ValueError("scales must be finite and not negative")
    if layout.by_column:
        return _finite(parts[""].float() * scales)
    for number, (start, stop, fine) in enumerate(layout.segments):
        whole = parts[""][:, start:stop].to(torch.int32)
        if fine:
            whole = (whole << 8) | parts[FINE][:, at : at + stop - start].to(torch.int32)
            at += stop - start
        found.append((whole.double() * scales[:, number, None].double()).float())
    return _finite(torch.cat(found, dim=1))


def _finite(values: Tensor) -> Tensor:
    if not bool(values.isfinite().all()):
        raise ValueError("scales are so large that values are infinite")
    return values


def _whole(values: Tensor, scales: Tensor, most: int) -> Tensor:
    """(rows, columns) int32 nearest whole multiples of the scales."""
    scales = scales.double()
    divided = torch.where(scales > 0, values.double() / scales.clamp_min(1e-300), 0.0)
    return divided.round().clamp(-most, most).to(torch.int32)


def _few_bits(scales: Tensor) -> Tensor:
    """float32 scales of `SCALE_BITS` bits; zeros where they are next to nothing."""
    mantissa, exponent = torch.frexp(scales)
    rounded = torch.ldexp((mantissa * 2.0**SCALE_BITS).round() / 2.0**SCALE_BITS, exponent)
    return torch.where(scales > SMALLEST, rounded, 0.0).float()


def _power_of_two(largest: Tensor) -> Tensor:
    """The least powers of two of which `COARSEST` reach these numbers; zeros where they are next to nothing."""
    mantissa, exponent = torch.frexp(largest.double() / COARSEST)
    powers = torch.ldexp(torch.ones_like(mantissa), exponent - (mantissa == 0.5).to(exponent.dtype))
    return torch.where(largest > SMALLEST, powers, 0.0).float()
