"""Rows that are in a field file: read when they are asked, the last ones kept in memory."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lg_field.files.field_file import FieldFile
from lg_field.radiance.field import RadianceField
from lg_field.space.regions import Region
from lg_field.stored.field import ROWS, RowSource, StoredField
from lg_field.table.editing import rows_to_keep

READ_BYTES = 1 << 25
"""Of rows that are read at a time, about."""


def row_bytes(file: FieldFile) -> int:
    """Bytes of a row in memory."""
    return sum(4 * math.prod(file.saved()[name].shape[1:]) for name in ROWS)


class FileRows(RowSource):
    """Rows of a file, of which those that were asked last are kept within a budget."""

    def __init__(self, file: FieldFile, rows: Int64[Tensor, " rows"], budget: int) -> None:
        """
        Args:
            file: open as long as rows are asked.
            rows: (P,) where each row is in the file.
            budget: bytes for rows; half of it keeps them, and half is for those that are asked at a time.
        """
        self.file, self.rows, self.budget, self.turn = file, rows, budget, file.turn
        self.widths = {name: math.prod(file.saved()[name].shape[1:]) for name in ROWS}
        self._numbers = torch.arange(len(rows))
        size = max(1, row_bytes(file))
        self.most = max(1, min(len(rows), budget // (2 * size)))
        self._block = max(1, READ_BYTES // size)
        self._kept = {name: torch.empty(self.most, *file.saved()[name].shape[1:]) for name in ROWS}
        self._place = torch.full((len(rows),), -1, dtype=torch.int64)
        self._row = torch.full((self.most,), -1, dtype=torch.int64)
        self._asked = torch.zeros(self.most, dtype=torch.int64)

    def selected(self, rows: Int64[Tensor, " n"]) -> FileRows:
        """See `RowSource`."""
        part = copy.copy(self)
        part._numbers = self._numbers[rows]
        return part

    def lines(self, name: str, rows: Int64[Tensor, " n"]) -> Float[Tensor, "n width"]:
        """See `RowSource`."""
        return self.file.read_values(name, self.rows[self._numbers[rows]])

    def gather(self, rows: Int64[Tensor, " n"]) -> dict[str, Tensor]:
        """See `RowSource`.

        Raises:
            FileError: NaN or infinite weights, or the file has changed.
            ValueError: more than `most` rows.
        """
        if len(rows) > self.most:
            raise ValueError(
                f"{len(rows):,} rows of {self.file.reader.name} were asked at once, there is room for "
                f"{self.most:,}: ask under torch.no_grad(), which takes some at a time, or give a larger budget"
            )
        rows, now = self._numbers[rows], self._asked.max() + 1
        places = self._place[rows]
        self._asked[places[places >= 0]] = now
        missing = rows[places < 0]
        free = self._asked.argsort(stable=True)[: len(missing)]
        for some, at in zip(missing.split(self._block), free.split(self._block)):
            self._read(some, at, now)
        return {name: kept[self._place[rows]] for name, kept in self._kept.items()}

    def _read(self, rows: Tensor, places: Tensor, now: Tensor) -> None:
        """Read (n,) rows in the place of (n,) others; they are asked now."""
        old = self._row[places]
        self._place[old[old >= 0]] = -1
        self._row[places] = -1
        self.file.prefetch_rows(ROWS, self.rows[rows])
        for name, kept in self._kept.items():
            kept[places] = self.file.read_values(name, self.rows[rows])
        self.file.prefetch_rows((), rows)
        self._place[rows], self._row[places], self._asked[places] = places, rows, now


def stored_field(
    file: FieldFile,
    budget: int,
    region: Region | None = None,
    cells: Sequence[int] | Tensor | None = None,
    invert: bool = False,
) -> StoredField:
    """A scene, or the part of it that `FieldFile.load` with the same arguments would read, with its rows in the file.

    Args:
        file: of a scene; open as long as the field is asked.
        budget: bytes for rows.
        region: keep this, as `editing.crop` does.
        cells: or these cells.
        invert: remove them instead.

    Raises:
        FileError: NaN or infinite weights.
        ValueError: nothing would be kept, or no scene.
    """
    rows, kept_region = None, file.header.region
    if region is not None or cells is not None:
        rows, kept_region = rows_to_keep(file.skeleton, region, cells, invert)
    every = torch.arange(len(file.cells)) if rows is None else rows
    like = file.header.field(file.cells[every[:1]], "cpu")
    if not isinstance(like, RadianceField):
        raise ValueError(f"{file.reader.name} is no scene file")
    like.load_state_dict(like.state_dict() | file.shared_state(rows))
    field = StoredField(like, file.cells[every], FileRows(file, every, budget))
    field.occupancy.bits_alone_(file.read_values("occupied", rows))
    field.region = kept_region
    return field.eval()
