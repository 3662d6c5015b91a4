"""What a backend of the Local-Global chain is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor

from lg_field.ops.sizes import ChainSizes


class Backend(ABC):
    """One way to compute the chain: the same values and gradients as the reference, to rounding.

    All backends share `ChainSizes`' layout of parameters, so that the choice is one of the call, not of the field.
    """

    name: str
    """What callers ask for."""

    @abstractmethod
    def why_not(self, sizes: ChainSizes, *tensors: Tensor) -> str | None:
        """Why this backend cannot compute a chain, in one line; None if it can.

        Args:
            sizes: widths and wiring: what it does not know, it must refuse here.
            tensors: all values, parameters and gradients of the call (their devices and types matter).
        """

    def why_not_unasked(self, sizes: ChainSizes, *tensors: Tensor) -> str | None:
        """Why "auto" should not take this backend, in one line; None if it may. Arguments are those of `why_not`."""
        return self.why_not(sizes, *tensors)

    @abstractmethod
    def chain(
        self,
        x: Float[Tensor, "points features"],
        offsets: Int[Tensor, " edges"],
        table: Float[Tensor, "rows K"],
        shared: Mapping[str, Tensor],
        sizes: ChainSizes,
        global_x: Float[Tensor, "points global_features"],
        chunk: int | None = None,
    ) -> Float[Tensor, "points out"]:
        """`local_global_chain`, whose arguments these are; it has checked x, table and global_x against `sizes`.

        Called only where `why_not` is None.
        """

    def placed(self, offsets: Int64[Tensor, " edges"], device: torch.device) -> Int64[Tensor, " edges"]:
        """(P + 1,) offsets known to the host, where `chain` wants them for points on a device."""
        return offsets.to(device)

    def step(
        self,
        x: Float[Tensor, "points features"],
        offsets: Int[Tensor, " edges"],
        target: Float[Tensor, "points out"],
        table: Float[Tensor, "rows K"],
        shared: Mapping[str, Tensor],
        sizes: ChainSizes,
        chunk: int,
    ) -> float:
        """`accumulate_gradients`, whose arguments these are: `chain` and autograd, one chunk of points at a time.

        A backend that computes loss and gradients in one pass has a step of its own.
        """
        total, bounds, first = torch.zeros((), device=x.device), offsets.cpu(), 0
        while first < len(x):
            last = min(first + chunk, len(x))
            border = int(bounds[torch.searchsorted(bounds, last, right=True) - 1])
            last = border if border > first else last  # whole rows, where one is not longer than a chunk
            low = int(torch.searchsorted(bounds, first, right=True)) - 1
            high = int(torch.searchsorted(bounds, last))
            part = self.placed(bounds[low : high + 1].clamp(first, last) - first, x.device)
            out = self.chain(x[first:last], part, table[low:high], shared, sizes, x[first:last])
            loss = (out - target[first:last]).square().sum() / target.numel()
            loss.backward()
            total += loss.detach()
            first = last
        return float(total)
