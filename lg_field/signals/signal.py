"""What an encoded signal's numbers mean outside: axes, samples, value range, place in the world."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from lg_field.space.partition import PartitionGrid
from lg_field.space.regions import Box, Region, Scaled
from lg_field.table.description import Description, known_entries

AXES = {"audio": ("time",), "image": ("y", "x"), "video": ("time", "y", "x"), "volume": ("x", "y", "z")}
AXES["occupancy"] = AXES["volume"]
"""Signal kinds and the names of their axes, in the order of the field's domain."""
LIMITS = {"uint8": (0, 255), "uint16": (0, 65535), "int16": (-32768, 32767), "float32": (-1.0, 1.0), "bool": (0, 1)}
"""Sample types and the values that -1 and 1 of a network stand for, unless `value_range` says otherwise."""
NO_PLACE: dict[str, Any] = {"origin": (), "spacing": 1.0}
"""What a description says of a signal's place in the world by saying nothing (older files, all but shapes)."""


@dataclass(frozen=True)
class Signal(Description):
    """A regular grid of samples that a field encodes.

    Sample i of n on an axis lies at its middle: domain coordinate lower + (upper - lower) (i + 0.5) / n.
    """

    kind: str
    """audio, image, video, volume or occupancy."""
    shape: tuple[int, ...]
    """Samples per axis: (samples,), (height, width), (frames, height, width), (x, y, z)."""
    channels: int
    """Values per sample."""
    dtype: str = "uint8"
    """Type of a sample: uint8, uint16, int16, float32 or bool."""
    value_range: tuple[float, float] = (0.0, 255.0)
    """Sample values that the network's -1 and 1 stand for."""
    rate: float = 0.0
    """Samples a second (audio), frames a second (video), 0 for others."""
    origin: tuple[float, ...] = ()
    """Where the edge of the first sample lies in the units of a shape's mesh file; () = units are samples."""
    spacing: float = 1.0
    """Length of a sample in these units."""

    def __post_init__(self) -> None:
        if self.kind not in AXES:
            raise ValueError(f"kind must be one of {', '.join(AXES)}, got {self.kind!r}")
        if len(self.shape) != len(AXES[self.kind]) or not all(
            isinstance(n, int) and 1 <= n < 2**31 for n in self.shape
        ):
            raise ValueError(f"{self.kind} needs {len(AXES[self.kind])} positive sizes in its shape, got {self.shape}")
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

    @property
    def num_samples(self) -> int:
        """Samples in all, channels not counted."""
        return math.prod(self.shape)

    def normalize(self, values: Tensor) -> Tensor:
        """Samples of any type -> float32 in [-1, 1]."""
        low, high = self.value_range
        return (values.float() - low) * (2.0 / (high - low)) - 1.0

    def denormalize(self, values: Tensor) -> Tensor:
        """Network values -> samples, rounded and clipped to the sample type's range."""
        low, high = self.value_range
        samples = (values + 1.0) * (0.5 * (high - low)) + low
        if self.dtype == "float32":
            return samples
        lowest, highest = LIMITS[self.dtype]
        kind = {"uint8": torch.uint8, "uint16": torch.int32, "int16": torch.int16, "bool": torch.bool}[self.dtype]
        return samples.round().clamp(lowest, highest).to(kind)

    def coordinates(self, grid: PartitionGrid, axis: int, samples: Tensor) -> Tensor:
        """(n,) sample positions on an axis (0 = middle of the first sample) -> (n,) float32 domain coordinates."""
        low, high = grid.lower[axis], grid.upper[axis]
        return (low + (high - low) * (samples.double() + 0.5) / self.shape[axis]).float()

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

    def from_world(self, points: Sequence[float]) -> tuple[float, ...]:
        """A point (d,) in the units of the mesh file, in sample units."""
        return tuple((p - o) / self.spacing for p, o in zip(points, self.origin or (0.0,) * len(self.shape)))

    def to_world(self) -> Tensor:
        """(4, 4) float64 from sample units to the units of the mesh file."""
        matrix = torch.eye(4, dtype=torch.float64)
        for axis, start in enumerate(self.origin):
            matrix[axis, axis], matrix[axis, 3] = self.spacing, start
        return matrix

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON; a place in the world only if the signal has one."""
        data = asdict(self)
        return data if self.origin else {k: v for k, v in data.items() if k not in NO_PLACE}

    @staticmethod
    def from_dict(data: dict[str, Any]) -> Signal:
        """Inverse of `to_dict`.

        Raises:
            ValueError: unknown, missing or senseless entries.
        """
        checked = known_entries(Signal, NO_PLACE | data if isinstance(data, dict) else data)
        try:
            pair = tuple(float(v) for v in checked["value_range"])
            low, high = pair
            shape = tuple(checked["shape"])
            place = {"origin": tuple(float(v) for v in checked["origin"]), "spacing": float(checked["spacing"])}
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
