"""Images: integers and real numbers of any depth, grey, RGB, RGBA and more channels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Float32, Shaped
from torch import Tensor

from lg_field.quality import SSIM_WINDOW, ssim
from lg_field.signals.data import SignalData
from lg_field.signals.features import picture_features
from lg_field.signals.kinds.animation import is_animation
from lg_field.signals.kinds.base import Bounds, Figures, Kind
from lg_field.signals.pictures.hdr import KNEE, linear
from lg_field.signals.pictures.reading import read_image
from lg_field.signals.pictures.writing import to_pixels as to_pixels
from lg_field.signals.pictures.writing import write_image as write_image
from lg_field.signals.pictures.writing import write_signal
from lg_field.signals.settings import ShapeConfig, Weights
from lg_field.signals.signal import Signal


class Image(Kind):
    """A picture: rows from top to bottom, in each pixels from left to right."""

    name = "image"
    axes = ("y", "x")
    order = (1, 0)
    units = "pixels (x, y)"
    sample = "pixel"
    writes = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".exr", ".hdr")
    reads = (*writes, ".gif", ".avif", ".heic", ".heif")
    cell_size = (32, 32)
    fit = {"lr": 5e-4}
    network = {}
    flat = True

    def matches(self, path: Path) -> bool:
        """A still: animations are videos."""
        return super().matches(path) and not is_animation(path)

    def read(self, path: Path, options: ShapeConfig) -> SignalData:
        return read_image(path)

    def write(self, slabs: Iterable[Shaped[Tensor, "_ *rest channels"]], path: Path, signal: Signal) -> None:
        write_signal(torch.cat(list(slabs)), path, signal)

    def stored(self, samples: Shaped[Tensor, "*shape"], signal: Signal) -> Shaped[Tensor, "*shape"]:
        return linear(samples, signal.extra)

    def check_extra(self, extra: Mapping[str, Any]) -> None:
        """What linear float pictures say: the knee of their logarithm, and whether they were of 16 bits."""
        knee = extra.get(KNEE, 1.0)
        sound = (
            isinstance(knee, (int, float)) and 0.0 < knee < float("inf") and isinstance(extra.get("half", True), bool)
        )
        if not (sound and extra.keys() <= {KNEE, "half"}):
            raise ValueError(f"extra of an image may have a positive {KNEE} and half, true or false; got {dict(extra)}")

    def features(
        self, samples: Shaped[Tensor, "*shape channels"], signal: Signal, weights: Weights = "random"
    ) -> Float32[Tensor, " features"]:
        return picture_features(signal.normalize(samples), weights)

    def figures(self, signal: Signal) -> Figures:
        return PictureSimilarity() if min(signal.shape) >= SSIM_WINDOW else Figures()

    def still(self, signal: Signal) -> Bounds | None:
        return (0.0, 0.0), (float(signal.shape[0]), float(signal.shape[1]))

    def picture(
        self, samples: Shaped[Tensor, "*shape channels"], signal: Signal
    ) -> Shaped[Tensor, "height width channels"]:
        channels = samples.shape[-1]
        shown = samples if channels in (1, 3, 4) else samples[..., : 3 if channels > 4 else 1]
        return to_pixels(shown, signal)


class PictureSimilarity(Figures):
    """SSIM of a picture."""

    def __init__(self) -> None:
        self.decoded: list[Tensor] = []
        self.true: list[Tensor] = []

    def add(self, decoded: Float[Tensor, "*values"], true: Float[Tensor, "*values"]) -> None:
        self.decoded.append(decoded)
        self.true.append(true)

    def result(self) -> dict[str, float]:
        return {"ssim": ssim(torch.cat(self.decoded), torch.cat(self.true))}
