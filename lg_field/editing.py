"""Editing: crop and prune. Model in, new model out; a crop selects rows, nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lg_field.regions import Region
from lg_field.table import Table


def crop(
    field: Table,
    region: Region | None = None,
    *,
    cells: Sequence[int] | Tensor | None = None,
    invert: bool = False,
) -> Table:
    """Keep one part of a field: a new, smaller field whose kept rows are bit-identical (design, editing laws 1-4).

    Args:
        field: the source; untouched.
        region: what to keep, in the field's own units (scenes: nerfstudio's scene space). Rows of all cells it
            touches are kept; the exact region is remembered and masks queries.
        cells: or the cell numbers to keep, (n,). No mask is needed then.
        invert: with `cells`, remove these instead.

    Returns:
        A field of the same type.

    Raises:
        ValueError: neither or both of region and cells, unknown cells, or nothing would be kept.
    """
    if (region is None) == (cells is None):
        raise ValueError("give either a region or cells to keep")
    if region is not None:
        if invert:
            raise ValueError("invert works with cells; a region finer than the cells has no inverse of whole rows")
        result = field.selected(field.rows_touching(region))
        result.region = region if field.region is None else field.region & region
        return result
    wanted = torch.as_tensor(cells, dtype=torch.int64, device=field.cells.device)
    unknown = wanted[(wanted < 0) | (wanted >= field.grid.num_cells)]
    if len(unknown):
        raise ValueError(f"no cell {unknown.tolist()}: the grid {field.grid.counts} has 0..{field.grid.num_cells - 1}")
    kept = torch.isin(field.cells, wanted)
    return field.selected((~kept if invert else kept).nonzero()[:, 0])


def prune(field: Table, empty: Tensor) -> Table:
    """Drop the rows of cells that are empty everywhere (design, editing law 6).

    Args:
        field: the source; untouched.
        empty: (P,) bool, one per row.

    Raises:
        ValueError: every row is empty.
    """
    return field.selected((~empty).nonzero()[:, 0])
