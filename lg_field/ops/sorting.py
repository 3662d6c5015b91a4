"""Points sorted by row: the one arrangement all operations on a table share."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Int, Int64, Shaped
from torch import Tensor


class RowSort(NamedTuple):
    """Result of `sort_by_row`; reuse it for everything indexed by the same points."""

    order: Int64[Tensor, " points"]
    """(M,) int64: sorted[k] = points[order[k]]."""
    offsets: Int64[Tensor, " edges"]
    """(P + 1,) int64: points of row r are sorted[offsets[r]:offsets[r + 1]]."""

    def sort(self, points: Shaped[Tensor, points * rest]) -> Shaped[Tensor, points * rest]:
        """(M, ...) -> the same in row order."""
        return points[self.order]

    def unsort(self, values: Shaped[Tensor, points * rest]) -> Shaped[Tensor, points * rest]:
        """(M, ...) in row order -> the original order."""
        return torch.empty_like(values).index_copy(0, self.order, values)


def sort_by_row(rows: Int[Tensor, " points"], num_rows: int) -> RowSort:
    """Sort points by the row that owns them.

    Args:
        rows: (M,) int64 in 0..num_rows - 1 (drop points without a row first).
        num_rows: P.
    """
    small = rows.int() if num_rows < 2**31 else rows
    sorted_rows, order = torch.sort(small, stable=True)
    edges = torch.arange(num_rows + 1, device=rows.device, dtype=small.dtype)
    return RowSort(order, torch.searchsorted(sorted_rows, edges))
