"""A signal in memory, and what training and measuring ask of one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

from lg_field.signals.batches import Draw, all_samples, window_samples
from lg_field.signals.settings import CompleteFit
from lg_field.signals.signal import Signal
from lg_field.signals.state import fingerprint
from lg_field.space.partition import PartitionGrid


@dataclass(frozen=True)
class NeededCells:
    """The cells of a partition by what they hold."""

    rows: Int64[Tensor, " rows"]
    """Sorted cells that need a network (of shapes: that the surface passes through or comes near)."""
    full: Int64[Tensor, " full"]
    """Sorted cells that are a constant, full."""
    occupied: int
    """Cells with a part of a shape in them (what the paper counts)."""


class Samples(ABC):
    """A signal in memory, however it is held."""

    signal: Signal
    source: Any
    """The mesh a shape was made of, None without one."""

    @abstractmethod
    def slab(self, first: int, last: int) -> Shaped[Tensor, "n *rest channels"]:
        """(last - first, ..., channels) samples along the first axis."""

    @abstractmethod
    def checksum(self) -> int:
        """A number that differs for all other signals, all but surely."""

    @abstractmethod
    def drawn(self, config: CompleteFit) -> str:
        """What a step trains on, in words."""

    @abstractmethod
    def needed_cells(self, grid: PartitionGrid, margin: int) -> NeededCells | None:
        """Which cells of a partition need a row, looking so many samples beyond their borders; None = all."""

    @abstractmethod
    def overview(self, limit: int) -> SignalData:
        """The signal, where it cannot be held whole averaged down to at most about `limit` samples."""

    @abstractmethod
    def batches(
        self, grid: PartitionGrid, cells: Int64[Tensor, " cells"], config: CompleteFit, generator: torch.Generator
    ) -> Draw:
        """What gives the batches that train some cells, on the generator's device."""

    @abstractmethod
    def notes(self, cells: NeededCells | None) -> list[str]:
        """What a user should know before training, in lines."""


@dataclass
class SignalData(Samples):
    """The samples of a signal, in the type they came in."""

    samples: Shaped[Tensor, "*shape channels"]
    """(*shape, channels); uint16 samples as int32, for torch computes little in uint16."""
    signal: Signal
    source: None = None

    def __post_init__(self) -> None:
        if tuple(self.samples.shape) != (*self.signal.shape, self.signal.channels):
            raise ValueError(f"samples {tuple(self.samples.shape)} do not fit {self.signal}")
        check_finite(self.samples)

    def flat(self) -> Shaped[Tensor, "num_samples channels"]:
        """(num_samples, channels) view."""
        return self.samples.view(-1, self.signal.channels)

    def slab(self, first: int, last: int) -> Shaped[Tensor, "n *rest channels"]:
        """(last - first, ..., channels) samples along the first axis."""
        return self.samples[first:last]

    def checksum(self) -> int:
        """CRC-32 of the samples."""
        return fingerprint(self.samples)

    def drawn(self, config: CompleteFit) -> str:
        """All samples, or a share of them."""
        share = config.share(self.signal.num_samples)
        return "all samples" if share >= 1 else f"{share:.2%} of the samples"

    def needed_cells(self, grid: PartitionGrid, margin: int) -> NeededCells | None:
        """None: every cell needs a row."""
        return None

    def overview(self, limit: int) -> SignalData:
        """The signal itself."""
        return self

    def batches(
        self, grid: PartitionGrid, cells: Int64[Tensor, " cells"], config: CompleteFit, generator: torch.Generator
    ) -> Draw:
        """All samples of the cells each step, or with a share or an overlap samples of their windows."""
        share = config.share(self.signal.num_samples)
        if share < 1.0 or config.overlap:
            return window_samples(
                self.samples, self.signal, grid, cells, share, config.overlap, generator, config.stratified
            )
        return all_samples(self.flat(), self.signal, grid, cells)

    def notes(self, cells: NeededCells | None) -> list[str]:
        """Nothing."""
        return []


def check_finite(samples: Shaped[Tensor, "*shape"], name: str = "") -> None:
    """Raise ValueError if samples are NaN or infinite; `name` is of their file."""
    if samples.is_floating_point() and not bool(samples.isfinite().all()):
        bad = int((~samples.isfinite()).sum())
        raise ValueError(f"{name}{': ' if name else ''}{bad:,} samples are NaN or infinite; replace them first")
