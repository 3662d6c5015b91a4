"""Editing: crop, extend, merge, prune. Model in, new model out; the source is never touched.

A crop selects rows, an extension appends them, a merge joins them; nothing else ever changes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lg_field.space.partition import PartitionGrid
from lg_field.space.regions import Region
from lg_field.table.cell_table import NOTHING_KEPT, CellTable, Table


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
        region: what to keep, in the field's own units (signals: the grid's domain; scenes: nerfstudio's scene space).
            Rows of all cells it touches are kept; the exact region is remembered and masks queries.
        cells: or the cell numbers to keep, (n,). No mask is needed then.
        invert: remove the region or the cells instead.

    Returns:
        A field of the same type.

    Raises:
        ValueError: neither or both of region and cells, unknown cells, or nothing would be kept.
    """
    rows, new_region = rows_to_keep(field, region, cells, invert)
    result = field.selected(rows)
    result.region, result.full = new_region, full_to_keep(field, region, cells, invert)
    return result


def rows_to_keep(
    field: CellTable, region: Region | None, cells: Sequence[int] | Tensor | None, invert: bool = False
) -> tuple[Tensor, Region | None]:
    """What `crop` keeps: sorted (n,) row numbers, and the exact region to mask queries with."""
    if (region is None) == (cells is None):
        raise ValueError("give either a region or cells to keep")
    if region is not None:
        region = ~region if invert else region
        rows = field.rows_touching(region)
        if len(rows) == 0:
            raise ValueError(NOTHING_KEPT)
        return rows, region if field.region is None else field.region & region
    wanted = torch.as_tensor(cells, dtype=torch.int64, device=field.cells.device)
    unknown = wanted[(wanted < 0) | (wanted >= field.grid.num_cells)]
    if len(unknown):
        raise ValueError(f"no cell {unknown.tolist()}: the grid {field.grid.counts} has 0..{field.grid.num_cells - 1}")
    kept = torch.isin(field.cells, wanted)
    rows = (~kept if invert else kept).nonzero()[:, 0]
    if len(rows) == 0:
        raise ValueError(NOTHING_KEPT)
    return rows, field.region


def full_to_keep(
    field: CellTable, region: Region | None, cells: Sequence[int] | Tensor | None, invert: bool = False
) -> Tensor | None:
    """The full cells that `crop` keeps: sorted (n,) cell numbers, None if there are none."""
    if field.full is None:
        return None
    if region is not None:
        kept = torch.isin(field.full, (~region if invert else region).touched(field.grid).to(field.full.device))
    else:
        kept = torch.isin(field.full, torch.as_tensor(cells, device=field.full.device)) != invert
    return field.full[kept] if bool(kept.any()) else None


def extend(field: Table, lower: Sequence[float], upper: Sequence[float]) -> Table:
    """Grow the domain by whole cells: old rows keep their values and their place, new cells get fresh rows.

    Train the result with only its new rows (`new_rows`) to leave every old value as it is (design, editing law 5).

    Args:
        field: the source; untouched.
        lower: (d,) the new domain reaches at least here; whole cells are added.
        upper: (d,) and here.

    Returns:
        A field of the same type on the larger grid, with rows for its old cells and for all cells outside the old
        domain; old domain coordinates mean the same points.

    Raises:
        ValueError: the new domain does not hold the old one, or the field is an unbounded scene, which reaches
            everywhere already (`regrow` adds cells within it).
    """
    grid = field.grid
    if len(lower) != grid.dim or len(upper) != grid.dim:
        raise ValueError(f"the domain has {grid.dim} axes, got corners with {len(lower)} and {len(upper)}")
    before, after = [], []
    for low, up, old_low, old_up, size in zip(lower, upper, grid.lower, grid.upper, grid.cell_size):
        if low > old_low + 1e-6 * size or up < old_up - 1e-6 * size:
            raise ValueError(f"the new domain {lower} to {upper} must hold the old one, {grid.lower} to {grid.upper}")
        before.append(max(0, math.ceil((old_low - low) / size - 1e-6)))
        after.append(max(0, math.ceil((up - old_up) / size - 1e-6)))
    counts = tuple(c + b + a for c, b, a in zip(grid.counts, before, after))
    larger = PartitionGrid(
        counts,
        tuple(low - b * size for low, b, size in zip(grid.lower, before, grid.cell_size)),
        tuple(up + a * size for up, a, size in zip(grid.upper, after, grid.cell_size)),
    )
    index = larger.unravel(torch.arange(larger.num_cells))
    first, last = torch.tensor(before), torch.tensor(before) + torch.tensor(grid.counts)
    fresh = (~((index >= first) & (index < last)).all(1)).nonzero()[:, 0]
    moved = larger.ravel(grid.unravel(field.cells.cpu()) + first)
    result = with_rows(field, larger, moved, fresh)
    if field.full is not None:
        result.full = larger.ravel(grid.unravel(field.full) + first.to(field.full.device))
    return result


def regrow(field: Table, cells: Sequence[int] | Tensor) -> Table:
    """Give rows back to cells that have none, on the same grid: fresh ones, to be trained.

    Raises:
        ValueError: a cell has a row already.
    """
    fresh = torch.as_tensor(cells, dtype=torch.int64).unique()
    taken = fresh[torch.isin(fresh, field.cells.cpu())]
    if len(taken):
        raise ValueError(f"cells {taken.tolist()[:10]} have a row already")
    return with_rows(field, field.grid, field.cells.cpu(), fresh)


def with_rows(field: Table, grid: PartitionGrid, cells: Tensor, fresh: Tensor) -> Table:
    """A copy of `field` on another grid, its rows moved to `cells`, with fresh rows for the cells `fresh`."""
    every, order = torch.cat([cells, fresh]).sort()
    initial = type(field).from_config(grid, field.config_on(grid), every).to(field.cells.device)
    state = {k: v.clone() if torch.is_tensor(v) else v for k, v in field.state_dict().items() if k != "full"}
    old = (order < len(cells)).to(field.cells.device)
    for name in field.row_names:
        if name in state:
            rows = getattr(initial, name).detach().clone()
            rows[old] = state[name][order[order < len(cells)].to(rows.device)]
            state[name] = every.to(rows.device) if name == "cells" else rows
    initial.region, initial.description, initial.history = field.region, field.description, dict(field.history)
    initial.load_state_dict(state | {"_extra_state": initial.get_extra_state()})
    if field.full is not None and grid == field.grid:
        rest = field.full[~torch.isin(field.full, every.to(field.full.device))]
        initial.full = rest.clone() if len(rest) else None
    return initial


def merge(first: Table, second: Table) -> Table:
    """Join two crops of one field.

    Raises:
        ValueError: they are not crops of the same field: other grid, sizes, shared part, or rows that disagree.
    """
    apart = "not crops of one field"
    if type(first) is not type(second) or first.grid != second.grid or first.config() != second.config():
        raise ValueError(f"{apart}: their networks or grids differ")
    if (first.region is None) != (second.region is None):
        raise ValueError("one crop shows an exact region, the other whole cells: crop both with --snap, or neither")
    ours, theirs = first.state_dict(), second.state_dict()
    rows = [name for name in first.row_names if name in ours]
    for name, value in ours.items():
        if torch.is_tensor(value) and name not in (*rows, "full") and not torch.equal(value, theirs[name]):
            raise ValueError(f"{apart}: {name} of the shared part differs")
    for one, other in ((first, second), (second, first)):
        if one.full is not None and bool(torch.isin(one.full, other.cells).any()):
            raise ValueError(f"{apart}: a cell that is full in one has a row in the other")
    common, new = torch.isin(first.cells, second.cells), ~torch.isin(second.cells, first.cells)
    for name in rows:
        if not torch.equal(ours[name][common], theirs[name][~new]):
            raise ValueError(f"{apart}: their rows differ in cells that both have")
    result = with_rows(first, first.grid, first.cells.cpu(), second.cells[new].cpu())
    at = torch.isin(result.cells, second.cells[new])
    with torch.no_grad():
        for name in rows:
            getattr(result, name)[at] = theirs[name][new]
    full = [field.full for field in (first, second) if field.full is not None]
    result.full = torch.cat(full).unique() if full else None
    if first.region is not None and second.region is not None:
        result.region = first.region | second.region
    return result


def prune(field: Table, empty: Tensor) -> Table:
    """Drop the rows of cells that are empty everywhere (design, editing law 6).

    Args:
        field: the source; untouched.
        empty: (P,) bool, one per row.

    Raises:
        ValueError: every row is empty.
    """
    return field.selected((~empty).nonzero()[:, 0])
