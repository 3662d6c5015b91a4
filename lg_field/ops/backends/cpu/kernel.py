"""The Local-Global chain by the fused CPU kernel, chain.cpp, whose head says how it works."""

from __future__ import annotations

import ctypes
import functools
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lg_field.ops.backends.base import Backend
from lg_field.ops.backends.cpu.build import library
from lg_field.ops.sizes import ChainSizes

logger = logging.getLogger(__name__)

SWITCH = "LG_FIELD_CPU_KERNEL"
"""Environment variable; 0 = do without kernels, chain = with this one alone."""
ABI = 5
"""`ABI` of chain.cpp."""
LEAST_SKIPPED = 0.9
"""Part of the points that have gradients below which the others are left out of the backward pass."""
MERGES = {"concat": 1, "add": 0}
"""Merge -> `Task.concat`."""


class Task(ctypes.Structure):
    """`Task` of chain.cpp."""

    _fields_ = [
        *[(name, ctypes.c_int64) for name in ("points", "rows")],
        *[(name, ctypes.c_int32) for name in ("in_features", "global_in", "out_features")],
        *[(name, ctypes.c_int32) for name in ("local_width", "global_width", "depth")],
        *[(name, ctypes.c_int32) for name in ("activation", "concat", "head", "threads")],
        *[(name, ctypes.c_float) for name in ("w0", "loss_scale")],
        *[(name, ctypes.c_void_p) for name in ("x", "global_x", "table", "offsets", "index", "shared")],
        *[(name, ctypes.c_void_p) for name in ("y", "dy", "target", "dx", "dglobal_x", "dtable", "dshared")],
        *[(name, ctypes.c_void_p) for name in ("fill", "take", "answer", "fill_task", "take_task", "answer_task")],
        *[(name, ctypes.c_int32) for name in ("dx_first", "dx_last", "dglobal_first", "dglobal_last")],
        ("loss", ctypes.c_double),
    ]


class FusedCpu(Backend):
    """float32 on the CPU, once differentiable; ignores chunk: its tiles are smaller."""

    name = "cpu"

    def why_not(self, sizes: ChainSizes, *tensors: Tensor) -> str | None:
        """Why the kernel cannot do this; None if it can. Builds it if need be."""
        return why_not(sizes, *tensors)

    def chain(
        self,
        x: Tensor,
        offsets: Tensor,
        table: Tensor,
        shared: Mapping[str, Tensor],
        sizes: ChainSizes,
        global_x: Tensor,
        chunk: int | None = None,
    ) -> Tensor:
        """`fused_chain`."""
        return fused_chain(x, offsets, table, shared, sizes, global_x)

    def step(
        self,
        x: Tensor,
        offsets: Tensor,
        target: Tensor,
        table: Tensor,
        shared: Mapping[str, Tensor],
        sizes: ChainSizes,
        chunk: int,
    ) -> float:
        """`fused_step`."""
        return fused_step(x, offsets, target, table, shared, sizes)


def why_not(sizes: ChainSizes, *tensors: Tensor) -> str | None:
    """Why the kernel cannot compute this chain of these values, parameters and gradients; None if it can."""
    if sizes.act.kernel_code is None:
        return f"it does not know the activation {sizes.activation!r}"
    if sizes.merge not in MERGES:
        return f"it does not know the merge {sizes.merge!r}"
    for t in tensors:
        if not t.is_cpu or t.dtype != torch.float32:
            return f"it takes float32 tensors on the CPU, got {str(t.dtype).removeprefix('torch.')} on {t.device.type}"
    if os.environ.get(SWITCH) == "0":
        return f"the environment variable {SWITCH} is 0"
    built = kernel()
    return built if isinstance(built, str) else None


@functools.cache
def kernel() -> ctypes.CDLL | str:
    """The kernel, built if need be; or one line that says why there is none that this module can call."""
    built = library()
    if isinstance(built, str):
        return built
    reason = mismatch(built)
    if reason is None:
        return built
    logger.warning("lg_field is slower than it could be, it does without its CPU kernel: %s", reason)
    return reason


def mismatch(built: Any) -> str | None:
    """Why a library's idea of `Task` is not this module's, in one line; None if they agree."""
    try:
        built.lg_field_task_size.restype = ctypes.c_int64
        theirs = int(built.lg_field_abi()), int(built.lg_field_task_size())
    except AttributeError:
        return "the built kernel does not say how it is called (no lg_field_abi)"
    ours = ABI, ctypes.sizeof(Task)
    if theirs == ours:
        return None
    return (
        f"chain.cpp has version {theirs[0]} of Task with {theirs[1]} bytes, kernel.py version {ours[0]} with {ours[1]}"
    )


def fused_chain(
    x: Tensor, offsets: Tensor, table: Tensor, shared: Mapping[str, Tensor], sizes: ChainSizes, global_x: Tensor
) -> Tensor:
    """`local_global_chain` by the kernel. Backward computes each tile once more; once differentiable.

    Raises:
        ValueError: offsets or shared do not fit.
    """
    values = [shared[name] for name in sizes.shared_shapes()]
    _check(offsets, len(x), values, sizes)
    result: Tensor = _FusedChain.apply(x, global_x, offsets, table, sizes, *values)
    return result


def fused_step(
    x: Tensor, offsets: Tensor, target: Tensor, table: Tensor, shared: Mapping[str, Tensor], sizes: ChainSizes
) -> float:
    """Mean squared error, its gradients added to `.grad` of table and shared: each tile is computed only once.

    Args:
        x: (M, in_features) sorted by row.
        offsets: (P + 1,) int64.
        target: (M, out_features).
        table: (P, K) rows.
        shared: the shared part.
        sizes: wiring.

    Returns:
        The mean squared error.

    Raises:
        ValueError: offsets or shared do not fit.
    """
    values = [shared[name] for name in sizes.shared_shapes()]
    _check(offsets, len(x), values, sizes)
    wanted = {p: torch.zeros(p.shape) for p in values if p.requires_grad}
    wanted |= {table: torch.empty(table.shape)} if table.requires_grad else {}
    others = {"target": target, "dtable": wanted.get(table)}
    dshared = [wanted.get(value) for value in values]
    loss = run(x, x, offsets, table, values, sizes, others, dshared, loss_scale=1.0 / target.numel())
    for parameter, grad in wanted.items():
        parameter.grad = grad if parameter.grad is None else parameter.grad + grad
    return loss


class _FusedChain(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, global_x: Tensor, offsets: Tensor, table: Tensor, sizes: ChainSizes, *shared: Tensor
    ) -> Tensor:
        ctx.save_for_backward(x, global_x, offsets, table, *shared)
        ctx.sizes = sizes
        y = x.new_empty(len(x), sizes.out_features)
        run(x, global_x, offsets, table, shared, sizes, {"y": y})
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, global_x, offsets, table, *shared = ctx.saved_tensors
        some = dy.any(1).nonzero()[:, 0]
        if len(some) > LEAST_SKIPPED * len(dy):
            dx, dglobal_x, *others = _gradients(ctx, x, global_x, offsets, table, shared, dy)
            return dx, dglobal_x, None, others[0], None, *others[1:]
        cut = torch.searchsorted(some, offsets)  # gradients of the other points are zeros
        dx, dglobal_x, *others = _gradients(ctx, x[some], global_x[some], cut, table, shared, dy[some])
        dx, dglobal_x = (
            None if part is None else torch.zeros(whole.shape).index_copy_(0, some, part)
            for whole, part in ((x, dx), (global_x, dglobal_x))
        )
        return dx, dglobal_x, None, others[0], None, *others[1:]


def _gradients(
    ctx: Any, x: Tensor, global_x: Tensor, offsets: Tensor, table: Tensor, shared: Sequence[Tensor], dy: Tensor
) -> tuple[Tensor | None, ...]:
    """Of x, global_x, table and shared, those that are wanted."""
    wants_x, wants_global_x, _, wants_table, _, *wants_shared = ctx.needs_input_grad
    dx = torch.empty(x.shape) if wants_x and ctx.sizes.local_width else None
    dglobal_x = torch.empty(global_x.shape) if wants_global_x and ctx.sizes.global_width else None
    dtable = torch.empty(table.shape) if wants_table else None
    dshared = [torch.zeros(s.shape) if wants else None for s, wants in zip(shared, wants_shared)]
    grads = {"dy": dy, "dx": dx, "dglobal_x": dglobal_x, "dtable": dtable}
    run(x, global_x, offsets, table, shared, ctx.sizes, grads, dshared)
    return dx, dglobal_x, dtable, *dshared


def _check(offsets: Tensor, points: int, shared: Sequence[Tensor], sizes: ChainSizes) -> None:
    for (name, size), tensor in zip(sizes.shared_shapes().items(), shared):
        if tensor.shape != size:
            raise ValueError(f"{name} must be {size}, got {tuple(tensor.shape)}")
    if offsets.dtype != torch.int64 or offsets.device.type != "cpu":
        raise ValueError(f"offsets must be int64 on the CPU, got {offsets.dtype} on {offsets.device}")
    if int(offsets[0]) != 0 or int(offsets[-1]) != points or bool((offsets.diff() < 0).any()):
        raise ValueError(f"offsets must rise from 0 to the number of points, {points}")


@dataclass(frozen=True)
class Tiles:
    """Other kernels that fill the chain's tiles, take what comes out of them or answer it with gradients (`FillTile`,
    `TakeTile`, `AnswerTile` of products.h), in the place of tensors."""

    points: int
    """How many there are."""
    calls: Mapping[str, tuple[Any, ctypes.Structure]]
    """fill, take, answer -> function, and what it is told. Their pointers' tensors must stay."""
    dx: tuple[int, int] | None = None
    """Gradients of so many first and so many last inputs of the local part are wanted; None: of all."""
    dglobal_x: tuple[int, int] | None = None
    """The same of the global part."""

    def members(self) -> dict[str, Any]:
        """Of `Task`."""
        return {
            key: value
            for name, (call, told) in self.calls.items()
            for key, value in ((name, ctypes.cast(call, ctypes.c_void_p)), (f"{name}_task", ctypes.addressof(told)))
        }


def run(
    x: Tensor | None,
    global_x: Tensor | None,
    offsets: Tensor,
    table: Tensor,
    shared: Sequence[Tensor],
    sizes: ChainSizes,
    others: Mapping[str, Tensor | None],
    dshared: Sequence[Tensor | None] = (),
    loss_scale: float = 0.0,
    tiles: Tiles | None = None,
) -> float:
    """One call of the kernel; returns its loss. `others`: what else `Task` points to; `tiles`: what there is instead
    of tensors, x and global_x too."""
    assert x is not None or tiles is not None
    tensors = {"x": x, "global_x": global_x, "offsets": offsets, "table": table, **others}
    kept = {name: _in_one_piece(t) for name, t in tensors.items() if t is not None}
    values = [_in_one_piece(t) for t in shared]
    pointers, grads = _pointers(values), _pointers(dshared)
    wanted = (tiles and tiles.dx) or (sizes.in_features, 0), (tiles and tiles.dglobal_x) or (sizes.global_in, 0)
    task = Task(
        points=len(kept.get("index", kept["x"])) if tiles is None else tiles.points,
        rows=len(offsets) - 1,
        in_features=sizes.in_features,
        global_in=sizes.global_in,
        out_features=sizes.out_features,
        local_width=sizes.local_width,
        global_width=sizes.global_width,
        depth=sizes.depth,
        activation=sizes.act.kernel_code,
        concat=MERGES[sizes.merge],
        head=sizes.shared_head,
        threads=torch.get_num_threads(),
        w0=sizes.w0,
        loss_scale=loss_scale,
        shared=ctypes.addressof(pointers),
        dshared=ctypes.addressof(grads) if any(d is not None for d in dshared) else None,
        **dict(zip(("dx_first", "dx_last", "dglobal_first", "dglobal_last"), (*wanted[0], *wanted[1]))),
        **{name: t.data_ptr() for name, t in kept.items()},
        **({} if tiles is None else tiles.members()),
    )
    built = kernel()
    assert isinstance(built, ctypes.CDLL)
    failed = built.lg_field_chain(ctypes.byref(task))
    assert failed != 2, f"activation code {task.activation} is not in chain.cpp"
    if failed:
        raise MemoryError("the fused chain found no memory for its tiles")
    return float(task.loss)


def _in_one_piece(t: Tensor) -> Tensor:
    return t if t.is_contiguous() else t.detach().contiguous()


def _pointers(tensors: Sequence[Tensor | None]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(tensors))(*[None if t is None else t.data_ptr() for t in tensors])
