"""Super-resolution: fit a network to the coarse picture, ask it for values between the samples."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor


def check_scale(scale: float) -> None:
    """Raise ValueError unless the scale enlarges."""
    if not (math.isfinite(scale) and 1.0 < scale <= 64.0):
        raise ValueError(f"--scale must be more than 1 and at most 64, got {scale:g}")


def downsample(
    values: Float[Tensor, "height width channels"], scale: float
) -> tuple[Float[Tensor, "coarse_height coarse_width channels"], Float[Tensor, "cut_height cut_width channels"]]:
    """Simulate the coarse picture: each of its pixels is the mean of scale x scale fine ones.

    Args:
        values: (height, width, channels).
        scale: a whole number.

    Returns:
        The coarse picture, and the fine one cut at the bottom and the right to whole coarse pixels.

    Raises:
        ValueError: a broken scale, or a picture smaller than one coarse pixel.
    """
    check_scale(scale)
    step = round(scale)
    if step != scale:
        raise ValueError(f"--simulate averages whole pixels: --scale must be a whole number, got {scale:g}")
    height, width = (n // step for n in values.shape[:2])
    if min(height, width) < 1:
        raise ValueError(f"a picture of {tuple(values.shape[:2])} pixels is too small for --scale {step}")
    fine = values[: height * step, : width * step]
    return fine.reshape(height, step, width, step, -1).mean((1, 3)), fine


def bicubic(
    values: Float[Tensor, "height width channels"], shape: tuple[int, ...]
) -> Float[Tensor, "fine_height fine_width channels"]:
    """(height, width, channels) -> (*shape, channels) by bicubic interpolation: the classical baseline."""
    planes = values.movedim(-1, 0)[None]
    return torch.nn.functional.interpolate(planes, shape, mode="bicubic", align_corners=False)[0].movedim(0, -1)
