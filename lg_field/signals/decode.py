"""From a field back to samples, slab by slab, so that a long video never lies in memory whole."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Bool, Int64, Shaped
from torch import Tensor

from lg_field.networks import LocalGlobalNetwork
from lg_field.signals.signal import Signal
from lg_field.table.cell_table import CellTable

SLAB = 1 << 19
"""Samples evaluated at a time."""
MAX_SIZE = 4.0
"""GB of samples that commands decode unless told otherwise."""


def signal_of(field: LocalGlobalNetwork) -> Signal:
    """The signal a field encodes.

    Raises:
        ValueError: it encodes none.
    """
    if not isinstance(field.description, Signal):
        raise ValueError("this field encodes no image, sound, video or volume")
    return field.description


def sample_window(signal: Signal, box: tuple[Sequence[float], Sequence[float]] | None) -> list[tuple[int, int]]:
    """First and last-plus-one sample per axis of a box in sample units; None = all.

    Raises:
        ValueError: the box holds no sample.
    """
    if box is None:
        return [(0, n) for n in signal.shape]
    window = []
    for axis, (low, high, n) in enumerate(zip(*box, signal.shape)):
        first, last = max(0, math.floor(low + 1e-6)), min(n, math.ceil(high - 1e-6))
        if first >= last:
            raise ValueError(f"the region holds no sample on axis {axis}: {low:g} to {high:g} of 0 to {n}")
        window.append((first, last))
    return window


def decoded_shape(signal: Signal, window: Sequence[tuple[int, int]], scale: float) -> tuple[int, ...]:
    """Samples per axis that `decode` gives for a window: the scale times as many, but for frozen axes.

    Raises:
        ValueError: a scale that is not a positive finite number.
    """
    if not (math.isfinite(scale) and scale > 0.0):
        raise ValueError(f"scale must be a positive finite number, got {scale}")
    return tuple(
        last - first if name in signal.traits.frozen else max(1, round((last - first) * scale))
        for name, (first, last) in zip(signal.traits.axes, window)
    )


def decoded_signal(
    signal: Signal, scale: float = 1.0, box: tuple[Sequence[float], Sequence[float]] | None = None
) -> Signal:
    """What `decode` with these arguments gives: its shape, rate and place in the world.

    Raises:
        ValueError: the box holds no sample.
    """
    window = sample_window(signal, box)
    return signal.resampled(window, decoded_shape(signal, window, scale))


def decoded_bytes(
    signal: Signal, scale: float = 1.0, box: tuple[Sequence[float], Sequence[float]] | None = None
) -> tuple[tuple[int, ...], int]:
    """Samples per axis that `decode` with these arguments gives, and the bytes of all of them. Costs nothing.

    Raises:
        ValueError: a scale that is not a positive finite number, or a box that holds no sample.
    """
    shape = decoded_shape(signal, sample_window(signal, box), scale)
    return shape, math.prod(shape) * signal.channels * signal.tensor_type.itemsize


def size_words(count: float) -> str:
    """Bytes in a unit that suits them."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:,.3g} {unit}" if count < 1e12 else f"{count / factor:,.0f} {unit}"
    return f"{count:.0f} bytes"


def check_size(
    signal: Signal,
    limit: float,
    scale: float = 1.0,
    box: tuple[Sequence[float], Sequence[float]] | None = None,
) -> str:
    """How large decoding with these arguments is, in words.

    Args:
        signal: of the field.
        limit: GB of samples that are allowed.
        scale: as for `decode`.
        box: as for `decode`.

    Raises:
        ValueError: more than the limit, or than 2^31 - 1 samples on an axis.
    """
    shape, size = decoded_bytes(signal, scale, box)
    sizes = " x ".join(f"{n:,}" for n in shape)
    said = f"{sizes} samples of {signal.channels} {signal.dtype}, {size_words(size)}"
    if size > limit * 1e9:
        raise ValueError(
            f"decoding gives {said}, more than --max-size {limit:g}: give a smaller --scale, a --box, or a larger "
            "--max-size (GB)"
        )
    if max(shape) >= 2**31:
        raise ValueError(f"decoding gives {said}; an axis has at most {2**31 - 1:,}: give a smaller --scale or a --box")
    return said


def decode(
    field: LocalGlobalNetwork,
    scale: float = 1.0,
    box: tuple[Sequence[float], Sequence[float]] | None = None,
    progress: Callable[[int, int], None] | None = None,
    raw: bool = False,
) -> Iterator[Shaped[Tensor, "_ *rest channels"]]:
    """Decode a signal in slabs along its first axis.

    Args:
        field: with a `Signal` as description.
        scale: samples per original sample and axis (video: the frames stay as they are).
        box: lower and upper corner in sample units (image: y, x; video: time, y, x); None = the whole signal.
        progress: called with samples done and in all.
        raw: network values (1 = top of the value range), float32, instead of samples.

    Yields:
        (n, ..., channels) samples of the signal's type (uint16 as int32); outside the kept region the fill value.
    """
    signal = signal_of(field)
    window = sample_window(signal, box)
    device = field.cells.device
    axes = []
    for axis, ((first, last), count) in enumerate(zip(window, decoded_shape(signal, window, scale))):
        steps = first + (torch.arange(count, dtype=torch.float64) + 0.5) * (last - first) / count - 0.5
        axes.append(signal.coordinates(field.grid, axis, steps).to(device))
    line = math.prod(len(a) for a in axes[1:])
    per_slab, done = max(1, SLAB // line), 0
    for part in axes[0].split(per_slab):
        out = []
        for piece in _pieces([part, *axes[1:]]):
            values = _values(field, piece)
            out.append((values if raw else signal.denormalize(values)).cpu())
        yield torch.cat(out, dim=1) if len(out) > 1 else out[0]
        done += len(part) * line
        if progress is not None:
            progress(done, len(axes[0]) * line)


def sample_rows(field: CellTable, signal: Signal, first: int = 0, last: int | None = None) -> Int64[Tensor, "*samples"]:
    """(last - first, ...) int64: row of each sample on these lines of the first axis, -1 where none."""
    grid, cell = field.grid, torch.zeros((), dtype=torch.int64)
    for axis, count in enumerate(grid.counts):
        index = signal.cell_index(grid, axis, first, last) if axis == 0 else signal.cell_index(grid, axis)
        cell = cell[..., None] * count + index
    return field.row_of_cell().cpu()[cell]


@torch.no_grad()
def blank_rows(field: LocalGlobalNetwork) -> Bool[Tensor, " rows"]:
    """(P,) bool: cells all of whose samples decode to what a cell without a row decodes to."""
    signal = signal_of(field)
    fill = signal.denormalize(torch.full((signal.channels,), field.fill))
    blank, first = torch.ones(field.num_rows + 1, dtype=torch.bool), 0
    for slab in decode(field):
        rows = sample_rows(field, signal, first, first + len(slab))
        blank[rows[(slab != fill).any(-1)]] = False
        first += len(slab)
    return blank[: field.num_rows].to(field.cells.device)


@torch.no_grad()
def _values(field: LocalGlobalNetwork, axes: list[Tensor]) -> Tensor:
    """(n, ..., channels) network values on the grid that these coordinates span."""
    return field(torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1), chunk=1 << 14)


def _pieces(axes: list[Tensor]) -> list[list[Tensor]]:
    """One slab, cut along its second axis if it alone is larger than `SLAB`."""
    if len(axes) == 1 or math.prod(len(a) for a in axes) <= 2 * SLAB:
        return [axes]
    lines = max(1, SLAB // (len(axes[0]) * math.prod(len(a) for a in axes[2:])))
    return [[axes[0], part, *axes[2:]] for part in axes[1].split(lines)]
