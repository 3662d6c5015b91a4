"""Whether Triton's kernels can run here, and how they are started."""

from __future__ import annotations

import functools
import importlib
import logging
import os
from typing import Any

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

SWITCH = "LG_FIELD_TRITON"
"""Environment variable; 0 = do without these kernels."""
INTERPRETED = "TRITON_INTERPRET"
"""Triton's own; 1 = kernels run on the CPU, slowly, to be looked at."""
PRECISIONS = {"highest": "tf32x3", "high": "tf32", "medium": "tf32"}
"""`torch.get_float32_matmul_precision()` -> that of products in kernels: three TF32 products, whose sum is as good as
float32, or one. Sums are float32 throughout."""


def interpreted() -> bool:
    """Whether kernels run in Triton's interpreter, on CPU tensors."""
    return os.environ.get(INTERPRETED) == "1"


def why_not_these(*tensors: Tensor) -> str | None:
    """Why no kernel can compute with these floating point tensors, in one line; None if one can. The first time on a
    device, all kernels are checked there."""
    device = "cpu" if interpreted() else "cuda"
    for t in tensors:
        if t.device.type != device or t.dtype != torch.float32:
            got = f"{str(t.dtype).removeprefix('torch.')} on {t.device.type}"
            return f"it takes float32 tensors on {device}, got {got}"
    if os.environ.get(SWITCH) == "0":
        return f"the environment variable {SWITCH} is 0"
    return missing() or fault(tensors[0].device if tensors else torch.device(device))


@functools.cache
def missing() -> str | None:
    """Why Triton cannot be imported, in one line; None if it can."""
    try:
        importlib.import_module("triton")
    except Exception as error:  # a build that does not fit the machine raises what it likes
        return f"Triton cannot be imported ({type(error).__name__}: {error}): pip install triton (Linux)"
    return None


@functools.cache
def fault(device: torch.device) -> str | None:
    """What is wrong with the kernels on a device, in one line; None if they give there what `checks.py` knows. It is
    logged, too."""
    checks = importlib.import_module("lg_field.ops.backends.triton.checks")
    for name, check in checks.CHECKS.items():
        try:
            worst = check(device)
        except Exception as error:  # whatever compiler, driver and GPU raise
            said = (str(error).strip() or "no message").splitlines()[0]
            reason = f"its self-check of {name} failed on {device} ({type(error).__name__}: {said[:200]})"
        else:
            if worst <= checks.TOLERANCE:
                continue
            reason = f"its self-check of {name} on {device} is off by {worst:.2g} of the largest value"
        logger.warning("lg_field is slower than it could be, it does without its Triton kernels: %s", reason)
        return reason
    return None


def kernel(module: str, name: str) -> Any:
    """A kernel of a module of this package, which is imported when it is first asked for."""
    return getattr(importlib.import_module(f"lg_field.ops.backends.triton.{module}"), name)


def start(kernel: Any, programs: int, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
    """Start a kernel; `ahead.py` puts something else in its place."""
    kernel[(programs,)](*arguments, **options)


def launch(module: str, name: str, programs: int, *arguments: Any, **options: Any) -> None:
    """Start a kernel.

    Args:
        module: of this package.
        name: of the kernel in it.
        programs: how many; 0: nothing is done.
        arguments: tensors and numbers.
        options: the kernel's constants, and Triton's `num_warps`.
    """
    if programs:
        start(kernel(module, name), programs, arguments, options)


def precision() -> str:
    """Precision of products, by `torch.set_float32_matmul_precision`."""
    return PRECISIONS[torch.get_float32_matmul_precision()]


@functools.cache
def processors(device: torch.device) -> int:
    """Multiprocessors of a GPU; 1 in the interpreter."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


def padded(width: int) -> int:
    """Size of a tile that holds this many numbers: a power of two, at least 16."""
    return max(16, 1 << (width - 1).bit_length()) if width else 16
