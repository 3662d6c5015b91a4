"""The one idea: a field is a table with one row per kept cell, plus a small shared part.

`CellTable` is the base of every field. It knows which of its tensors are rows, finds the row of a point, and selects
rows: the whole of cropping and pruning. Subclasses add the shared part and say what the rows mean. Cells without a row
are empty, unless a subclass keeps a named set of cells that are something else (`add_cell_set`). Of a shared tensor
that rows read line by line (`add_lines`) edits keep the lines that kept rows read.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor, nn

from lg_field.space.partition import PartitionGrid
from lg_field.space.regions import BoxMap, Region, region_from_dict
from lg_field.table.checkpoint import CheckpointError as CheckpointError
from lg_field.table.checkpoint import check_cells, check_state
from lg_field.table.description import Description
from lg_field.table.keeping import NOTHING_KEPT as NOTHING_KEPT
from lg_field.table.kept_lines import KEPT, KeptLines
from lg_field.table.optimizer_state import RowTransform, replace_parameter

Table = TypeVar("Table", bound="CellTable")


class CellTable(nn.Module):
    """Rows of parameters and buffers, one line per kept cell, in the order of `cells`."""

    cells: Tensor
    """(P,) int64, sorted and unique: the kept cells' numbers."""
    kept_lines: Mapping[str, KeptLines]
    """Of each shared tensor that rows read line by line: which of its lines there are."""
    lines_follow: tuple[str, ...] = ()
    """Names of the row tensors that say which lines a row reads."""
    shown_rows: tuple[str, ...] = ()
    """Names of the (P, n) bool row tensors that say what of its cell a row shows: crops may differ in them."""
    rows_elsewhere: tuple[str, ...] = ()
    """Names of the row tensors that are not in memory: a state has them on the meta device, `read_lines` reads them."""

    def __init__(self, grid: PartitionGrid, cells: Tensor | None = None) -> None:
        """
        Args:
            grid: the partition of the domain.
            cells: (P,) sorted cell numbers that have a row; None for all.
        """
        super().__init__()
        self.grid = grid
        self.region: Region | None = None
        """The exact region kept by crops, None if uncropped: a mask on queries."""
        self.description: Description | None = None
        """What the field is of; saved in its file."""
        self.history: dict[str, Any] = {}
        """Plain facts about the training (steps, seconds, PSNR); saved in its file."""
        self._row_names: list[str] = ["cells"]
        self._cell_sets: list[str] = []
        self.kept_lines = nn.ModuleDict()  # type: ignore[assignment]
        kept = torch.arange(grid.num_cells) if cells is None else cells.clone()
        check_cells(kept, grid)
        self.register_buffer("cells", kept)
        self._row_of_cell: Tensor | None = None

    def add_rows(self, name: str, rows: Shaped[Tensor, "rows ..."], trainable: bool = True, saved: bool = True) -> None:
        """Register `rows` (P, ...) as a table tensor called `name`: it is cropped, pruned and loaded by rows.

        Args:
            name: attribute name.
            rows: (P, ...), one line per kept cell.
            trainable: a parameter, else a buffer.
            saved: part of the state dict; buffers only. What is not saved is zero after loading.
        """
        if len(rows) != len(self.cells):
            raise ValueError(f"{name} has {len(rows)} rows, the table has {len(self.cells)} cells")
        if trainable:
            self.register_parameter(name, nn.Parameter(rows))
        else:
            self.register_buffer(name, rows, persistent=saved)
        self._row_names.append(name)

    def add_cell_set(self, name: str) -> None:
        """Register a named set of cells without a row, as an attribute `name`: (n,) int64, sorted and unique, None if
        there are none. What it means is the subclass's affair; edits and files take it along."""
        self.register_buffer(name, None)
        self._cell_sets.append(name)

    @property
    def cell_set_names(self) -> tuple[str, ...]:
        """Names of the sets of cells without a row that this kind of field may have."""
        return tuple(self._cell_sets)

    def cell_sets(self) -> dict[str, Tensor]:
        """The sets of cells without a row that are not empty: name -> (n,) int64, sorted."""
        sets = {name: getattr(self, name) for name in self._cell_sets}
        return {name: cells for name, cells in sets.items() if cells is not None}

    def set_cell_sets(self, sets: Mapping[str, Tensor]) -> None:
        """Replace all sets of cells without a row.

        Args:
            sets: name -> (n,) sorted cell numbers; sets left out are empty.

        Raises:
            ValueError: a name that this kind of field does not have.
        """
        unknown = sets.keys() - set(self._cell_sets)
        if unknown:
            raise ValueError(f"{type(self).__name__} has no set of cells called {', '.join(sorted(unknown))}")
        for name in self._cell_sets:
            cells = sets.get(name)
            setattr(self, name, cells.to(self.cells.device) if cells is not None and len(cells) else None)

    def add_lines(self, name: str, lines: Float[Tensor, "lines features"]) -> None:
        """Register a shared parameter called `name` that rows read line by line, (N, F), all of it.

        Edits keep the lines that kept rows read; a state holds beside what is left which lines these are (`KEPT`).
        """
        self.register_parameter(name, nn.Parameter(lines))
        self.kept_lines[name] = KeptLines(len(lines))  # type: ignore[index]

    @property
    def line_names(self) -> set[str]:
        """Names in a state of the shared tensors that rows read line by line, and of which lines there are."""
        return {name + end for name in self.kept_lines for end in ("", KEPT)}

    def line_counts(self) -> dict[str, int]:
        """How many lines each of the shared tensors has that rows read line by line, kept or not."""
        return {name: kept.total for name, kept in self.kept_lines.items()}

    def lines_read(self, rows: Mapping[str, Tensor]) -> dict[str, Bool[Tensor, " lines"]]:
        """Which lines of the shared tensors rows read, whether they are there or not.

        Args:
            rows: the tensors `lines_follow` of these rows, by name.

        Returns:
            By the name of the shared tensor (N,) bool, on the rows' device.
        """
        return {}

    def lines_to_keep(self, rows: Mapping[str, Tensor]) -> dict[str, Bool[Tensor, " lines"]]:
        """What an edit keeps of the shared tensors' lines: those that are there and that rows read (see `lines_read`).
        On the CPU."""
        return {
            name: read.cpu() if self.kept_lines[name].whole else read.cpu() & self.kept_lines[name].mask().cpu()
            for name, read in self.lines_read(rows).items()
        }

    def resize_lines_(self, masks: Mapping[str, Bool[Tensor, " lines"]]) -> None:
        """Say which lines of the shared tensors there are, in place, before their values come: they are zeros.

        Args:
            masks: name -> (N,) bool; tensors left out are whole.
        """
        for name, kept in self.kept_lines.items():
            old, mask = getattr(self, name), masks.get(name)
            kept.set_(mask)
            old.data = old.new_zeros(kept.total if mask is None else int(mask.sum()), *old.shape[1:])

    def keep_lines_(self, masks: Mapping[str, Bool[Tensor, " lines"]]) -> None:
        """Keep only some lines of the shared tensors, in place.

        Args:
            masks: name -> (N,) bool; lines that are not there stay away.
        """
        for name, mask in masks.items():
            kept, old = self.kept_lines[name], getattr(self, name)
            mask = mask.to(old.device) & kept.mask().to(old.device)
            if not bool(mask.all()):
                setattr(self, name, nn.Parameter(kept.pick(old.detach(), mask), old.requires_grad))
                kept.set_(mask)

    def drop_unread_lines_(self) -> None:
        """Keep only those lines of the shared tensors that the field's rows read, in place: what it says of what the
        rows hold stays as it is to the bit."""
        self.keep_lines_(self.lines_to_keep({name: getattr(self, name) for name in self.lines_follow}))

    def complete_lines_(self, optimizers: Iterable[torch.optim.Optimizer] = ()) -> None:
        """Make the shared tensors whole again, in place, to train them: the lines that were not there are zeros, as
        they read before, so that no value changes. Optimizers and their state follow."""
        for name, kept in self.kept_lines.items():
            if not kept.whole:
                self.transform_rows_({name: kept.spread}, optimizers)
                kept.set_(None)

    @property
    def row_names(self) -> tuple[str, ...]:
        """Names of the tensors that have one line per kept cell, `cells` first."""
        return tuple(self._row_names)

    def read_lines(self, name: str, first: int, last: int) -> Shaped[Tensor, "lines ..."]:
        """Lines `first` to `last`, that one not, of one of `rows_elsewhere`."""
        raise KeyError(name)

    @property
    def num_rows(self) -> int:
        """Number of kept cells P."""
        return len(self.cells)

    def num_parameters(self) -> dict[str, int]:
        """Trainable numbers: `local` (in rows), `shared` and `total`."""
        local = sum(p.numel() for n, p in self.named_parameters() if n in self._row_names)
        total = sum(p.numel() for p in self.parameters())
        return {"local": local, "shared": total - local, "total": total}

    # -- what a file says of it

    @property
    def saved_as(self) -> type[CellTable]:
        """Class of the field that is read from a file of it."""
        return type(self)

    def config(self) -> dict[str, Any]:
        """Sizes and wiring as flat plain data: with the grid and the cells, all that `from_config` needs."""
        raise NotImplementedError

    def config_on(self, grid: PartitionGrid) -> dict[str, Any]:
        """`config` of the same function on a larger grid.

        Raises:
            ValueError: the field has none.
        """
        return self.config()

    @classmethod
    def from_config(cls: type[Table], grid: PartitionGrid, config: dict[str, Any], cells: Tensor) -> Table:
        """A field with fresh weights.

        Raises:
            ValueError, TypeError, KeyError: a configuration that makes no sense.
        """
        raise NotImplementedError

    # -- space

    @property
    def voxel_lattice(self) -> tuple[PartitionGrid, bool] | None:
        """The voxels that rows say something of, as cells, and whether they divide contracted space; None without
        such."""
        return None

    @property
    def unwarp_boxes(self) -> BoxMap | None:
        """From boxes of the grid's domain to the space of regions and queries; None when they are the same."""
        return None

    def row_of_cell(self) -> Int64[Tensor, " grid_cells"]:
        """(num_cells,) int64: row of each cell, -1 where the cell has none."""
        return self._rows_and_none()[:-1]

    def rows_of(self, cells: Int64[Tensor, "*batch"]) -> Int64[Tensor, "*batch"]:
        """(...) cell numbers -> (...) int64 row of each, -1 where there is none and for -1, which is no cell."""
        return self._rows_and_none()[cells]

    def _rows_and_none(self) -> Tensor:
        """(num_cells + 1,) `row_of_cell`, and -1 as the last entry, which -1 stands for as an index."""
        cached = self._row_of_cell
        if cached is None or cached.device != self.cells.device:
            cached = torch.full((self.grid.num_cells + 1,), -1, dtype=torch.int64, device=self.cells.device)
            cached[self.cells] = torch.arange(len(self.cells), device=self.cells.device)
            self._row_of_cell = cached
        return cached

    def locate_rows(self, domain_points: Float[Tensor, "*batch d"]) -> Int64[Tensor, "*batch"]:
        """(..., d) points of the domain -> (...) int64 row, -1 where no row owns the point."""
        return self.rows_of(self.grid.locate(domain_points))

    def rows_touching(self, region: Region) -> Int64[Tensor, " rows"]:
        """Sorted (n,) row numbers whose cells the region touches."""
        touched = region.touched(self.grid, self.unwarp_boxes).to(self.cells.device)
        return torch.isin(self.cells, touched).nonzero()[:, 0]

    # -- rows

    def _changed_rows(self) -> None:
        """Called after rows were selected, split or loaded: drop what was derived from them."""
        self._row_of_cell = None

    def transform_rows_(
        self, transforms: dict[str, RowTransform], optimizers: Iterable[torch.optim.Optimizer] = ()
    ) -> None:
        """Replace table tensors; optimizers get the new parameters, and their state follows.

        Args:
            transforms: name -> function from the old (P, ...) tensor to the new one, for all of `row_names` or for
                tensors that are no rows. It is also applied to optimizer state of the same shape (Adam's moments), so
                it must be linear.
            optimizers: whose parameters and state are to follow.
        """
        optimizers = tuple(optimizers)
        with torch.no_grad():
            for name, transform in transforms.items():
                old = getattr(self, name)
                if not isinstance(old, nn.Parameter):
                    setattr(self, name, transform(old))
                    continue
                new = nn.Parameter(transform(old.detach()), old.requires_grad)
                setattr(self, name, new)
                for optimizer in optimizers:
                    replace_parameter(optimizer, old, new, transform)
        self._changed_rows()

    def select_(self, rows: Int64[Tensor, " kept"], optimizers: Iterable[torch.optim.Optimizer] = ()) -> None:
        """Keep only these rows, in place; optimizers and their state follow.

        Args:
            rows: (n,) sorted row numbers, n >= 1.
            optimizers: whose state is to follow.

        Raises:
            ValueError: no row left.
        """
        if len(rows) == 0:
            raise ValueError(NOTHING_KEPT)
        self.transform_rows_(
            {name: lambda old: old[rows.to(old.device)].clone() for name in self.row_names}, optimizers
        )

    def selected(self: Table, rows: Int64[Tensor, " kept"]) -> Table:
        """A new field with only these rows (copies; self is untouched and its other rows are not copied)."""
        if len(rows) == 0:
            raise ValueError(NOTHING_KEPT)
        memo: dict[int, Any] = {}
        for name in self._row_names:
            old = getattr(self, name)
            new = old.detach()[rows.to(old.device)].clone()
            memo[id(old)] = nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new
        result = copy.deepcopy(self, memo)
        result._changed_rows()
        return result

    # -- state

    def get_extra_state(self) -> dict[str, Any]:
        """Geometry and sizes, as plain data, kept in the state dict so that a checkpoint describes itself."""
        region = None if self.region is None else self.region.to_dict()
        return {"grid": self.grid.to_dict(), "region": region, "config": self.config()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take over the geometry of `get_extra_state`; the sizes are the field's own already."""
        self.grid = PartitionGrid.from_dict(state["grid"])
        self.region = None if state.get("region") is None else region_from_dict(state["region"])
        self._changed_rows()

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        """Which lines there are goes along where it is not all."""
        super()._save_to_state_dict(destination, prefix, keep_vars)  # type: ignore[no-untyped-call]
        for name, kept in self.kept_lines.items():
            if not kept.whole:
                destination[prefix + name + KEPT] = kept.mask()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        """Take whatever rows the checkpoint holds: everything is checked first, then tables are resized to it.

        nerfstudio retries a failed load without `strict`, which would leave missing rows random; so errors here are
        `CheckpointError`, which it does not catch.
        """
        if any(key.startswith(prefix) for key in state_dict):
            state = {key[len(prefix) :]: value for key, value in state_dict.items() if key.startswith(prefix)}
            check_state(self, state)
            self.set_cell_sets({name: state[name].clone() for name in self._cell_sets if name in state})
            for name in self._row_names:
                old = getattr(self, name)  # stays the same object: optimizers may hold it already
                old.data = old.new_zeros(len(state["cells"]), *old.shape[1:])
            masks = {name: state.get(name + KEPT) for name in self.kept_lines}
            self.resize_lines_({name: m.to(self.cells.device) for name, m in masks.items() if m is not None})
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        unexpected = args[3] if len(args) > 3 else kwargs["unexpected_keys"]
        kept_names = {prefix + name + KEPT for name in self.kept_lines}
        unexpected[:] = [name for name in unexpected if name not in kept_names]
