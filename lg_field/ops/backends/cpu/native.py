"""Kernels beside the chain's: whether there is one to call, and the switch that does without them."""

from __future__ import annotations

import ctypes
import functools
import logging
import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lg_field.ops.backends.cpu.build import library
from lg_field.ops.backends.cpu.kernel import SWITCH

logger = logging.getLogger(__name__)

OFF = ("0", "chain")
"""Values of `SWITCH` that do without these kernels: none at all, or the chain's alone."""


@functools.cache
def native(name: str, abi: int, size: int) -> ctypes.CDLL | str:
    """A kernel, built if need be; or one line that says why there is none that its module can call.

    Args:
        name: of its .cpp file, in which `lg_field_NAME_abi` and `lg_field_NAME_size` say how it is called.
        abi: the version that the calling module knows.
        size: bytes of the structure that it hands over.
    """
    built: Any = library(name)
    if isinstance(built, str):
        return built
    size_of = built[f"lg_field_{name}_size"]
    size_of.restype = ctypes.c_int64
    theirs = int(built[f"lg_field_{name}_abi"]()), int(size_of())
    if theirs == (abi, size):
        return built  # type: ignore[no-any-return]
    reason = f"{name}.cpp has version {theirs[0]} with {theirs[1]} bytes, {name}.py version {abi} with {size}"
    logger.warning("lg_field is slower than it could be, it does without a CPU kernel: %s", reason)
    return reason


def as_they_lie(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors for a kernel to point into: contiguous, copies where they are not."""
    return {name: t if t.is_contiguous() else t.detach().contiguous() for name, t in tensors.items()}


def why_not_these(*tensors: Tensor) -> str | None:
    """Why no kernel can compute with these floating point tensors, in one line; None if one can."""
    for t in tensors:
        if not t.is_cpu or t.dtype != torch.float32:
            return f"it takes float32 tensors on the CPU, got {str(t.dtype).removeprefix('torch.')} on {t.device.type}"
    value = os.environ.get(SWITCH)
    return f"the environment variable {SWITCH} is {value}" if value in OFF else None


def why_not_kernel(name: str, abi: int, task: type[ctypes.Structure], *tensors: Tensor) -> str | None:
    """Why a kernel cannot compute with these tensors, in one line; None if it can.

    Args:
        name: its source, without suffix.
        abi: the version of its task here.
        task: that.
        tensors: floating point ones.
    """
    reason = why_not_these(*tensors)
    if reason is not None:
        return reason
    built = native(name, abi, ctypes.sizeof(task))
    return built if isinstance(built, str) else None
