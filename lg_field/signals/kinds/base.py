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
from lg_field.signals.settings import ShapeConfig, Weights
from lg_field.signals.signal import Signal
from lg_field.space.partition import automatic_counts
from lg_field.space.regions import Box, Complement, Intersection, OrientedBox, Region, Scaled, Sphere, Union

Bounds = tuple[tuple[float, ...], tuple[float, ...]]
"""Lower and upper corner of a box in sample units, in the order of the domain's axes."""


class Figures:
    """Figures of merit besides PSNR, gathered slab by slab; these are none."""

    def add(self, decoded: Float[Tensor, "*values"], true: Float[Tensor, "*values"]) -> None:
        """Take a slab of decoded and of true values, (n, ..., channels) `Kind.unit_values`."""

    def result(self) -> dict[str, float]:
        """Name -> figure."""
        return {}


class Kind(ABC):
    """A kind of signal: what files hold it, what its axes and units are, how it is trained, measured and shown.

    Samples lie on a regular grid. *Sample units* count samples on the axes of the field's domain, in their order: 0 is
    the edge of the first sample, 1 its other edge. Users give and see places in the kind's own units and order
    (`units`); `to_samples`, `from_samples` and `region_to_samples` lead from one to the other.
    """

    name: ClassVar[str]
    """What files and messages call it."""
    axes: ClassVar[tuple[str, ...]]
    """Names of the domain's axes."""
    order: ClassVar[tuple[int, ...] | None] = None
    """Which of a user's numbers belongs to each axis; None = one after the other."""
    units: ClassVar[str]
    """In which units, and order, users give places."""
    round: ClassVar[bool] = True
    """Whether the axes have one unit, so that spheres and turned boxes make sense."""
    frozen: ClassVar[tuple[str, ...]] = ()
    """Axes whose samples stay as they are when a signal is decoded at another scale."""
    sample: ClassVar[str] = "sample"
    """What one sample is called."""
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
    unit_values_in_incode: ClassVar[bool] = True
    """Whether INCODE is trained on values in [0, 1], rather than [-1, 1]."""
    flat: ClassVar[bool] = False
    """Whether it is shown in a plane: the last two axes as a picture (frames of it, with a third), one as a wave."""
    playable: ClassVar[bool] = False
    """Whether it can be listened to."""
    surface: ClassVar[bool] = False
    """Whether it has a surface to mesh."""
    threshold: ClassVar[float | None] = None
    """Sample value of the surface; None = it is found from the values."""
    up: ClassVar[str] = "z"
    """Axis that points up in pictures of the surface."""

    def check_extra(self, extra: Mapping[str, Any]) -> None:
        """Raise ValueError if this is not what a signal of this kind may say besides (`Signal.extra`): nothing."""
        if extra:
            raise ValueError(f"a {self.name} says nothing besides, got {dict(extra)}")

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

    def check_write(self, path: Path, signal: Signal) -> None:  # noqa: B027
        """Raise ValueError, before anything is decoded, if a file of this suffix cannot hold such a signal."""

    def say_array(self, path: Path, signal: Signal) -> None:  # noqa: B027
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

    def to_samples(self, signal: Signal, point: Sequence[float]) -> tuple[float, ...]:
        """A place in the user's units and order, in sample units.

        Raises:
            ValueError: another number of axes.
        """
        self.check_axes(point)
        return tuple(point[i] for i in self._order())

    def from_samples(self, signal: Signal, point: Sequence[float]) -> tuple[float, ...]:
        """Inverse of `to_samples`."""
        self.check_axes(point)
        return tuple(point[self._order().index(i)] for i in range(len(self.axes)))

    def region_to_samples(self, signal: Signal, region: Region) -> Region:
        """A region in the user's units and order, in sample units.

        Raises:
            ValueError: a region of another number of axes, or one that mixes units.
        """
        if isinstance(region, Box):
            return Region.box(self.to_samples(signal, region.lower), self.to_samples(signal, region.upper))
        if isinstance(region, Complement):
            return Complement(self.region_to_samples(signal, region.part))
        if isinstance(region, (Union, Intersection)):
            return type(region)(tuple(self.region_to_samples(signal, part) for part in region.parts))
        if not self.round:
            raise ValueError(f"a sphere or turned box of {self.name} mixes units ({self.units}): use a box")
        return self._placed(signal, self._permuted(region))

    def _placed(self, signal: Signal, region: Region) -> Region:
        """A region with its axes in the domain's order, but in the user's units, in sample units."""
        return region

    def _permuted(self, region: Region) -> Region:
        """A region with its axes in the domain's order."""
        order = self._order()

        def turn(numbers: Sequence[Any]) -> tuple[Any, ...]:
            self.check_axes(numbers)
            return tuple(numbers[i] for i in order)

        if isinstance(region, Sphere):
            return Sphere(turn(region.center), region.radius)
        if isinstance(region, OrientedBox):
            center, rotation = turn(region.center), turn(region.rotation)
            return OrientedBox(center, rotation, region.size)  # type: ignore[arg-type]
        if isinstance(region, Scaled):
            return Scaled(self._permuted(region.part), turn(region.scale), turn(region.offset))
        if isinstance(region, Box):
            return Box(turn(region.lower), turn(region.upper))
        if isinstance(region, Complement):
            return Complement(self._permuted(region.part))
        if isinstance(region, (Union, Intersection)):
            return type(region)(tuple(map(self._permuted, region.parts)))
        raise ValueError(f"a region of type {type(region).__name__} cannot be placed in a {self.name}")

    def check_axes(self, numbers: Sequence[Any]) -> None:
        """Raise ValueError unless there is one of these for each axis."""
        if len(numbers) != len(self.axes):
            raise ValueError(
                f"a place in a {self.name} has {len(self.axes)} numbers ({self.units}), got {len(numbers)}"
            )

    def _order(self) -> tuple[int, ...]:
        return self.order or tuple(range(len(self.axes)))

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
