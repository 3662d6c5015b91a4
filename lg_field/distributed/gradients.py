"""Sums of gradients over ranks.

The shared part's grid is most of it, and a rank's rays read some of its entries, so that it has few lines there that
are not zeros: only these travel. Line i is added up by rank i mod N, its *keeper*: ranks give it their lines, the
keepers give what comes of it to all. Which lines these are is told by a bit each. So a rank sends (N - 1)/N of its own
lines, and of those that any rank has; to add up all of them takes two times (N - 1)/N of the tensor.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from lg_field.distributed.ranks import Ranks
from lg_field.files.bits import pack_bits, unpack_bits

WHAT = "gradients"
"""What sent bytes are counted as."""


def sum_gradients(ranks: Ranks, shared: Iterable[Tensor], lines: Iterable[Tensor], own: Iterable[Tensor]) -> None:
    """Add up the gradients of what all ranks hold, in place. Of parameters that only some ranks reached, own rows too,
    the others get zeros, so that all ranks' optimizers go on alike.

    Args:
        ranks: all of them.
        shared: parameters that are the same on all ranks,
        lines: and such of which a rank's samples read few lines.
        own: parameters whose rows are this rank's.
    """
    shared, lines, own = list(shared), list(lines), list(own)
    every = [*shared, *lines, *own]
    if ranks.size == 1 or not every:
        return
    reached = every[0].new_tensor([float(p.grad is not None) for p in every])
    parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in shared]
    whole = ranks.sum_(torch.cat([*(part.flatten() for part in parts), reached]), WHAT)
    *sums, reached = whole.split([*(part.numel() for part in parts), len(every)])
    some = {id(p) for p, count in zip(every, reached.tolist()) if count > 0}
    for parameter in every:
        if id(parameter) in some and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    for parameter, value in zip(shared, sums):
        if id(parameter) in some:
            parameter.grad = value.view_as(parameter)
    for parameter in lines:
        if id(parameter) in some:
            assert parameter.grad is not None
            parameter.grad = sum_lines(parameter.grad, ranks)


def sum_lines(lines: Float[Tensor, "lines width"], ranks: Ranks) -> Float[Tensor, "lines width"]:
    """Sum of all ranks' tensors, which has the same bits on all of them.

    Args:
        lines: (L, F) of this rank; lines of zeros cost a bit. The same shape on all ranks.
        ranks: all of them.

    Returns:
        (L, F).
    """
    size = ranks.size
    if size == 1:
        return lines.clone()
    by_keeper = lines.new_zeros(-(-len(lines) // size) * size, lines.shape[1])
    by_keeper[: len(lines)] = lines
    by_keeper = by_keeper.view(-1, size, lines.shape[1]).transpose(0, 1).contiguous()  # (keepers, lines of each, F)
    summed = _at_keeper(by_keeper, ranks)
    some = (summed != 0.0).any(1)
    told = _masks(ranks.gather_(pack_bits(some[None]), [1] * size, WHAT), len(some))
    result = torch.zeros_like(by_keeper)
    result[told] = ranks.gather_(summed[some], told.sum(1).tolist(), WHAT)
    return result.transpose(0, 1).flatten(0, 1)[: len(lines)]


def _at_keeper(by_keeper: Float[Tensor, "ranks mine width"], ranks: Ranks) -> Float[Tensor, "mine width"]:
    """Sum of what all ranks have for this one, added up rank by rank."""
    some = (by_keeper != 0.0).any(2)
    each = [1] * ranks.size
    theirs = _masks(ranks.exchange(pack_bits(some), each, each, WHAT), some.shape[1])
    counts = theirs.sum(1).tolist()
    taken = ranks.exchange(by_keeper[some], some.sum(1).tolist(), counts, WHAT)
    summed = torch.zeros_like(by_keeper[0])
    for mask, values in zip(theirs, taken.split(counts)):
        summed[mask] += values
    return summed


def _masks(packed: Tensor, width: int) -> Tensor:
    """(n, width) bool from (n, bytes) bits."""
    return unpack_bits(packed, torch.empty(len(packed), width, dtype=torch.bool, device="meta")).to(packed.device)
