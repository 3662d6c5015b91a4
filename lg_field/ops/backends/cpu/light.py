"""Weights of packed samples and what rays see, by one kernel (light.cpp)."""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable

from lg_field.ops.backends.cpu.native import as_they_lie, native, why_not_kernel

ABI = 2
"""`LIGHT_ABI` of light.cpp."""
SUMS = 5
"""What is summed along a ray: red, green, blue, weights, weighted distances."""
Intervals = tuple[Int64[Tensor, " samples"], Float[Tensor, " samples"], Float[Tensor, " samples"]]


class LightTask(ctypes.Structure):
    """`LightTask` of light.cpp."""

    _fields_ = [
        *[(name, ctypes.c_int64) for name in ("samples", "rays")],
        ("threads", ctypes.c_int32),
        *[(name, ctypes.c_float) for name in ("least_light", "until")],
        *[(name, ctypes.c_void_p) for name in ("ray", "starts", "ends", "density", "rgb")],
        *[(name, ctypes.c_void_p) for name in ("through", "weights", "sums")],
        *[(name, ctypes.c_void_p) for name in ("dweights", "dsums", "ddensity", "drgb")],
        *[(name, ctypes.c_void_p) for name in ("said", "dopacity", "dseen", "opacity", "seen", "dsaid")],
    ]


def why_not(density: Tensor, rgb: Tensor, starts: Tensor) -> str | None:
    """Why the kernel cannot composite these samples, in one line; None if it can."""
    if rgb.shape[1:] != (3,):
        return "it takes three colours"
    if starts.requires_grad:
        return "it gives no gradients to distances"
    return why_not_kernel("light", ABI, LightTask, density, rgb, starts)


def light(
    density: Float[Tensor, " samples"],
    rgb: Float[Tensor, "samples 3"],
    samples: Intervals,
    num_rays: int,
    least_light: float = 0.0,
) -> tuple[Float[Tensor, " samples"], Float[Tensor, "rays 5"], Float[Tensor, " samples"]]:
    """Light along rays; called only where `why_not` is None. Once differentiable, in density and rgb.

    Args:
        density: (M,) per scene unit.
        rgb: (M, 3).
        samples: (M,) sorted ray, (M,) first and (M,) last distance of each sample.
        num_rays: N.
        least_light: samples that less than this part of the light gets through to weigh nothing.

    Returns:
        (M,) weights; (N, 5) sums of weighted colours, weights and weighted middles; (M,) part of the light that gets
        through to each sample, 0 where it weighs nothing, without gradients.
    """
    weights, sums, through = _Light.apply(density, rgb, *samples, num_rays, least_light)
    return weights, sums, through


class _Light(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, density: Tensor, rgb: Tensor, rays: Tensor, starts: Tensor, ends: Tensor, num_rays: int, least: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        through, weights = density.new_empty(len(rays)), density.new_empty(len(rays))
        sums = rgb.new_empty(num_rays, SUMS)
        given = {"ray": rays, "starts": starts, "ends": ends, "density": density, "rgb": rgb}
        _run(num_rays, least, given | {"through": through, "weights": weights, "sums": sums})
        ctx.save_for_backward(*given.values(), through, weights)
        ctx.num_rays = num_rays
        ctx.mark_non_differentiable(through)
        ctx.set_materialize_grads(False)
        return weights, sums, through

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, dweights: Tensor | None, dsums: Tensor | None, _: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        names = ("ray", "starts", "ends", "density", "rgb", "through", "weights")
        tensors = dict(zip(names, ctx.saved_tensors))
        rgb = tensors["rgb"]
        dsums = rgb.new_zeros(ctx.num_rays, SUMS) if dsums is None else dsums
        grads = {"dsums": dsums, "ddensity": rgb.new_empty(len(rgb)), "drgb": rgb.new_empty(rgb.shape)}
        _run(ctx.num_rays, 0.0, tensors | grads | ({} if dweights is None else {"dweights": dweights}))
        return grads["ddensity"], grads["drgb"], None, None, None, None, None


class Lit(NamedTuple):
    """What `light_of_looks` says."""

    weights: Tensor
    """(M,), (N, 5) sums and (M,) part of the light that gets through: as `light` has them."""
    sums: Tensor
    through: Tensor
    opacity: Tensor | None
    """(M,) part of the light that each sample absorbs, if asked for."""
    seen: Tensor
    """(M,) what else was said of the samples; with a least light 0 of those that weigh nothing."""
    border_density: Tensor
    """(border,) what was said of the other points,"""
    border_rgb: Tensor
    """(border, 3)"""
    free_density: Tensor
    """(free,)"""


def light_of_looks(
    looked: tuple[Float[Tensor, " points"], Float[Tensor, "points 3"], Float[Tensor, " points"]],
    samples: Intervals,
    num_rays: int,
    least_light: float,
    until: float,
    border: int,
    opacity: bool,
) -> Lit:
    """`light` of samples that were asked together with other points, M of them first; called only where `why_not` is
    None. Once differentiable, in all of `looked`.

    Args:
        looked: (M + border + free,) density, (..., 3) colours and (...,) anything else.
        samples, num_rays, least_light: as in `light`.
        until: gradients of light to samples nearer than this to their cameras are multiplied by the square of their
            distance's part of it; 0: none are.
        border: how many of the other points' colours are wanted; those are the first of them.
        opacity: whether that is wanted.
    """
    return Lit(*_LightOfLooks.apply(*looked, *samples, num_rays, least_light, until, border, opacity))


class _LightOfLooks(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, density: Tensor, rgb: Tensor, said: Tensor, rays: Tensor, starts: Tensor, ends: Tensor, *how: Any
    ) -> tuple[Tensor | None, ...]:
        num_rays, least, _, border, wants_opacity = how
        count, (density, rgb, said) = len(rays), (t.contiguous() for t in (density, rgb, said))
        given = {"ray": rays, "starts": starts, "ends": ends, "density": density, "rgb": rgb}
        found = {name: density.new_empty(count) for name in ("through", "weights", "seen")}
        found |= {"opacity": density.new_empty(count)} if wants_opacity else {}
        sums = rgb.new_empty(num_rays, SUMS)
        _run(num_rays, least, given | found | {"said": said, "sums": sums})
        kept = [found[name] for name in ("through", "weights", "opacity") if name in found]
        ctx.save_for_backward(*given.values(), *kept)
        ctx.how = how
        ctx.mark_non_differentiable(found["through"])
        ctx.set_materialize_grads(False)
        others = density[count : count + border], rgb[count : count + border], density[count + border :]
        seen = found["weights"], sums, found["through"], found.get("opacity"), found["seen"]
        return *seen, *(t.clone() for t in others)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        names = ("ray", "starts", "ends", "density", "rgb", "through", "weights", "opacity")
        tensors = dict(zip(names, ctx.saved_tensors))
        num_rays, least, until, border, _ = ctx.how
        dweights, dsums, _, dopacity, dseen, *others = grads
        count, rgb = len(tensors["ray"]), tensors["rgb"]
        dsums = rgb.new_zeros(num_rays, SUMS) if dsums is None else dsums
        found = {name: rgb.new_empty(len(rgb)) for name in ("ddensity", "dsaid")} | {"drgb": rgb.new_empty(rgb.shape)}
        given = {"dweights": dweights, "dopacity": dopacity, "dseen": dseen}
        given = {name: grad for name, grad in given.items() if grad is not None}
        _run(num_rays, least, tensors | found | given | {"dsums": dsums}, until)
        places = ("ddensity", count, border), ("drgb", count, border), ("ddensity", count + border, None)
        for (name, first, length), grad in zip(places, others):
            part = found[name][first : None if length is None else first + length]
            part.zero_() if grad is None else part.copy_(grad)
        found["drgb"][count + border :].zero_()
        found["dsaid"][count:].zero_()
        return found["ddensity"], found["drgb"], found["dsaid"], *(None,) * 8


def _run(num_rays: int, least_light: float, tensors: dict[str, Tensor], until: float = 0.0) -> None:
    """One call of the kernel."""
    built = native("light", ABI, ctypes.sizeof(LightTask))
    assert isinstance(built, ctypes.CDLL)
    kept = as_they_lie(tensors)
    pointers = {name: t.data_ptr() for name, t in kept.items()}
    threads, samples = torch.get_num_threads(), len(tensors["ray"])
    task = LightTask(samples=samples, rays=num_rays, threads=threads, least_light=least_light, until=until, **pointers)
    built.lg_field_light(ctypes.byref(task))
