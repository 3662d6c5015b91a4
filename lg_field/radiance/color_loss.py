"""The loss of colour: the mean squared error, or one that what a single photo shows weighs less in."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def color_loss(
    rgb: Float[Tensor, "rays 3"], truth: Float[Tensor, "rays 3"], proportional_from: float = 0.0
) -> Float[Tensor, ""]:
    """Mean error of colour: the square of differences, but from a certain size on in proportion to it (Huber 1964).

    Photos of other times show passers-by and cars, of which no other photo knows. By squares they outweigh all others
    and leave ghosts; in proportion they are outvoted.

    Args:
        rgb: (N, 3) rendered.
        truth: (N, 3) of the photo.
        proportional_from: where squares end: there both have the same value and slope. 0 = squares throughout.
    """
    if not proportional_from:
        return torch.nn.functional.mse_loss(rgb, truth)
    return 2.0 * torch.nn.functional.huber_loss(rgb, truth, delta=proportional_from)
