"""Points sorted by row: the one arrangement all operations on a table share."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int, Int64, Shaped
from torch import Tensor

from lg_field.constants import counting


class RowSort(NamedTuple):
    """Result of `sort_by_row`; reuse it for everything indexed by the same points."""

    order: Int64[Tensor, " points"]
    """(n,) int64: sorted[k] = points[order[k]]; of points without a row there is none."""
    offsets: Int64[Tensor, " edges"]
    """(P + 1,) int64: points of row r are sorted[offsets[r]:offsets[r + 1]]."""
    kept: Bool[Tensor, " points"] | None = None
    """(M,) whether each point has a row, where those without were not left out but sorted to the first row's."""

    def sort(self, points: Shaped[Tensor, "points *rest"]) -> Shaped[Tensor, "sorted *rest"]:
        """(M, ...) -> (n, ...) the same in row order."""
        return points[self.order]

    def rows_of(self, rows: Int[Tensor, " points"]) -> Int[Tensor, " sorted"]:
        """(M,) rows that the points were sorted by -> (n,) the row to which each of the sorted ones went."""
        return rows[self.order] if self.kept is None else rows[self.order].clamp_min(0)

    def unsort(
        self, values: Shaped[Tensor, "sorted *rest"], points: int | None = None
    ) -> Shaped[Tensor, "points *rest"]:
        """(n, ...) in row order -> (M, ...) in the original order, 0 for points without a row.

        Args:
            values: (n, ...).
            points: M; None = n.
        """
        count = len(values) if points is None else points
        new = values.new_empty if count == len(values) else values.new_zeros
        found = new(count, *values.shape[1:]).index_copy_(0, self.order, values)
        return found if self.kept is None else torch.where(self.kept.view(-1, *[1] * (values.dim() - 1)), found, 0.0)


def sort_by_row(rows: Int[Tensor, " points"], num_rows: int, wait: bool = True, owned: bool = False) -> RowSort:
    """Sort points by the row that owns them.

    Args:
        rows: (M,) int64 in -1..num_rows - 1; points whose row is -1 are left out.
        num_rows: P.
        wait: how many are left out decides shapes, for which a GPU's host has to wait. False: they stay, sorted to the
            points of the first row, and `unsort` makes zeros of them.
        owned: there is no -1.
    """
    small = rows.int() if num_rows < 2**31 else rows
    sorted_rows, order = torch.sort(small, stable=True)
    edges = counting(num_rows + 1, small, small.dtype)
    offsets = torch.searchsorted(sorted_rows, edges)
    if owned:
        return RowSort(order, offsets)
    if not wait:
        return RowSort(order, offsets * (edges > 0), rows >= 0)
    if bool((rows < 0).any()):
        order, offsets = order[int(offsets[0]) :], offsets - offsets[0]
    return RowSort(order, offsets)
