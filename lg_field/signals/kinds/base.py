"""What a kind of signal states. A new kind is a subclass in a file of its own, and a line in `__init__`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from jaxtyping import Float, Float32, Int64, Shaped
from torch import Tensor

from lg_field.networks import LocalGlobalNetwork
from lg_field.quality import psnr
from lg_field.signals.data import Samples, SignalData
from lg_field.signals.extend import extend_to
from lg_field.signals.parts import split_part
from lg_field.signals.places import Places
from lg_field.signals.settings import ShapeConfig, Weights
from lg_field.signals.signal import Signal
from lg_field.space.partition import automatic_counts

Bounds = tuple[tuple[float, ...], tuple[float, ...]]
"""Lower and upper corner of a box in sample units, in the order of the domain's axes."""


class Figures:
    """Figures of merit besides PSNR, gathered slab by slab; these are none."""

    def add(self, decoded: Float[Tensor, "*values"], true: Float[Tensor, "*values"]) -> None:
        """Take a slab of decoded and of true values, (n, ..., channels) `Kind.unit_values`."""

    def result(self) -> dict[str, float]:
        """Name -> figure."""
        return {}


class Kind(Places, ABC):
    """A kind of signal: what files hold it, what its axes and units are, how it is trained, measured and shown.

    Samples lie on a regular grid; where, its `Places` say.
    """

    frozen: ClassVar[tuple[str, ...]] = ()
    """Axes whose samples stay as they are when a signal is decoded at another scale."""
    reads: ClassVar[tuple[str, ...]]
    """Suffixes of the files it is read from, lower case."""
    on_request: ClassVar[tuple[str, ...]] = ()
    """Suffixes of more files, which it is read from where this kind is asked for by name."""
    folders: ClassVar[bool] = False
    """Whether it may be read from a folder of files."""
    writes: ClassVar[tuple[str, ...]] = ()
    """Suffixes of the files that `write` writes (a .npy can be written of every kind)."""
    fill: ClassVar[float] = -1.0
    """Network value outside the kept cells."""
    reach: ClassVar[float] = 1.0
    """The domain is [-reach, reach] on every axis."""
    cell_size: ClassVar[tuple[int, ...]] = ()
    """Samples per cell and axis, about, unless said otherwise."""
    fit: ClassVar[Mapping[str, Any]] = {}
    """Entries of `FitConfig` that are this kind's defaults."""
    network: ClassVar[Mapping[str, Any]] = {"harmonizer_bias": 0.0005}
    """Entries of `NetworkConfig` that are this kind's defaults. INCODE's usual start (0.312) suits images; elsewhere it
    is noise that training keeps."""
    incode_rate: ClassVar[float] = 1.0
    """INCODE learns at this times the rate of `fit`, where none is said."""
    unit_values_in_incode: ClassVar[bool] = True
    """Whether INCODE is trained on values in [0, 1], rather than [-1, 1]."""
    playable: ClassVar[bool] = False
    """Whether it can be listened to."""
    surface: ClassVar[bool] = False
    """Whether it has a surface to mesh."""
    threshold: ClassVar[float | None] = None
    """Sample value of the surface; None = it is found from the values."""
    up: ClassVar[str] = "z"
    """Axis that points up in pictures of the surface."""

    # -- files

    def matches(self, path: Path) -> bool:
        """Whether a file, or the part of one (see `parts`), is of this kind."""
        return split_part(path)[0].name.lower().endswith(self.reads)

    def can_read(self, path: Path) -> bool:
        """Whether a file, or the part of one, may be read as this kind where it is asked for by name."""
        return split_part(path)[0].name.lower().endswith((*self.reads, *self.on_request))

    @abstractmethod
    def read(self, path: Path, options: ShapeConfig) -> Samples:
        """Read a file.

        Args:
            path: an existing file of one of the suffixes `reads`.
            options: how meshes become voxels.

        Raises:
            ValueError: it is broken, or holds nothing to encode.
            ImportError: a library is missing; the message names what to install.
        """

    def check_write(self, path: Path, signal: Signal) -> None:
        """Raise ValueError, before anything is decoded, if a file of this suffix cannot hold such a signal."""

    def say_array(self, path: Path, signal: Signal) -> None:
        """Say what of such a signal an array file (.npy) cannot hold and nobody would expect to be missing."""

    def write(self, slabs: Iterable[Shaped[Tensor, "_ *rest channels"]], path: Path, signal: Signal) -> None:
        """Write decoded samples to a file of one of the suffixes `writes`.

        Args:
            slabs: (n, ..., channels) samples, along the first axis.
            path: the file.
            signal: what they are: with the shape, rate and place of what was decoded.
        """
        raise NotImplementedError(f"{self.name} is written to .npy only")

    def stored(self, samples: Shaped[Tensor, "*shape"], signal: Signal) -> Shaped[Tensor, "*shape"]:
        """Samples as the numbers that a file of the signal held, where the network is trained on others; shape kept."""
        return samples

    # -- space

    def counts(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Cells per axis of a signal of this shape, unless said otherwise."""
        return automatic_counts(shape, self.cell_size)

    def paces(self, axes: int) -> tuple[float, ...]:
        """What a sample counts for along each axis of a domain whose length follows the signal's."""
        return (1.0,) * axes

    # -- training and measuring

    def unit_values(self, values: Float[Tensor, "*values"]) -> Float[Tensor, "*values"]:
        """Network values in [-1, 1] as the values metrics are taken of: clipped, [0, 1]."""
        return (values * 0.5 + 0.5).clamp(0.0, 1.0)

    def step_psnr(self, error: float) -> float:
        """PSNR in dB of a step's mean squared error in network values (not clipped, so a little below `measure`'s)."""
        return psnr(error / 4.0)

    def figures(self, signal: Signal) -> Figures:
        """Gathers figures of merit besides PSNR."""
        return Figures()

    @abstractmethod
    def features(
        self, samples: Shaped[Tensor, "*shape channels"], signal: Signal, weights: Weights = "random"
    ) -> Float32[Tensor, " features"]:
        """What INCODE's harmonizer sees of (*shape, channels) samples (see `signals.features`)."""

    def extend(
        self, field: LocalGlobalNetwork, target: Samples, at: Sequence[int] = ()
    ) -> tuple[LocalGlobalNetwork, Samples, Int64[Tensor, " fresh"]]:
        """See `extend_to`.

        Raises:
            ValueError: the target does not hold the field's signal, or there is nothing to add.
        """
        if not isinstance(target, SignalData):
            raise ValueError(f"the field is of {self.name}, the target of {target.signal.kind}")
        return extend_to(field, target, at)

    # -- what is seen

    def still(self, signal: Signal) -> Bounds | None:
        """The samples that a preview shows, as a box; None where it is no picture."""
        return None

    def picture(
        self, samples: Shaped[Tensor, "*shape channels"], signal: Signal
    ) -> Shaped[Tensor, "height width channels"]:
        """Decoded samples of `still` as an image file holds them, uint8 or int32 of 16 bits."""
        raise NotImplementedError(f"{self.name} is no picture")
