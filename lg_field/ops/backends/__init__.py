"""The registry of backends: the same operation, written to be read or to be fast.

A new backend is one file with a `Backend` and one line here. `auto` takes the first that can do what is asked for.
"""

from __future__ import annotations

from torch import Tensor

from lg_field.ops.backends.base import Backend as Backend
from lg_field.ops.backends.cpu import FusedCpu
from lg_field.ops.backends.reference import Reference
from lg_field.ops.backends.torch_blocks import TorchBlocks
from lg_field.ops.backends.triton import Triton
from lg_field.ops.backends.triton.runtime import interpreted
from lg_field.ops.sizes import ChainSizes

BACKENDS: dict[str, Backend] = {
    backend.name: backend
    for backend in (
        FusedCpu(),
        Triton(),
        TorchBlocks(),
        Reference(),
    )
}
"""Name -> backend, the fastest first."""


def choose_backend(name: str, sizes: ChainSizes, *tensors: Tensor) -> Backend:
    """The backend of a name, or for "auto" the first of `BACKENDS` that can compute this chain.

    Args:
        name: "auto" or a name in `BACKENDS`.
        sizes: widths and wiring of the chain.
        tensors: all values, parameters and gradients of the call.

    Raises:
        ValueError: no backend of this name; it cannot run here, and why; or none can.
    """
    if name == "auto":
        reasons = {}
        for backend in BACKENDS.values():
            reason = backend.why_not_unasked(sizes, *tensors)
            if reason is None:
                return backend
            reasons[backend.name] = reason
        raise ValueError("no backend can run: " + "; ".join(f"{k}: {v}" for k, v in reasons.items()))
    if name not in BACKENDS:
        raise ValueError(f"unknown backend {name!r}: use auto, {', '.join(BACKENDS)}")
    reason = BACKENDS[name].why_not(sizes, *tensors)
    if reason is not None:
        raise ValueError(f'backend "{name}" cannot run: {reason} (or take backend "auto")')
    return BACKENDS[name]


def may_take(backend: str, name: str) -> bool:
    """Whether what surrounds the chain may be computed by kernels of one backend where another is asked for.

    Args:
        backend: that is asked for: "auto" or a name in `BACKENDS`.
        name: of the kernels' backend.
    """
    return backend == name or (backend == "auto" and not (name == Triton.name and interpreted()))
