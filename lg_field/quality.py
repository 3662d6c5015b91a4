"""How close a picture or a signal is to the true one: PSNR and SSIM, the one place where they are computed."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor

SSIM_WINDOW = 11
"""Pixels that SSIM's window is wide; smaller pictures have none."""
LEAST_ERROR = 1e-12
"""A smaller mean squared error counts as this: 120 dB are the most."""


def psnr(mse: float) -> float:
    """Peak signal to noise ratio in dB of a mean squared error of values whose peak is 1."""
    return -10.0 * math.log10(max(mse, LEAST_ERROR))


def mean_squared_error(a: Float[Tensor, "*values"], b: Float[Tensor, "*values"]) -> float:
    """Mean squared difference, summed in float64."""
    return float((a - b).double().square().mean())


def ssim(a: Float[Tensor, "height width channels"], b: Float[Tensor, "height width channels"]) -> float:
    """Structural similarity (Wang et al., 2004; Gaussian window of 11 pixels) of pictures in [0, 1].

    Raises:
        ValueError: a picture smaller than the window.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    if min(a.shape[:2]) < SSIM_WINDOW:
        raise ValueError(f"SSIM needs pictures of at least {SSIM_WINDOW} pixels a side, got {tuple(a.shape[:2])}")
    first, second = (x.movedim(-1, 0)[None] for x in (a, b))
    return float(structural_similarity_index_measure(first, second, data_range=1.0))  # type: ignore[arg-type]
