"""Pictures in and out of restoration: files as signals, metrics against a reference."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float, Float32, Shaped
from torch import Tensor

from lg_field.errors import tell
from lg_field.quality import SSIM_WINDOW, mean_squared_error, psnr, ssim
from lg_field.signals.arrays import is_array, read_samples
from lg_field.signals.data import SignalData
from lg_field.signals.inputs import as_file
from lg_field.signals.parts import split_part
from lg_field.signals.reading import read_signal
from lg_field.signals.signal import LIMITS, Signal

PICTURE = "image"
"""The kind of signal that pictures are."""
NOISE = 4.0
"""Noise hardly carries values of a picture from 0 to 1 further than this."""


def read_picture(path: Path) -> SignalData:
    """An image file, or an array of (height, width) or (height, width, channels) values, as a picture.

    What black and white are of an array, see `white_of`. Values beyond them, as noise has them, are kept.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another kind of file, a broken one, or one with NaN or infinite values.
    """
    with as_file(path) as given:
        if is_array(given):
            return _array_picture(given)
        data = read_signal(given)
        if not isinstance(data, SignalData) or len(data.signal.shape) != 2:
            raise ValueError(f"{given} is of kind {data.signal.kind}, a picture is needed (one frame: {given}:1)")
        return data


def _array_picture(path: Path) -> SignalData:
    """See `read_picture`."""
    if not split_part(path)[0].is_file():
        raise FileNotFoundError(f"{path} does not exist")
    values, dtype = read_samples(path)
    values, dtype = (values.to(torch.uint8), "uint8") if dtype == "bool" else (values, dtype)
    values = values[..., None] if values.dim() == 2 else values
    if values.dim() != 3 or not 1 <= values.shape[2] <= 4 or not values.numel():
        raise ValueError(f"{path} has shape {tuple(values.shape)}; (height, width[, 1 to 4 channels]) is needed")
    height, width, channels = values.shape
    black_and_white = white_of(values, dtype, str(path))
    return SignalData(values, Signal(PICTURE, (height, width), channels, dtype, black_and_white))


def white_of(values: Shaped[Tensor, "*shape"], dtype: str, name: str) -> tuple[float, float]:
    """Which values of an array are black and white.

    uint8 and uint16: the ends of the type; of nothing but 0 and 1, those. Real numbers: 0 and 1, unless more than a
    thousandth of them lies beyond `NOISE`; of these and of other integers 0 and 255 or 0 and 65535 if they fit, else
    the lowest and the highest value. What is not plain is said.

    Args:
        values: of the array.
        dtype: their type, one of `LIMITS`.
        name: of the file, for messages.
    """
    low, high = float(values.min()), float(values.max())
    if dtype in ("uint8", "uint16"):
        if low >= 0.0 and 0.0 < high <= 1.0:
            tell(f"{name} holds 0 and 1 only: taken as black and white")
            return 0.0, 1.0
        return LIMITS[dtype]
    if dtype == "float32" and float((values.abs() > NOISE).float().mean()) <= 1e-3:
        if high > 2.0 or low < -1.0:
            tell(f"{name} holds values from {low:g} to {high:g}: taken as 0 = black, 1 = white, and noise beyond")
        return 0.0, 1.0
    fits = [top for top in (255.0, 65535.0) if low >= -0.5 * top and high <= 1.5 * top and dtype == "float32"]
    fits += [top for top in (255.0, 65535.0) if low >= 0.0 and high <= top and dtype != "float32"]
    black, white = (0.0, fits[0]) if fits else (low, max(high, low + 1.0))
    tell(f"{name} holds {dtype} from {low:g} to {high:g}: taken as {black:g} = black, {white:g} = white")
    return black, white


def from_values(values: Float[Tensor, "height width channels"], like: Signal | None = None) -> SignalData:
    """(height, width, channels) values, 0 = black and 1 = white, as a picture whose samples are not rounded.

    Args:
        values: the picture.
        like: a signal of the same type and range; None = 8 bits.
    """
    height, width, channels = values.shape
    signal = replace(like or Signal(PICTURE, (1, 1), channels), shape=(height, width), channels=channels)
    low, high = signal.value_range
    return SignalData(values.float() * (high - low) + low, signal)


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
