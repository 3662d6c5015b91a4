"""Volume rendering of packed samples in pure torch, on every device."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Samples(NamedTuple):
    """Packed samples, sorted by ray and then by distance."""

    rays: Tensor
    """(M,) int64 ray of each sample."""
    starts: Tensor
    """(M,) distance along the ray where the sample's interval begins, scene units."""
    ends: Tensor
    """(M,) and where it ends."""

    @property
    def middles(self) -> Tensor:
        """(M,) distance of the interval's middle."""
        return 0.5 * (self.starts + self.ends)


def render_weights(density: Tensor, samples: Samples, num_rays: int) -> Tensor:
    """Weight of each sample, T (1 - exp(-density dt)) with T the transmittance before it (NeRF, eq. 3).

    Args:
        density: (M,) per scene unit.
        samples: packed intervals.
        num_rays: N.

    Returns:
        (M,), differentiable in density.
    """
    thickness = density * (samples.ends - samples.starts)
    passed = torch.cumsum(thickness.double(), 0)
    first = torch.searchsorted(samples.rays, torch.arange(num_rays, device=density.device))
    before_ray = torch.cat([passed.new_zeros(1), passed])[first]
    transmittance = torch.exp(-(passed - thickness - before_ray[samples.rays])).to(density.dtype)
    return transmittance * -torch.expm1(-thickness)


def composite(
    density: Tensor, colors: Tensor, samples: Samples, num_rays: int, far: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Volume rendering of samples.

    Args:
        density: (M,) per scene unit.
        colors: (M, 3).
        samples: packed intervals.
        num_rays: N.
        far: depth of rays that hit nothing.

    Returns:
        (N, 3) colour without background, (N, 1) accumulation, (N, 1) mean depth along the ray, scene units.
    """
    weights = render_weights(density, samples, num_rays)
    rgb = accumulate(weights, colors, samples, num_rays)
    accumulation = accumulate(weights, None, samples, num_rays)
    depth = accumulate(weights, samples.middles[:, None], samples, num_rays) / accumulation.clamp_min(1e-6)
    return rgb, accumulation, torch.where(accumulation > 1e-3, depth, far)


def accumulate(weights: Tensor, values: Tensor | None, samples: Samples, num_rays: int) -> Tensor:
    """Sum of weighted values along each ray.

    Args:
        weights: (M,).
        values: (M, C), None for the weights alone (C = 1: accumulation).
        samples: packed intervals.
        num_rays: N.

    Returns:
        (N, C).
    """
    weighted = weights[:, None] if values is None else weights[:, None] * values
    return weighted.new_zeros(num_rays, weighted.shape[1]).index_add(0, samples.rays, weighted)
