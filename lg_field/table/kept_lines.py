"""Which lines of a shared tensor are kept, and where they are in what is left of it.

Rows read some shared tensors line by line: a cell needs only the lines that its own points read. An edit keeps those
that kept rows read (`CellTable.lines_read`), one after the other in their old order. A line that is not kept reads as
zeros.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Int, Int64, Shaped
from torch import Tensor, nn

from lg_field.table.checkpoint import KEPT as KEPT

BLOCK = 256
"""Lines that are counted together."""
ABSENT = 255
"""Stands for a line that is not kept."""
WHOLE = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Types whose numbers are the same where their bits are, by bytes."""


def _ranks() -> Tensor:
    """(256 * 8,) uint8: for a byte of bits and one of them how many before it are set, `ABSENT` if it is not."""
    bits = (torch.arange(256)[:, None] >> torch.arange(8)) & 1
    return (bits.cumsum(1) - bits).masked_fill_(bits == 0, ABSENT).flatten().to(torch.uint8)


class KeptLines(nn.Module):
    """A set of the lines 0..N - 1. One that is not the whole takes about a quarter of a byte a line."""

    bits: Tensor | None
    """(ceil(N / 8),) uint8: whether each line is kept, the first of 8 in the lowest bit; None: all are."""
    before_byte: Tensor | None
    """(ceil(N / 8),) uint8: how many lines of their block are kept before these 8."""
    before_block: Tensor | None
    """(ceil(N / BLOCK),) int32: how many lines are kept before the block."""
    ranks: Tensor | None
    """See `_ranks`."""

    def __init__(self, total: int) -> None:
        """
        Args:
            total: lines N of the whole tensor, all of them kept.
        """
        super().__init__()
        self.total = total
        for name in ("bits", "before_byte", "before_block", "ranks"):
            self.register_buffer(name, None, persistent=False)
        self._spread: tuple[Tensor | None, Tensor, Tensor] | None = None

    @property
    def whole(self) -> bool:
        """Whether all lines are kept."""
        return self.bits is None

    def mask(self) -> Bool[Tensor, " lines"]:
        """(N,) bool: which lines are kept."""
        if self.bits is None:
            return torch.ones(self.total, dtype=torch.bool)
        places = torch.arange(8, dtype=torch.uint8, device=self.bits.device)
        return ((self.bits[:, None] >> places) & 1).flatten()[: self.total].bool()

    def numbers(self) -> Int64[Tensor, " kept"]:
        """(n,) int64, sorted: the kept lines."""
        return self.mask().nonzero()[:, 0]

    def set_(self, mask: Bool[Tensor, " lines"] | None) -> None:
        """Keep these lines.

        Args:
            mask: (N,) bool; None, or all True: the whole.
        """
        if mask is None or bool(mask.all()):
            self.bits = self.before_byte = self.before_block = self.ranks = None
            return
        bits = nn.functional.pad(mask, (0, -self.total % 8)).view(-1, 8)
        counts = nn.functional.pad(bits.sum(1), (0, -len(bits) % (BLOCK // 8))).view(-1, BLOCK // 8)
        of_block = counts.sum(1)
        weights = 1 << torch.arange(8, dtype=torch.uint8, device=mask.device)
        self.bits = (bits * weights).sum(1, dtype=torch.uint8)
        self.before_byte = (counts.cumsum(1) - counts).flatten()[: len(bits)].to(torch.uint8)
        self.before_block = (of_block.cumsum(0) - of_block).int()
        self.ranks = _ranks().to(mask.device)

    def places(self, lines: Int[Tensor, "*batch"], absent: int) -> Int[Tensor, "*batch"]:
        """Where lines are among the kept ones.

        Args:
            lines: (...) int32 or int64 numbers of lines.
            absent: the place of those that are not kept.

        Returns:
            (...) of the same type.
        """
        if self.bits is None or self.before_byte is None or self.before_block is None or self.ranks is None:
            return lines
        flat = lines.flatten()
        byte = flat >> 3
        at = self.bits.index_select(0, byte).to(lines.dtype).mul_(8).add_(flat & 7)
        rank = self.ranks.index_select(0, at)
        places = self.before_block.index_select(0, flat >> BLOCK.bit_length() - 1).to(lines.dtype)
        places.add_(self.before_byte.index_select(0, byte)).add_(rank)
        return places.masked_fill_(rank == ABSENT, absent).view(lines.shape)

    def pick(
        self, kept: Shaped[Tensor, "kept features"], mask: Bool[Tensor, " lines"]
    ) -> Shaped[Tensor, "fewer features"]:
        """Of the kept lines (n, F) those that are in an (N,) mask, too; a copy."""
        return kept[mask[self.numbers()] if not self.whole else mask].clone()

    def spread(self, kept: Shaped[Tensor, "kept features"]) -> Shaped[Tensor, "lines features"]:
        """The whole tensor (N, F): zeros where a line is not kept; itself if all are."""
        if self.whole:
            return kept
        return kept.new_zeros(self.total, kept.shape[1]).index_copy(0, self.numbers().to(kept.device), kept)

    def spread_once(self, kept: Shaped[Tensor, "kept features"]) -> Shaped[Tensor, "lines features"]:
        """`spread` without gradients, made anew only when the kept lines or what they hold have changed.

        What they hold is compared, which takes a thirtieth of the time of spreading it: a tensor's version does not
        count what fused optimizers, `.data` and other libraries write.
        """
        if self.whole:
            return kept.detach()
        made, now = self._spread, kept.detach()
        if made is None or made[0] is not self.bits or not same_bits(made[1], now):
            self._spread = made = self.bits, now.clone(), self.spread(now)
        return made[2]

    def __getstate__(self) -> dict[str, Any]:
        """Copies make their own."""
        return self.__dict__ | {"_spread": None}


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors of numbers are the same to the bit, type and place included."""
    if (one.shape, one.dtype, one.device) != (other.shape, other.dtype, other.device):
        return False
    whole = WHOLE[one.itemsize]
    return torch.equal(one.view(whole), other.view(whole))
