"""Writing field files: save, crop on disk without loading, join two crops."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lg_field.arrays import Array, Tensor, host, torch
from lg_field.files.atomic import atomic_write
from lg_field.files.bits import pack_bits
from lg_field.files.container import (
    TYPES,
    Entry,
    FileError,
    Lines,
    SampleType,
    tensor_bytes,
    type_of,
    write_container,
    writing_order,
)
from lg_field.files.field_file import FieldFile, load
from lg_field.files.schema import KEY, check_tensors, description_text, header_of, validate
from lg_field.files.small_numbers import SCALE, Layout, compact, layouts
from lg_field.space.regions import Region
from lg_field.table.checkpoint import KEPT, check_cell_sets
from lg_field.table.keeping import cell_sets_to_keep, rows_to_keep
from lg_field.table.outline import Form

if TYPE_CHECKING:
    from lg_field.table.cell_table import CellTable

Precision = Literal["float32", "float16", "bfloat16", "int8"]
SMALL: Precision = "int8"
"""The precision that holds weights as whole numbers (see `small_numbers`)."""
ROWS_BYTES = 1 << 24
"""Bytes of float32 rows that are converted at a time."""
Bytes = Iterable[bytes | bytearray | memoryview]
ReadLines = Callable[[str, int, int], Tensor]
Shapes = dict[str, tuple[SampleType, tuple[int, ...]]]
Stored = dict[str, tuple[SampleType, Array]]
"""Name -> type in a file and numbers."""


def save(
    field: CellTable,
    path: str | os.PathLike[str],
    *,
    dtype: Precision = "float32",
    overwrite: bool = False,
    lines: ReadLines | None = None,
) -> int:
    """Write a field as one safetensors file: no pickle, no code, readable by region.

    Args:
        field: a signal network or a radiance field.
        path: the file to write, whole or not at all.
        dtype: of the weights in the file.
        overwrite: replace an existing file.
        lines: reads those of the field's tensors that are on the meta device: told a name, a first line and the one
            after the last, it gives these lines, which are converted and written a few MB at a time. None: as the
            field says (`CellTable.read_lines`).

    Returns:
        Bytes written.

    Raises:
        FileExistsError: the file exists and overwrite is False.
        ValueError: what `load` would refuse (a configuration, a region or a description that does not fit, a weight
            that is not finite), or a weight that does not fit the precision. Nothing is written then.
    """
    header, text = header_of(field)
    lines = field.read_lines if lines is None and field.rows_elsewhere else lines
    tensors = {k: v.detach() for k, v in field.state_dict().items() if torch.is_tensor(v)}
    small = layouts(field) if dtype == SMALL else {}
    away = {name: value for name, value in tensors.items() if value.is_meta and lines is not None}
    stored: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if name not in away:
            stored |= _converted_whole(name, value, dtype, small)
    shapes: Shapes = {name: (type_of(value.dtype), tuple(value.shape)) for name, value in stored.items()}
    data: dict[str, Bytes] = {name: _once(value) for name, value in stored.items()}
    for name, value in away.items():
        assert lines is not None
        line = value.new_zeros(1, *value.shape[1:], device="cpu")
        for part, first in _converted_whole(name, line, dtype, small).items():
            shapes[part] = (type_of(first.dtype), (len(value), *first.shape[1:]))
            data[part] = _line_by_line(name, part, value, lines, dtype, small)
    outline = header.outline(field.cells)
    outline.sets = {name: host(cells) for name, cells in field.cell_sets().items()}
    outline.kept = {name: host(kept.mask()) for name, kept in field.kept_lines.items() if not kept.whole}
    check_cell_sets(field.cell_sets(), field.cells, field.grid)
    check_tensors(outline, {name: Form(kind.name, shape) for name, (kind, shape) in shapes.items()}, small)
    with atomic_write(path, overwrite) as temporary, open(temporary, "wb") as file:
        write_container(file, shapes, {KEY: text}, data)
    return Path(path).stat().st_size


def _converted_whole(name: str, value: Tensor, dtype: Precision, small: Mapping[str, Layout]) -> dict[str, Tensor]:
    """A tensor as it goes into the file, with what stands beside it."""
    return _compacted(name, value, small[name]) if name in small else {name: _to_store(name, value, dtype)}


def _line_by_line(
    name: str, part: str, like: Tensor, lines: ReadLines, dtype: Precision, small: Mapping[str, Layout]
) -> Iterator[memoryview]:
    """The bytes of an entry of the file, from some lines of a tensor at a time."""
    step = max(1, ROWS_BYTES // max(1, 4 * math.prod(like.shape[1:])))
    for first in range(0, len(like), step):
        some = lines(name, first, min(first + step, len(like)))
        yield tensor_bytes(_converted_whole(name, some, dtype, small)[part])


def crop_file(
    source: str | os.PathLike[str] | FieldFile,
    target: str | os.PathLike[str],
    region: Region | None = None,
    *,
    cells: Sequence[int] | Tensor | None = None,
    invert: bool = False,
    snap: bool = False,
    dtype: Precision | None = None,
    overwrite: bool = False,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Crop a file without loading it: kept rows are copied byte for byte, a few MB at a time.

    Args:
        source: local file, an address fsspec reads, or an open file.
        target: local file to write.
        region: keep this (see `editing.crop`),
        cells: or these cells.
        invert: remove them instead.
        snap: keep whole cells: no mask of the exact region.
        dtype: store weights so; None = as they are.
        overwrite: replace an existing target, even the source itself.
        progress: called with the number of bytes just written.

    Returns:
        Bytes of the target.
    """
    opened = nullcontext(source) if isinstance(source, FieldFile) else FieldFile.open(source)
    with opened as file, atomic_write(target, overwrite) as temporary:
        outline = file.outline
        rows, kept_region = rows_to_keep(outline, region, cells, invert)
        sets = cell_sets_to_keep(outline, region, cells, invert)
        text = _description(file, outline.region if snap else kept_region)
        kept = {}
        for name in sorted(outline.forms().keys() - outline.line_names - set(outline.cell_set_names)):
            shape = file.reader.entries[name].shape
            kept[name] = rows if name in outline.row_names else np.arange(shape[0] if shape else 1)
        file.prefetch_rows([name for name in outline.lines_follow if outline.lines and name != "cells"], rows)
        masks = file.lines_of_rows(rows)
        shapes = _copied_shapes(file, kept, dtype)
        file.reader.foretell(_reads(file, masks, kept, shapes, dtype))
        whole: Stored = {name: (TYPES["int64"], some) for name, some in sets.items()}
        whole |= _lines_to_store(file, masks, dtype)
        for name, some in kept.items():
            whole |= _typed(_rows_compacted(file, name, some)) if _becomes_small(file, name, dtype) else {}
        data: dict[str, Bytes] = {
            part: _converted(file, part, kept[file.owner(part)], kind, progress) for part, (kind, _) in shapes.items()
        }
        for name, (kind, values) in whole.items():
            shapes[name], data[name] = (kind, tuple(values.shape)), _once(values)
        with open(temporary, "wb") as out:
            write_container(out, shapes, {KEY: text}, data)
        file.reader.prefetch(())
    return Path(target).stat().st_size


def _description(file: FieldFile, region: Region | None) -> str:
    """The text of a file's description, with another exact region."""
    field = file.outline
    text = description_text(file.header.network, field.config, field.grid, region, field.description, field.history)
    validate(json.loads(text))
    return text


def _typed(tensors: Mapping[str, Tensor]) -> Stored:
    """Tensors with the types that they have."""
    return {name: (type_of(value.dtype), value) for name, value in tensors.items()}


def _copied_shapes(file: FieldFile, kept: Mapping[str, np.ndarray], wanted: Precision | None) -> Shapes:
    """Type and shape in a crop's file of what is copied line by line.

    Args:
        file: the source.
        kept: name of a tensor -> (n,) its lines that are kept.
        wanted: precision of the crop's file.
    """
    shapes: Shapes = {}
    for name, rows in kept.items():
        for part in () if _becomes_small(file, name, wanted) else _copied_with(file, name, wanted):
            entry = file.reader.entries[part]
            shapes[part] = (_stored_type(entry, wanted), (len(rows), *entry.shape[1:]))
    return shapes


def _reads(
    file: FieldFile,
    masks: Mapping[str, np.ndarray],
    kept: Mapping[str, np.ndarray],
    shapes: Shapes,
    wanted: Precision | None,
) -> list[Lines]:
    """What a crop reads, in its order."""
    found = file.reads_of_lines(masks)
    small = [name for name in kept if _becomes_small(file, name, wanted)]
    for name in (*small, *writing_order(shapes)):
        rows = kept[file.owner(name)]
        if name in small or _restores(file, name, shapes[name][0]):
            parts = file.parts_of(name)
            found += [Lines(part, some) for some in _some_at_once(file, name, rows) for part in parts]
        else:
            found.append(Lines(name, rows))
    return found


def _restores(file: FieldFile, name: str, wanted: SampleType) -> bool:
    """Whether whole numbers of a file become others."""
    return name in file.small and wanted.is_floating_point


def _stored_type(entry: Entry, wanted: Precision | None) -> SampleType:
    """Type of a tensor in a crop's file."""
    if wanted is None or not (entry.type.is_floating_point or entry.type.name == SMALL):
        return entry.type
    return _float_type(wanted) if wanted != SMALL or entry.type.is_floating_point else entry.type


def _float_type(wanted: Precision) -> SampleType:
    """Type of the tensors that are not held as whole numbers."""
    return TYPES["float32" if wanted == SMALL else wanted]


def _becomes_small(file: FieldFile, name: str, wanted: Precision | None) -> bool:
    """Whether floating point values of a file are to be held as whole numbers."""
    return wanted == SMALL and name not in file.small and name in layouts(file.skeleton)


def _copied_with(file: FieldFile, name: str, wanted: Precision | None) -> list[str]:
    """The entries of a file that a crop's file has for a tensor, which stay whole numbers if they are such."""
    return file.parts_of(name) if wanted in (None, SMALL) else [name]


def _rows_compacted(file: FieldFile, name: str, rows: np.ndarray) -> dict[str, Tensor]:
    """Some lines of a tensor as whole numbers, with what stands beside them."""
    layout = layouts(file.skeleton)[name]
    pieces = [compact(_values(file, name, some), layout) for some in _some_at_once(file, name, rows)]
    return {name + end: torch.cat([piece[end] for piece in pieces]) for end in pieces[0]}


def _some_at_once(file: FieldFile, name: str, rows: np.ndarray) -> list[np.ndarray]:
    """Lines of a tensor, a few MB at a time."""
    step = max(1, ROWS_BYTES // max(1, 4 * math.prod(file.reader.entries[name].shape[1:])))
    return [rows[first : first + step] for first in range(0, len(rows), step)]


def _values(file: FieldFile, name: str, rows: np.ndarray) -> Tensor:
    """Some lines of a tensor as a field holds them."""
    return file.read_values(name, torch.from_numpy(rows))


def _lines_to_store(file: FieldFile, masks: Mapping[str, np.ndarray], wanted: Precision | None) -> Stored:
    """What a crop's file holds of the shared tensors that rows read line by line."""
    stored: Stored = {}
    for name, mask in masks.items():
        entry = file.reader.entries[name]
        kind = _stored_type(entry, wanted)
        if _becomes_small(file, name, wanted):
            values = file.read_lines(name, torch.from_numpy(mask))
            stored |= _typed(_compacted(name, values, layouts(file.skeleton)[name]))
        elif kind == entry.type:
            stored[name] = (kind, file.line_numbers(name, mask))
            if name in file.small:
                stored[name + SCALE] = (TYPES["float32"], file.reader.read_array(name + SCALE))
        else:
            stored[name] = (kind, _fitting(file, name, file.read_lines(name, torch.from_numpy(mask)), kind))
        if not mask.all():
            stored[name + KEPT] = (TYPES["uint8"], np.packbits(mask))
    return stored


def _compacted(name: str, value: Tensor, layout: Layout) -> dict[str, Tensor]:
    """A tensor as whole numbers, with what stands beside it.

    Raises:
        ValueError: NaN or infinite values.
    """
    try:
        return {name + end: part for end, part in compact(value, layout).items()}
    except ValueError as error:
        raise ValueError(f"{name} holds {error}") from error


def merge_files(
    first: str | os.PathLike[str],
    second: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    overwrite: bool = False,
) -> int:
    """Join two crops of one field into one file (see `editing.merge`).

    Returns:
        Bytes of the target.
    """
    from lg_field.table.editing import merge

    with FieldFile.open(first) as file:
        dtype, left = file.precision, file.load()
    return save(merge(left, load(second)), target, dtype=dtype, overwrite=overwrite)  # type: ignore[arg-type]


def _to_store(name: str, value: Tensor, dtype: Precision) -> Tensor:
    """The tensor as it goes into the file.

    Raises:
        ValueError: NaN, infinite, or too large for the precision.
    """
    if value.dtype == torch.bool:
        return pack_bits(value)
    stored = value.to(getattr(torch, _float_type(dtype).name)) if value.is_floating_point() else value
    if stored.is_floating_point() and not bool(stored.isfinite().all()):
        raise ValueError(f"{name} holds values that are NaN, infinite or too large for {dtype}")
    return stored


def _once(value: Array) -> Iterator[memoryview]:
    yield tensor_bytes(value)


def _converted(
    file: FieldFile,
    name: str,
    rows: np.ndarray,
    wanted: SampleType,
    progress: Callable[[int], None] | None,
) -> Iterator[bytes | bytearray | memoryview]:
    """Lines of a tensor as bytes of the wanted type."""
    pieces: Iterable[Any] = file.numbers(name, rows)
    as_they_are = wanted == file.reader.entries[name].type
    if _restores(file, name, wanted):
        pieces = (_values(file, name, some) for some in _some_at_once(file, name, rows))
    elif not as_they_are:
        pieces = file.values(name, torch.from_numpy(rows))
    for values in pieces:
        if progress is not None:
            progress(values.nbytes)
        yield tensor_bytes(values if as_they_are else _fitting(file, name, values, wanted))


def _fitting(file: FieldFile, name: str, values: Tensor, wanted: SampleType) -> Tensor:
    """Values of the wanted type.

    Raises:
        FileError: too large for it.
    """
    converted = values.to(getattr(torch, wanted.name))
    if wanted.is_floating_point and not bool(converted.isfinite().all()):
        raise FileError(f"{file.reader.name}: {name} holds values too large for {wanted.name}")
    return converted
