"""Weights as small whole numbers: how a file of `int8` holds a tensor, and back.

A row of a tensor is cut into segments, each with a scale of its own: a number is its scale times a whole number of one
byte, with more bits where rounding would show. Sine layers turn an error of their phase into one of the signal: there
hidden weights have 12 bits, biases 16, and what meets the coordinates 24. Matrices that every cell reads have 16, or 24
beside sine layers. What a row holds follows of that row alone, so a crop of a file is the file of a crop.

In the file the first bytes lie under the tensor's own name (I8), scales under `NAME_scale` (F32) and the other bits
under `NAME_fine` (U8); all are read by rows. Tensors without an entry in `layouts` stay float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from jaxtyping import Float

from lg_field.arrays import Tensor, torch

if TYPE_CHECKING:
    from lg_field.ops import ChainSizes
    from lg_field.table.cell_table import CellTable

SCALE, FINE = "_scale", "_fine"
"""End the names of the tensors that a tensor of whole numbers needs beside it."""
SCALE_BITS = 16
"""Bits of a scale: few enough that scales found again from rounded values are the same to the bit."""
SMALLEST = 1e-30
"""Numbers in segments without a larger one become zeros."""


class Segment(NamedTuple):
    """Columns of a tensor that share a scale in each row."""

    start: int
    stop: int
    bits: int = 8
    """Of each number: 8, 12, 16 or 24."""

    @property
    def width(self) -> int:
        """Columns."""
        return self.stop - self.start

    @property
    def most(self) -> int:
        """Largest whole number."""
        return (1 << (self.bits - 1)) - 1

    @property
    def fine_bytes(self) -> int:
        """Bytes of a row beside the first ones."""
        return -(-self.width * (self.bits - 8) // 8)


class Layout(NamedTuple):
    """How a tensor of (rows, columns) is held."""

    segments: tuple[Segment, ...]
    """All columns, in order."""
    by_column: bool = False
    """One scale for each column of all rows, a power of two: for tensors whose lines are kept or dropped one by one."""

    @property
    def fine_bytes(self) -> int:
        """Bytes of a row beside the first ones."""
        return sum(segment.fine_bytes for segment in self.segments)

    def beside(self, shape: tuple[int, ...]) -> dict[str, tuple[str, tuple[int, ...]]]:
        """What a tensor of this shape needs beside it: end of the name -> type by its name, and shape."""
        scales = (1, shape[1]) if self.by_column else (shape[0], len(self.segments))
        needed: dict[str, tuple[str, tuple[int, ...]]] = {SCALE: ("float32", scales)}
        return needed | ({FINE: ("uint8", (shape[0], self.fine_bytes))} if self.fine_bytes else {})


def layouts(field: CellTable) -> dict[str, Layout]:
    """How a file of `int8` holds each of a field's tensors that it holds as whole numbers.

    Args:
        field: of any kind, also on the meta device.
    """
    from lg_field.ops import ChainSizes

    chain = next(
        (v for v in (getattr(field, "chain", None), getattr(field, "sizes", None)) if isinstance(v, ChainSizes)), None
    )
    sensitive, rows = chain is not None and chain.rate > 1.0, {*field.row_names, *field.rows_elsewhere}
    found: dict[str, Layout] = {}
    for name, value in field.state_dict().items():
        if not torch.is_tensor(value) or not value.is_floating_point() or value.dim() != 2 or not value.shape[1]:
            continue
        width = value.shape[1]
        if name in field.line_names:
            found[name] = Layout((Segment(0, width),), by_column=True)
        elif name == "local" and chain is not None and chain.row_size == width:
            found[name] = Layout(tuple(row_segments(chain)))
        else:
            found[name] = Layout((Segment(0, width, 8 if name in rows else 24 if sensitive else 16),))
    return found


def row_segments(chain: ChainSizes) -> list[Segment]:
    """The weights and biases of each layer of a row."""
    at, found, sensitive = 0, [], chain.rate > 1.0
    for number, (fan_in, fan_out) in enumerate(chain.local_layers()):
        bits = (24, 24) if number == 0 else (12, 16)
        for width, wanted in zip((fan_in * fan_out, fan_out), bits):
            found.append(Segment(at, at + width, wanted if sensitive else 8))
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
        (segment,) = layout.segments
        largest = values.abs().amax(0, keepdim=True) if len(values) else values.new_zeros(1, values.shape[1])
        scales = _power_of_two(largest, segment.most)
        return {"": _whole(values, scales, segment.most).to(torch.int8), SCALE: scales}
    first, more, scale = [], [], []
    for segment in layout.segments:
        some, extra = values[:, segment.start : segment.stop], segment.bits - 8
        largest = some.abs().amax(1, keepdim=True)
        scale.append(_power_of_two(largest, segment.most) if extra > 8 else _few_bits(largest.double() / segment.most))
        whole = _whole(some, scale[-1], segment.most)
        first.append(whole >> extra)
        more.append(_packed(whole & ((1 << extra) - 1), extra))
    parts = {"": torch.cat(first, dim=1).to(torch.int8), SCALE: torch.cat(scale, dim=1)}
    return parts | ({FINE: torch.cat(more, dim=1).to(torch.uint8)} if layout.fine_bytes else {})


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
    for number, segment in enumerate(layout.segments):
        whole, extra = parts[""][:, segment.start : segment.stop].to(torch.int32), segment.bits - 8
        if extra:
            some = parts[FINE][:, at : at + segment.fine_bytes].to(torch.int32)
            whole = (whole << extra) | _unpacked(some, extra, segment.width)
            at += segment.fine_bytes
        found.append((whole.double() * scales[:, number, None].double()).float())
    return _finite(torch.cat(found, dim=1))


def _packed(low: Tensor, extra: int) -> Tensor:
    """(rows, columns) whole numbers of 0, 4, 8 or 16 bits -> (rows, bytes) of them."""
    if extra == 4:
        low = torch.nn.functional.pad(low, (0, low.shape[1] % 2))
        return low[:, 0::2] | (low[:, 1::2] << 4)
    return low[:, :0] if not extra else low if extra == 8 else torch.cat([low & 255, low >> 8], dim=1)


def _unpacked(packed: Tensor, extra: int, width: int) -> Tensor:
    """Inverse of `_packed`."""
    if extra == 4:
        return torch.stack([packed & 15, packed >> 4], dim=2).flatten(1)[:, :width]
    return packed if extra == 8 else packed[:, :width] | (packed[:, width:] << 8)


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


def _power_of_two(largest: Tensor, most: int) -> Tensor:
    """The least powers of two of which `most` reach these numbers; zeros where they are next to nothing."""
    mantissa, exponent = torch.frexp(largest.double() / most)
    powers = torch.ldexp(torch.ones_like(mantissa), exponent - (mantissa == 0.5).to(exponent.dtype))
    return torch.where(largest > SMALLEST, powers, 0.0).float()
