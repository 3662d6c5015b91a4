"""Kernels compiled for GPUs that are not there, and what they take of a multiprocessor."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from torch import Tensor

from lg_field.ops.backends.triton import runtime

SHARED_MEMORY = {80: 163, 86: 99, 89: 99, 90: 227, 100: 227, 120: 99}
"""Compute capability -> KB of shared memory that a program may take."""


class Compiled(NamedTuple):
    """A kernel as machine code."""

    name: str
    registers: int
    """Of each thread."""
    spilled: int
    """Bytes of registers that did not fit, each thread."""
    shared: int
    """Bytes of shared memory, each program."""
    threads: int
    """Of each program."""


def compiled(capability: int, work: Callable[[], object]) -> list[Compiled]:
    """The kernels that some work on CPU tensors would start on a GPU, without their results.

    Args:
        capability: of the GPU, 10 times; a key of `SHARED_MEMORY`.
        work: whose kernels are wanted.

    Raises:
        RuntimeError: kernels run in the interpreter.
    """
    if runtime.interpreted():
        raise RuntimeError(f"nothing is compiled while {runtime.INTERPRETED} is 1")
    found: list[Compiled] = []

    def start(kernel: Any, programs: int, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        types = [a.dtype if isinstance(a, Tensor) else a for a in arguments]
        made = kernel.warmup(*types, grid=(programs,), **options)
        spilled, registers = _usage(made.asm["cubin"], made.name)
        found.append(Compiled(made.name, registers, spilled, made.metadata.shared, 32 * made.metadata.num_warps))

    with _pretended(capability):
        before, runtime.start = runtime.start, start  # type: ignore[assignment]
        try:
            work()
        finally:
            runtime.start = before
    return found


@contextmanager
def _pretended(capability: int) -> Iterator[None]:
    """Triton takes a GPU of this capability to be there."""
    from triton.backends.compiler import GPUTarget
    from triton.runtime import driver

    pretended = SimpleNamespace(
        get_current_device=lambda: capability,
        get_current_stream=lambda device: 0,
        get_current_target=lambda: GPUTarget("cuda", capability, 32),
    )
    before, driver._active = driver._active, pretended  # its `reset_active` wants a GPU
    try:
        yield
    finally:
        driver._active = before


def _usage(code: bytes, name: str) -> tuple[int, int]:
    """Bytes spilled and registers of a kernel in a cubin.

    Raises:
        RuntimeError: cuobjdump does not say.
    """
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernel.cubin")
        path.write_bytes(code)
        said = subprocess.run([tool, "-res-usage", path], capture_output=True, text=True).stdout
    numbers = {key: int(value) for key, value in re.findall(r"([A-Z]+):(\d+)", said)}
    if "REG" not in numbers:
        raise RuntimeError(f"cuobjdump does not say what {name} takes: {said[:200]}")
    return numbers["STACK"] + numbers.get("LOCAL", 0), numbers["REG"]
