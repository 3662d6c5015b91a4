"""Batches of samples to train on: all of them each step, or equally many drawn from every cell (paper, section 4)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float32, Int64, Shaped
from torch import Tensor

from lg_field.ops import sort_by_row
from lg_field.signals.signal import Signal
from lg_field.space.partition import PartitionGrid


class Batch(NamedTuple):
    """Points to train on, sorted by row."""

    x: Float32[Tensor, "n d"]
    """Domain coordinates."""
    offsets: Int64[Tensor, " rows_and_one"]
    """(P + 1,) first point of each row that is trained."""
    target: Float32[Tensor, "n channels"]
    """Network values."""


Draw = Callable[[], Batch]
"""Gives the batch of a step."""


@dataclass(frozen=True)
class Windows:
    """On one axis, the samples that each cell draws from: its own, and with an overlap some around them."""

    first: Int64[Tensor, " cells"]
    """First sample of each cell's window."""
    size: int | Int64[Tensor, " cells"]
    """Samples in each: one number where all are alike."""

    @staticmethod
    def of(signal: Signal, grid: PartitionGrid, cells: Int64[Tensor, " cells"], overlap: int, axis: int) -> Windows:
        """The windows of some cells.

        Without an overlap a window is just the cell's own samples (`Signal.cell_edges`). With one, the windows are as
        wide as the widest cell grown by the overlap at either end, and shifted inward at the signal's edges: all have
        one size, and hold the cell's own samples and those around them.
        """
        n, edges = signal.shape[axis], signal.cell_edges(grid, axis).to(cells.device)
        index, own = grid.unravel(cells)[:, axis], edges.diff()
        widest = int(own.max())
        if overlap == 0 and int(own.min()) < widest:
            return Windows(edges[index], own[index])
        size = min(n, widest + 2 * overlap)
        return Windows((edges[:-1] - overlap).clamp(0, n - size)[index], size)

    def draw(self, count: int, generator: torch.Generator) -> Int64[Tensor, "cells count"]:
        """`count` samples of every window, each of its samples as likely as the others."""
        shape, device = (len(self.first), count), self.first.device
        if isinstance(self.size, int):
            return self.first[:, None] + torch.randint(self.size, shape, generator=generator, device=device)
        part = torch.rand(shape, dtype=torch.float64, generator=generator, device=device)
        return self.first[:, None] + (part * self.size[:, None]).long()


def stratified(
    windows: Sequence[Windows], count: int, generator: torch.Generator
) -> list[Int64[Tensor, "cells count"]]:
    """Per axis, `count` samples of every window: one of each of as many equal parts of it, in row-major order.

    Each of a window's samples is as likely as the others, and together they vary less than independent ones.
    """
    cells, device = len(windows[0].first), windows[0].first.device
    sizes = [torch.as_tensor(w.size, device=device).expand(cells)[:, None] for w in windows]
    total = torch.stack(sizes).prod(0)
    part = torch.rand((cells, count), dtype=torch.float64, generator=generator, device=device)
    part += torch.arange(count, dtype=torch.float64, device=device)
    flat = torch.minimum((part * (total / count)).long(), total - 1)  # a product may round up
    places = []
    for window, size in zip(reversed(windows), reversed(sizes)):
        places.append(window.first[:, None] + flat % size)
        flat = flat // size
    return places[::-1]


def all_samples(
    samples: Shaped[Tensor, "n channels"], signal: Signal, grid: PartitionGrid, cells: Int64[Tensor, " cells"]
) -> Draw:
    """Every step all samples of some cells, each for the cell that owns it.

    Args:
        samples: (n, channels) in row-major order.
        signal: what they are.
        grid: its partition.
        cells: (P,) to train; it says the device.

    Raises:
        ValueError: no sample lies in these cells.
    """
    axes = [signal.coordinates(grid, k, torch.arange(n)) for k, n in enumerate(signal.shape)]
    row_of_cell = torch.full((grid.num_cells,), -1)
    row_of_cell[cells.cpu()] = torch.arange(len(cells))
    owner = torch.zeros((), dtype=torch.int64)
    for k, count in enumerate(grid.counts):
        owner = owner[..., None] * count + signal.cell_index(grid, k)
    rows = row_of_cell[owner].flatten()
    kept = (rows >= 0).nonzero()[:, 0]
    if len(kept) == 0:
        raise ValueError("none of the signal's samples lies in the cells to train")
    by_row = sort_by_row(rows[kept], len(cells))
    order = kept[by_row.order]
    x = torch.stack([axis[i] for axis, i in zip(axes, torch.unravel_index(order, signal.shape))], dim=-1)
    target = signal.normalize(samples[order])
    batch = Batch(x.to(cells.device), by_row.offsets.to(cells.device), target.to(cells.device))
    return lambda: batch


def window_samples(
    samples: Shaped[Tensor, "*shape channels"],
    signal: Signal,
    grid: PartitionGrid,
    cells: Int64[Tensor, " cells"],
    share: float,
    overlap: int,
    generator: torch.Generator,
    stratify: bool,
) -> Draw:
    """Every step equally many samples of every cell's window, or all of each window.

    Args:
        samples: (*shape, channels).
        signal: what they are.
        grid: its partition.
        cells: (P,) to train, on the generator's device.
        share: part of the signal's samples to draw, spread over all cells; 1 = all of every window.
        overlap: samples beyond a cell's borders that belong to its window.
        generator: random.
        stratify: draw by `stratified`, instead of independent samples.
    """
    windows = [Windows.of(signal, grid, cells, overlap, axis) for axis in range(grid.dim)]
    values = samples.to(cells.device)

    def batch_at(positions: list[Tensor]) -> Batch:
        """At these samples, per axis (cells, count)."""
        offsets = torch.arange(len(cells) + 1, device=cells.device) * positions[0].shape[1]
        places = [p.flatten() for p in positions]
        x = torch.stack([signal.coordinates(grid, k, p) for k, p in enumerate(places)], dim=-1)
        return Batch(x, offsets, signal.normalize(values[tuple(places)]))

    if share == 1.0:
        sizes = [w.size for w in windows if isinstance(w.size, int)]
        inside = torch.unravel_index(torch.arange(math.prod(sizes), device=cells.device), sizes)
        batch = batch_at([w.first[:, None] + step for w, step in zip(windows, inside)])
        return lambda: batch
    count = max(1, round(share * signal.num_samples / grid.num_cells))
    if stratify:
        return lambda: batch_at(stratified(windows, count, generator))
    return lambda: batch_at([w.draw(count, generator) for w in windows])
