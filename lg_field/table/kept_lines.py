"""Which lines of a shared tensor are kept, and where they are in what is left of it.

Rows read some shared tensors line by line: a cell needs only the lines that its own points read. An edit keeps those
that kept rows read (`CellTable.lines_read`), one after the other in their old order. A line that is not kept reads as
zeros.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int, Int64, Shaped
from torch import Tensor, nn

KEPT = "_kept"
"""Ends the name under which a state holds which lines of a tensor are kept: (N,) bool; not there if all are."""
BLOCK = 128
"""Lines that are counted together."""
ABSENT = 255
"""Stands for a line that is not kept."""


class KeptLines(nn.Module):
    """A set of the lines 0..N - 1. One that is not the whole takes about a byte a line."""

    within: Tensor | None
    """(N,) uint8: how many lines of its block are kept before this one, `ABSENT` if it is not; None: all are kept."""
    before: Tensor | None
    """(ceil(N / BLOCK),) int32: how many lines are kept before the block."""

    def __init__(self, total: int) -> None:
        """
        Args:
            total: lines N of the whole tensor, all of them kept.
        """
        super().__init__()
        self.total = total
        self.register_buffer("within", None, persistent=False)
        self.register_buffer("before", None, persistent=False)

    @property
    def whole(self) -> bool:
        """Whether all lines are kept."""
        return self.within is None

    def mask(self) -> Bool[Tensor, " lines"]:
        """(N,) bool: which lines are kept."""
        return torch.ones(self.total, dtype=torch.bool) if self.within is None else self.within != ABSENT

    def numbers(self) -> Int64[Tensor, " kept"]:
        """(n,) int64, sorted: the kept lines."""
        return self.mask().nonzero()[:, 0]

    def set_(self, mask: Bool[Tensor, " lines"] | None) -> None:
        """Keep these lines.

        Args:
            mask: (N,) bool; None, or all True: the whole.
        """
        if mask is None or bool(mask.all()):
            self.within = self.before = None
            return
        blocks = nn.functional.pad(mask, (0, -self.total % BLOCK)).view(-1, BLOCK)
        counts = blocks.sum(1)
        before = blocks.cumsum(1, dtype=torch.int16) - blocks.short()
        self.within = before.flatten()[: self.total].to(torch.uint8).masked_fill_(~mask, ABSENT)
        self.before = (counts.cumsum(0) - counts).int()

    def places(self, lines: Int[Tensor, "*batch"], absent: int) -> Int[Tensor, "*batch"]:
        """Where lines are among the kept ones.

        Args:
            lines: (...) int32 or int64 numbers of lines.
            absent: the place of those that are not kept.

        Returns:
            (...) of the same type.
        """
        if self.within is None or self.before is None:
            return lines
        flat = lines.flatten()
        within = self.within.index_select(0, flat)
        places = self.before.index_select(0, flat >> BLOCK.bit_length() - 1).to(lines.dtype).add_(within)
        return places.masked_fill_(within == ABSENT, absent).view(lines.shape)

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
