"""Pixels on their way from a file to a signal, with what has to be said about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lg_field.errors import tell
from lg_field.signals.arrays import as_samples
from lg_field.signals.data import SignalData
from lg_field.signals.signal import LIMITS, Signal

RANGED = ("int8", "int16", "int32", "float32")
"""Types that have no black and white of their own: the network's range is that of the values."""


@dataclass
class Raster:
    """A decoded picture."""

    array: np.ndarray
    """(height, width, channels), upright, alpha straight."""
    notes: list[str] = field(default_factory=list)
    """What was left out or taken as something else, in lines."""
    top: float = 0.0
    """The value of white, where it is not the highest of the type; 0 = it is."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """For `Signal.extra`."""

    def note(self, line: str) -> None:
        """Add something to say."""
        self.notes.append(line)

    def drop_premultiplication(self) -> None:
        """Straight alpha of colours that were multiplied by it; the last channel is alpha."""
        array = self.array
        white = float(np.iinfo(array.dtype).max) if array.dtype.kind == "u" else 1.0
        alpha = array[..., -1:].astype(np.float64) / white
        colours = np.divide(array[..., :-1], alpha, out=np.zeros(array[..., :-1].shape), where=alpha > 0)
        colours = np.rint(colours).clip(0.0, white) if array.dtype.kind == "u" else colours
        self.array = np.concatenate([colours.astype(array.dtype), array[..., -1:]], axis=-1)
        self.note("its colours were multiplied by alpha: taken as straight alpha")

    def spread_grey(self) -> None:
        """Grey and alpha as RGB and alpha."""
        self.array = self.array[..., [0, 0, 0, 1]]
        self.note("grey with alpha: taken as RGBA")


def as_image(raster: Raster, path: Path) -> SignalData:
    """A raster as a signal; what there is to say is said.

    Raises:
        ValueError: samples that are no real, finite numbers.
    """
    for line in raster.notes:
        tell(f"{path}: {line}")
    array = raster.array.astype(np.uint8) * 255 if raster.array.dtype == bool else raster.array
    if not array.size:
        raise ValueError(f"{path} has no pixels: there is nothing to encode")
    samples, dtype = as_samples(array, str(path))
    height, width, channels = samples.shape
    return SignalData(
        samples,
        Signal("image", (height, width), channels, dtype, value_range(samples, dtype, raster.top), extra=raster.extra),
    )


def value_range(samples: torch.Tensor, dtype: str, top: float = 0.0) -> tuple[float, float]:
    """The values of an image that the network's -1 and 1 stand for: black and white where they are known.

    Args:
        samples: of any shape.
        dtype: their type, one of `LIMITS`.
        top: the value of white, where it is not the highest of the type.
    """
    if dtype not in RANGED:
        return LIMITS[dtype][0], top or LIMITS[dtype][1]
    low, high = float(samples.min()), float(samples.max())
    if dtype == "float32" and low >= 0.0 and high <= 1.0:
        return 0.0, 1.0
    return (low, high) if low < high else (low, low + max(1.0, abs(low) * 1e-3))
