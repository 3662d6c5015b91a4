"""A radiance field whose rows are elsewhere: those that are asked are gathered."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from lg_field.radiance.field import RadianceField
from lg_field.radiance.fused import fused_density_of, fused_look
from lg_field.radiance.occupancy_grid import OccupancyGrid
from lg_field.table.cell_table import NOTHING_KEPT

ROWS = ("local", "features")
"""Names of the row tensors that are elsewhere."""


class RowSource(ABC):
    """Where the rows of a field are."""

    turn: AbstractContextManager[Any]
    """Threads that ask it take turns, with those that ask what shares its memory or its file."""
    most: int
    """Rows gathered at a time, at most, where no gradients are wanted."""
    widths: dict[str, int]
    """Numbers of a row, by name, for all of `ROWS`."""

    @abstractmethod
    def gather(self, rows: Int64[Tensor, " n"]) -> dict[str, Tensor]:
        """Copies of some rows.

        Args:
            rows: (n,) sorted distinct row numbers, on the CPU.

        Returns:
            Name -> (n, ...), for all of `ROWS`, on the CPU.
        """

    @abstractmethod
    def selected(self, rows: Int64[Tensor, " n"]) -> RowSource:
        """Some of the rows: (n,) sorted numbers. Both keep what they read in the same memory."""

    def lines(self, name: str, rows: Int64[Tensor, " n"]) -> Float[Tensor, "n width"]:
        """Of one of `ROWS` (n,) sorted rows, on the CPU; nothing is kept of them."""
        return self.gather(rows)[name]


class StoredField(RadianceField):
    """`RadianceField` of which `local` and `features` have no lines: a source has them.

    Several threads may ask it and what was selected of it: they take turns.
    """

    rows_elsewhere = ROWS

    def __init__(self, like: RadianceField, cells: Int64[Tensor, " rows"], source: RowSource) -> None:
        """
        Args:
            like: a field with the same grid, sizes and shared part, which the new one shares with it; its rows are
                replaced whenever some are asked.
            cells: (P,) sorted cells of the rows.
            source: has their rows.

        Its voxels are to be set: they are on the meta device.
        """
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            super().__init__(like.grid, like.sizes, cells.cpu())
        with torch.device("meta"):
            self.occupancy = OccupancyGrid(self._frame, self.cells, self.sizes.occupancy_voxels)
        self.frozen = torch.zeros(len(cells), dtype=torch.bool)
        for name in ROWS:
            setattr(self, name, nn.Parameter(getattr(like, name).detach()[:0].clone()))
        self._row_names = [name for name in self._row_names if name not in ROWS]
        self.shared, self.color, self.kept_lines = like.shared, like.color, copy.deepcopy(like.kept_lines)
        self.hash_table = like.hash_table
        for name in ("region", "description", "history", "implementation", "backend", "memory"):
            setattr(self, name, getattr(like, name))
        self.source = source
        self._asked: tuple[RadianceField] = (like,)  # in a tuple: its parameters are not the field's own
        self._turn = source.turn
        self.train(like.training)

    def selected(self, rows: Tensor) -> StoredField:
        """A field with only these rows, and the same shared part."""
        if len(rows) == 0:
            raise ValueError(NOTHING_KEPT)
        with self._turn:
            part = type(self)(self._asked[0], self.cells[rows], self.source.selected(rows.cpu()))
        part.hash_table, part.kept_lines = self.hash_table, copy.deepcopy(self.kept_lines)
        for name in ("description", "history", "implementation", "backend", "memory"):
            setattr(part, name, getattr(self, name))
        part.occupancy.bits_alone_(self.occupied[rows])
        part.region = self.region
        return part.to(self.cells.device)

    @property
    def saved_as(self) -> type[RadianceField]:
        """See `CellTable.saved_as`."""
        return RadianceField

    def num_parameters(self) -> dict[str, int]:
        """See `CellTable.num_parameters`."""
        shared = super().num_parameters()["total"]
        local = self.num_rows * sum(self.source.widths.values())
        return {"local": local, "shared": shared, "total": shared + local}

    def read_lines(self, name: str, first: int, last: int) -> Float[Tensor, "lines width"]:
        """See `CellTable.read_lines`."""
        with self._turn:
            return self.source.lines(name, torch.arange(first, last))

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        """The tensors that are elsewhere as they would be, on the meta device."""
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for name, width in self.source.widths.items():
            destination[prefix + name] = torch.empty(self.num_rows, width, device="meta")

    # -- queries

    def looks(
        self,
        unit: Float[Tensor, "samples 3"],
        rows: Int64[Tensor, " samples"],
        rays: Int64[Tensor, " samples"],
        directions: Float[Tensor, "rays 3"],
    ) -> tuple[Float[Tensor, " samples"], Float[Tensor, "samples 3"], Float[Tensor, " samples"]]:
        """See `RadianceField.looks`."""
        found = self.by_rows(rows, lambda field, some, of: field.looks(unit[some], of, rays[some], directions))
        assert found is not None
        return found[0], found[1], found[2]

    def of_rows(
        self, unit: Float[Tensor, "points 3"], rows: Int64[Tensor, " points"], owned: bool = False
    ) -> tuple[Float[Tensor, " points"], Float[Tensor, "points features"]]:
        """See `RadianceField.of_rows`."""
        found = self.by_rows(rows, lambda field, some, of: field.of_rows(unit[some], of))
        assert found is not None
        return found[0], found[1]

    def by_rows(
        self, rows: Tensor, ask: Callable[[RadianceField, Any, Tensor], tuple[Tensor, ...] | None]
    ) -> tuple[Tensor, ...] | None:
        """What a field with the rows that (M,) points are asked of says; some of the rows at a time, so that no more
        than the source's `most` are in memory.

        Args:
            rows: (M,) -1 where there is none.
            ask: told a field, which of the points, and their (n,) rows in it; what says None is not asked again.
        """
        with self._turn:
            return self._by_rows(rows, ask)

    def _by_rows(
        self, rows: Tensor, ask: Callable[[RadianceField, Any, Tensor], tuple[Tensor, ...] | None]
    ) -> tuple[Tensor, ...] | None:
        asked, places = rows.unique(return_inverse=True)
        none = int(len(asked) > 0 and bool(asked[0] < 0))
        asked, places = asked[none:], places - none
        if len(asked) <= self.source.most or torch.is_grad_enabled():
            return ask(self.with_rows(asked if len(asked) else rows.new_zeros(1)), slice(None), places)
        found: list[Tensor] = []
        for first in range(0, len(asked), self.source.most):
            piece = asked[first : first + self.source.most]
            some = ((places >= first) & (places < first + len(piece))).nonzero()[:, 0]
            said = ask(self.with_rows(piece), some, places[some] - first)
            if said is None:
                return None
            found = found or [value.new_zeros(len(rows), *value.shape[1:]) for value in said]
            for whole, value in zip(found, said):
                whole.index_copy_(0, some, value)
        return tuple(found)

    def with_rows(self, rows: Int64[Tensor, " n"]) -> RadianceField:
        """The field with only some rows, gathered; the same one every time, with other rows.

        Args:
            rows: (n,) sorted distinct row numbers.
        """
        (field,) = self._asked
        field.grid, field.region, field.hash_table = self.grid, None, self.hash_table
        field.kept_lines = self.kept_lines
        field.implementation, field.backend, field.waiting = self.implementation, self.backend, self.waiting
        field.cells, field.frozen = self.cells[rows], self.frozen[rows]
        for name, values in self.source.gather(rows.cpu()).items():
            setattr(field, name, nn.Parameter(values.to(self.cells.device), torch.is_grad_enabled()))
        field._changed_rows()
        return field


@fused_look.register(StoredField)
def look_stored(
    field: StoredField, unit: Tensor, rows: Tensor, rays: Tensor, directions: Tensor
) -> tuple[Tensor, ...] | None:
    """`fused_look` of rows that are gathered."""
    return field.by_rows(rows, lambda part, some, of: fused_look(part, unit[some], of, rays[some], directions))


@fused_density_of.register(StoredField)
def density_stored(field: StoredField, unit: Tensor, rows: Tensor) -> Tensor | None:
    """`fused_density_of` of rows that are gathered."""

    def ask(part: RadianceField, some: Any, of: Tensor) -> tuple[Tensor, ...] | None:
        found = fused_density_of(part, unit[some], of)
        return None if found is None else (found,)

    found = field.by_rows(rows, ask)
    return None if found is None else found[0]
