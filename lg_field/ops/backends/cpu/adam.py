"""A step of Adam by one kernel (adam.cpp)."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lg_field.ops.backends.cpu.native import native, why_not_kernel

ABI = 1
"""`ADAM_ABI` of adam.cpp."""


class Learned(NamedTuple):
    """Tensors that a step of Adam reads or changes, n of each."""

    values: Sequence[Tensor]
    """Parameters."""
    grads: Sequence[Tensor]
    """Of the same shapes."""
    first: Sequence[Tensor]
    """Running means of gradients,"""
    second: Sequence[Tensor]
    """and of their squares."""
    steps: Sequence[Tensor]
    """() steps taken so far."""


class AdamTask(ctypes.Structure):
    """`AdamTask` of adam.cpp."""

    _fields_ = [
        ("tensors", ctypes.c_int64),
        ("threads", ctypes.c_int32),
        *[(name, ctypes.c_double) for name in ("lr", "beta1", "beta2", "eps")],
        *[(name, ctypes.c_void_p) for name in ("counts", *Learned._fields)],
    ]


def why_not(tensors: Learned) -> str | None:
    """Why the kernel cannot take the step, in one line; None if it can."""
    every = [t for some in tensors for t in some]
    if not all(t.is_contiguous() for t in every):
        return "it takes contiguous tensors"
    return why_not_kernel("adam", ABI, AdamTask, *every)


def adam_step(tensors: Learned, lr: float, betas: tuple[float, float], eps: float) -> None:
    """Take a step in place, as `torch.optim.Adam` does, and count it; called only where `why_not` is None.

    Args:
        tensors: what it changes.
        lr: learning rate.
        betas: decays of the two means.
        eps: added to the root of the second.
    """
    pointers = {name: _pointers(some) for name, some in tensors._asdict().items()}
    counts = (ctypes.c_int64 * len(tensors.values))(*[t.numel() for t in tensors.values])
    task = AdamTask(
        tensors=len(tensors.values),
        threads=torch.get_num_threads(),
        **dict(zip(("lr", "beta1", "beta2", "eps"), (lr, *betas, eps))),
        counts=ctypes.addressof(counts),
        **{name: ctypes.addressof(array) for name, array in pointers.items()},
    )
    built = native("adam", ABI, ctypes.sizeof(AdamTask))
    assert isinstance(built, ctypes.CDLL)
    built.lg_field_adam(ctypes.byref(task))
    for some in (tensors.values, tensors.first, tensors.second, tensors.steps):
        torch.autograd.graph.increment_version(some)  # whoever has made something of them notices


def _pointers(tensors: Sequence[Tensor]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(tensors))(*[t.data_ptr() for t in tensors])
