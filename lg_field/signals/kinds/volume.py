"""Volumes: three axes of numbers in an array file."""

from __future__ import annotations

from pathlib import Path

from jaxtyping import Float32, Shaped
from torch import Tensor

from lg_field.signals.arrays import ARRAYS, holds_booleans, is_array, read_samples
from lg_field.signals.data import SignalData
from lg_field.signals.features import volume_features
from lg_field.signals.kinds.base import Kind
from lg_field.signals.settings import ShapeConfig, Weights
from lg_field.signals.signal import Signal


class Volume(Kind):
    """Numbers on a grid of x, y and z."""

    name = "volume"
    axes = ("x", "y", "z")
    units = "voxels"
    reads = ARRAYS
    cell_size = (32, 32, 32)
    fit = {"lr": 1e-4, "steps": 2000, "sample_fraction": 0.02, "overlap": 1}
    surface = True

    def matches(self, path: Path) -> bool:
        """An array of anything but booleans, which are a shape."""
        return is_array(path) and not holds_booleans(path)

    def read(self, path: Path, options: ShapeConfig) -> SignalData:
        samples, dtype = read_samples(path)
        return as_volume(samples, dtype, str(path))

    def features(
        self, samples: Shaped[Tensor, "*shape channels"], signal: Signal, weights: Weights = "random"
    ) -> Float32[Tensor, " features"]:
        return volume_features(signal.normalize(samples), weights)


def as_volume(samples: Shaped[Tensor, "*shape"], dtype: str, name: str, kind: str = "volume") -> SignalData:
    """(x, y, z) samples as a signal; the network's range is that of the samples.

    Args:
        samples: the numbers.
        dtype: their type, one of `LIMITS`.
        name: of their file, for messages.
        kind: of the signal.

    Raises:
        ValueError: other axes, or nothing but one value.
    """
    if samples.dim() != 3 or not samples.numel():
        raise ValueError(f"{name} has shape {tuple(samples.shape)}; a volume (x, y, z) is needed")
    low, high = float(samples.min()), float(samples.max())
    if not low < high:
        raise ValueError(f"{name} is constant ({low:g}): there is nothing to encode")
    nx, ny, nz = samples.shape
    return SignalData(samples[..., None], Signal(kind, (nx, ny, nz), 1, dtype, (low, high)))
