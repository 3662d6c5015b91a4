"""The safetensors container, read by byte ranges and written as a stream.

The format: 8 bytes little-endian header length, a JSON header naming each tensor's dtype, shape and place, the data.
We read it ourselves because a crop of a large or remote file must fetch only its rows, and because a file from a
stranger must be refused before anything its header claims is allocated. The `safetensors` package reads what we write.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from lg_field.arrays import Array, Tensor, host, torch
from lg_field.files.ranges import Ahead, LocalRanges, Range, Ranges
from lg_field.files.ranges import FileError as FileError


class SampleType(NamedTuple):
    """A type of numbers in a file."""

    code: str
    """What the container calls it."""
    name: str
    """What torch and numpy call it."""
    held_as: str
    """numpy's type of the same bytes: it has no bfloat16."""
    exponent: int = 0
    """Floating point: the bits of `held_as`, as whole numbers, that are all set in NaN and infinite numbers."""

    @property
    def itemsize(self) -> int:
        """Bytes of a number."""
        return np.dtype(self.held_as).itemsize

    @property
    def is_floating_point(self) -> bool:
        """Whether it is of floating point."""
        return self.exponent > 0

    def all_finite(self, numbers: np.ndarray) -> bool:
        """Whether no number of an array of `held_as` is NaN or infinite."""
        if not self.is_floating_point:
            return True
        bits = numbers.view(f"u{self.itemsize}")
        return not bool(((bits & bits.dtype.type(self.exponent)) == self.exponent).any())


TYPES = {
    kind.name: kind
    for kind in (
        SampleType("F64", "float64", "float64", 0x7FF0_0000_0000_0000),
        SampleType("F32", "float32", "float32", 0x7F80_0000),
        SampleType("F16", "float16", "float16", 0x7C00),
        SampleType("BF16", "bfloat16", "uint16", 0x7F80),
        SampleType("I64", "int64", "int64"),
        SampleType("I8", "int8", "int8"),
        SampleType("U8", "uint8", "uint8"),
    )
}
"""The sample types lg-field's files hold, by their names."""
BY_CODE = {kind.code: kind for kind in TYPES.values()}
MAX_HEADER = 1 << 20
MAX_TENSORS = 4096
COPY_BYTES = 1 << 22
"""Bytes that are copied at a time."""


@dataclass(frozen=True)
class Entry:
    """One tensor of a file."""

    type: SampleType
    shape: tuple[int, ...]
    start: int
    """Its first byte, counted from the start of the file."""

    @property
    def dtype(self) -> torch.dtype:
        """Type of the tensor."""
        found: torch.dtype = getattr(torch, self.type.name)
        return found

    @property
    def num_bytes(self) -> int:
        """Bytes of the tensor."""
        return math.prod(self.shape) * self.type.itemsize

    @property
    def row_bytes(self) -> int:
        """Bytes of one line along the first axis."""
        return math.prod(self.shape[1:]) * self.type.itemsize


class Lines(NamedTuple):
    """Some lines of a tensor that are to be read."""

    name: str
    """Of the tensor."""
    rows: Array | None = None
    """Sorted (n,) line numbers, in a tensor or in numpy; None = all."""
    most: int | None = None
    """Requests at most, see `Reader.read`."""


class Reader:
    """A file open for reading by ranges; counts the bytes it fetches."""

    def __init__(self, file: BinaryIO | Ranges, name: str) -> None:
        """
        Args:
            file: seekable binary file, or anything else that is read by ranges.
            name: for messages.

        Raises:
            FileError: not a safetensors file, or its header does not fit it.
        """
        self.source = file if isinstance(file, Ranges) else LocalRanges(file)
        self.name, self.size = name, self.source.size
        self._ahead = Ahead(self.source, ())
        self.entries, self.metadata = self._read_header()

    @property
    def bytes_read(self) -> int:
        """Fetched so far; of an archive, packed."""
        return self.source.bytes_read

    def read_at(self, start: int, count: int) -> bytearray:
        """`count` bytes from `start`.

        Raises:
            FileError: the file ends before.
        """
        data = self.source.read(start, count)
        if len(data) < count:
            raise FileError(f"{self.name} is truncated: it ends {count - len(data):,} bytes too early")
        return data if isinstance(data, bytearray) else bytearray(data)

    def prefetch(self, wanted: Iterable[Lines]) -> None:
        """Say what is read next: far away it is fetched together, all of it at once."""
        if self.source.far:
            self._ahead = Ahead(self.source, ())
            self.source.prefetch([cut for lines in wanted for cut in self._cuts(lines)])

    def foretell(self, wanted: Iterable[Lines]) -> None:
        """Say what is read from now on, in this order: far away it is fetched together, some at a time (`Ahead`)."""
        if self.source.far:
            self._ahead = Ahead(self.source, [cut for lines in wanted for cut in self._cuts(lines)])

    def _cuts(self, lines: Lines) -> Iterator[Range]:
        """The bytes of lines, a few MB each."""
        entry = self.entries[lines.name]
        size = entry.row_bytes
        for first, last in [(0, 1)] if lines.rows is None else runs(lines.rows, lines.most):
            width = entry.num_bytes if lines.rows is None else (last - first) * size
            begin = entry.start + first * size
            yield from ((at, min(COPY_BYTES, begin + width - at)) for at in range(begin, begin + width, COPY_BYTES))

    def _together(self, lines: Lines) -> AbstractContextManager[None]:
        """Context in which lines are read: far away they are fetched together, if they are not here."""
        if not self.source.far:
            return nullcontext()
        cuts = list(self._cuts(lines))
        return nullcontext() if self._ahead.at(cuts) else self.source.together(cuts)

    def read(self, name: str, rows: Array | None = None, most: int | None = None) -> Tensor:
        """A tensor, or some of its lines.

        Args:
            name: of the tensor.
            rows: sorted (n,) line numbers; only these are fetched, neighbours in one request.
            most: requests at most: then the narrowest gaps between lines are fetched, too; None = as many as it takes.
        """
        data, shape = self._lines(name, rows, most)
        if not data:
            return torch.empty(shape, dtype=self.entries[name].dtype)
        return torch.frombuffer(data, dtype=self.entries[name].dtype).view(shape)

    def read_array(self, name: str, rows: Array | None = None, most: int | None = None) -> np.ndarray:
        """The same in numpy, of the type `held_as`."""
        data, shape = self._lines(name, rows, most)
        kind = self.entries[name].type.held_as
        return (np.frombuffer(data, dtype=kind) if data else np.empty(0, dtype=kind)).reshape(shape)

    def _lines(self, name: str, rows: Array | None, most: int | None) -> tuple[bytearray, tuple[int, ...]]:
        """The bytes of some lines of a tensor, and the shape that they make up."""
        entry, rows = self.entries[name], None if rows is None else host(rows)
        with self._together(Lines(name, rows, most)):
            if rows is None:
                data, shape = self.read_at(entry.start, entry.num_bytes), entry.shape
            else:
                data, shape = bytearray(), (len(rows), *entry.shape[1:])
                for first, last in runs(rows, most):
                    block = self.read_at(entry.start + first * entry.row_bytes, (last - first) * entry.row_bytes)
                    data += block if most is None else self._lines_of(block, entry, rows, first, last)
        return data, shape

    @staticmethod
    def _lines_of(block: bytearray, entry: Entry, rows: np.ndarray, first: int, last: int) -> bytearray:
        """Of the bytes of lines `first` to `last` those of the wanted lines."""
        wanted = rows[(rows >= first) & (rows < last)] - first
        if len(wanted) == last - first:
            return block
        lines = np.frombuffer(block, dtype=np.uint8).reshape(last - first, entry.row_bytes)[wanted]
        return bytearray(lines.tobytes())

    def pieces(self, name: str, rows: Array) -> Iterator[bytes | bytearray]:
        """The bytes of some lines, a few MB at a time."""
        if not self.source.far:
            yield from (self.read_at(*cut) for cut in self._cuts(Lines(name, rows)))
            return
        cuts = list(self._cuts(Lines(name, rows)))
        ahead = self._ahead if self._ahead.at(cuts[:1]) else Ahead(self.source, cuts)
        for cut in cuts:
            ahead.at([cut])
            yield self.read_at(*cut)

    def _read_header(self) -> tuple[dict[str, Entry], dict[str, str]]:
        if self.size < 8:
            raise FileError(f"{self.name} is not a field file: it has {self.size} bytes")
        first = self.read_at(0, 8)
        if first.lstrip().startswith(b"{"):
            raise FileError(
                f"{self.name} is JSON, not a field file; a composition, as `lg-field compose` writes it, is called "
                "NAME.json, and render, mesh, view, crop, info and validate take it"
            )
        (length,) = struct.unpack("<Q", first)
        if length > min(MAX_HEADER, self.size - 8):
            raise FileError(
                f"{self.name} is not a field file or is truncated: its header would take {length:,} bytes of "
                f"{self.size:,} (at most {MAX_HEADER:,} are read)"
            )
        header = parse_json(bytes(self.read_at(8, length)), self.name)
        metadata = header.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
            raise FileError(f"{self.name}: __metadata__ must map names to text")
        if len(header) > MAX_TENSORS:
            raise FileError(f"{self.name} lists {len(header):,} tensors; a field has at most {MAX_TENSORS:,}")
        entries = {name: self._entry(name, value, 8 + length) for name, value in header.items()}
        position = 8 + length
        for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].num_bytes)):
            if entry.start != position:
                raise FileError(f"{self.name}: the bytes of {name} overlap others or leave a gap")
            position += entry.num_bytes
        if position != self.size:
            raise FileError(
                f"{self.name} has {self.size:,} bytes but its header describes {position:,}: truncated or damaged"
            )
        return entries, metadata

    def _entry(self, name: str, value: Any, base: int) -> Entry:
        try:
            kind, shape, (start, end) = BY_CODE[value["dtype"]], tuple(value["shape"]), value["data_offsets"]
        except (KeyError, TypeError, ValueError) as error:
            raise FileError(f"{self.name}: bad header entry for {name[:80]!r}: {str(error)[:80]}") from error
        numbers = (*shape, start, end)
        if not all(type(n) is int and 0 <= n <= self.size for n in numbers) or len(shape) > 8:
            raise FileError(f"{self.name}: shape and offsets of {name[:80]!r} do not fit a file of {self.size:,} bytes")
        entry = Entry(kind, shape, base + start)
        if entry.num_bytes != end - start:
            raise FileError(
                f"{self.name}: {name[:80]!r} claims {shape} {value['dtype']} in {end - start:,} bytes, "
                f"which takes {entry.num_bytes:,}"
            )
        return entry


def parse_json(text: bytes | str, name: str) -> dict[str, Any]:
    """A JSON object from a stranger.

    Raises:
        FileError: not JSON, not an object, nested too deeply, or with names given twice.
    """

    def no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            raise ValueError("a name is given twice")
        return result

    def no_constant(text: str) -> float:
        raise ValueError(f"{text} is not JSON")

    try:
        data = json.loads(text, object_pairs_hook=no_twins, parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        raise FileError(f"{name} is not a field file or is damaged: {str(error)[:100]}") from error
    if not isinstance(data, dict):
        raise FileError(f"{name} is not a field file: its header is not a JSON object")
    return data


def runs(rows: Array, most: int | None = None) -> list[tuple[int, int]]:
    """Sorted (n,) numbers -> [first, last) of each stretch of neighbours; of at most so many stretches, which then hold
    the narrowest gaps between them, too."""
    if len(rows) == 0:
        return []
    rows = host(rows)
    steps = np.diff(rows)
    breaks = (steps != 1).nonzero()[0] + 1
    if most is not None and len(breaks) >= most:
        breaks = np.sort(np.argsort(-steps, kind="stable")[: most - 1]) + 1
    firsts = np.concatenate([rows[:1], rows[breaks]])
    lasts = np.concatenate([rows[breaks - 1], rows[-1:]]) + 1
    return list(zip(firsts.tolist(), lasts.tolist()))


def type_of(dtype: Any) -> SampleType:
    """The sample type of numbers of a type that torch, numpy or a file names."""
    return dtype if isinstance(dtype, SampleType) else TYPES[str(dtype).removeprefix("torch.")]


def writing_order(shapes: Mapping[str, tuple[Any, tuple[int, ...]]]) -> list[str]:
    """The order of tensors in a file: wide types first, so that every tensor is aligned, then by name."""
    return sorted(shapes, key=lambda name: (-type_of(shapes[name][0]).itemsize, name))


def write_container(
    file: BinaryIO,
    shapes: Mapping[str, tuple[Any, tuple[int, ...]]],
    metadata: Mapping[str, str],
    pieces: Mapping[str, Iterable[bytes | bytearray | memoryview]],
) -> None:
    """Write a safetensors file as a stream.

    Args:
        file: open for writing.
        shapes: name -> type (see `type_of`) and shape; written in their `writing_order`.
        metadata: text by name.
        pieces: name -> its bytes, in any portions; drawn only when their turn comes.
    """
    order = writing_order(shapes)
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    position = 0
    for name in order:
        kind, shape = type_of(shapes[name][0]), shapes[name][1]
        end = position + math.prod(shape) * kind.itemsize
        header[name] = {"dtype": kind.code, "shape": list(shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER:
        raise ValueError(f"the description takes {len(text):,} bytes; at most {MAX_HEADER:,} fit a field file")
    file.write(struct.pack("<Q", len(text)) + text)
    for name in order:
        written = sum(file.write(piece) for piece in pieces[name])
        kind, shape = type_of(shapes[name][0]), shapes[name][1]
        if written != math.prod(shape) * kind.itemsize:
            raise ValueError(f"{name}: {written:,} bytes written, its shape {shape} takes another number")


def tensor_bytes(tensor: Array) -> memoryview:
    """The bytes of a tensor or a numpy array, copied only if it is not contiguous on the CPU."""
    if isinstance(tensor, np.ndarray):
        return memoryview(np.ascontiguousarray(tensor).reshape(-1).view(np.uint8))  # type: ignore[arg-type]
    flat = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8)
    return memoryview(flat.numpy())  # type: ignore[arg-type]
