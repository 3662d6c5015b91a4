"""What rays show, as a picture for a page."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lg_field.radiance.outputs import OUTPUTS as OUTPUTS
from lg_field.viewer.cells import ramp


def to_picture(values: Float[Tensor, "height width channels"]) -> UInt8[np.ndarray, "height width 3"]:
    """(H, W, 3) colours in [0, 1], or (H, W, 1) numbers (NaN = nothing there) -> (H, W, 3) uint8."""
    if values.shape[-1] == 3:
        return (values * 255.0).round().to(torch.uint8).numpy()
    numbers = values[..., 0].double().numpy()
    known = np.isfinite(numbers)
    low, high = (numbers[known].min(), numbers[known].max()) if known.any() else (0.0, 1.0)
    scaled = (np.where(known, numbers, low) - low) / max(high - low, 1e-12)
    return ramp(scaled.reshape(-1)).reshape(*numbers.shape, 3) * known[..., None].astype(np.uint8)
