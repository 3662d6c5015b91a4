"""The collectives that rows on many ranks need, with their gradients; torch.distributed does them.

After a collective all ranks compute the same numbers. The loss that they share is counted once (`Ranks.once`): each
rank's gradients are those of 1/N of it, and their sum over the N ranks is the gradient. So backward needs no
collective: the sum over ranks of the gradient of what was gathered is N times that of one rank.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float, Shaped
from torch import Tensor


class _Gather(torch.autograd.Function):
    """Lines of all ranks; backward: N times the own part of the gradient."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, ranks: Ranks, counts: list[int]) -> Tensor:
        ctx.ranks, ctx.counts = ranks, counts
        return ranks.gather_(values, counts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        first = sum(ctx.counts[: ctx.ranks.rank])
        return gradients[0][first : first + ctx.counts[ctx.ranks.rank]] * ctx.ranks.size, None, None


class _Total(torch.autograd.Function):
    """Sum over ranks; backward: N times the gradient."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, ranks: Ranks) -> Tensor:
        ctx.size = ranks.size
        return ranks.sum_(values.clone())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.size, None


class _Once(torch.autograd.Function):
    """The same value; backward: a part of the gradient."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, size: int) -> Tensor:
        ctx.size = size
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] / ctx.size, None


class Ranks:
    """The processes of the default group. Every method that ends with a collective is called by all of them alike."""

    def __init__(self) -> None:
        """
        Raises:
            ValueError: torch.distributed was not initialized.
        """
        if not dist.is_initialized():
            raise ValueError("there are no ranks: call torch.distributed.init_process_group, or start with torchrun")
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.sent: Counter[str] = Counter()
        """Bytes that this rank has given to others, by what they were."""

    def _count(self, what: str, values: Tensor, times: float) -> None:
        self.sent[what] += int(values.numel() * values.element_size() * times)

    # -- with gradients

    def gather(self, values: Shaped[Tensor, "mine *rest"], counts: Sequence[int]) -> Shaped[Tensor, "all *rest"]:
        """The lines of all ranks, rank by rank, on every rank; differentiable.

        Args:
            values: (n, ...) of this rank.
            counts: lines of each rank.
        """
        return _Gather.apply(values, self, list(counts))

    def total(self, values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Sum of all ranks' values, on every rank; differentiable."""
        return _Total.apply(values, self)

    def once(self, loss: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """A loss that all ranks have, whose gradients add up over ranks to its gradient."""
        return _Once.apply(loss, self.size)

    # -- without

    def gather_(self, values: Tensor, counts: Sequence[int], what: str = "runs") -> Tensor:
        """`gather` without gradients; `what` is the name it is counted under. A rank sends as many lines as the one
        with the most."""
        if self.size == 1 or sum(counts) == 0:
            return values.clone()
        flat = values.detach().flatten(1) if values.dim() > 1 else values.detach()[:, None]
        flat = flat.view(torch.uint8) if flat.dtype == torch.bool else flat
        padded = flat.new_zeros(max(counts), flat.shape[1])
        padded[: len(flat)] = flat
        self._count(what, padded, self.size - 1)
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        whole = torch.cat([part[:count] for part, count in zip(parts, counts)])
        return whole.view(values.dtype).view(len(whole), *values.shape[1:])

    def sum_(self, values: Tensor, what: str = "sums") -> Tensor:
        """Add up all ranks' values in place; all ranks have the same bits afterwards."""
        if self.size > 1:
            self._count(what, values, 2.0 * (self.size - 1) / self.size)
            dist.all_reduce(values)
        return values

    def exchange(
        self, lines: Shaped[Tensor, "mine *rest"], give: Sequence[int], take: Sequence[int], what: str = "rows"
    ) -> Shaped[Tensor, "taken *rest"]:
        """Give lines to other ranks and take theirs.

        Args:
            lines: (n, ...) sorted by the rank that they go to.
            give: lines for each rank.
            take: lines from each rank.
            what: the name that sent bytes are counted under.

        Returns:
            (sum of `take`, ...), rank by rank.
        """
        if self.size == 1:
            return lines.clone()
        flat = lines.detach().reshape(len(lines), math.prod(lines.shape[1:]))
        flat = flat.view(torch.uint8) if flat.dtype == torch.bool else flat
        self._count(what, flat[: sum(give) - give[self.rank]], 1.0)
        taken = flat.new_empty(sum(take), flat.shape[1])
        if flat.shape[1]:
            dist.all_to_all_single(taken, flat.contiguous(), list(take), list(give))
        return taken.view(lines.dtype).view(len(taken), *lines.shape[1:])

    def share(self, value: Any) -> Any:
        """Plain data of rank 0, on every rank."""
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def all_of(self, value: Any) -> list[Any]:
        """Plain data of every rank, on every rank."""
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value)
        return found

    def agree(self, value: Any, what: str) -> None:
        """Make sure that all ranks have the same plain data.

        Raises:
            ValueError: they have not.
        """
        found = self.all_of(value)
        others = [rank for rank, theirs in enumerate(found) if theirs != found[0]]
        if others:
            raise ValueError(f"the ranks disagree about {what}: rank {others[0]} has another than rank 0")

    def barrier(self) -> None:
        """Wait for all ranks."""
        dist.barrier()


def in_torchrun() -> bool:
    """Whether torchrun, or whoever sets its variables, started this process."""
    return {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys()
