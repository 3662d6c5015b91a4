"""How close a picture or a signal is to the true one: PSNR and SSIM, the one place where they are computed."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

SSIM_WINDOW = 11
"""Pixels that SSIM's window is wide; smaller pictures have none."""
SSIM_PIXELS = 1 << 20
"""Pixels compared at a time: SSIM takes some 740 bytes for each of three channels."""
FIT_PIXELS = 100
"""Colours are fitted to at least so many pixels: an affine change has twelve numbers."""
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
    height, width = a.shape[:2]
    rows, margin, total = max(SSIM_WINDOW, SSIM_PIXELS // width), SSIM_WINDOW // 2, 0.0
    for begin in range(0, height, rows):
        top, end = max(0, begin - margin), min(height, begin + rows)
        first, second = (x[top : end + margin].movedim(-1, 0)[None] for x in (a, b))
        _, each = structural_similarity_index_measure(first, second, data_range=1.0, return_full_image=True)
        total += float(each[0, :, begin - top : end - top].double().mean()) * (end - begin)
    return total / height


def color_fitted(
    rendered: Float[Tensor, "height width 3"],
    truth: Float[Tensor, "height width 3"],
    fit: Bool[Tensor, "height width"],
) -> Float[Tensor, "height width 3"]:
    """A rendered picture in the colours of the true one: after the affine change of colour, (3, 4) numbers, that brings
    some of its pixels nearest to it.

    What a photo's exposure and white balance do is no fault of a field that never saw it. The fit is to the whole photo
    by least squares (as in RawNeRF, Mildenhall et al., CVPR 2022); of changes that fit alike it is the smallest.

    Args:
        rendered: in [0, 1].
        truth: in [0, 1].
        fit: the pixels that are fitted and changed, at least `FIT_PIXELS`; fewer: none.

    Returns:
        in [0, 1]; mean squared error against the truth, over any pixels that hold all of `fit`, is not larger than
        before.
    """
    if int(fit.sum()) < FIT_PIXELS:
        return rendered
    before = rendered[fit].double()
    known = torch.cat([before, torch.ones_like(before[:, :1])], dim=1)
    change = torch.linalg.pinv(known.T @ known, hermitian=True) @ (known.T @ (truth[fit].double() - before))
    fitted = rendered.clone()
    fitted[fit] = (before + known @ change).clamp(0.0, 1.0).to(rendered)
    return fitted
