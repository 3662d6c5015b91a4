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
