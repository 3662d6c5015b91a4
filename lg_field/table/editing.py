"""Editing: crop, extend, merge, prune. Model in, new model out; the source is never touched.

A crop selects rows, an extension appends them, a merge joins them; nothing else ever changes. Of shared tensors that
rows read line by line a crop keeps the lines that its rows read, a merge those of both parts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from lg_field.space.partition import MAX_CELLS, PartitionGrid
from lg_field.space.regions import Region
from lg_field.table.cell_table import CellTable, Table
from lg_field.table.keeping import cell_numbers
from lg_field.table.keeping import cell_sets_to_keep as cell_sets_to_keep
from lg_field.table.keeping import rows_to_keep as rows_to_keep


def crop(
    field: Table,
    region: Region | None = None,
    *,
    cells: Sequence[int] | Tensor | None = None,
    invert: bool = False,
) -> Table:
    """Keep one part of a field: a new, smaller field whose kept rows are bit-identical.

    Args:
        field: the source; untouched.
        region: what to keep, in the field's own units (signals: the grid's domain; scenes: nerfstudio's scene space).
            Rows of all cells it touches are kept; the exact region is remembered and masks queries.
        cells: or the cell numbers to keep, (n,). No mask is needed then.
        invert: remove the region or the cells instead.

    Returns:
        A field of the same type.

    Raises:
        ValueError: neither or both of region and cells, a region of another dimension, unknown cells, or nothing would
            be kept.
    """
    rows, new_region = rows_to_keep(field, region, cells, invert)
    result = field.selected(rows)
    result.region = new_region
    result.set_cell_sets(cell_sets_to_keep(field, region, cells, invert))
    result.drop_unread_lines_()
    return result


def extend(field: Table, lower: Sequence[float], upper: Sequence[float]) -> Table:
    """Grow the domain by whole cells: old rows keep their values and their place, new cells get fresh rows.

    Train the result with only its new rows (`new_rows`) to leave every old value as it is.

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
    larger, before = _extended(field.grid, lower, upper)
    index = larger.unravel(torch.arange(larger.num_cells))
    first, last = torch.tensor(before), torch.tensor(before) + torch.tensor(field.grid.counts)
    fresh = (~((index >= first) & (index < last)).all(1)).nonzero()[:, 0]

    def moved(cells: Tensor) -> Tensor:
        return larger.ravel(field.grid.unravel(cells.cpu()) + first)

    result = with_rows(field, larger, moved(field.cells), fresh)
    result.set_cell_sets({name: moved(cells) for name, cells in field.cell_sets().items()})
    return result


def _extended(
    grid: PartitionGrid, lower: Sequence[float], upper: Sequence[float]
) -> tuple[PartitionGrid, tuple[int, ...]]:
    """The smallest grid of the same cells that reaches `lower` and `upper`, and how many cells it has before the first
    one per axis."""
    if len(lower) != grid.dim or len(upper) != grid.dim:
        raise ValueError(f"the domain has {grid.dim} axes, got corners with {len(lower)} and {len(upper)}")
    if not all(map(math.isfinite, (*lower, *upper))):
        raise ValueError(f"the new domain needs finite corners, got {tuple(lower)} and {tuple(upper)}")
    before, after = [], []
    for low, up, old_low, old_up, size in zip(lower, upper, grid.lower, grid.upper, grid.cell_size):
        if low > old_low + 1e-6 * size or up < old_up - 1e-6 * size:
            raise ValueError(f"the new domain {lower} to {upper} must hold the old one, {grid.lower} to {grid.upper}")
        before.append(max(0, math.ceil((old_low - low) / size - 1e-6)))
        after.append(max(0, math.ceil((up - old_up) / size - 1e-6)))
    counts = tuple(c + b + a for c, b, a in zip(grid.counts, before, after))
    if math.prod(counts) > MAX_CELLS:
        raise ValueError(f"the new domain would have {math.prod(counts):,} cells; a field has at most {MAX_CELLS:,}")
    larger = PartitionGrid(
        counts,
        tuple(low - b * size for low, b, size in zip(grid.lower, before, grid.cell_size)),
        tuple(up + a * size for up, a, size in zip(grid.upper, after, grid.cell_size)),
    )
    return larger, tuple(before)


def regrow(field: Table, cells: Sequence[int] | Tensor) -> Table:
    """Give rows back to cells that have none, on the same grid: fresh ones, to be trained.

    Raises:
        ValueError: not cells of the grid, or a cell has a row already.
    """
    fresh = torch.from_numpy(cell_numbers(cells, field.grid)).unique()
    taken = fresh[torch.isin(fresh, field.cells.cpu())]
    if len(taken):
        raise ValueError(f"cells {taken.tolist()[:10]} have a row already")
    result = with_rows(field, field.grid, field.cells.cpu(), fresh)
    result.set_cell_sets({name: old[~torch.isin(old, fresh.to(old.device))] for name, old in field.cell_sets().items()})
    return result


def with_rows(
    field: Table, grid: PartitionGrid, cells: Int64[Tensor, " old_rows"], fresh: Int64[Tensor, " fresh"]
) -> Table:
    """A copy of `field` on another grid, its rows moved to `cells`, with fresh rows for the cells `fresh`; its sets of
    cells without a row are empty."""
    every, order = torch.cat([cells, fresh]).sort()
    initial = type(field).from_config(grid, field.config_on(grid), every).to(field.cells.device)
    sets = field.cell_sets()
    state = {k: v.clone() if torch.is_tensor(v) else v for k, v in field.state_dict().items() if k not in sets}
    old = (order < len(cells)).to(field.cells.device)
    for name in field.row_names:
        if name in state:
            rows = getattr(initial, name).detach().clone()
            rows[old] = state[name][order[order < len(cells)].to(rows.device)]
            state[name] = every.to(rows.device) if name == "cells" else rows
    initial.region, initial.description, initial.history = field.region, field.description, dict(field.history)
    initial.load_state_dict(state | {"_extra_state": initial.get_extra_state()})
    return initial


def merge(first: Table, second: Table) -> Table:
    """Join two crops of one field. Of a cell that both have it shows what either does.

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
    sets = (first.cell_sets(), second.cell_sets())
    for name, value in ours.items():
        is_shared = torch.is_tensor(value) and name not in {*rows, *first.cell_set_names, *first.line_names}
        if is_shared and not torch.equal(value, theirs[name]):
            raise ValueError(f"{apart}: {name} of the shared part differs")
    lines = {name: _joined_lines(name, first, second) for name in first.kept_lines}
    for one, other in zip(sets, (second, first)):
        for name, cells in one.items():
            if bool(torch.isin(cells, other.cells).any()):
                raise ValueError(f"{apart}: a cell that is {name} in one has a row in the other")
    common, new = torch.isin(first.cells, second.cells), ~torch.isin(second.cells, first.cells)
    for name in rows:
        if name not in first.shown_rows and not torch.equal(ours[name][common], theirs[name][~new]):
            raise ValueError(f"{apart}: their rows differ in cells that both have")
    result = with_rows(first, first.grid, first.cells.cpu(), second.cells[new].cpu())
    at = torch.isin(result.cells, second.cells[new])
    with torch.no_grad():
        for name in rows:
            getattr(result, name)[at] = theirs[name][new]
            if name in first.shown_rows:
                both = torch.isin(result.cells, first.cells[common])
                getattr(result, name)[both] = ours[name][common] | theirs[name][~new]
    result.resize_lines_({name: mask for name, (mask, _) in lines.items()})
    for name, (_, values) in lines.items():
        getattr(result, name).data.copy_(values)
    result.set_cell_sets(
        {
            n: torch.cat([s[n] for s in sets if n in s]).unique()
            for n in first.cell_set_names
            if any(n in s for s in sets)
        }
    )
    if first.region is not None and second.region is not None:
        apart_only = ~first.region == second.region  # what the one shows and the other does not is all there is
        result.region = None if apart_only else first.region | second.region
    return result


def _joined_lines(name: str, first: CellTable, second: CellTable) -> tuple[Bool[Tensor, " lines"], Tensor]:
    """Which lines of a shared tensor one of two fields has, (N,) bool, and their values.

    Raises:
        ValueError: they disagree in a line that both have.
    """
    device = first.cells.device
    kept = [field.kept_lines[name] for field in (first, second)]
    ours, theirs = (lines.mask().to(device) for lines in kept)
    values, others = (
        lines.spread(getattr(field, name).detach()).to(device) for lines, field in zip(kept, (first, second))
    )
    if not torch.equal(values[ours & theirs], others[ours & theirs]):
        raise ValueError(f"not crops of one field: {name} of the shared part differs")
    return ours | theirs, torch.where(ours[:, None], values, others)[ours | theirs]


def prune(field: Table, empty: Bool[Tensor, " rows"]) -> Table:
    """Drop the rows of cells that are empty everywhere.

    Args:
        field: the source; untouched.
        empty: (P,) bool, one per row, on any device.

    Raises:
        ValueError: not one boolean per row, or every row is empty.
    """
    if empty.shape != (field.num_rows,) or empty.dtype != torch.bool:
        raise ValueError(f"empty must be ({field.num_rows},) bool, one per row, got {empty.dtype} {tuple(empty.shape)}")
    result = field.selected((~empty).nonzero()[:, 0])
    result.drop_unread_lines_()
    return result
