"""Compositing by owner: a ray's samples come in runs of one owner, and what a run does to light takes a few numbers.

A run alone has an optical thickness tau and weighted sums S of what its samples show. With T the light that gets
through the runs before, prod exp(-tau), the whole ray has sum T S: exactly what compositing all its samples at once
gives (NeRF, eq. 3), whatever the cells' order and shapes. So owners compute their runs and gather (tau, S).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lg_field.radiance.compositing import Samples, accumulate, distances, render_weights, transmittances


class Runs(NamedTuple):
    """The runs of packed samples, in the samples' order; known to all ranks alike."""

    rays: Tensor
    """(R,) ray of each run."""
    owners: Tensor
    """(R,) rank that owns it."""
    of_sample: Tensor
    """(M,) run of each sample."""
    firsts: Tensor
    """(R,) its first sample."""

    @staticmethod
    def of(rays: Int64[Tensor, " samples"], owners: Int64[Tensor, " samples"]) -> Runs:
        """The runs of samples.

        Args:
            rays: (M,) ray of each sample, sorted.
            owners: (M,) rank that owns each.
        """
        begins = torch.ones_like(rays, dtype=torch.bool)
        begins[1:] = (rays[1:] != rays[:-1]) | (owners[1:] != owners[:-1])
        firsts = begins.nonzero()[:, 0]
        return Runs(rays[firsts], owners[firsts], begins.cumsum(0) - 1, firsts)

    def counts(self, size: int) -> list[int]:
        """Runs of each of `size` ranks."""
        return torch.bincount(self.owners, minlength=size).tolist()

    def in_order(self, gathered: Float[Tensor, "runs columns"]) -> Float[Tensor, "runs columns"]:
        """Lines gathered rank by rank -> in the runs' order."""
        return torch.empty_like(gathered).index_copy(0, self.owners.argsort(stable=True), gathered)

    def through(self, thickness: Float[Tensor, " runs"], num_rays: int) -> Float[Tensor, " runs"]:
        """Part of the light that gets through to each run, from the (R,) thickness of all."""
        return transmittances(thickness, self._as_samples(thickness), num_rays)

    def composite(
        self, thickness: Float[Tensor, " runs"], sums: Float[Tensor, "runs columns"], num_rays: int
    ) -> Float[Tensor, "rays columns"]:
        """Weighted sums along whole rays.

        Args:
            thickness: (R,) optical thickness of each run.
            sums: (R, C) of each run as if it stood alone.
            num_rays: N.

        Returns:
            (N, C).
        """
        return accumulate(self.through(thickness, num_rays), sums, self._as_samples(thickness), num_rays)

    def spread(
        self, thickness: Float[Tensor, " runs"], moments: Float[Tensor, "runs 2"], num_rays: int
    ) -> Float[Tensor, ""]:
        """`compositing.spread` of whole rays.

        Args:
            thickness: (R,) of each run.
            moments: (R, 2) of each run alone: weighted sum of places, and its own spread.
            num_rays: N.
        """
        light = self.through(thickness, num_rays)
        between = distances(light * -torch.expm1(-thickness), light * moments[:, 0], self.rays)
        return (between + light.square() * moments[:, 1]).sum() / max(1, num_rays)

    def _as_samples(self, values: Tensor) -> Samples:
        return Samples(self.rays, values.detach(), values.detach())


class OwnRuns(NamedTuple):
    """The samples of one owner, packed by its runs instead of by rays."""

    samples: Samples
    """m samples; `rays` numbers the owner's runs."""
    num: int
    """Number of these runs r."""

    def thickness(self, density: Float[Tensor, " mine"]) -> Float[Tensor, " own_runs"]:
        """(r,) optical thickness of each run."""
        weights = density * self.samples.lengths
        return weights.new_zeros(self.num).index_add(0, self.samples.rays, weights)

    def sums(self, density: Float[Tensor, " mine"], values: Float[Tensor, "mine columns"]) -> Tensor:
        """(r, C) weighted sums of each run as if it stood alone."""
        return accumulate(render_weights(density, self.samples, self.num), values, self.samples, self.num)

    def spreads(self, density: Float[Tensor, " mine"], places: Tensor, lengths: Tensor) -> Tensor:
        """(r, 2) weighted sum of places, and `compositing.spread` of each run alone (a sum, not a mean)."""
        weights = render_weights(density, self.samples, self.num)
        apart = distances(weights, weights * places, self.samples.rays) + weights.square() * lengths / 3.0
        columns = torch.stack([weights * places, apart], dim=1)
        return columns.new_zeros(self.num, 2).index_add(0, self.samples.rays, columns)
