"""Archives: field files in packed blocks, to be kept or sent; bit by bit the same file when they are unpacked.

Blocks end where lines of tensors do, so a region of an archive is read by its blocks. The format: 8 bytes of magic, the
number of blocks (u32), bytes of the packed index (u32), bytes of the whole unpacked file (u64), the index, the blocks.
The index holds for every block its bytes unpacked (u32) and packed (u32), and how many bytes each of its numbers has
(u8): first bytes of numbers lie together before they are packed (LZMA, entropy-coded). 0: stored as it is.
"""

from __future__ import annotations

import lzma
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np

from lg_field.files.atomic import atomic_write
from lg_field.files.container import FileError, Reader
from lg_field.files.ranges import Range, Ranges, open_ranges

MAGIC = b"LGFARCH1"
HEAD = struct.Struct("<8sIIQ")
BLOCK_BYTES = 1 << 14
"""A block holds as many lines as make up about so many bytes; a longer line is cut into blocks of at most"""
LONGEST_BLOCK = 1 << 20
MAX_BLOCKS = 1 << 24
ENTRY_BYTES = 9
"""Of a block in the index."""
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 6, "lc": 0, "lp": 0, "pb": 0, "dict_size": 1 << 20}]


class ArchiveRanges(Ranges):
    """The unpacked file of an archive, read by ranges: only the blocks that hold them are fetched and unpacked."""

    def __init__(self, packed: Ranges, name: str) -> None:
        """
        Args:
            packed: the archive.
            name: for messages.

        Raises:
            FileError: its index does not fit it.
        """
        self.packed, self.name = packed, name
        _, count, index_bytes, self.size = HEAD.unpack(self._packed_bytes(0, HEAD.size))
        if count > MAX_BLOCKS or index_bytes > packed.size or self.size > count * LONGEST_BLOCK:
            raise FileError(f"{name} is a damaged archive: its index does not fit it")
        text = unpack_bytes(self._packed_bytes(HEAD.size, index_bytes), count * ENTRY_BYTES, name)
        sizes = np.frombuffer(text, dtype="<u4", count=2 * count).reshape(2, count).astype(np.int64)
        self.widths = np.frombuffer(text, dtype=np.uint8, offset=8 * count)
        self.begins = np.concatenate([[0], sizes[0].cumsum()])
        self.places = HEAD.size + index_bytes + np.concatenate([[0], sizes[1].cumsum()])
        fits = count == 0 or (sizes[0].max() <= LONGEST_BLOCK and sizes[0].min() > 0 and self.widths.max() <= 8)
        if not fits or self.begins[-1] != self.size or self.places[-1] != packed.size:
            raise FileError(f"{name} is a damaged or truncated archive: its blocks do not make up its file")
        self._last: tuple[int, bytes] = (-1, b"")

    @property
    def far(self) -> bool:  # type: ignore[override]
        """See `Ranges`."""
        return self.packed.far

    @property
    def bytes_read(self) -> int:  # type: ignore[override]
        """Fetched so far, packed."""
        return self.packed.bytes_read

    @property
    def requests(self) -> int:  # type: ignore[override]
        """Made so far."""
        return self.packed.requests

    def read(self, start: int, count: int) -> bytearray:
        """See `Ranges`.

        Raises:
            FileError: a damaged block.
        """
        end, found = min(start + count, self.size), bytearray()
        for number in self._blocks(start, end):
            begin, block = int(self.begins[number]), self._block(number)
            found += block[max(0, start - begin) : end - begin]
        return found

    def prefetch(self, ranges: Sequence[Range]) -> None:
        """See `Ranges`."""
        self.packed.prefetch(self._packed_ranges(ranges))

    def together(self, ranges: Sequence[Range]) -> AbstractContextManager[None]:
        """See `Ranges`."""
        return self.packed.together(self._packed_ranges(ranges))

    def _packed_ranges(self, ranges: Sequence[Range]) -> list[Range]:
        """Where the blocks are that hold ranges."""
        numbers = {n for start, count in ranges for n in self._blocks(start, min(start + count, self.size))}
        places = [(int(self.places[number]), int(self.places[number + 1])) for number in sorted(numbers)]
        return [(first, last - first) for first, last in places]

    def _blocks(self, start: int, end: int) -> range:
        """Numbers of the blocks that hold some bytes."""
        if end <= start:
            return range(0)
        first = int(np.searchsorted(self.begins, start, "right")) - 1
        return range(first, int(np.searchsorted(self.begins, end, "left")))

    def _block(self, number: int) -> bytes:
        """An unpacked block; the last one is remembered."""
        if self._last[0] != number:
            place, size = int(self.places[number]), int(self.begins[number + 1] - self.begins[number])
            data = self._packed_bytes(place, int(self.places[number + 1]) - place)
            width = int(self.widths[number])
            self._last = (number, gathered(unpack_bytes(data, size, self.name), width) if width else bytes(data))
            if len(self._last[1]) != size:
                raise FileError(f"{self.name} is a damaged archive: a block is not as long as its index says")
        return self._last[1]

    def _packed_bytes(self, start: int, count: int) -> bytes:
        data = bytes(self.packed.read(start, count))
        if len(data) != count:
            raise FileError(f"{self.name} is a truncated archive")
        return data


def unpacked(ranges: Ranges, name: str) -> Ranges:
    """The file that an archive holds; any other file as it is."""
    is_archive = ranges.size >= HEAD.size and bytes(ranges.read(0, len(MAGIC))) == MAGIC
    return ArchiveRanges(ranges, name) if is_archive else ranges


def compress(source: str | os.PathLike[str], target: str | os.PathLike[str], overwrite: bool = False) -> int:
    """Write a field file as an archive, a few blocks at a time.

    Args:
        source: field file, or an address fsspec reads.
        target: the archive to write, whole or not at all.
        overwrite: replace an existing target.

    Returns:
        Bytes of the target.

    Raises:
        FileError: the source is an archive already, or no field file.
        FileExistsError: the target exists and overwrite is False.
    """
    with open_ranges(str(source)) as ranges, atomic_write(target, overwrite) as temporary:
        if unpacked(ranges, str(source)) is not ranges:
            raise FileError(f"{source} is an archive already")
        cuts = list(blocks_of(Reader(ranges, str(source))))
        rest = temporary.with_name(temporary.name + ".blocks")
        entries = []
        try:
            with open(rest, "wb") as out:
                for start, count, width in cuts:
                    packed, width = packed_block(bytes(ranges.read(start, count)), width)
                    entries.append((count, len(packed), width))
                    out.write(packed)
            with open(temporary, "wb") as out, open(rest, "rb") as blocks:
                out.write(head_of(entries, ranges.size))
                while piece := blocks.read(1 << 22):
                    out.write(piece)
        finally:
            rest.unlink(missing_ok=True)
    return Path(target).stat().st_size


def decompress(source: str | os.PathLike[str], target: str | os.PathLike[str], overwrite: bool = False) -> int:
    """Write the field file that an archive holds, bit by bit as it was.

    Returns:
        Bytes of the target.

    Raises:
        FileError: the source is no archive, or a damaged one.
        FileExistsError: the target exists and overwrite is False.
    """
    with open_ranges(str(source)) as ranges, atomic_write(target, overwrite) as temporary:
        whole = unpacked(ranges, str(source))
        if whole is ranges:
            raise FileError(f"{source} is no archive, as `lg-field compress` writes them")
        with open(temporary, "wb") as out:
            for start in range(0, whole.size, LONGEST_BLOCK):
                out.write(whole.read(start, LONGEST_BLOCK))
    return Path(target).stat().st_size


def head_of(entries: Sequence[tuple[int, int, int]], size: int) -> bytes:
    """The bytes before the blocks.

    Args:
        entries: of each block its bytes unpacked and packed, and bytes a number.
        size: bytes of the whole unpacked file.
    """
    table = np.array(entries, dtype=np.int64).reshape(-1, 3)
    text = (
        table[:, 0].astype("<u4").tobytes() + table[:, 1].astype("<u4").tobytes() + table[:, 2].astype("u1").tobytes()
    )
    index = lzma.compress(text, format=lzma.FORMAT_RAW, filters=FILTERS)
    return HEAD.pack(MAGIC, len(table), len(index), size) + index


def blocks_of(reader: Reader) -> Iterator[tuple[int, int, int]]:
    """Where a field file is cut: first byte, bytes, and bytes a number, of each block."""
    first = min((entry.start for entry in reader.entries.values()), default=reader.size)
    for start in range(0, first, LONGEST_BLOCK):
        yield start, min(LONGEST_BLOCK, first - start), 1
    for entry in sorted(reader.entries.values(), key=lambda entry: entry.start):
        line = max(1, entry.row_bytes)
        step = min(max(1, BLOCK_BYTES // line) * line, LONGEST_BLOCK)
        for at in range(0, entry.num_bytes, step):
            yield entry.start + at, min(step, entry.num_bytes - at), entry.type.itemsize


def packed_block(data: bytes, width: int) -> tuple[bytes, int]:
    """A block, packed, and bytes a number; as it is and 0 where packing saves nothing."""
    packed = lzma.compress(scattered(data, width), format=lzma.FORMAT_RAW, filters=FILTERS)
    return (packed, width) if len(packed) < len(data) else (data, 0)


def unpack_bytes(data: bytes, size: int, name: str) -> bytes:
    """Unpack what must have `size` bytes; no more are ever made.

    Raises:
        FileError: damaged, or of another size.
    """
    try:
        machine = lzma.LZMADecompressor(format=lzma.FORMAT_RAW, filters=FILTERS)
        found = machine.decompress(data, max_length=size) if size else b""
    except (lzma.LZMAError, EOFError, MemoryError) as error:
        raise FileError(f"{name} is a damaged archive: {error}") from error
    if len(found) != size:
        raise FileError(f"{name} is a damaged archive: a block is shorter than its index says")
    return found


def scattered(data: bytes, width: int) -> bytes:
    """First bytes of all numbers, then the second ones, and so on; what does not make up a number follows."""
    whole = len(data) // width * width
    if width == 1 or not whole:
        return data
    return np.frombuffer(data, np.uint8, whole).reshape(-1, width).T.tobytes() + data[whole:]


def gathered(data: bytes, width: int) -> bytes:
    """Inverse of `scattered`."""
    whole = len(data) // width * width
    if width == 1 or not whole:
        return data
    return np.frombuffer(data, np.uint8, whole).reshape(width, -1).T.tobytes() + data[whole:]
