"""Points that a training step asks about beside its samples, by one kernel (beside.cpp)."""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable

from lg_field.ops.backends.cpu.march import MarchTask, Voxels, march_task
from lg_field.ops.backends.cpu.native import as_they_lie, native, why_not_kernel

ABI = 2
"""`BESIDE_ABI` of beside.cpp."""


class BesideTask(ctypes.Structure):
    """`BesideTask` of beside.cpp."""

    _fields_ = [
        ("march", MarchTask),
        *[(name, ctypes.c_int64) for name in ("border", "free", "first", "every", "voxels")],
        *[(name, ctypes.c_float) for name in ("aside", "reach", "linear", "limit")],
        *[(name, ctypes.c_void_p) for name in ("unit", "anywhere", "ray", "places")],
        *[(name, ctypes.c_void_p) for name in ("located", "asked", "lengths", "near", "rays", "rows")],
    ]


class Lengths(NamedTuple):
    """What lengths the kernel is told of."""

    aside: float
    """Part of a cell's width from a border at which its two sides are looked for."""
    reach: float
    """The same part within which a sample must be."""
    linear: float
    """Scene units: distance from which marching steps grow with its square."""
    limit: float
    """Scene units: the farthest point."""


class Placed(NamedTuple):
    """k points on borders, by their row before, then by that after them; then f points anywhere: n = 2 k + f."""

    located: Float[Tensor, "asked 3"]
    """(n, 3) unit coordinates that say whose they are,"""
    asked: Float[Tensor, "asked 3"]
    """(n, 3) and of the points themselves."""
    near: Bool[Tensor, " border"]
    """(k,) whether the sample that each was made of is near."""
    rays: Int64[Tensor, " asked"]
    """(n,) that sample's ray; 0 of those anywhere."""
    lengths: Float[Tensor, " asked"]
    """(n,) length there of a step that is 1 long near the origin."""
    rows: Int64[Tensor, " asked"]
    """(n,) row that owns each, -1 for none."""


def why_not(*tensors: Tensor) -> str | None:
    """Why the kernel cannot place points beside these samples, in one line; None if it can."""
    return why_not_kernel("beside", ABI, BesideTask, *tensors)


def place_beside(
    samples: tuple[Float[Tensor, "samples 3"], Int64[Tensor, " samples"]],
    some: tuple[int, int, int],
    anywhere: Float[Tensor, "free 3"],
    where: tuple[Voxels, Int64[Tensor, " voxels"]],
    lengths: Lengths,
) -> Placed:
    """The points; called only where `why_not` is None.

    Args:
        samples: (M, 3) unit coordinates, and (M,) rays.
        some: k, and of which samples: the first, and how many further each next one is.
        anywhere: (f, 3) unit coordinates.
        where: the voxels' places; number in its rows' voxels of each of the grid's voxels, row by row, -1 where no
            row has it.
        lengths: scales.
    """
    border, first, every = some
    count = 2 * border + len(anywhere)
    found = Placed(
        torch.empty(count, 3),
        torch.empty(count, 3),
        torch.empty(border, dtype=torch.bool),
        torch.empty(count, dtype=torch.int64),
        torch.empty(count),
        torch.empty(count, dtype=torch.int64),
    )
    tensors = dict(zip(("unit", "ray", "anywhere", "places"), (*samples, anywhere, where[1])))
    march, kept = march_task((samples[0], samples[0]), where[0], tensors)
    pointers = {name: t.data_ptr() for name, t in ({name: kept[name] for name in tensors} | found._asdict()).items()}
    task = BesideTask(
        march=march,
        border=border,
        free=len(anywhere),
        first=first,
        every=every,
        voxels=where[0].per_axis ** 3,
        **lengths._asdict(),
        **pointers,
    )
    built = native("beside", ABI, ctypes.sizeof(BesideTask))
    assert isinstance(built, ctypes.CDLL)
    built.lg_field_beside(ctypes.byref(task))
    return found


def disagreement(
    counts: Bool[Tensor, " border"],
    lengths: Float[Tensor, " twice_border"],
    density: Float[Tensor, " twice_border"],
    rgb: Float[Tensor, "twice_border 3"],
) -> Float[Tensor, ""]:
    """Mean squared difference of what the two sides of borders say of the points on them; called only where `why_not`
    is None. Once differentiable, in density and rgb.

    Args:
        counts: (k,) whether each point does.
        lengths: (2 k,) of a step there, scene units; a side at a time, as all the following.
        density: (2 k,) per scene unit.
        rgb: (2 k, 3) in [0, 1].
    """
    apart: Tensor = _Disagreement.apply(density, rgb, counts, lengths)
    return apart


class _Disagreement(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, density: Tensor, rgb: Tensor, counts: Tensor, lengths: Tensor) -> Tensor:
        grads = torch.empty(density.shape), torch.empty(rgb.shape)
        given = as_they_lie({"counts": counts, "lengths": lengths, "density": density, "rgb": rgb})
        built = native("beside", ABI, ctypes.sizeof(BesideTask))
        assert isinstance(built, ctypes.CDLL)
        built.lg_field_beside_disagreement.restype = ctypes.c_double
        pointers = [ctypes.c_void_p(t.data_ptr()) for t in (*given.values(), *grads)]
        loss = built.lg_field_beside_disagreement(ctypes.c_int64(len(counts)), *pointers)
        ctx.save_for_backward(*grads)
        return density.new_tensor(loss)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        ddensity, drgb = ctx.saved_tensors
        return ddensity * grad, drgb * grad, None, None
