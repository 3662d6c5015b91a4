"""The Local-Global chain, and what surrounds it, by Triton kernels on a CUDA GPU. Triton is imported at first use."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping

import torch
from torch import Tensor

from lg_field.ops.backends.base import Backend
from lg_field.ops.backends.reference import reference_chain
from lg_field.ops.backends.triton.chain import triton_chain, why_not_sizes
from lg_field.ops.backends.triton.runtime import INTERPRETED, interpreted, why_not_these
from lg_field.ops.sizes import ChainSizes

logger = logging.getLogger(__name__)

TOLERANCE = 1e-2
"""Largest difference of the self-check, relative to the largest value: what TF32 loses is below, a fault is above."""


class Triton(Backend):
    """float32 on a CUDA GPU, once differentiable; ignores chunk: its tiles are smaller."""

    name = "triton"

    def why_not(self, sizes: ChainSizes, *tensors: Tensor) -> str | None:
        """Why the kernels cannot do this; None if they can. The first time on a GPU they are checked there."""
        reason = why_not_these(*tensors) or why_not_sizes(sizes)
        return reason or fault(tensors[0].device if tensors else torch.device("cuda"))

    def why_not_unasked(self, sizes: ChainSizes, *tensors: Tensor) -> str | None:
        """The interpreter is there to be asked for."""
        return f"{INTERPRETED} is 1, which is slow" if interpreted() else self.why_not(sizes, *tensors)

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
        """`triton_chain`.

        Raises:
            ValueError: shared does not fit.
        """
        for name, size in sizes.shared_shapes().items():
            if shared[name].shape != size:
                raise ValueError(f"{name} must be {size}, got {tuple(shared[name].shape)}")
        return triton_chain(x, offsets, table, [shared[name] for name in sizes.shared_shapes()], sizes, global_x)


@functools.cache
def fault(device: torch.device) -> str | None:
    """What is wrong with the kernels on a device, in one line; None if a small chain has the reference's values and
    gradients there. What is found is logged."""
    try:
        worst = largest_difference(device)
    except Exception as error:  # whatever compiler, driver and GPU raise
        reason = f"its self-check failed on {device} ({type(error).__name__}: {str(error).strip().splitlines()[:1]})"
    else:
        if worst <= TOLERANCE:
            return None
        reason = f"its self-check on {device} is off by {worst:.2g} of the largest value"
    logger.warning("lg_field is slower than it could be, it does without its Triton kernels: %s", reason)
    return reason


def largest_difference(device: torch.device) -> float:
    """Between the kernels and the reference in float64, over values and gradients of a small ragged chain, relative to
    the largest value of each."""
    sizes = ChainSizes(5, 3, 6, 20, 1, "relu", residual=True, global_in_features=7)
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(device)

    offsets = torch.tensor([0, 40, 40, 41, 150], device=device)
    values = [random(150, 5), random(150, 7), 0.5 * random(4, sizes.row_size)]
    values += [0.3 * random(*shape) for shape in sizes.shared_shapes().values()]
    dy, found = random(150, 3), []
    for dtype in (torch.float32, torch.float64):
        x, gx, table, *shared = (v.to(dtype).requires_grad_() for v in values)
        with torch.enable_grad():
            if dtype == torch.float32:
                y = triton_chain(x, offsets, table, shared, sizes, gx)
            else:
                y = reference_chain(x, offsets, table, dict(zip(sizes.shared_shapes(), shared)), sizes, gx)
            found.append([y.detach(), *torch.autograd.grad(y, [x, gx, table, *shared], dy.to(dtype))])
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(*found))
