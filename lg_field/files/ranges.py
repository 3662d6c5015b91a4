"""Where the bytes of a file come from: a local file, an address far away, whatever can be read by ranges.

Whoever knows which ranges it will read says so first (`prefetch`): far away they are then fetched together, some at a
time, and neighbours in one request.
"""

from __future__ import annotations

import bisect
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, BinaryIO

Range = tuple[int, int]
"""First byte and number of bytes."""
REQUEST_BYTES = 1 << 20
"""A gap of so many bytes costs as much as a request: narrower ones between wanted ranges are fetched with them,"""
GAP_SHARE = 0.04
"""as long as all gaps are at most this part of what is wanted."""
IN_FLIGHT, WAVES, MOST_IN_FLIGHT = 10, 3, 48
"""Requests that are under way together: enough for so many waves, from the first to the last number."""
FIRST_BYTES = 1 << 16
"""Bytes at the beginning of a far file that are fetched when it is opened, at most,"""
FIRST_SHARE = 1000
"""and at most one in so many of all: a small region must stay cheap."""


class FileError(ValueError):
    """A field file is damaged, hostile, or of another kind."""


class Ranges:
    """A file read by ranges."""

    size: int
    """Bytes of it."""
    bytes_read: int = 0
    """Fetched so far."""
    requests: int = 0
    """Made so far."""

    def read(self, start: int, count: int) -> bytes | bytearray:
        """At most `count` bytes from `start`: fewer only where the file ends."""
        raise NotImplementedError

    def prefetch(self, ranges: Sequence[Range]) -> None:
        """Say what is read next, so that it can be fetched together; what an earlier call fetched is let go."""


class LocalRanges(Ranges):
    """A file that can be read anywhere at once, or anything seekable."""

    def __init__(self, file: BinaryIO) -> None:
        """
        Args:
            file: open for reading.
        """
        self.file = file
        self.size = file.seek(0, os.SEEK_END)

    def read(self, start: int, count: int) -> bytearray:
        """See `Ranges`."""
        count = max(0, min(count, self.size - start))
        buffer, done = bytearray(count), 0
        view = memoryview(buffer)
        self.file.seek(start)
        while done < count:
            piece = self.file.read(min(count - done, 1 << 28))
            if not piece:
                break
            view[done : done + len(piece)] = piece
            done += len(piece)
        self.bytes_read += done
        self.requests += 1
        return buffer[:done] if done < count else buffer


class FarRanges(Ranges):
    """A file at an address, by fsspec: every request costs a round trip."""

    def __init__(self, system: Any, path: str) -> None:
        """
        Args:
            system: fsspec's file system.
            path: on it.

        Raises:
            FileNotFoundError: no such file.
            OSError: it does not say how large it is.
        """
        self.system, self.path = system, path
        size = system.size(path)
        if size is None:
            raise OSError(f"{path}: the server does not say how large it is, so it cannot be read by ranges")
        self.size = int(size)
        self._held: list[tuple[int, bytes]] = []
        self.prefetch([(0, min(FIRST_BYTES, max(512, self.size // FIRST_SHARE)))])

    def read(self, start: int, count: int) -> bytes:
        """See `Ranges`; from what was fetched before, as far as it reaches."""
        count = max(0, min(count, self.size - start))
        if not count:
            return b""
        at = bisect.bisect_right(self._held, start, key=lambda held: held[0]) - 1
        begin, data = self._held[at] if at >= 0 else (0, b"")
        head = data[start - begin : start - begin + count]
        if len(head) == count:
            return head
        return head + self._fetch([(start + len(head), count - len(head))])[0]

    def prefetch(self, ranges: Sequence[Range]) -> None:
        """See `Ranges`."""
        wanted = merged([(start, min(count, self.size - start)) for start, count in ranges if start < self.size])
        self._held = list(zip((start for start, _ in wanted), self._fetch(wanted)))

    def _fetch(self, ranges: Sequence[Range]) -> list[bytes]:
        """The bytes of ranges, several requests at a time."""
        if not ranges:
            return []
        starts, ends = [start for start, _ in ranges], [start + count for start, count in ranges]
        options = {"batch_size": in_flight(len(ranges))} if getattr(self.system, "async_impl", False) else {}
        found = self.system.cat_ranges([self.path] * len(ranges), starts, ends, on_error="raise", **options)
        self.bytes_read += sum(map(len, found))
        self.requests += len(ranges)
        # A server that knows no ranges sends everything.
        whole = [len(piece) == self.size > count for piece, (_, count) in zip(found, ranges)]
        return [p[a : a + n] if all_of_it else p[:n] for p, all_of_it, (a, n) in zip(found, whole, ranges)]


def in_flight(count: int) -> int:
    """How many of so many requests are under way together."""
    return min(MOST_IN_FLIGHT, max(IN_FLIGHT, -(-count // WAVES)))


def merged(ranges: Sequence[Range]) -> list[Range]:
    """Ranges to fetch: sorted, those that touch joined, and the narrowest gaps between them fetched with them, as far
    as that costs less than requests do (`REQUEST_BYTES`, `GAP_SHARE`)."""
    joined: list[list[int]] = []
    for start, count in sorted(r for r in ranges if r[1] > 0):
        if joined and start <= joined[-1][1]:
            joined[-1][1] = max(joined[-1][1], start + count)
        else:
            joined.append([start, start + count])
    budget = GAP_SHARE * sum(end - start for start, end in joined)
    gaps = sorted((after[0] - before[1], number) for number, (before, after) in enumerate(pairwise(joined)))
    closed: set[int] = set()
    for gap, number in gaps:
        if gap > REQUEST_BYTES or gap > budget:
            break
        budget -= gap
        closed.add(number)
    result: list[Range] = []
    begin = 0
    for number, (start, end) in enumerate(joined):
        begin = start if number - 1 not in closed else begin
        if number not in closed:
            result.append((begin, end - begin))
    return result


@contextmanager
def open_ranges(path: str) -> Iterator[Ranges]:
    """A local file, or whatever fsspec opens for an address with ://.

    Raises:
        FileNotFoundError: no such file.
        FileError: a folder, a pipe or a device.
        ImportError: fsspec is missing, for an address.
    """
    if "://" not in path:
        if os.path.isdir(path):
            raise FileError(f"{path} is a folder, a field file is needed")
        if path == "-" or (os.path.exists(path) and not os.path.isfile(path)):
            name = "standard input" if path == "-" else f"{path}, a pipe or device,"
            raise FileError(f"{name} cannot be read: field files are read by ranges; save it to a file first")
        with open(path, "rb") as local:
            yield LocalRanges(local)
        return
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise ImportError("reading addresses needs fsspec: pip install 'lg-field[remote]'") from error
    system, inner = url_to_fs(path)
    yield FarRanges(system, inner)
