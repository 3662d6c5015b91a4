"""What an edit keeps of a table: its rows, sets of cells without a row, and exact region; in tensors or in numpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64

from lg_field.arrays import Array, like_number, places_of, torch
from lg_field.space.partition import PartitionGrid
from lg_field.space.regions import BoxMap, Region

NOTHING_KEPT = "nothing would be kept: no cell of the field is in what you asked for"


@runtime_checkable
class Rows(Protocol):
    """What of a table says which rows it has: a `CellTable`, or the `Outline` of one."""

    grid: PartitionGrid
    region: Region | None

    @property
    def cells(self) -> Array:
        """(P,) int64 kept cells, sorted."""

    @property
    def unwarp_boxes(self) -> BoxMap | None:
        """From boxes of the grid's domain to the space of regions; None when they are the same."""

    def rows_touching(self, region: Region) -> Array:
        """Sorted (n,) row numbers whose cells the region touches."""

    def cell_sets(self) -> dict[str, Array]:
        """The sets of cells without a row that are not empty: name -> (n,) int64, sorted."""


def rows_to_keep(
    field: Rows, region: Region | None, cells: Sequence[int] | Array | None, invert: bool = False
) -> tuple[Int64[Array, " rows"], Region | None]:
    """What `crop` keeps: sorted (n,) row numbers, of the kind that the field's cells are, and the exact region to mask
    queries with."""
    if (region is None) == (cells is None):
        raise ValueError("give either a region or cells to keep")
    if region is not None:
        region = ~region if invert else region
        rows = field.rows_touching(region)
        if len(rows) == 0:
            raise ValueError(NOTHING_KEPT)
        return rows, region if field.region is None else field.region & region
    kept = is_among(field.cells, cell_numbers(cells, field.grid))
    rows = places_of(~kept if invert else kept)
    if len(rows) == 0:
        raise ValueError(NOTHING_KEPT)
    return rows, field.region


def cell_sets_to_keep(
    field: Rows, region: Region | None, cells: Sequence[int] | Array | None, invert: bool = False
) -> dict[str, Array]:
    """What `crop` keeps of each set of cells without a row: name -> sorted (n,) cells; empty ones are left out."""
    sets = field.cell_sets()
    if not sets:
        return {}
    if region is not None:
        wanted, invert = (~region if invert else region).touched_cells(field.grid, field.unwarp_boxes), False
    else:
        wanted = cell_numbers(cells, field.grid)
    kept = {name: old[is_among(old, wanted) != invert] for name, old in sets.items()}
    return {name: left for name, left in kept.items() if len(left)}


def is_among(numbers: Int64[Array, " n"], others: Int64[np.ndarray, " m"]) -> Array:
    """(n,) bool: whether each number is one of some others."""
    if isinstance(numbers, np.ndarray):
        return np.isin(numbers, others)
    return torch.isin(numbers, like_number(numbers, others))


def cell_numbers(cells: Any, grid: PartitionGrid) -> Int64[np.ndarray, " n"]:
    """Cells as someone gives them: in a list, a tensor or a numpy array; None are none.

    Raises:
        ValueError: not a list of whole numbers, or not cells of the grid.
    """
    wrong = "cells must be a list of whole numbers, got "
    try:
        cells = cells.cpu() if hasattr(cells, "cpu") else [] if cells is None else cells
        given = np.asarray(cells if hasattr(cells, "__array__") else list(cells))
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(f"{wrong}{str(cells)[:60]}") from error
    if given.ndim != 1 or (len(given) and given.dtype.kind not in "iu"):
        raise ValueError(f"{wrong}{given.dtype} {given.shape}")
    unknown = given[(given < 0) | (given >= grid.num_cells)] if len(given) else given
    if len(unknown):
        raise ValueError(f"no cell {unknown.tolist()[:10]}: the grid {grid.counts} has 0..{grid.num_cells - 1}")
    return given.astype(np.int64)
