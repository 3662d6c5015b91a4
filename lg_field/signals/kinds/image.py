"""Images: 8 and 16 bits, grey, RGB and RGBA."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, Shaped
from torch import Tensor

from lg_field.quality import SSIM_WINDOW, ssim
from lg_field.signals.data import SignalData
from lg_field.signals.features import picture_features
from lg_field.signals.kinds.base import Bounds, Figures, Kind
from lg_field.signals.settings import ShapeConfig, Weights
from lg_field.signals.signal import Signal


class Image(Kind):
    """A picture: rows from top to bottom, in each pixels from left to right."""

    name = "image"
    axes = ("y", "x")
    order = (1, 0)
    units = "pixels (x, y)"
    sample = "pixel"
    reads = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
    writes = reads
    cell_size = (32, 32)
    fit = {"lr": 5e-4}
    network = {}
    flat = True

    def read(self, path: Path, options: ShapeConfig) -> SignalData:
        return read_image(path)

    def write(self, slabs: Iterable[Shaped[Tensor, "_ *rest channels"]], path: Path, signal: Signal) -> None:
        write_image(to_pixels(torch.cat(list(slabs)), signal), path)

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
        return to_pixels(samples, signal)


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


def read_image(path: Path) -> SignalData:
    """Read an image; palettes and odd colour modes become RGB or RGBA, 1 bit becomes 8.

    Raises:
        ValueError: not an image, or a broken one.
    """
    import PIL.Image

    try:
        with PIL.Image.open(path) as image:
            deep = any(";16" in str(tile) for tile in getattr(image, "tile", []))  # known only before loading
            image.load()
            if deep or image.mode.startswith("I"):
                array = _read_deep(path)
            else:
                keep = image.mode in ("L", "RGB", "RGBA")
                transparent = image.mode in ("PA", "LA") or "transparency" in image.info
                plain = image if keep else image.convert("L" if image.mode == "1" else "RGBA" if transparent else "RGB")
                array = np.array(plain)
    except (OSError, SyntaxError, PIL.Image.DecompressionBombError) as error:
        raise ValueError(f"{path} is not an image or is broken: {error}") from error
    array = array[..., None] if array.ndim == 2 else array
    wide = array.dtype == np.uint16
    height, width, channels = array.shape
    dtype, top = ("uint16", 65535.0) if wide else ("uint8", 255.0)
    samples = torch.from_numpy(np.ascontiguousarray(array.astype(np.int32) if wide else array))
    return SignalData(samples, Signal("image", (height, width), channels, dtype, (0.0, top)))


def to_pixels(
    samples: Shaped[Tensor, "height width channels"], signal: Signal
) -> Shaped[Tensor, "height width channels"]:
    """Samples as an image file holds them: real numbers are mapped from the value range to 8 bits."""
    if signal.dtype != "float32":
        return samples
    return (signal.normalize(samples).add(1.0) * 127.5).round().clamp(0.0, 255.0).to(torch.uint8)


def write_image(samples: Shaped[Tensor, "height width channels"], path: Path) -> None:
    """Write (height, width, channels) samples, uint8 or 16 bits in int32."""
    array = samples.numpy()
    array = array[..., 0] if array.shape[-1] == 1 else array
    if array.dtype == np.uint8:
        import PIL.Image

        PIL.Image.fromarray(array).save(path)
        return
    import cv2

    order = {3: [2, 1, 0], 4: [2, 1, 0, 3]}
    array = array[..., order[array.shape[-1]]] if array.ndim == 3 else array
    if not cv2.imwrite(str(path), array.astype(np.uint16)):
        raise OSError(f"cannot write 16-bit samples to {path}; use .png or .tif")


def _read_deep(path: Path) -> np.ndarray:
    """16-bit samples, which Pillow reads in grey only."""
    import cv2

    array = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if array is None or array.dtype not in (np.uint8, np.uint16):
        raise OSError("its samples are neither 8 nor 16 bits")
    order = {3: [2, 1, 0], 4: [2, 1, 0, 3]}
    return array[..., order[array.shape[-1]]] if array.ndim == 3 else array
