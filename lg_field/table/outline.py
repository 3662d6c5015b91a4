"""A table without its weights and without torch: what a crop of a file has to know of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int64

from lg_field.space.partition import PartitionGrid
from lg_field.space.regions import BoxMap, Region
from lg_field.table.checkpoint import KEPT
from lg_field.table.description import Description
from lg_field.table.keeping import is_among

FLOAT, BOOL, INTEGER = "float32", "bool", "int64"
"""Types of a field's tensors."""
LinesRead = Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]
"""See `CellTable.lines_read`."""


class Form(NamedTuple):
    """What a tensor of a field is like."""

    dtype: str
    """`FLOAT`, `BOOL` or `INTEGER`."""
    shape: tuple[int, ...]

    @property
    def numbers(self) -> int:
        """How many it holds."""
        return math.prod(self.shape)


def no_lines(rows: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """`CellTable.lines_read` of a table without shared tensors that rows read line by line."""
    return {}


@dataclass(eq=False)
class Outline:
    """What a `CellTable` says of itself, and the forms of its tensors."""

    grid: PartitionGrid
    cells: Int64[np.ndarray, " rows"]
    """(P,) sorted: the kept cells."""
    config: dict[str, Any]
    """`CellTable.config`."""
    rows: Mapping[str, Form]
    """Saved tensors with a line per kept cell, beside `cells`; the form of one line."""
    shared: Mapping[str, Form]
    """Saved tensors of the shared part."""
    lines: Mapping[str, Form] = field(default_factory=dict)
    """Of the shared part those that rows read line by line, whole."""
    shown_rows: tuple[str, ...] = ()
    lines_follow: tuple[str, ...] = ()
    cell_set_names: tuple[str, ...] = ()
    out_features: int = 0
    """Values at a point, of networks of signals."""
    lines_read: LinesRead = no_lines
    unwarp_boxes: BoxMap | None = None
    voxel_lattice: tuple[PartitionGrid, bool] | None = None
    """See `CellTable.voxel_lattice`."""
    region: Region | None = None
    description: Description | None = None
    history: dict[str, Any] = field(default_factory=dict)
    sets: Mapping[str, Int64[np.ndarray, " cells"]] = field(default_factory=dict)
    """Sets of cells without a row that are not empty."""
    kept: Mapping[str, Bool[np.ndarray, " lines"]] = field(default_factory=dict)
    """Which of `lines` there are; those left out are whole."""

    @property
    def num_rows(self) -> int:
        """Number of kept cells P."""
        return len(self.cells)

    @property
    def row_names(self) -> tuple[str, ...]:
        """Names of the saved tensors that have one line per kept cell, `cells` first."""
        return ("cells", *self.rows)

    @property
    def line_names(self) -> set[str]:
        """Names of the tensors that rows read line by line, and of which lines there are."""
        return {name + end for name in self.lines for end in ("", KEPT)}

    def forms(self) -> dict[str, Form]:
        """The tensors that a state of the field holds, by name."""
        found = {"cells": Form(INTEGER, (self.num_rows,))}
        found |= {name: Form(INTEGER, (len(cells),)) for name, cells in self.sets.items()}
        found |= {name: Form(form.dtype, (self.num_rows, *form.shape)) for name, form in self.rows.items()}
        for name, (dtype, (total, *rest)) in self.lines.items():
            found[name] = Form(dtype, (int(self.mask(name).sum()), *rest))
            found |= {name + KEPT: Form(BOOL, (total,))} if name in self.kept else {}
        return found | dict(self.shared)

    def num_parameters(self) -> dict[str, int]:
        """Trainable numbers: `local` (in rows), `shared` and `total`."""
        counts = {name: form.numbers for name, form in self.forms().items() if form.dtype == FLOAT}
        local = sum(count for name, count in counts.items() if name in self.rows)
        total = sum(counts.values())
        return {"local": local, "shared": total - local, "total": total}

    def mask(self, name: str) -> Bool[np.ndarray, " lines"]:
        """(N,) bool: which lines there are of one of `lines`."""
        return self.kept[name] if name in self.kept else np.ones(self.lines[name].shape[0], dtype=bool)

    def lines_to_keep(self, rows: Mapping[str, np.ndarray]) -> dict[str, Bool[np.ndarray, " lines"]]:
        """See `CellTable.lines_to_keep`."""
        return {name: read & self.kept.get(name, True) for name, read in self.lines_read(rows).items()}

    def cell_sets(self) -> dict[str, np.ndarray]:
        """The sets of cells without a row that are not empty: name -> (n,) int64, sorted."""
        return dict(self.sets)

    def rows_touching(self, region: Region) -> Int64[np.ndarray, " rows"]:
        """Sorted (n,) row numbers whose cells the region touches."""
        return is_among(self.cells, region.touched_cells(self.grid, self.unwarp_boxes)).nonzero()[0]
