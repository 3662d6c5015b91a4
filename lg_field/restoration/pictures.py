"""Pictures in and out of restoration: files as signals, metrics against a reference."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from jaxtyping import Float, Float32, Shaped
from torch import Tensor

from lg_field.quality import SSIM_WINDOW, mean_squared_error, psnr, ssim
from lg_field.signals.arrays import is_array, read_array
from lg_field.signals.data import SignalData
from lg_field.signals.reading import read_signal
from lg_field.signals.signal import Signal

PICTURE = "image"
"""The kind of signal that pictures are."""


def read_picture(path: Path) -> SignalData:
    """An image file, or a .npy of (height, width) or (height, width, channels) values of about 0 to 1.

    An array may hold values beyond 0 and 1, as noise has them; its samples are kept unrounded, in units of 8 bits.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another kind of file, a broken one, or one with NaN or infinite values.
    """
    if not is_array(path):
        data = read_signal(path)
        if not isinstance(data, SignalData) or len(data.signal.shape) != 2:
            raise ValueError(f"{path} is of kind {data.signal.kind}, a picture is needed")
        return data
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    values = read_array(path)
    values = values[..., None] if values.dim() == 2 else values
    if values.dim() != 3 or not 1 <= values.shape[2] <= 4:
        raise ValueError(f"{path} has shape {tuple(values.shape)}; (height, width[, 1 to 4 channels]) is needed")
    return from_values(values)


def from_values(values: Float[Tensor, "height width channels"]) -> SignalData:
    """(height, width, channels) values, 0 = black and 1 = white, as an image of 8 bits (unrounded)."""
    height, width, channels = values.shape
    return SignalData(values.float() * 255.0, Signal(PICTURE, (height, width), channels))


def values_of(data: SignalData) -> Float32[Tensor, "height width channels"]:
    """(height, width, channels) float32 values, 0 = lowest of the type and 1 = highest."""
    return data.signal.normalize(data.samples) * 0.5 + 0.5


def to_samples(
    values: Float[Tensor, "height width channels"], signal: Signal
) -> Shaped[Tensor, "height width channels"]:
    """Inverse of `values_of`: samples of the signal's type."""
    return signal.denormalize(values * 2.0 - 1.0)


def to_grey(data: SignalData) -> SignalData:
    """The mean of the colours; alpha is left out."""
    colours = data.samples[..., : 3 if data.signal.channels >= 3 else 1].float()
    return SignalData(colours.mean(-1, keepdim=True), replace(data.signal, channels=1))


def compare(
    picture: Float[Tensor, "height width channels"], reference: Float[Tensor, "true_height true_width true_channels"]
) -> dict[str, float]:
    """PSNR and, where the picture is large enough, SSIM of (height, width, channels) values, clipped to [0, 1].

    Raises:
        ValueError: pictures of different shapes.
    """
    if picture.shape != reference.shape:
        raise ValueError(
            f"the result has (height, width, channels) {tuple(picture.shape)}, the reference {tuple(reference.shape)}"
        )
    a, b = picture.clamp(0.0, 1.0), reference.clamp(0.0, 1.0)
    result = {"psnr": psnr(mean_squared_error(a, b))}
    return result | ({"ssim": ssim(a, b)} if min(a.shape[:2]) >= SSIM_WINDOW else {})
