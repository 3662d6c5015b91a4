"""Denoising: a network learns the picture before it learns the noise; stop in between."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

MEDIAN = 0.6745
"""Of the size of a normal number with standard deviation 1."""


def add_sensor_noise(
    values: Float[Tensor, "*shape"], tau: float, readout: float, generator: torch.Generator
) -> Float[Tensor, "*shape"]:
    """Simulate a sensor: photons are counted (Poisson), and reading them out adds Gaussian noise.

    Args:
        values: (height, width, channels) in [0, 1].
        tau: photons that white (1) is expected to give; infinite = no photon noise, but then `readout` is of values.
        readout: standard deviation of the read-out noise in photons ("SNR" in the INCODE papers' settings).
        generator: random.

    Returns:
        The measured values, in the units of `values` and beyond its range.

    Raises:
        ValueError: settings out of range.
    """
    if not tau > 0.0 or not (math.isfinite(readout) and readout >= 0.0):
        raise ValueError(f"--tau must be positive, --readout-noise finite and not negative, got {tau:g}, {readout:g}")
    noise = torch.randn(values.shape, generator=generator) * readout
    if math.isinf(tau):
        return values + noise
    return (torch.poisson(values.clamp_min(0.0) * tau, generator=generator) + noise) / tau


def non_local_means(values: Float[Tensor, "height width channels"]) -> Float[Tensor, "height width channels"]:
    """Non-local means by scikit-image, its strength from the noise it finds: the classical baseline.

    Args:
        values: (height, width, channels).
    """
    try:
        from skimage.restoration import denoise_nl_means
    except ImportError as error:
        raise ImportError("the baseline needs scikit-image: pip install 'lg-field[restoration]'") from error
    sigma = noise_level(values)
    sizes: dict[str, int] = {"patch_size": 5, "patch_distance": 6, "channel_axis": -1}
    return torch.from_numpy(denoise_nl_means(values.numpy(), h=0.8 * sigma, sigma=sigma, fast_mode=True, **sizes))


def noise_level(values: Float[Tensor, "height width channels"]) -> float:
    """Standard deviation of the noise in (height, width, channels) values: a second difference on both axes removes
    smooth pictures and keeps noise (Immerkaer, 1996), and the median of what is left is little moved by edges."""
    if min(values.shape[:2]) < 3:
        return 0.0
    rough = values.diff(n=2, dim=0).diff(n=2, dim=1)
    return float(rough.abs().median()) / (MEDIAN * 6.0)
