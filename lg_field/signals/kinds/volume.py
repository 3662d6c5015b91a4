"""Volumes: three axes of numbers in an array file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import torch
from jaxtyping import Float32, Shaped
from torch import Tensor

from lg_field.signals.arrays import ARRAYS, as_samples, holds_booleans, is_array, load_array
from lg_field.signals.data import SignalData
from lg_field.signals.features import volume_features
from lg_field.signals.kinds.base import Kind
from lg_field.signals.own_places import VolumePlaces
from lg_field.signals.pictures.stack import TIFF, read_stack, write_stack
from lg_field.signals.settings import ShapeConfig, Weights
from lg_field.signals.signal import Signal


class Volume(VolumePlaces, Kind):
    """Numbers on a grid of x, y and z."""

    reads: ClassVar[tuple[str, ...]] = ARRAYS
    on_request: ClassVar[tuple[str, ...]] = TIFF
    writes: ClassVar[tuple[str, ...]] = TIFF
    cell_size = (32, 32, 32)
    fit = {
        "lr": 7e-4,
        "lr_factor": 0.03,
        "steps": 2000,
        "sample_fraction": 0.02,
        "stratified": True,
        "overlap": 1,
        "center_cells": True,
    }
    network = {**Kind.network, "per_sample": 0.2, "global_share": 0.0, "coordinate_step": 1 / 32}
    incode_rate = 0.25
    surface = True

    def matches(self, path: Path) -> bool:
        """An array of anything but booleans, which are a shape."""
        return is_array(path) and not holds_booleans(path)

    def read(self, path: Path, options: ShapeConfig) -> SignalData:
        array = load_array(path) if is_array(path) else read_stack(path)
        check_shape(array.shape, str(path))
        return as_volume(*as_samples(array, str(path)), str(path))

    def write(self, slabs: Iterable[Shaped[Tensor, "_ *rest channels"]], path: Path, signal: Signal) -> None:
        write_stack(torch.cat(list(slabs))[..., 0].numpy().astype(signal.dtype), path)

    def features(
        self, samples: Shaped[Tensor, "*shape channels"], signal: Signal, weights: Weights = "random"
    ) -> Float32[Tensor, " features"]:
        return volume_features(signal.normalize(samples), weights)


def as_volume(samples: Shaped[Tensor, "*shape"], dtype: str, name: str, kind: str = "volume") -> SignalData:
    """(x, y, z) samples as a signal; the network's range is that of the samples.

    Args:
        samples: the numbers, (x, y, z) or (x, y, z, 1).
        dtype: their type, one of `LIMITS`.
        name: of their file, for messages.
        kind: of the signal.

    Raises:
        ValueError: other axes, or nothing but one value.
    """
    check_shape(tuple(samples.shape), name)
    samples = samples[..., 0] if samples.dim() == 4 else samples
    low, high = float(samples.min()), float(samples.max())
    if not low < high:
        raise ValueError(f"{name} is constant ({low:g}): there is nothing to encode")
    nx, ny, nz = samples.shape
    return SignalData(samples[..., None], Signal(kind, (nx, ny, nz), 1, dtype, (low, high)))


def check_shape(shape: tuple[int, ...], name: str) -> None:
    """Raise ValueError unless an array of this shape is a volume: (x, y, z), or (x, y, z, 1) as decoded ones are."""
    axes = len(shape)
    if 0 in shape or not (axes == 3 or (axes == 4 and shape[-1] == 1)):
        cure = {2: " (a picture: save it as .tif or .png)", 4: " (several channels: save them one by one)"}.get(
            axes, ""
        )
        raise ValueError(f"{name} has shape {shape}; a volume (x, y, z) is needed{cure}")
