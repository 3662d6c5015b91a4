"""What an encoded signal's numbers mean outside: axes, samples, value range, place in the world."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64, Shaped

from lg_field.arrays import Tensor, torch
from lg_field.signals.registry import kind_named, places_named
from lg_field.space.ownership import index_of_samples, sample_coordinates, sample_edges
from lg_field.space.partition import PartitionGrid
from lg_field.space.regions import Box, Region, Scaled
from lg_field.table.description import Description, known_entries

if TYPE_CHECKING:
    from lg_field.signals.kinds.base import Kind
    from lg_field.signals.places import Places

LIMITS: dict[str, tuple[float, float]] = {
    "uint8": (0, 255),
    "int8": (-128, 127),
    "uint16": (0, 65535),
    "int16": (-32768, 32767),
    "int32": (-(2**31), 2**31 - 1),
    "float32": (-1.0, 1.0),
    "bool": (0, 1),
}
"""Sample types and their lowest and highest value."""
TENSORS = {"uint16": "int32"}
"""Sample types that are held in tensors of another type: torch computes little in uint16."""
UNSAID: dict[str, Any] = {"origin": (), "spacing": 1.0, "affine": (), "extra": {}}
"""What a description means by not saying it: no place in the world, nothing that the kind alone says."""
PLACE = ("origin", "spacing")


@dataclass(frozen=True)
class Signal(Description):
    """A regular grid of samples that a field encodes.

    Sample i of n on an axis lies at its middle: domain coordinate lower + (upper - lower) (i + 0.5) / n.
    """

    kind: str
    """Name of the kind, see `traits`."""
    shape: tuple[int, ...]
    """Samples per axis: (samples,), (height, width), (frames, height, width), (x, y, z)."""
    channels: int
    """Values per sample."""
    dtype: str = "uint8"
    """Type of a sample, one of `LIMITS`."""
    value_range: tuple[float, float] = (0.0, 255.0)
    """Sample values that the network's -1 and 1 stand for."""
    rate: float = 0.0
    """Samples a second (audio), frames a second (video), 0 for others."""
    origin: tuple[float, ...] = ()
    """Where the edge of the first sample lies in the units of a shape's mesh file; () = units are samples."""
    spacing: float = 1.0
    """Length of a sample in these units."""
    affine: tuple[tuple[float, ...], ...] = ()
    """(d + 1, d + 1) matrix by rows from sample numbers (0 = middle of the first sample) to world units, where `origin`
    and `spacing` do not say enough; () = none."""
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """What only this kind of signal says of itself: plain data, for its writer."""

    def __post_init__(self) -> None:
        low, high = self.value_range
        object.__setattr__(self, "value_range", (float(low), float(high)))  # as they are read back from a file
        places = self.places
        axes = places.axes
        if len(self.shape) != len(axes) or not all(isinstance(n, int) and 1 <= n < 2**31 for n in self.shape):
            raise ValueError(f"{self.kind} needs {len(axes)} positive sizes in its shape, got {self.shape}")
        if not isinstance(self.channels, int) or not 1 <= self.channels <= 4096:
            raise ValueError(f"channels must be in 1..4096, got {self.channels}")
        if self.dtype not in LIMITS:
            raise ValueError(f"dtype must be one of {', '.join(LIMITS)}, got {self.dtype!r}")
        low, high = self.value_range
        if not (math.isfinite(low) and math.isfinite(high) and low < high and math.isfinite(self.rate)):
            raise ValueError(f"value_range must be two rising finite numbers, got {self.value_range}")
        placed = len(self.origin) in (0, len(self.shape)) and all(map(math.isfinite, self.origin))
        if not (placed and math.isfinite(self.spacing) and self.spacing > 0):
            raise ValueError(f"origin must be finite and spacing positive, got {self.origin} and {self.spacing}")
        if self.affine:
            check_affine(self.affine, len(self.shape))
        if not isinstance(self.extra, Mapping):
            raise ValueError(f"extra must be an object of plain data, got {self.extra!r}")
        places.check_extra(self.extra)

    @property
    def places(self) -> Places:
        """Where things are in signals of this kind: axes and units. No kind is imported."""
        return places_named(self.kind)

    @property
    def traits(self) -> Kind:
        """What all signals of this kind have in common: axes, units, readers, defaults."""
        return kind_named(self.kind)

    @property
    def num_samples(self) -> int:
        """Samples in all, channels not counted."""
        return math.prod(self.shape)

    def normalize(self, values: Shaped[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:
        """Samples of any type -> float32 in [-1, 1]."""
        low, high = self.value_range
        return (values.float() - low) * (2.0 / (high - low)) - 1.0

    def denormalize(self, values: Float[Tensor, "*shape"]) -> Shaped[Tensor, "*shape"]:
        """Network values -> samples, rounded and clipped to the sample type's range."""
        low, high = self.value_range
        samples = (values + 1.0) * (0.5 * (high - low)) + low
        if self.dtype == "float32":
            return samples
        lowest, highest = LIMITS[self.dtype]
        return samples.round().clamp(lowest, highest).to(self.tensor_type)

    @property
    def tensor_type(self) -> torch.dtype:
        """Type of the tensors that hold samples."""
        held: torch.dtype = getattr(torch, TENSORS.get(self.dtype, self.dtype))
        return held

    def coordinates(self, grid: PartitionGrid, axis: int, samples: Shaped[Tensor, " n"]) -> Float32[Tensor, " n"]:
        """(n,) sample positions on an axis (0 = middle of the first sample) -> (n,) float32 domain coordinates."""
        return sample_coordinates(samples, self.shape[axis], grid.lower[axis], grid.upper[axis])

    def to_domain(self, region: Region, grid: PartitionGrid) -> Region:
        """A region in sample units (0 = edge of the first sample, shape = edge of the last) as one of the domain."""
        if isinstance(region, Box) and len(region.lower) == len(self.shape):
            # Drawn in by less than matters, so that rounding puts no point of it into the cells beyond its borders.
            lower, upper = [], []
            for first, last, n, low, up in zip(region.lower, region.upper, self.shape, grid.lower, grid.upper):
                unit = (up - low) / n
                margin = min(max(1e-3 * unit, 5e-7 * max(abs(low), abs(up))), 0.1 * (last - first) * unit)
                lower.append(low + first * unit + margin)
                upper.append(low + last * unit - margin)
            return Region.box(lower, upper)
        scale = [n / (up - low) for n, low, up in zip(self.shape, grid.lower, grid.upper)]
        return Scaled(region, tuple(scale), tuple(-low * s for low, s in zip(grid.lower, scale)))

    def cell_index(
        self, grid: PartitionGrid, axis: int, first: int = 0, last: int | None = None
    ) -> Int64[Tensor, " samples"]:
        """(last - first,) index on this axis of the cell that owns each sample: that holds its middle, in float32."""
        samples = torch.arange(first, self.shape[axis] if last is None else last)
        low, high, count = grid.lower[axis], grid.upper[axis], grid.counts[axis]
        return index_of_samples(samples, self.shape[axis], low, high, count)

    def cell_edges(self, grid: PartitionGrid, axis: int) -> Int64[Tensor, " edges"]:
        """(cells + 1,) first sample of each cell on this axis, then the number of samples; rising."""
        return sample_edges(self.shape[axis], grid.lower[axis], grid.upper[axis], grid.counts[axis])

    def to_world(self) -> Float64[Tensor, "rows columns"]:
        """(d + 1, d + 1) matrix from sample units (0 = edge of the first sample) to world units, or to themselves."""
        return torch.from_numpy(self.world_matrix())

    def world_matrix(self) -> np.ndarray:
        """The same in numpy, float64."""
        d = len(self.shape)
        matrix = np.eye(d + 1)
        if self.affine:
            matrix[:d, d] = -0.5
            placed: np.ndarray = np.array(self.affine, dtype=np.float64) @ matrix
            return placed
        for axis, start in enumerate(self.origin):
            matrix[axis, axis], matrix[axis, d] = self.spacing, start
        return matrix

    def resampled(self, window: Sequence[tuple[int, int]], shape: Sequence[int]) -> Signal:
        """The signal that `shape` samples of a window are: same place in the world, rate and spacing as they follow.

        Args:
            window: first and last-plus-one sample per axis.
            shape: samples per axis that the window is read at.
        """
        d = len(self.shape)
        step = [(last - first) / n for (first, last), n in zip(window, shape)]
        origin = tuple(o + first * self.spacing for o, (first, _) in zip(self.origin, window))
        affine: tuple[tuple[float, ...], ...] = ()
        if self.affine:
            move = torch.eye(d + 1, dtype=torch.float64)
            for axis, (first, _) in enumerate(window):
                move[axis, axis], move[axis, d] = step[axis], first + 0.5 * step[axis] - 0.5
            affine = tuple(map(tuple, (torch.tensor(self.affine, dtype=torch.float64) @ move).tolist()))
        place: dict[str, Any] = {"origin": origin, "spacing": self.spacing * step[-1], "affine": affine}
        return replace(self, shape=tuple(shape), rate=self.rate / step[0], **(place if origin or affine else {}))

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON; what most signals have not (`UNSAID`) only where it is said."""
        data = asdict(self)
        said = (*PLACE * bool(self.origin), *("affine",) * bool(self.affine), *("extra",) * bool(self.extra))
        return {k: v for k, v in data.items() if k not in UNSAID or k in said}

    @staticmethod
    def from_dict(data: dict[str, Any]) -> Signal:
        """Inverse of `to_dict`.

        Raises:
            ValueError: unknown, missing or senseless entries.
        """
        checked = known_entries(Signal, UNSAID | data if isinstance(data, dict) else data)
        try:
            pair = tuple(float(v) for v in checked["value_range"])
            low, high = pair
            shape = tuple(checked["shape"])
            place = {"origin": tuple(float(v) for v in checked["origin"]), "spacing": float(checked["spacing"])}
            place["affine"] = tuple(tuple(float(v) for v in row) for row in checked["affine"])
            rate = float(checked["rate"])
            return Signal(**checked | {"shape": shape, "value_range": (low, high), "rate": rate} | place)
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError(f"bad signal description: {error}") from error

    def check(self, field: Any) -> None:
        ours, theirs = (len(self.shape), self.channels), (field.grid.dim, field.out_features)
        if ours != theirs:
            raise ValueError(
                f"the signal has {ours[0]} axes and {ours[1]} channels, the network {theirs[0]} and {theirs[1]}"
            )


def check_affine(affine: tuple[tuple[float, ...], ...], axes: int) -> None:
    """Raise ValueError unless these rows are a matrix (axes + 1, axes + 1) that moves space and can be undone."""
    rows = [len(row) == axes + 1 and all(map(math.isfinite, row)) for row in affine]
    if len(affine) != axes + 1 or not all(rows) or affine[-1] != (*(0.0,) * axes, 1.0):
        last = " ".join(["0"] * axes + ["1"])
        raise ValueError(f"affine must be {axes + 1} rows of {axes + 1} finite numbers, the last {last}; got {affine}")
    if float(np.linalg.det(np.array(affine, dtype=np.float64))) == 0.0:
        raise ValueError(f"affine must be a matrix that can be inverted, got {affine}")
