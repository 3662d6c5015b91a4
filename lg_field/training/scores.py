"""How well an image of a data set is shown, and over which of its pixels.

Pixels that a mask leaves out (`masks "ignore"`) count nowhere. An image with alpha (masks that
mean empty space are alpha, too) is compared as a whole, on the background of renders, and once more where it is there:
a small object on much background is right nearly everywhere whatever it looks like.

A photo of another exposure is missed by every field that has the colours of the others. How much of its error that is
says a score of its own, after the affine change of colour that fits the photo best; it never stands for psnr.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lg_field.quality import SSIM_WINDOW, color_fitted, mean_squared_error, psnr, ssim

INSIDE = 0.5
"""Alpha from which a pixel is inside."""


def image_scores(
    rgb: Float[Tensor, "height width 3"],
    truth: Float[Tensor, "height width 3"],
    alpha: Float[Tensor, "height width"] | None = None,
    counted: Bool[Tensor, "height width"] | None = None,
) -> dict[str, float]:
    """Scores of a rendered image.

    Args:
        rgb: rendered, [0, 1].
        truth: on the same background, [0, 1].
        alpha: of the true image, [0, 1]; None = it has none.
        counted: pixels that say something; None = all.

    Returns:
        psnr in dB, psnr_color_fitted over the same pixels after `color_fitted` (to those that count, of alpha above
        `INSIDE`) and, if its window fits, ssim, with the true colours where pixels do not count. With `counted` also
        the part of the pixels that do; with alpha psnr_inside, over the counted pixels of alpha above `INSIDE` (psnr
        where there is none).
    """
    every = torch.ones_like(rgb[..., 0], dtype=torch.bool) if counted is None else counted
    over = every if bool(every.any()) else torch.ones_like(every)
    fitted = color_fitted(rgb, truth, every if alpha is None else every & (alpha > INSIDE))
    scores = {
        "psnr": psnr(mean_squared_error(rgb[over], truth[over])),
        "psnr_color_fitted": psnr(mean_squared_error(fitted[over], truth[over])),
    }
    if min(rgb.shape[:2]) >= SSIM_WINDOW:
        scores["ssim"] = ssim(torch.where(every[..., None], rgb, truth), truth)
    if counted is not None:
        scores["counted_pixels"] = float(counted.double().mean())
    if alpha is not None:
        inside = every & (alpha > INSIDE)
        there = bool(inside.any())
        scores["psnr_inside"] = psnr(mean_squared_error(rgb[inside], truth[inside])) if there else scores["psnr"]
    return scores
