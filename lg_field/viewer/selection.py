"""What is kept and what is selected of a field's rows, with undo and redo. Pure logic: no page, no weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from lg_field.files.bits import stored_dtype, stored_shape
from lg_field.space.regions import Region
from lg_field.table.cell_table import NOTHING_KEPT, CellTable
from lg_field.table.editing import cell_sets_to_keep

NOTHING_SELECTED = "nothing is selected: pick cells first"


@dataclass(frozen=True)
class State:
    """One step of an edit."""

    kept: Bool[Tensor, " rows"]
    """(P,) bool: rows of the source that are still there."""
    selected: Bool[Tensor, " rows"]
    """(P,) bool: and are selected."""
    region: Region | None
    """The exact region shown, None for whole cells."""
    sets: dict[str, Tensor]
    """The field's sets of cells without a row that are still there (see `CellTable.cell_sets`)."""

    @property
    def without_rows(self) -> int:
        """How many cells that hold something without a row are still there."""
        return sum(map(len, self.sets.values()))


class Selection:
    """The edit of one field: a selection among its kept rows, and the way back.

    The field itself is never changed: `current` makes the field to show, undo and redo only move between states.
    """

    def __init__(self, field: CellTable) -> None:
        """
        Args:
            field: the source of all edits.
        """
        self.field = field
        everything = torch.ones(field.num_rows, dtype=torch.bool)
        self._steps = [State(everything, ~everything, field.region, field.cell_sets())]
        self._at = 0

    # -- what there is

    @property
    def state(self) -> State:
        """The step shown."""
        return self._steps[self._at]

    @property
    def kept(self) -> Bool[Tensor, " rows"]:
        """(P,) bool over the source's rows."""
        return self.state.kept

    @property
    def selected(self) -> Bool[Tensor, " rows"]:
        """(P,) bool over the source's rows, within `kept`."""
        return self.state.selected

    @property
    def cells(self) -> Int64[Tensor, " n"]:
        """(n,) int64 kept cells, on the CPU."""
        return self.field.cells.cpu()[self.kept]

    @property
    def selected_cells(self) -> Int64[Tensor, " n"]:
        """(n,) int64 selected cells, on the CPU."""
        return self.field.cells.cpu()[self.selected]

    @property
    def cropped(self) -> bool:
        """Whether something of the source is gone: rows, cells without a row, or part of the exact region."""
        start = self._steps[0]
        fewer = self.state.without_rows < start.without_rows
        return not bool(self.kept.all()) or self.state.region is not start.region or fewer

    def current(self) -> CellTable:
        """The field with the kept rows only: bit-identical rows, the source untouched."""
        if not self.cropped:
            return self.field
        result = self.field.selected(self.kept.nonzero()[:, 0])
        result.region = self.state.region
        result.set_cell_sets(self.state.sets)
        result.drop_unread_lines_()
        return result.eval()

    # -- selecting

    def select(self, cells: Int64[Tensor, " n"], add: bool = False) -> None:
        """Select these (n,) cells; those without a kept row are left out.

        Args:
            cells: cell numbers.
            add: to what is selected already.
        """
        hit = torch.isin(self.field.cells.cpu(), cells.cpu())
        self._choose(hit | self.selected if add else hit)

    def toggle(self, cell: int) -> None:
        """Select one cell, or no longer."""
        self._choose(self.selected ^ (self.field.cells.cpu() == cell))

    def clear(self) -> None:
        """Select nothing."""
        self._choose(torch.zeros_like(self.kept))

    def invert(self) -> None:
        """Select all other kept cells."""
        self._choose(~self.selected)

    def grow(self) -> None:
        """Select the neighbours across faces, too."""
        self._choose(self._grown(self.selected))

    def shrink(self) -> None:
        """Let go of cells that have an unselected kept neighbour: the same as growing what is not selected."""
        self._choose(~self._grown(self.kept & ~self.selected))

    def _choose(self, rows: Tensor) -> None:
        self._steps[self._at] = replace(self.state, selected=rows & self.kept)

    def _grown(self, rows: Tensor) -> Tensor:
        """(P,) bool and the rows of all face neighbours."""
        grid, cells = self.field.grid, self.field.cells.cpu()
        index, counts = grid.unravel(cells[rows]), torch.tensor(grid.counts)
        grown = rows.clone()
        for axis in range(grid.dim):
            for step in (-1, 1):
                moved = index.clone()
                moved[:, axis] += step
                inside = ((moved >= 0) & (moved < counts)).all(1)
                grown |= torch.isin(cells, grid.ravel(moved[inside]))
        return grown

    # -- cropping

    def keep(self) -> None:
        """Crop to the selection; cells without a row cannot be selected, so they go.

        Raises:
            ValueError: nothing is selected.
        """
        if not bool(self.selected.any()):
            raise ValueError(NOTHING_SELECTED)
        self._step(self.selected, self.state.region, {})

    def remove(self) -> None:
        """Drop the selection.

        Raises:
            ValueError: nothing is selected, or nothing would be left.
        """
        if not bool(self.selected.any()):
            raise ValueError(NOTHING_SELECTED)
        self._step(self.kept & ~self.selected, self.state.region, self.state.sets)

    def keep_region(self, region: Region) -> None:
        """Crop to a region exactly, as `editing.crop` does: its cells are kept, queries are masked.

        Raises:
            ValueError: the region touches no kept cell.
        """
        rows = torch.zeros_like(self.kept)
        rows[self.field.rows_touching(region).cpu()] = True
        before, there = self.state.region, self.state.sets
        kept = cell_sets_to_keep(self.field, region, None)
        kept = {name: cells[torch.isin(cells, there[name])] for name, cells in kept.items() if name in there}
        self._step(rows & self.kept, region if before is None else before & region, kept)

    def _step(self, kept: Tensor, region: Region | None, sets: dict[str, Tensor]) -> None:
        if not bool(kept.any()):
            raise ValueError(NOTHING_KEPT)
        del self._steps[self._at + 1 :]
        self._steps.append(State(kept.clone(), torch.zeros_like(kept), region, sets))
        self._at += 1

    def undo(self) -> bool:
        """Go back one crop; False at the start."""
        moved = self._at > 0
        self._at -= moved
        return moved

    def redo(self) -> bool:
        """Take back an undo; False at the end."""
        moved = self._at + 1 < len(self._steps)
        self._at += moved
        return moved


@dataclass(frozen=True)
class Size:
    """How much some rows are."""

    cells: int
    parameters: int
    """Of these rows, and of the shared part if it is counted in."""
    bytes: int
    """Of weights, in a field file."""


def size_of(field: CellTable, rows: int, shared: bool, precision: torch.dtype = torch.float32) -> Size:
    """Cells, parameters and bytes of a number of a field's rows.

    Args:
        field: whose rows.
        rows: how many.
        shared: count the shared part in.
        precision: of the weights in the file.
    """
    of_rows = of_shared = 0
    for name, value in field.state_dict().items():
        if torch.is_tensor(value):
            dtype = precision if value.is_floating_point() else stored_dtype(value)
            count = torch.Size(stored_shape(value)).numel() * dtype.itemsize
            if name in (*field.row_names, *field.rows_elsewhere):
                of_rows += count
            else:
                of_shared += count
    numbers = field.num_parameters()
    parameters = numbers["local"] // field.num_rows * rows + (numbers["shared"] if shared else 0)
    return Size(rows, parameters, of_rows // field.num_rows * rows + (of_shared if shared else 0))


def bounds_of(field: CellTable, cells: Int64[Tensor, " n"]) -> Float64[Tensor, "2 d"]:
    """(2, d) float64 box around (n,) cells, in the space regions are given in.

    Raises:
        ValueError: no cell.
    """
    if len(cells) == 0:
        raise ValueError(NOTHING_SELECTED)
    boxes = field.grid.boxes(cells.cpu())
    if field.unwarp_boxes is not None:
        boxes = field.unwarp_boxes(boxes)
    return torch.stack([boxes[:, 0].amin(0), boxes[:, 1].amax(0)])
