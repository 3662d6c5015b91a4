"""Which rank owns which cell: known to all ranks alike, and balanced by samples.

Cells go to ranks along a curve through space (Morton's), so that a rank's cells lie together and rays change owners
seldom.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lg_field.space.partition import PartitionGrid

IDLE = 0.02
"""A cell counts as at least this part of the mean load, so that cells without samples are spread, too."""
MOST_CELLS = 1.25
"""A rank has at most this many times the mean number of cells: what it has room for, however uneven the load is."""


@dataclass(frozen=True)
class Owners:
    """Owner of each cell that has a row on some rank. Never changes: after an edit there is another one."""

    grid: PartitionGrid
    cells: Int64[Tensor, " cells"]
    """(P,) sorted cells."""
    rank: Int64[Tensor, " cells"]
    """(P,) rank that owns each."""
    size: int
    """Number of ranks."""

    @staticmethod
    def balanced(grid: PartitionGrid, cells: Tensor, size: int, load: Tensor | None = None) -> Owners:
        """Owners with about the same load, as far as none has more than `MOST_CELLS` times its share of the cells.

        Args:
            grid: the partition.
            cells: (P,) sorted cells.
            size: number of ranks.
            load: (P,) work of each cell; None, or zeros: the same for all, and no rank is without a cell.

        Raises:
            ValueError: more ranks than cells, without a load.
        """
        if load is None or not bool(load.any()):
            if len(cells) < size:
                raise ValueError(f"{size} ranks are more than the {len(cells)} cells: start fewer, or with more cells")
            load = torch.ones(len(cells), device=cells.device)
        order = morton(grid.unravel(cells.cpu())).argsort(stable=True)
        along = load.double().cpu()[order]
        least, most = IDLE * float(along.mean()), most_cells(len(cells), size)
        parts = _divided(along.clamp_min(least), size)
        while int(parts.bincount().max()) > most:  # the more a cell counts at least, the more alike they are
            least *= 1.5
            parts = _divided(along.clamp_min(least), size)
        rank = torch.empty_like(parts)
        rank[order] = parts
        return Owners(grid, cells, rank.to(cells.device), size)

    def to(self, device: torch.device) -> Owners:
        """The same on a device."""
        if self.cells.device == device:
            return self
        return replace(self, cells=self.cells.to(device), rank=self.rank.to(device))

    @cached_property
    def number_of_cell(self) -> Int64[Tensor, " grid_cells"]:
        """(num_cells,) place of each cell in `cells`, -1 where no rank owns it."""
        numbers = torch.full((self.grid.num_cells,), -1, dtype=torch.int64, device=self.cells.device)
        numbers[self.cells] = torch.arange(len(self.cells), device=self.cells.device)
        return numbers

    @cached_property
    def counts(self) -> list[int]:
        """Cells of each rank."""
        return torch.bincount(self.rank, minlength=self.size).tolist()

    @property
    def overfull(self) -> bool:
        """Whether a rank has more cells than it may have, and there are enough for all."""
        return max(self.counts) > most_cells(len(self.cells), self.size) and len(self.cells) >= self.size

    def of(self, rank: int) -> Int64[Tensor, " mine"]:
        """Places in `cells` of those that a rank owns, sorted."""
        return (self.rank == rank).nonzero()[:, 0]

    @cached_property
    def by_rank(self) -> Int64[Tensor, " cells"]:
        """(P,) places in `cells`, rank by rank: the order of what is gathered of all ranks' rows."""
        return self.rank.argsort(stable=True)

    def split(self) -> tuple[Owners, Int64[Tensor, " children"]]:
        """The owners after every cell was cut into 8, which stay where they are; and (8 P,) the parent's place of each
        child."""
        children = self.grid.children(self.cells).flatten()
        cells, order = children.sort()
        parent = order // 8
        return Owners(self.grid.refined(), cells, self.rank[parent], self.size), parent

    def kept(self, keep: Bool[Tensor, " cells"]) -> Owners:
        """The owners of some of the cells."""
        return replace(self, cells=self.cells[keep], rank=self.rank[keep])

    def unevenness(self, load: Float[Tensor, " cells"]) -> float:
        """Largest over mean load of the ranks; 1 where nothing is to do."""
        of_rank = torch.zeros(self.size, dtype=torch.float64, device=load.device).index_add_(
            0, self.rank, load.double()
        )
        mean = float(of_rank.mean())
        return float(of_rank.max()) / mean if mean > 0.0 else 1.0


def most_cells(cells: int, ranks: int) -> int:
    """Cells that one of some ranks may have of so many."""
    return math.ceil(MOST_CELLS * cells / ranks)


def _divided(weight: Float[Tensor, " cells"], size: int) -> Int64[Tensor, " cells"]:
    """Which of `size` parts of about the same weight each of some weights in a row is in; each part is one piece."""
    middle = (weight.cumsum(0) - 0.5 * weight) / weight.sum()
    return (middle * size).long().clamp_max(size - 1)


def morton(index: Int64[Tensor, "cells d"]) -> Int64[Tensor, " cells"]:
    """Place of cells on Morton's curve: the bits of their index per axis, interleaved.

    Args:
        index: (P, d) at least 0.
    """
    d = index.shape[1]
    place = torch.zeros_like(index[:, 0])
    for bit in range(62 // d):
        for axis in range(d):
            place |= ((index[:, axis] >> bit) & 1) << (bit * d + d - 1 - axis)
    return place
