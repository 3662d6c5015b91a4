"""Reading field files: everything is checked before anything is allocated, and only the rows asked for are fetched."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int64, Shaped

from lg_field.arrays import Array, Tensor, host, torch
from lg_field.files.archive import unpacked
from lg_field.files.bits import stored_form, unpack_bits
from lg_field.files.container import FileError, Lines, Reader, parse_json
from lg_field.files.ranges import open_ranges
from lg_field.files.schema import KEY, Header, check_tensors, one_line, validate
from lg_field.files.small_numbers import FINE, SCALE, Layout, layouts, restore
from lg_field.space.regions import Region
from lg_field.table.checkpoint import KEPT, check_cell_sets, check_cells, check_kept_lines
from lg_field.table.description import Description
from lg_field.table.keeping import cell_sets_to_keep, rows_to_keep
from lg_field.table.outline import BOOL, Form, Outline

if TYPE_CHECKING:
    from lg_field.table.cell_table import CellTable

SMALL = "int8"
"""Type of tensors that a file holds as whole numbers."""
LINE_REQUESTS = 16
"""Requests for lines of a shared tensor, or for what rows show of their cells, at most: such lines are short and lie
scattered, and a request costs more than many of them."""

MOST_KEPT_BYTES = 1 << 22
"""Bytes of what says which lines of a shared tensor are kept, if it is fetched together with the cells."""


class FieldFile:
    """A field file open for reading. Get one with `FieldFile.open`. Only tensors of it import torch."""

    def __init__(self, reader: Reader) -> None:
        """Check everything but the weights' values.

        Raises:
            FileError: what is wrong, in one line.
        """
        self.reader, self.turn = reader, threading.RLock()
        """Threads that read it take turns."""
        if KEY not in reader.metadata:
            raise FileError(f"{reader.name} is a safetensors file, but not a field file: it has no {KEY!r} metadata")
        self.data = parse_json(reader.metadata[KEY], reader.name)
        """The description, as it is in the file."""
        try:
            self.header = validate(self.data)
            with one_line():
                self.outline = self._build(self.header)
                """What the field holds."""
            stored = {name: Form(entry.type.name, entry.shape) for name, entry in reader.entries.items()}
            check_tensors(self.outline, stored, self.small)
        except FileError:
            raise
        except ValueError as error:
            raise FileError(f"{reader.name}: {error}") from error

    @staticmethod
    @contextmanager
    def open(path: str | os.PathLike[str]) -> Iterator[FieldFile]:
        """Open a local file, or any address fsspec reads (http, s3, memory; needs lg-field[remote]).

        Raises:
            FileNotFoundError: no such file.
            FileError: not a field file, or a damaged one.
        """
        with open_ranges(str(path)) as ranges:
            yield FieldFile(Reader(unpacked(ranges, str(path)), str(path)))

    @cached_property
    def skeleton(self) -> CellTable:
        """The field without its weights: tensors on the meta device take no memory."""
        outline = self.outline
        with one_line():
            made = self.header.field(self.cells, "meta")
            made.set_cell_sets({name: torch.from_numpy(cells) for name, cells in outline.sets.items()})
            made.resize_lines_({name: torch.from_numpy(mask) for name, mask in outline.kept.items()})
        return made

    @cached_property
    def cells(self) -> Int64[Tensor, " rows"]:
        """(P,) int64 kept cells."""
        return torch.from_numpy(self.outline.cells)

    @property
    def precision(self) -> str:
        """Type of the rows' weights: float32, float16, bfloat16 or int8."""
        rows = [e.type for n, e in self.reader.entries.items() if n in self.outline.row_names]
        return next((kind.name for kind in rows if kind.is_floating_point or kind.name == SMALL), "float32")

    @cached_property
    def small(self) -> dict[str, Layout]:
        """How the tensors lie in the file that it holds as whole numbers."""
        held = {name for name, entry in self.reader.entries.items() if entry.type.name == SMALL}
        return {name: layout for name, layout in layouts(self.skeleton).items() if name in held} if held else {}

    @property
    def description(self) -> Description | None:
        """What the field is of."""
        return self.header.description

    def load(
        self, region: Region | None = None, cells: Sequence[int] | Tensor | None = None, invert: bool = False
    ) -> CellTable:
        """The field, or the part of it that `editing.crop` with the same arguments would keep; float32, on the CPU.
        The global random state stays as it is.

        Raises:
            FileError: NaN or infinite weights.
            ValueError: nothing would be kept.
        """
        rows, new_region, sets = None, self.header.region, self.skeleton.cell_sets()
        if region is not None or cells is not None:
            rows, new_region = rows_to_keep(self.skeleton, region, cells, invert)
            sets = cell_sets_to_keep(self.skeleton, region, cells, invert)
        kept = self.cells if rows is None else self.cells[rows]
        field = self.header.field(kept[:1], "cpu")  # the state brings the rows
        field.region = new_region
        state: dict[str, Any] = {"cells": kept, **sets, "_extra_state": field.get_extra_state()}
        by_lines = self.outline.line_names
        self.prefetch(rows)
        for name in self.saved().keys() - state.keys() - by_lines - set(self.outline.cell_set_names):
            state[name] = self.read_values(name, rows if name in self.outline.row_names else None)
        state |= self._state_of_lines(rows)
        self.reader.prefetch(())
        field.load_state_dict(state)
        return field

    def shared_state(self, rows: Int64[Tensor, " n"] | None) -> dict[str, Tensor]:
        """What the state of a part with these rows holds beside its rows; None = all rows.

        Raises:
            FileError: NaN or infinite weights.
        """
        others = {*self.outline.row_names, *self.outline.cell_set_names, *self.outline.line_names}
        names = [name for name in self.entry_names() if self.owner(name) not in others]
        self.reader.prefetch(map(Lines, names))
        state = {name: self.read_values(name, None) for name in self.saved() if name not in others}
        state |= self._state_of_lines(rows)
        self.reader.prefetch(())
        return state

    def _state_of_lines(self, rows: Tensor | None) -> dict[str, Tensor]:
        """The shared tensors that rows read line by line, and which lines there are."""
        masks = self.lines_to_keep(rows)
        self.reader.prefetch(self.reads_of_lines(masks))
        state: dict[str, Tensor] = {}
        for name, mask in masks.items():
            state[name] = self.read_lines(name, mask)
            state |= {} if bool(mask.all()) else {name + KEPT: mask}
        return state

    def prefetch_rows(self, names: Sequence[str], rows: Int64[Array, " n"]) -> None:
        """Say that some rows of these tensors are read next; none: nothing is kept of what was fetched."""
        self.reader.prefetch([self._of_rows(name, rows) for name in self.entry_names() if self.owner(name) in names])

    def _of_rows(self, name: str, rows: Array | None) -> Lines:
        """How some rows of an entry are read; None = all."""
        return Lines(name, rows, LINE_REQUESTS if name in self.outline.shown_rows else None)

    def prefetch(self, rows: Int64[Tensor, " n"] | None) -> None:
        """Say that some rows are read next, and all of the shared part but what is read by lines; None = all rows."""
        known = {"cells", *self.outline.cell_set_names, *self.outline.line_names}
        owners = {name: self.owner(name) for name in self.entry_names()}
        wanted = {name: owner in self.outline.row_names for name, owner in owners.items() if owner not in known}
        self.reader.prefetch([self._of_rows(name, rows if in_rows else None) for name, in_rows in wanted.items()])

    def read_values(self, name: str, rows: Int64[Tensor, " n"] | None) -> Shaped[Tensor, "..."]:
        """A tensor or some of its lines, as a field holds them; None = all lines.

        Raises:
            FileError: NaN or infinite weights.
        """
        if name in self.small:
            return self._restored(name, lambda n: self.reader.read(n, rows))
        values, template = self._finite(name, self.reader.read(*self._of_rows(name, rows))), self.saved()[name]
        return unpack_bits(values, template) if template.dtype == torch.bool else values.float()

    def read_bits(self, name: str, rows: Int64[np.ndarray, " n"] | None) -> Bool[np.ndarray, "..."]:
        """A tensor of booleans, or some of its lines, in numpy."""
        packed = self.reader.read_array(*self._of_rows(name, rows))
        return np.unpackbits(packed, axis=-1, count=self.outline.forms()[name].shape[-1]).astype(bool)

    def _restored(self, name: str, read: Callable[[str], Tensor]) -> Tensor:
        """Values that the file holds as whole numbers; `read` reads the lines wanted."""
        layout = self.small[name]
        ends = ["", *layout.beside(self.reader.entries[name].shape)]
        by_column = {SCALE} if layout.by_column else set()
        parts = {end: self.reader.read(name + end) if end in by_column else read(name + end) for end in ends}
        try:
            return restore(parts, layout)
        except ValueError as error:
            raise FileError(f"{self.reader.name}: {name}: {error}") from error

    def lines_to_keep(self, rows: Int64[Tensor, " n"] | None) -> dict[str, Bool[Tensor, " lines"]]:
        """`lines_of_rows`, in tensors."""
        masks = self.lines_of_rows(None if rows is None else host(rows))
        return {name: torch.from_numpy(mask) for name, mask in masks.items()}

    def lines_of_rows(self, rows: Int64[np.ndarray, " n"] | None) -> dict[str, Bool[np.ndarray, " lines"]]:
        """Which lines of the shared tensors that rows read line by line a part with these rows keeps; None = all of
        the file's, whatever its rows read."""
        outline = self.outline
        if rows is None:
            return {name: outline.mask(name) for name in outline.lines}
        of_rows = {"cells": outline.cells[rows]}
        if outline.lines:
            of_rows |= {n: self.read_bits(n, rows) for n in outline.lines_follow if n != "cells"}
        return outline.lines_to_keep(of_rows)

    def reads_of_lines(self, masks: Mapping[str, Bool[Array, " lines"]]) -> list[Lines]:
        """What `read_lines` of these lines of shared tensors reads, in its order."""
        found = []
        for name, mask in masks.items():
            found.append(Lines(name, self._places(name, mask), LINE_REQUESTS))
            found += [Lines(name + SCALE)] if name in self.small else []
        return found

    def lines(self, name: str, mask: Bool[Tensor, " lines"]) -> Shaped[Tensor, "kept features"]:
        """Some lines of a shared tensor of the file's type, in few requests: `LINE_REQUESTS` at most.

        Args:
            name: of the tensor.
            mask: (N,) bool, lines that the file has.

        Raises:
            FileError: NaN or infinite weights.
        """
        return self._finite(name, self.reader.read(name, self._places(name, mask), LINE_REQUESTS))

    def line_numbers(self, name: str, mask: Bool[np.ndarray, " lines"]) -> Shaped[np.ndarray, "kept features"]:
        """The same in numpy, of the type `held_as` of the file's."""
        return self._sound(name, self.reader.read_array(name, self._places(name, mask), LINE_REQUESTS))

    def read_lines(self, name: str, mask: Bool[Tensor, " lines"]) -> Float[Tensor, "kept features"]:
        """The same as a field holds them: float32."""
        if name not in self.small:
            return self.lines(name, mask).float()
        places = self._places(name, mask)
        return self._restored(name, lambda n: self.reader.read(n, places, LINE_REQUESTS))

    def _places(self, name: str, mask: Array) -> np.ndarray:
        """Where lines of a shared tensor are among those that the file has."""
        return host(mask)[self.outline.mask(name)].nonzero()[0]

    def saved(self) -> dict[str, Tensor]:
        """Name -> meta tensor of everything the file holds, `cells` included."""
        return {k: v for k, v in self.skeleton.state_dict().items() if torch.is_tensor(v)}

    def entry_names(self) -> list[str]:
        """Names of everything the file holds: those of `saved`, and what whole numbers need beside them."""
        names = list(self.outline.forms())
        return names + [part for name in names for part in self.parts_of(name)[1:]]

    def parts_of(self, name: str) -> list[str]:
        """The entries of the file that hold a tensor: its own first, then what whole numbers need beside it."""
        beside = self.small[name].beside(self.reader.entries[name].shape) if name in self.small else ()
        return [name, *(name + end for end in beside)]

    def owner(self, name: str) -> str:
        """The tensor of the field that an entry of the file is of: itself, or the one that it stands beside."""
        for end in (SCALE, FINE):
            if name.removesuffix(end) in self.small and name not in self.small:
                return name.removesuffix(end)
        return name

    def values(self, name: str, rows: Int64[Tensor, " n"]) -> Iterator[Shaped[Tensor, " piece"]]:
        """Flat pieces of some lines of a tensor, a few MB each.

        Raises:
            FileError: NaN or infinite weights.
        """
        dtype = self.reader.entries[name].dtype
        for piece in self.reader.pieces(name, rows):
            yield self._finite(name, torch.frombuffer(piece, dtype=dtype))

    def numbers(self, name: str, rows: Int64[np.ndarray, " n"]) -> Iterator[Shaped[np.ndarray, " piece"]]:
        """The same in numpy, of the type `held_as` of the file's."""
        kind = self.reader.entries[name].type.held_as
        for piece in self.reader.pieces(name, rows):
            yield self._sound(name, np.frombuffer(piece, dtype=kind))

    def _sound(self, name: str, numbers: np.ndarray) -> np.ndarray:
        """`_finite`, of numbers in numpy."""
        if not self.reader.entries[name].type.all_finite(numbers):
            raise FileError(f"{self.reader.name}: {name} holds NaN or infinite values")
        return numbers

    def _finite(self, name: str, values: Tensor) -> Tensor:
        if values.is_floating_point() and not bool(values.isfinite().all()):
            raise FileError(f"{self.reader.name}: {name} holds NaN or infinite values")
        return values

    def bytes_by_part(self) -> dict[str, int]:
        """Bytes of the file: `header`, `rows`, `shared` and `total`."""
        in_rows = [n for n in self.entry_names() if self.owner(n) in self.outline.row_names]
        rows = sum(self.reader.entries[n].num_bytes for n in in_rows)
        shared = sum(self.reader.entries[n].num_bytes for n in self.entry_names()) - rows
        total = self.reader.size
        return {"header": total - rows - shared, "rows": rows, "shared": shared, "total": total}

    def _build(self, header: Header) -> Outline:
        """What the field holds, by its description and its lists of cells."""
        self.reader.prefetch(map(Lines, self._lists(header)))
        cells = self._cell_list("cells", header)
        check_cells(cells, header.grid)
        outline = header.outline(cells)
        sets = {n: self._cell_list(n, header) for n in outline.cell_set_names if n in self.reader.entries}
        check_cell_sets(sets, cells, header.grid)
        outline.sets = sets
        outline.kept = {
            name: self._kept_lines(name, form.shape[0])
            for name, form in outline.lines.items()
            if name + KEPT in self.reader.entries
        }
        return outline

    def _lists(self, header: Header) -> list[str]:
        """Names of the entries that an outline needs."""
        most = {"int64": 8 * header.grid.num_cells, "uint8": MOST_KEPT_BYTES}
        return [
            name
            for name, entry in self.reader.entries.items()
            if (entry.type.name == "int64" or name.endswith(KEPT)) and entry.num_bytes <= most.get(entry.type.name, 0)
        ]

    def _kept_lines(self, name: str, total: int) -> np.ndarray:
        needs, entry = stored_form(Form(BOOL, (total,))), self.reader.entries[name + KEPT]
        if (entry.type.name, entry.shape) != needs:
            raise ValueError(
                f"{name}{KEPT} must hold a bit for each of {total:,} lines, got {entry.type.name} {entry.shape}"
            )
        mask = np.unpackbits(self.reader.read_array(name + KEPT), count=total).astype(bool)
        check_kept_lines(mask, name, total)
        return mask

    def _cell_list(self, name: str, header: Header) -> np.ndarray:
        entry = self.reader.entries.get(name)
        if entry is None or entry.type.name != "int64" or len(entry.shape) != 1:
            raise ValueError(f"the list {name!r} of cells is missing, or is not one of int64")
        if entry.shape[0] > header.grid.num_cells:
            raise ValueError(f"the list {name!r} of cells is longer than the grid")
        return self.reader.read_array(name)


def load(
    path: str | os.PathLike[str],
    region: Region | None = None,
    *,
    cells: Sequence[int] | Tensor | None = None,
    invert: bool = False,
) -> CellTable:
    """Read a field, or only one region of it: then only the header, the shared part and the kept rows are fetched.

    Args:
        path: local file or an address fsspec reads.
        region: keep this, as `editing.crop` does.
        cells: or these cells.
        invert: remove them instead.

    Returns:
        The field in float32 on the CPU, with `description` and `history` set.

    Raises:
        FileNotFoundError: no such file.
        FileError: not a field file, or a damaged one.
        ValueError: nothing would be kept.
    """
    with FieldFile.open(path) as file:
        return file.load(region, cells, invert)
