"""Writing field files: save, crop on disk without loading, join two crops."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from lg_field.files.atomic import atomic_write
from lg_field.files.bits import pack_bits
from lg_field.files.container import Entry, FileError, Lines, tensor_bytes, write_container, writing_order
from lg_field.files.field_file import FieldFile, load
from lg_field.files.schema import KEY, check_tensors, header_of
from lg_field.files.small_numbers import SCALE, Layout, compact, layouts
from lg_field.space.regions import Region
from lg_field.table.cell_table import CellTable
from lg_field.table.checkpoint import check_cell_sets
from lg_field.table.editing import cell_sets_to_keep, merge, rows_to_keep
from lg_field.table.kept_lines import KEPT

Precision = Literal["float32", "float16", "bfloat16", "int8"]
SMALL: Precision = "int8"
"""The precision that holds weights as whole numbers (see `small_numbers`)."""
ROWS_BYTES = 1 << 24
"""Bytes of float32 rows that are converted at a time."""
Bytes = Iterable[bytes | bytearray | memoryview]
ReadLines = Callable[[str, int, int], Tensor]
Shapes = dict[str, tuple[torch.dtype, tuple[int, ...]]]


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
    shapes = {name: (value.dtype, tuple(value.shape)) for name, value in stored.items()}
    data: dict[str, Bytes] = {name: _once(value) for name, value in stored.items()}
    for name, value in away.items():
        assert lines is not None
        line = value.new_zeros(1, *value.shape[1:], device="cpu")
        for part, first in _converted_whole(name, line, dtype, small).items():
            shapes[part] = (first.dtype, (len(value), *first.shape[1:]))
            data[part] = _line_by_line(name, part, value, lines, dtype, small)
    skeleton = header.field(field.cells.cpu(), "meta")
    skeleton.set_cell_sets(field.cell_sets())
    skeleton.resize_lines_({n: kept.mask().cpu() for n, kept in field.kept_lines.items() if not kept.whole})
    check_cell_sets(field.cell_sets(), field.cells, field.grid)
    check_tensors(skeleton, shapes)
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
        rows, kept_region = rows_to_keep(file.skeleton, region, cells, invert)
        sets, skeleton = cell_sets_to_keep(file.skeleton, region, cells, invert), file.skeleton
        text = _description(skeleton, skeleton.region if snap else kept_region)
        kept = {}
        for name in sorted(file.saved().keys() - skeleton.line_names - set(skeleton.cell_set_names)):
            shape = file.reader.entries[name].shape
            kept[name] = rows if name in skeleton.row_names else torch.arange(shape[0] if shape else 1)
        file.prefetch_rows([name for name in skeleton.lines_follow if skeleton.kept_lines and name != "cells"], rows)
        masks = file.lines_to_keep(rows)
        shapes = _copied_shapes(file, kept, dtype)
        file.reader.foretell(_reads(file, masks, kept, shapes, dtype))
        whole = {**sets, **_lines_to_store(file, masks, dtype)}
        for name, some in kept.items():
            whole |= _rows_compacted(file, name, some) if _becomes_small(file, name, dtype) else {}
        data: dict[str, Bytes] = {
            part: _converted(file, part, kept[file.owner(part)], kind, progress) for part, (kind, _) in shapes.items()
        }
        for name, values in whole.items():
            shapes[name], data[name] = (values.dtype, tuple(values.shape)), _once(values)
        with open(temporary, "wb") as out:
            write_container(out, shapes, {KEY: text}, data)
        file.reader.prefetch(())
    return Path(target).stat().st_size


def _description(skeleton: CellTable, region: Region | None) -> str:
    """The text of a field's description, with another exact region."""
    before, skeleton.region = skeleton.region, region
    try:
        return header_of(skeleton)[1]
    finally:
        skeleton.region = before


def _copied_shapes(file: FieldFile, kept: Mapping[str, Tensor], wanted: Precision | None) -> Shapes:
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
            shapes[part] = (_stored_dtype(entry, wanted), (len(rows), *entry.shape[1:]))
    return shapes


def _reads(
    file: FieldFile, masks: Mapping[str, Tensor], kept: Mapping[str, Tensor], shapes: Shapes, wanted: Precision | None
) -> list[Lines]:
    """What a crop reads, in its order."""
    found = file.reads_of_lines(masks)
    small = [name for name in kept if _becomes_small(file, name, wanted)]
    for name in (*small, *writing_order(shapes)):
        rows = kept[file.owner(name)]
        if name in small or _restores(file, name, shapes[name][0]):
            parts = file.parts_of(name)
            found += [Lines(part, some) for some in rows.split(_rows_at_once(file, name)) for part in parts]
        else:
            found.append(Lines(name, rows))
    return found


def _restores(file: FieldFile, name: str, wanted: torch.dtype) -> bool:
    """Whether whole numbers of a file become others."""
    return name in file.small and wanted.is_floating_point


def _stored_dtype(entry: Entry, wanted: Precision | None) -> torch.dtype:
    """Type of a tensor in a crop's file."""
    if wanted is None or not (entry.dtype.is_floating_point or entry.dtype == torch.int8):
        return entry.dtype
    return _float_type(wanted) if wanted != SMALL or entry.dtype.is_floating_point else entry.dtype


def _float_type(wanted: Precision) -> torch.dtype:
    """Type of the tensors that are not held as whole numbers."""
    return torch.float32 if wanted == SMALL else getattr(torch, wanted)


def _becomes_small(file: FieldFile, name: str, wanted: Precision | None) -> bool:
    """Whether floating point values of a file are to be held as whole numbers."""
    return wanted == SMALL and name not in file.small and name in layouts(file.skeleton)


def _copied_with(file: FieldFile, name: str, wanted: Precision | None) -> list[str]:
    """The entries of a file that a crop's file has for a tensor, which stay whole numbers if they are such."""
    return file.parts_of(name) if wanted in (None, SMALL) else [name]


def _rows_compacted(file: FieldFile, name: str, rows: Tensor) -> dict[str, Tensor]:
    """Some lines of a tensor as whole numbers, with what stands beside them."""
    layout = layouts(file.skeleton)[name]
    pieces = [compact(file.read_values(name, some), layout) for some in rows.split(_rows_at_once(file, name))]
    return {name + end: torch.cat([piece[end] for piece in pieces]) for end in pieces[0]}


def _rows_at_once(file: FieldFile, name: str) -> int:
    return max(1, ROWS_BYTES // max(1, 4 * math.prod(file.reader.entries[name].shape[1:])))


def _lines_to_store(file: FieldFile, masks: Mapping[str, Tensor], wanted: Precision | None) -> dict[str, Tensor]:
    """What a crop's file holds of the shared tensors that rows read line by line: name -> tensor as it is stored."""
    stored: dict[str, Tensor] = {}
    for name, mask in masks.items():
        if _becomes_small(file, name, wanted):
            stored |= _compacted(name, file.read_lines(name, mask), layouts(file.skeleton)[name])
        elif name in file.small and wanted in (None, SMALL):
            stored |= {name: file.lines(name, mask), name + SCALE: file.reader.read(name + SCALE)}
        else:
            kind = _stored_dtype(file.reader.entries[name], wanted)
            stored[name] = _fitting(file, name, file.read_lines(name, mask), kind)
        if not bool(mask.all()):
            stored[name + KEPT] = pack_bits(mask)
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
    stored = value.to(_float_type(dtype)) if value.is_floating_point() else value
    if stored.is_floating_point() and not bool(stored.isfinite().all()):
        raise ValueError(f"{name} holds values that are NaN, infinite or too large for {dtype}")
    return stored


def _once(value: Tensor) -> Iterator[memoryview]:
    yield tensor_bytes(value)


def _converted(
    file: FieldFile,
    name: str,
    rows: Tensor,
    wanted: torch.dtype,
    progress: Callable[[int], None] | None,
) -> Iterator[bytes | bytearray | memoryview]:
    """Lines of a tensor as bytes of the wanted type."""
    pieces: Iterable[Tensor] = file.values(name, rows)
    if _restores(file, name, wanted):
        pieces = (file.read_values(name, some) for some in rows.split(_rows_at_once(file, name)))
    for values in pieces:
        if progress is not None:
            progress(values.nbytes)
        yield tensor_bytes(_fitting(file, name, values, wanted))


def _fitting(file: FieldFile, name: str, values: Tensor, wanted: torch.dtype) -> Tensor:
    """Values of the wanted type.

    Raises:
        FileError: too large for it.
    """
    converted = values.to(wanted)
    if wanted.is_floating_point and not bool(converted.isfinite().all()):
        raise FileError(f"{file.reader.name}: {name} holds values too large for {wanted}")
    return converted
