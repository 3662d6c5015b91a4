"""The Local-Global chain, and what surrounds it, by Triton kernels on a CUDA GPU. Triton is imported at first use."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from lg_field.ops.backends.base import Backend
from lg_field.ops.backends.triton.chain import triton_chain, why_not_sizes
from lg_field.ops.backends.triton.runtime import INTERPRETED, interpreted, why_not_these
from lg_field.ops.sizes import ChainSizes


class Triton(Backend):
    """float32 on a CUDA GPU, once differentiable; ignores chunk: its tiles are smaller."""

    name = "triton"

    def why_not(self, sizes: ChainSizes, *tensors: Tensor) -> str | None:
        """Why the kernels cannot do this; None if they can. The first time on a GPU they are checked there."""
        return why_not_these(*tensors) or why_not_sizes(sizes)

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
