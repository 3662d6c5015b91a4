"""Where the bytes of a file come from: a local file, an address far away, whatever can be read by ranges.

Whoever knows which ranges it will read says so first (`prefetch`, `together`, `Ahead`): far away they are then fetched
together, many at a time, and neighbours in one request.
"""

from __future__ import annotations

import bisect
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import pairwise
from typing import Any, BinaryIO

from lg_field.errors import notice
from lg_field.files.versions import Version

Range = tuple[int, int]
"""First byte and number of bytes."""
Blocks = list[tuple[int, bytes]]
"""First byte and bytes of parts of a file, sorted."""
REQUEST_BYTES = 1 << 20
"""A gap of so many bytes costs as much as a request: narrower ones between wanted ranges are fetched with them,"""
GAP_SHARE = 0.04
"""as long as all gaps are at most this part of what is wanted."""
IN_FLIGHT, WAVES, MOST_IN_FLIGHT = 16, 3, 128
"""Requests that are under way together: enough for so many waves, from the first to the last number."""
FEWER = 4
"""Where a server fails, so many times fewer are under way together from then on."""
TRIES, PAUSE = 4, 0.3
"""Of a request, and seconds before the second one; three times as many before each further one."""
FIRST_BYTES = 1 << 12
"""Bytes at the beginning of a far file that are fetched when it is opened: they come with a server's first packets."""
AHEAD_BYTES = 1 << 28
"""Bytes of what is read next that are fetched together while a file is copied, about."""


class FileError(ValueError):
    """A field file is damaged, hostile, or of another kind."""


class Ranges:
    """A file read by ranges."""

    size: int
    """Bytes of it."""
    far: bool = False
    """Whether it helps to say what is read next."""
    bytes_read: int = 0
    """Fetched so far."""
    requests: int = 0
    """Made so far."""

    def read(self, start: int, count: int) -> bytes | bytearray:
        """At most `count` bytes from `start`: fewer only where the file ends."""
        raise NotImplementedError

    def prefetch(self, ranges: Sequence[Range]) -> None:
        """Say what is read next, so that it can be fetched together; of what an earlier call fetched the rest is let
        go."""

    def together(self, ranges: Sequence[Range]) -> AbstractContextManager[None]:
        """Context in which ranges are read that may not have been foretold: what is not here is fetched together."""
        return nullcontext()


class Ahead:
    """Ranges that are read in their order: what comes next is fetched together, about `AHEAD_BYTES` at a time."""

    def __init__(self, source: Ranges, ranges: Sequence[Range]) -> None:
        """
        Args:
            source: where they are.
            ranges: each once.
        """
        self.source, self.ranges = source, list(ranges)
        self._number = {one: number for number, one in enumerate(self.ranges)}
        self._begin = self._end = 0

    def at(self, ranges: Sequence[Range]) -> bool:
        """Say which are read now; whether they were foretold: then they are here."""
        numbers = [self._number.get(one, -1) for one in ranges]
        if not numbers or min(numbers) < 0:
            return False
        if min(numbers) < self._begin or max(numbers) >= self._end:
            self._begin = self._end = min(numbers)
            total = 0
            while self._end < len(self.ranges) and (total < AHEAD_BYTES or self._end <= max(numbers)):
                total += self.ranges[self._end][1]
                self._end += 1
            self.source.prefetch(self.ranges[self._begin : self._end])
        return True


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

    far = True

    def __init__(self, system: Any, path: str, told: bool = False) -> None:
        """
        Args:
            system: fsspec's file system.
            path: on it.
            told: its client tells `Version` what answers say (`_client`); otherwise, where the system knows versions of
                files, it is asked for them after each fetch.

        Raises:
            FileNotFoundError: no such file.
            OSError: it does not say how large it is, or was replaced meanwhile.
        """
        self.system, self.path = system, path
        self._told, self._version = told, Version(path)
        self._at_once = bool(getattr(system, "async_impl", False))
        self._most = MOST_IN_FLIGHT
        self._held: list[Blocks] = []
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(self._asked, [(0, FIRST_BYTES)]) if self._at_once else None
            size = self._described()
        if size is None:
            raise OSError(f"{path}: the server does not say how large it is, so it cannot be read by ranges")
        self.size = int(size)
        self._whole: Blocks = []
        self._version.check()
        found = first.result()[0] if first is not None else None
        if isinstance(found, bytes):
            self.bytes_read, self.requests = len(found), 1
            self._held = [[(0, found)]]
            self._keep_whole(found, FIRST_BYTES)
        else:  # one request, before many: only its answer shows a server that sends the whole file each time
            self.prefetch([(0, FIRST_BYTES)])

    def read(self, start: int, count: int) -> bytes:
        """See `Ranges`; from what was fetched before, as far as it reaches."""
        count = max(0, min(count, self.size - start))
        found = b"".join(self._here(start, count))
        return found if len(found) == count else found + self._fetch([(start + len(found), count - len(found))])[0]

    def prefetch(self, ranges: Sequence[Range]) -> None:
        """See `Ranges`."""
        if not self._whole:
            ranges = self._clipped(ranges)
            kept = sorted((start, b"".join(self._here(start, count))) for start, count in ranges)
            self._held = [[block for block in kept if block[1]]]  # the rest of what was held goes before more comes
            self._held.append(self._lacking(ranges))

    @contextmanager
    def together(self, ranges: Sequence[Range]) -> Iterator[None]:
        """See `Ranges`; nothing of what is fetched is kept."""
        before = self._held
        self._held = [*before, self._lacking(self._clipped(ranges))]
        try:
            yield
        finally:
            self._held = before

    def _clipped(self, ranges: Sequence[Range]) -> list[Range]:
        """Ranges as far as the file reaches."""
        return [(start, min(count, self.size - start)) for start, count in ranges if start < self.size]

    def _here(self, start: int, count: int) -> list[memoryview]:
        """Of `count` bytes from `start` the first ones, as far as they were fetched before, in portions."""
        found: list[memoryview] = []
        while count:
            more = max((beginning(blocks, start, count) for blocks in (*self._held, self._whole)), key=len)
            if not more:
                break
            found.append(more)
            start, count = start + len(more), count - len(more)
        return found

    def _lacking(self, ranges: Sequence[Range]) -> Blocks:
        """What holds of ranges the rest that is not here: fetched together."""
        here = [sum(map(len, self._here(start, count))) for start, count in ranges]
        wanted = merged([(start + some, count - some) for some, (start, count) in zip(here, ranges)])
        return list(zip((start for start, _ in wanted), self._fetch(wanted)))

    def _described(self) -> int | None:
        """Ask the file's size, and which version of it this is."""
        options = {"trace_request_ctx": self._version} if self._told else {}
        try:
            info = self.system.info(self.path, **options)
        except FileNotFoundError:  # of kinds that keep copies, which say its size alone
            info = {"size": self.system.size(self.path)}
        if not self._told:
            self._version.described(info)
        size: int | None = info.get("size")
        return size

    def _fetch(self, ranges: Sequence[Range]) -> list[bytes]:
        """The bytes of ranges, all of one version of the file."""
        pieces = self._pieces(ranges)
        if ranges and not self._told and self._version.named:
            self.system.invalidate_cache(self.path)
            self._described()
            self._version.check()
        return pieces

    def _pieces(self, ranges: Sequence[Range]) -> list[bytes]:
        """The bytes of ranges, many requests at a time: fewer, where the server fails at them."""
        found, pause = self._asked(ranges), PAUSE
        for _ in range(TRIES - 1):
            failed = [number for number, piece in enumerate(found) if isinstance(piece, BaseException)]
            errors = [error for error in found if isinstance(error, BaseException)]
            if not errors or not all(map(passes, errors)):
                break
            self._most = max(1, min(self._most, max(IN_FLIGHT, len(ranges))) // FEWER)
            notice(
                f"{self.path}: {len(failed):,} of {len(ranges):,} requests failed ({str(errors[0])[:100]}); they are "
                f"made again, {self._most} at a time"
            )
            time.sleep(pause)
            pause *= 3
            for number, piece in zip(failed, self._asked([ranges[number] for number in failed])):
                found[number] = piece
        self._version.check()
        pieces = []
        for piece, (start, count) in zip(found, ranges):
            if isinstance(piece, OSError) or not isinstance(piece, (Exception, bytes)):
                raise piece
            if isinstance(piece, Exception):
                raise OSError(f"{self.path}: {str(piece) or type(piece).__name__}") from piece
            self.bytes_read += len(piece)
            whole = self._keep_whole(piece, count)
            if len(piece) > count and not whole:
                raise OSError(
                    f"{self.path}: the server sent {len(piece):,} bytes where {count:,} were asked for, and says that "
                    f"the file has {self.size:,}: it may have been replaced; try again, or download it first"
                )
            pieces.append(piece[start : start + count] if whole else piece[:count])
        self.requests += len(ranges)
        return pieces

    def _asked(self, ranges: Sequence[Range]) -> list[bytes | BaseException]:
        """What requests bring: the bytes, or why there are none."""
        if not ranges:
            return []
        starts, ends = [start for start, _ in ranges], [start + count for start, count in ranges]
        options: dict[str, Any] = {"batch_size": min(self._most, in_flight(len(ranges)))} if self._at_once else {}
        if self._told:
            headers = {**self.system.kwargs.get("headers", {}), "Accept-Encoding": "identity"}
            options |= {"trace_request_ctx": self._version, "headers": headers}
        found: list[bytes | BaseException] = self.system.cat_ranges(
            [self.path] * len(ranges), starts, ends, on_error="return", **options
        )
        return found

    def _keep_whole(self, piece: bytes, count: int) -> bool:
        """Whether a server that knows no ranges sent everything: it is not asked again."""
        if not len(piece) == self.size > count:
            return False
        if not self._whole:
            notice(f"{self.path}: the server sends no ranges, the whole file is read ({self.size:,} bytes)")
            self._whole = [(0, piece)]
        return True


def beginning(blocks: Blocks, start: int, count: int) -> memoryview:
    """Of `count` bytes from `start` the first ones, as far as a block has them."""
    at = bisect.bisect_right(blocks, start, key=lambda block: block[0]) - 1
    begin, data = blocks[at] if at >= 0 else (0, b"")
    return memoryview(data)[start - begin : start - begin + count]


def passes(error: BaseException) -> bool:
    """Whether what kept a request from being answered may be over soon."""
    status = getattr(error, "status", None)
    if isinstance(status, int):
        return status in (408, 425, 429) or status >= 500
    return not isinstance(error, (FileNotFoundError, PermissionError, NotImplementedError, TypeError, ValueError))


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
    over_http = path.startswith(("http://", "https://"))
    system, inner = url_to_fs(path, **({"get_client": _client} if over_http else {}))
    yield FarRanges(system, inner, over_http)


async def _client(**options: Any) -> Any:
    """What fsspec makes requests over http with: as many connections as requests are made at a time; a request's
    `Version` is told what its answer says."""
    import aiohttp

    async def ended(session: Any, context: Any, answer: Any) -> None:
        if isinstance(context.trace_request_ctx, Version):
            context.trace_request_ctx.answered(answer.response.status, answer.response.headers)

    trace = aiohttp.TraceConfig()
    trace.on_request_end.append(ended)
    options.setdefault("connector", aiohttp.TCPConnector(limit=MOST_IN_FLIGHT))
    options["trace_configs"] = [*options.get("trace_configs", ()), trace]
    return aiohttp.ClientSession(**options)
