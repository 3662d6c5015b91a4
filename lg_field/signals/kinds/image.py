"""Images: integers and real numbers of any depth, grey, RGB, RGBA and more channels."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from jaxtyping import Float, Float32, Shaped
from torch import Tensor

from lg_field.quality import SSIM_WINDOW, ssim
from lg_field.signals.data import SignalData
from lg_field.signals.features import picture_features
from lg_field.signals.kinds.animation import is_animation
from lg_field.signals.kinds.base import Bounds, Figures, Kind
from lg_field.signals.own_places import ImagePlaces
from lg_field.signals.pictures.hdr import linear
from lg_field.signals.pictures.reading import read_image
from lg_field.signals.pictures.writing import to_pixels as to_pixels
from lg_field.signals.pictures.writing import write_image as write_image
from lg_field.signals.pictures.writing import write_signal
from lg_field.signals.settings import ShapeConfig, Weights
from lg_field.signals.signal import Signal


class Image(ImagePlaces, Kind):
    """A picture: rows from top to bottom, in each pixels from left to right."""

    writes = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".exr", ".hdr")
    reads = (*writes, ".gif", ".avif", ".heic", ".heif")
    cell_size = (32, 32)
    fit = {"lr": 2e-3, "lr_factor": 0.1, "steps": 0, "points": 1 << 18, "stratified": True, "center_cells": True}
    incode_rate = 0.25
    network = {"per_sample": 0.8, "global_share": 0.0, "coordinate_step": 1 / 96}

    def matches(self, path: Path) -> bool:
        """A still: animations are videos."""
        return super().matches(path) and not is_animation(path)

    def read(self, path: Path, options: ShapeConfig) -> SignalData:
        return read_image(path)

    def write(self, slabs: Iterable[Shaped[Tensor, "_ *rest channels"]], path: Path, signal: Signal) -> None:
        write_signal(torch.cat(list(slabs)), path, signal)

    def stored(self, samples: Shaped[Tensor, "*shape"], signal: Signal) -> Shaped[Tensor, "*shape"]:
        return linear(samples, signal.extra)

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
