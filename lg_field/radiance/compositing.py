"""Volume rendering of packed samples in pure torch, on every device, and what lies behind it."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable

from lg_field.constants import constant, counting


class Samples(NamedTuple):
    """Packed samples, sorted by ray and then by distance."""

    rays: Tensor
    """(M,) int64 ray of each sample."""
    starts: Tensor
    """(M,) distance along the ray where the sample's interval begins, scene units."""
    ends: Tensor
    """(M,) and where it ends."""

    @property
    def middles(self) -> Float[Tensor, " samples"]:
        """(M,) distance of the interval's middle."""
        return 0.5 * (self.starts + self.ends)

    @property
    def lengths(self) -> Float[Tensor, " samples"]:
        """(M,) of the intervals."""
        return self.ends - self.starts

    def positions(
        self, origins: Float[Tensor, "rays 3"], directions: Float[Tensor, "rays 3"]
    ) -> Float[Tensor, "samples 3"]:
        """Scene points in the middles of the samples.

        Args:
            origins: (N, 3) of the rays.
            directions: (N, 3) unit vectors.
        """
        ends = self.starts + self.ends
        return (directions[self.rays] * ends[:, None]).div_(2).add_(origins[self.rays])


def render_weights(density: Float[Tensor, " samples"], samples: Samples, num_rays: int) -> Float[Tensor, " samples"]:
    """Weight of each sample, T (1 - exp(-density dt)) with T the transmittance before it (NeRF, eq. 3).

    Args:
        density: (M,) per scene unit.
        samples: packed intervals.
        num_rays: N.

    Returns:
        (M,), differentiable in density.
    """
    thickness = density * samples.lengths
    return transmittances(thickness, samples, num_rays) * -torch.expm1(-thickness)


def weights_and_light(
    thickness: Float[Tensor, " samples"], samples: Samples, num_rays: int, least_light: float = 0.0
) -> tuple[Float[Tensor, " samples"], Bool[Tensor, " samples"]]:
    """`render_weights` from the (M,) optical thickness of the samples, with a backward pass of few operations.

    Args:
        thickness: (M,).
        samples: packed intervals.
        num_rays: N.
        least_light: samples that less than this part of the light gets through to weigh nothing.

    Returns:
        (M,) weights, once differentiable, and (M,) whether enough light gets through to each sample.
    """
    weights, shown = _Weights.apply(thickness, samples, num_rays, least_light)
    return weights, shown


class _Weights(torch.autograd.Function):
    """With w = T (1 - exp(-x)), T the transmittance: dw_i / dx_i = T_i - w_i, dw_j / dx_i = -w_j for later j."""

    @staticmethod
    def forward(
        ctx: Any, thickness: Tensor, samples: Samples, num_rays: int, least_light: float
    ) -> tuple[Tensor, Tensor]:
        through = transmittances(thickness, samples, num_rays)
        shown = through >= least_light
        through = torch.where(shown, through, 0.0)
        weights = through * torch.expm1(-thickness).neg_()
        ctx.save_for_backward(samples.rays, through, weights)
        ctx.num_rays = num_rays
        ctx.mark_non_differentiable(shown)
        return weights, shown

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        rays, through, weights = ctx.saved_tensors
        passed = (grad * weights).cumsum(0, dtype=torch.float64)
        last = torch.searchsorted(rays, counting(ctx.num_rays, rays), right=True)
        of_rays = torch.cat([constant((0.0,), passed), passed])[last]
        behind = of_rays[rays] - passed
        return torch.addcmul(-behind, grad, through - weights).to(grad.dtype), None, None, None


def transmittances(thickness: Float[Tensor, " samples"], samples: Samples, num_rays: int) -> Float[Tensor, " samples"]:
    """Part of the light that gets through to each sample, from the (M,) optical thickness of all of them."""
    passed = torch.cumsum(thickness.double(), 0)
    first = torch.searchsorted(samples.rays, counting(num_rays, samples.rays))
    before_ray = torch.cat([constant((0.0,), passed), passed])[first]
    return torch.exp(before_ray[samples.rays] - (passed - thickness)).to(thickness.dtype)


def composite(
    density: Float[Tensor, " samples"],
    colors: Float[Tensor, "samples channels"],
    samples: Samples,
    num_rays: int,
    far: float,
) -> tuple[Float[Tensor, "rays channels"], Float[Tensor, "rays 1"], Float[Tensor, "rays 1"]]:
    """Volume rendering of samples.

    Args:
        density: (M,) per scene unit.
        colors: (M, 3); (M, 0) where only the rest is wanted.
        samples: packed intervals.
        num_rays: N.
        far: depth of rays that hit nothing.

    Returns:
        (N, 3) colour without background, (N, 1) accumulation, (N, 1) mean depth along the ray, scene units.
    """
    return composite_weights(render_weights(density, samples, num_rays), colors, samples, num_rays, far)


def composite_weights(
    weights: Float[Tensor, " samples"],
    colors: Float[Tensor, "samples channels"],
    samples: Samples,
    num_rays: int,
    far: float,
) -> tuple[Float[Tensor, "rays channels"], Float[Tensor, "rays 1"], Float[Tensor, "rays 1"]]:
    """`composite` of samples whose (M,) `render_weights` are known."""
    weighted = torch.cat([weights[:, None] * colors, weights[:, None], (weights * samples.middles)[:, None]], dim=1)
    sums = weighted.new_zeros(num_rays, weighted.shape[1]).index_add_(0, samples.rays, weighted)
    rgb, accumulation, depth = sums.split([colors.shape[1], 1, 1], dim=1)
    return rgb, accumulation, depths(depth, accumulation, far)


def depths(
    weighted: Float[Tensor, "rays 1"], accumulation: Float[Tensor, "rays 1"], far: float
) -> Float[Tensor, "rays 1"]:
    """Mean depth along rays, from the sum of weighted distances; `far` where next to nothing is hit."""
    return torch.where(accumulation > 1e-3, weighted / accumulation.clamp_min(1e-6), far)


def accumulate(
    weights: Float[Tensor, " samples"],
    values: Float[Tensor, "samples channels"] | None,
    samples: Samples,
    num_rays: int,
) -> Float[Tensor, "rays channels"]:
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
    return weighted.new_zeros(num_rays, weighted.shape[1]).index_add_(0, samples.rays, weighted)


def spread(
    weights: Float[Tensor, " samples"],
    places: Float[Tensor, " samples"],
    lengths: Float[Tensor, " samples"],
    samples: Samples,
    num_rays: int,
) -> Float[Tensor, ""]:
    """How far apart along its ray what a ray sees lies: the distortion loss (mip-NeRF 360, eq. 15), a mean over rays.

    Args:
        weights: (M,) of `render_weights`.
        places: (M,) of the samples' middles along their ray, in any measure that grows.
        lengths: (M,) of their intervals in it.
        samples: packed intervals.
        num_rays: N.
    """
    total: Tensor = _Spread.apply(weights, places, lengths, samples.rays)
    return total / max(1, num_rays)


class _Spread(torch.autograd.Function):
    """Sum over samples of `distances` and of a third of their squared weights times lengths, by weights.

    It is a quadratic form of the weights: half of their product with its gradient, which is found at once."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, places: Tensor, lengths: Tensor, rays: Tensor) -> Tensor:
        values = torch.stack([weights, weights * places]).double()
        passed = torch.nn.functional.pad(values.cumsum(1), (1, 0))
        first, last = torch.searchsorted(rays, rays), torch.searchsorted(rays, rays, right=True)
        ahead, moment = passed[:, :-1] + passed[:, 1:] - passed[:, first] - passed[:, last]  # before it less behind it
        grad = torch.addcmul(torch.addcmul(-moment, places, ahead), weights, lengths, value=1.0 / 3.0) * 2.0
        grad = grad.to(weights.dtype)
        ctx.save_for_backward(grad)
        return 0.5 * torch.dot(weights, grad)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.saved_tensors[0] * grad, None, None, None


def distances(
    weights: Float[Tensor, " samples"], moments: Float[Tensor, " samples"], rays: Int64[Tensor, " samples"]
) -> Float[Tensor, " samples"]:
    """Twice the weighted distance of each sample from those before it on its ray.

    Args:
        weights: (M,) of the samples.
        moments: (M,) weights times places along the ray, which grow.
        rays: (M,) ray of each, sorted.
    """
    first = torch.searchsorted(rays, rays)

    def before(values: Tensor) -> Tensor:
        """Sum of the values of the samples before each one on its ray."""
        passed = torch.cat([values.new_zeros(1, dtype=torch.float64), values.double().cumsum(0)])
        return (passed[:-1] - passed[first]).to(values.dtype)

    return 2.0 * (moments * before(weights) - weights * before(moments))


def over(
    rgb: Float[Tensor, "*rays 3"], accumulation: Float[Tensor, "*rays 1"], background: Float[Tensor, "*#rays 3"]
) -> Float[Tensor, "*rays 3"]:
    """Composited colours with a background behind them.

    Args:
        rgb: (..., 3) colour without background: already weighted by the accumulation.
        accumulation: (..., 1) opacity along the ray.
        background: (3,), or (..., 3) one for each ray.
    """
    return rgb + background * (1.0 - accumulation)


def straight_alpha(
    rgb: Float[Tensor, "*rays 3"], accumulation: Float[Tensor, "*rays 1"], background: Float[Tensor, "*#rays 3"]
) -> Float[Tensor, "*rays 4"]:
    """Colours and alpha of a picture whose background is taken away again: the inverse of `over`, where alpha is not
    next to nothing.

    Args:
        rgb: (..., 3) in [0, 1], on the background.
        accumulation: (..., 1) opacity along the ray.
        background: (3,), or (..., 3).

    Returns:
        (..., 4) straight (not premultiplied) RGBA in [0, 1].
    """
    alone = rgb - background * (1.0 - accumulation)
    return torch.cat([(alone / accumulation.clamp_min(1e-3)).clamp(0.0, 1.0), accumulation], dim=-1)


def as_float(colors: Tensor) -> Tensor:
    """Colours in [0, 1] of bytes, or as they are."""
    return colors if colors.is_floating_point() else colors.float() / 255.0


def image_on(image: Float[Tensor, "*rays channels"], background: Float[Tensor, "*#rays 3"]) -> Float[Tensor, "*rays 3"]:
    """A true image on a background; one without alpha as it is.

    Args:
        image: (..., 3), or (..., 4) with straight alpha.
        background: (3,), or (..., 3).
    """
    if image.shape[-1] < 4:
        return image
    rgb, alpha = image[..., :3], image[..., 3:]
    return rgb * alpha + background * (1 - alpha)
