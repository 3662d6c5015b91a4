"""Density and colour of samples from what the chain says of them, and what rays see of them, by Triton kernels."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable

from lg_field.constants import counting
from lg_field.ops.backends.cpu.shade import WIDTH
from lg_field.ops.backends.triton.runtime import launch, why_not_these

BLOCK = 64
"""Samples of a program."""


def why_not(out: Tensor, directions: Tensor) -> str | None:
    """Why the kernels cannot shade these outputs seen in these directions, in one line; None if they can."""
    if out.shape[1:] != (WIDTH,):
        return f"it takes {WIDTH} outputs of the chain"
    if directions.requires_grad:
        return "it gives no gradients to directions"
    return why_not_these(out, directions)


def shade(
    out: Float[Tensor, "points 28"],
    order: Int64[Tensor, " points"],
    rays: Int64[Tensor, " samples"],
    directions: Float[Tensor, "rays 3"],
    bias: float,
) -> tuple[Float[Tensor, " samples"], Float[Tensor, "samples 3"], Float[Tensor, " samples"]]:
    """What samples look like; called only where `why_not` is None. Once differentiable, in out.

    Arguments and results are those of the CPU's `shade`.
    """
    density, rgb, dependence = _Shade.apply(out, order, rays, directions, bias)
    return density, rgb, dependence


class _Shade(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, out: Tensor, order: Tensor, rays: Tensor, directions: Tensor, bias: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        fixed = [t.detach().contiguous() for t in (out, order, rays, directions)]
        whole, count = len(order) == len(rays), len(rays)
        density, dependence = (out.new_empty(count) if whole else out.new_zeros(count) for _ in range(2))
        rgb = out.new_empty(count, 3) if whole else out.new_full((count, 3), 0.5)
        _start("shade_forward", *fixed, density, rgb, dependence, bias=bias)
        ctx.save_for_backward(*fixed, density, rgb)
        ctx.bias = bias
        return density, rgb, dependence

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, ddensity: Tensor, drgb: Tensor, ddependence: Tensor) -> tuple[Tensor | None, ...]:
        dout = torch.empty_like(ctx.saved_tensors[0])
        given = (d.contiguous() for d in (ddensity, drgb, ddependence))
        _start("shade_backward", *ctx.saved_tensors, *given, dout, bias=ctx.bias)
        return dout, None, None, None, None


def _start(name: str, *tensors: Tensor, bias: float) -> None:
    count = len(tensors[0])
    launch("shade_kernel", name, -(-count // BLOCK), *tensors, count, bias, BLOCK=BLOCK, num_warps=4)


def why_not_composite(density: Tensor, colors: Tensor, starts: Tensor) -> str | None:
    """Why the kernels cannot composite these samples, in one line; None if they can."""
    if colors.shape[1:] != (3,):
        return "it takes three channels"
    if starts.requires_grad:
        return "it gives no gradients to places"
    return why_not_these(density, colors, starts)


def composite(
    density: Float[Tensor, " samples"],
    colors: Float[Tensor, "samples 3"],
    rays: Int64[Tensor, " samples"],
    starts: Float[Tensor, " samples"],
    ends: Float[Tensor, " samples"],
    num_rays: int,
) -> Float[Tensor, "rays 5"]:
    """What rays see; called only where `why_not_composite` is None. Once differentiable, in density and colors.

    Args:
        density: (M,) per scene unit.
        colors: (M, 3).
        rays: (M,) ray of each sample, rising.
        starts: (M,) distance at which each sample's interval begins; rising along a ray.
        ends: (M,) and ends.
        num_rays: N.

    Returns:
        (N, 5) colour without background, accumulation, and the sum of weighted middles.
    """
    firsts = torch.searchsorted(rays, counting(num_rays + 1, rays))
    seen: Tensor = _Composite.apply(density, colors, starts, ends, firsts)
    return seen


class _Composite(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, density: Tensor, colors: Tensor, starts: Tensor, ends: Tensor, firsts: Tensor) -> Tensor:
        fixed = [t.detach().contiguous() for t in (density, colors, starts, ends, firsts)]
        seen = density.new_empty(len(firsts) - 1, 5)
        launch("shade_kernel", "composite_forward", len(seen), *fixed, seen, num_warps=1)
        ctx.save_for_backward(*fixed, seen)
        return seen

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dseen: Tensor) -> tuple[Tensor | None, ...]:
        density, colors, *_, seen = ctx.saved_tensors
        ddensity, dcolors = torch.empty_like(density), torch.empty_like(colors)
        given = *ctx.saved_tensors, dseen.contiguous(), ddensity, dcolors
        launch("shade_kernel", "composite_backward", len(seen), *given, num_warps=1)
        return ddensity, dcolors, None, None, None
