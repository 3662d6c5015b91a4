"""Density and colour of samples from what the chain says of them, by one kernel (shade.cpp)."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable

from lg_field.ops.backends.cpu.native import as_they_lie, native, why_not_kernel

ABI = 4
"""`SHADE_ABI` of shade.cpp."""
WIDTH = 28
"""Outputs of the chain: density, and nine spherical harmonics for each of red, green and blue."""


Box = tuple[tuple[float, ...], tuple[float, ...]]
"""(3,) lower corner and (3,) size of the box of unit coordinates."""


class ShadeTask(ctypes.Structure):
    """`ShadeTask` of shade.cpp."""

    _fields_ = [
        ("points", ctypes.c_int64),
        ("threads", ctypes.c_int32),
        ("bias", ctypes.c_float),
        *[(name, ctypes.c_void_p) for name in ("out", "directions", "order", "rays")],
        *[(name, ctypes.c_void_p) for name in ("density", "rgb", "dependence")],
        *[(name, ctypes.c_void_p) for name in ("ddensity", "drgb", "ddependence", "dout", "unit")],
        *[(name, ctypes.c_float * 3) for name in ("lower", "size")],
    ]


def why_not(out: Tensor, directions: Tensor) -> str | None:
    """Why the kernel cannot shade these outputs seen in these directions, in one line; None if it can."""
    if out.shape[1:] != (WIDTH,):
        return f"it takes {WIDTH} outputs of the chain"
    if directions.requires_grad:
        return "it gives no gradients to directions"
    return why_not_these(out, directions)


def why_not_these(*tensors: Tensor) -> str | None:
    """Why the kernel cannot compute with such tensors, in one line; None if it can."""
    return why_not_kernel("shade", ABI, ShadeTask, *tensors)


def shade(
    out: Float[Tensor, "points 28"],
    order: Int64[Tensor, " points"],
    rays: Int64[Tensor, " samples"],
    directions: Float[Tensor, "rays 3"],
    bias: float,
) -> tuple[Float[Tensor, " samples"], Float[Tensor, "samples 3"], Float[Tensor, " samples"]]:
    """What samples look like; called only where `why_not` is None. Once differentiable, in out.

    Args:
        out: (n, 28) outputs of the chain for the samples that have a row, sorted by row.
        order: (n,) number of the sample of each.
        rays: (M,) ray of each sample.
        directions: (N, 3) unit vectors.
        bias: added to the first output before exp.

    Returns:
        (M,) density, 0 for samples without a row; (M, 3) colours in [0, 1]; (M,) mean square of each sample's harmonics
        above degree 0.
    """
    density, rgb, dependence = _Shade.apply(out, order, rays, directions, bias)
    return density, rgb, dependence


class _Shade(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, out: Tensor, order: Tensor, rays: Tensor, directions: Tensor, bias: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        density, rgb, dependence = room(order, rays, out)
        fixed = {"out": out, "order": order, "rays": rays, "directions": directions}
        run(bias, fixed | {"density": density, "rgb": rgb, "dependence": dependence})
        ctx.save_for_backward(*fixed.values(), density, rgb)
        ctx.bias = bias
        return density, rgb, dependence

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, ddensity: Tensor, drgb: Tensor, ddependence: Tensor) -> tuple[Tensor | None, ...]:
        names = ("out", "order", "rays", "directions", "density", "rgb")
        tensors = dict(zip(names, ctx.saved_tensors))
        dout = torch.empty(tensors["out"].shape)
        run(ctx.bias, tensors | {"ddensity": ddensity, "drgb": drgb, "ddependence": ddependence, "dout": dout})
        return dout, None, None, None, None


def room(order: Tensor, rays: Tensor, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where density, colour and view dependence of samples go, with what those have that have no row."""
    whole, count = len(order) == len(rays), len(rays)
    density, dependence = (like.new_empty(count) if whole else like.new_zeros(count) for _ in range(2))
    return density, like.new_empty(count, 3) if whole else like.new_full((count, 3), 0.5), dependence


def run(bias: float, tensors: dict[str, Tensor]) -> None:
    """One call of the kernel: backward if there is `dout` among the tensors."""
    what, _kept = task(bias, tensors)
    built().lg_field_shade(ctypes.byref(what))


def with_gradient(tensors: dict[str, Tensor]) -> Tensor:
    """(n,) numbers of the points whose samples' values have a gradient, of the tensors of a backward `run`."""
    some = torch.empty(len(tensors["order"]), dtype=torch.int64)
    what, _kept = task(0.0, tensors)
    count = built().lg_field_shade_alive
    count.restype = ctypes.c_int64
    return some[: count(ctypes.byref(what), ctypes.c_void_p(some.data_ptr()))]


def built() -> ctypes.CDLL:
    """The kernel; called only where `why_not` is None."""
    found = native("shade", ABI, ctypes.sizeof(ShadeTask))
    assert isinstance(found, ctypes.CDLL)
    return found


def task(
    bias: float, tensors: Mapping[str, Tensor], contracted: Box | None = None
) -> tuple[ShadeTask, dict[str, Tensor]]:
    """What to do, and the tensors that it points into; `contracted`: densities are per length of contracted space, in
    this box."""
    kept = as_they_lie({name: t for name, t in tensors.items() if contracted is not None or name != "unit"})
    pointers = {name: t.data_ptr() for name, t in kept.items()}
    what = ShadeTask(points=len(tensors["order"]), threads=torch.get_num_threads(), bias=bias, **pointers)
    if contracted is not None:
        what.lower[:], what.size[:] = contracted
    return what, kept
