"""What a small box of a large field costs far away: requests, successive round trips, bytes and seconds.

    python scripts/bench/far_files.py --gigabytes 2 --latency 0.05
    python scripts/bench/far_files.py --scene --counts 42

The field is a file with holes: it takes no disk. A real server of ranges answers twice. Once it holds its answers until
all requests that are made at a time have come: that counts round trips, whatever the machine takes for them. Once it
waits for the latency before each answer, for the seconds. Bytes are told as multiples of those of the crop's file: it
holds what the box needs and nothing else.
"""

from __future__ import annotations

import argparse
import contextlib
import http.server
import io
import math
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

import lg_field
from lg_field.cli.edit import crop
from lg_field.cli.options import RegionFlags
from lg_field.errors import Notice
from lg_field.files import FieldFile, crop_file
from lg_field.files.bits import pack_bits
from lg_field.files.container import tensor_bytes, write_container
from lg_field.files.ranges import FarRanges, Range, in_flight
from lg_field.files.schema import KEY, header_of
from lg_field.networks.local_global import local_global_siren
from lg_field.radiance.field import RadianceField
from lg_field.radiance.scene import Scene
from lg_field.signals.signal import Signal
from lg_field.space.partition import PartitionGrid
from lg_field.space.regions import Region
from lg_field.table.cell_table import CellTable
from lg_field.training.methods import METHODS


class Request(NamedTuple):
    """One that was answered."""

    begin: float
    end: float
    bytes: int


class Log:
    """Requests that a server has answered."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    @property
    def bytes(self) -> int:
        """Sent in all."""
        return sum(request.bytes for request in self.requests)

    def round_trips(self) -> int:
        """How many requests followed one another: the longest chain in which each began after the one before ended."""
        count, ended = 0, -math.inf
        for request in sorted(self.requests, key=lambda request: request.end):
            if request.begin >= ended:
                count, ended = count + 1, request.end
        return count


class Waves:
    """Holds answers until all requests that are made at a time have come: round trips are counted, whatever a machine
    takes for them. The first request of a file and the one for its size are made together, and count as one."""

    def __init__(self) -> None:
        self.number = 0
        """Of round trips that followed one another."""
        self.left = self.together = self.here = 0
        self.met = threading.Condition()

    @staticmethod
    @contextmanager
    def counted() -> Iterator[Waves]:
        """Context in which the requests of far files are told to a new one."""
        waves, asked = Waves(), FarRanges._asked

        def told(far: FarRanges, ranges: Sequence[Range]) -> list[bytes | BaseException]:
            if ranges:
                waves.left, waves.together = len(ranges), min(far._most, in_flight(len(ranges)))
            return asked(far, ranges)

        FarRanges._asked = told  # type: ignore[method-assign]
        try:
            yield waves
        finally:
            FarRanges._asked = asked  # type: ignore[method-assign]

    def __call__(self, method: str) -> None:
        """Called by the thread of a request, which waits for the others."""
        if method == "HEAD":
            return
        with self.met:
            self.here, mine = self.here + 1, self.number
            if self.here >= min(self.left, self.together):
                self.left, self.here, self.number = max(0, self.left - self.here), 0, self.number + 1
                self.met.notify_all()
            elif not self.met.wait_for(lambda: self.number != mine, 60.0):
                raise AssertionError(f"{self.here} requests came at a time, {self.left} of {self.together} were to")


class Served(NamedTuple):
    """What a server of ranges serves, and how: see `range_server`."""

    path: Path
    latency: float
    hold: Callable[[str], None] | None
    ranges: bool
    version: str | None
    log: Log


def handler_of(served: Served) -> type[http.server.BaseHTTPRequestHandler]:
    """What answers requests for a file."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer(0, served.path.stat().st_size, 200, False)

        def do_GET(self) -> None:
            size = served.path.stat().st_size
            wanted = self.headers.get("Range") if served.ranges else None
            first, last = wanted.removeprefix("bytes=").split("-") if wanted else ("0", "")
            start, end = int(first), min(size, int(last) + 1 if last else size)
            if start < size:
                self.answer(start, end, 206 if wanted else 200, True)
            else:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{size}")
                self.send_header("Content-Length", "0")
                self.end_headers()

        def answer(self, start: int, end: int, status: int, body: bool) -> None:
            begin = time.monotonic()
            time.sleep(served.latency)
            if served.hold is not None:
                served.hold(self.command)
            self.send_response(status)
            self.send_header("Accept-Ranges", "bytes" if served.ranges else "none")
            now = served.path.stat()
            if served.version is not None:
                self.send_header(served.version, f'"{now.st_mtime_ns:x}-{now.st_size:x}"')
            if status == 206:
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{now.st_size}")
            self.send_header("Content-Length", str(end - start))
            self.end_headers()
            served.log.requests.append(Request(begin, time.monotonic(), end - start if body else 0))
            if body:
                with open(served.path, "rb") as file:
                    file.seek(start)
                    self.wfile.write(file.read(end - start))

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@contextmanager
def range_server(
    path: Path,
    latency: float,
    hold: Callable[[str], None] | None = None,
    ranges: bool = True,
    version: str | None = "ETag",
) -> Iterator[tuple[str, Log]]:
    """Serve a file by ranges: its address and the log.

    Args:
        path: of the file.
        latency: seconds before each answer.
        hold: is called by the thread of each request with its method before it is answered, and may wait for others.
        ranges: False: everything is sent, whatever is asked for.
        version: header that tells the file from what it was before it was replaced; None: none does.
    """
    log = Log()
    handler = handler_of(Served(path, latency, hold, ranges, version, log))

    class Server(http.server.ThreadingHTTPServer):
        request_queue_size = 128
        daemon_threads = True

    server = Server(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/field", log
    finally:
        server.shutdown()
        server.server_close()


class Sparse(io.FileIO):
    """A file whose zeros are holes."""

    def write(self, data: bytes) -> int:  # type: ignore[override]
        if bytes(data).strip(b"\0"):
            return super().write(data)
        self.seek(len(data), io.SEEK_CUR)
        return len(data)


def sparse_field(path: Path, size: int, counts: tuple[int, int, int]) -> int:
    """A signal's file of about so many bytes, whose weights are zeros; returns its cells."""
    grid = PartitionGrid(counts, (-1.0,) * 3, (1.0,) * 3)
    width = max(4, round(math.sqrt(size / grid.num_cells / 4 / 3)))
    cells = torch.arange(grid.num_cells)
    with torch.device("meta"):
        field = local_global_siren(grid, 3, width, 16, 3, cells=cells)
    field.description = Signal("video", (64, 64, 64), 3)
    write_sparse(path, field, {"cells": cells})
    return grid.num_cells


def sparse_scene(path: Path, counts: tuple[int, int, int]) -> int:
    """A scene's file with the rows and the shared grid of `lg-field-tiny`, whose weights are zeros; returns its cells.
    A tenth of the voxels of every cell is occupied."""
    grid = PartitionGrid(counts, (-1.0,) * 3, (1.0,) * 3)
    cells = torch.arange(grid.num_cells)
    with torch.device("meta"):
        field = RadianceField(grid, METHODS["lg-field-tiny"].sizes, cells)
    field.description = Scene(tuple(tuple(float(a == b) for a in range(4)) for b in range(4)))
    draw = torch.Generator().manual_seed(0)
    occupied = torch.rand(field.occupied.shape, generator=draw) < 0.1
    write_sparse(path, field, {"cells": cells, "occupied": pack_bits(occupied)})
    return grid.num_cells


def write_sparse(path: Path, field: CellTable, known: dict[str, Tensor]) -> None:
    """The file of a field on the meta device: these tensors, and zeros for all others."""
    _, text = header_of(field)
    tensors = {name: value for name, value in field.state_dict().items() if torch.is_tensor(value)} | known
    shapes = {name: (value.dtype, tuple(value.shape)) for name, value in tensors.items()}
    hole = bytes(1 << 20)

    def zeros(count: int) -> Iterator[bytes]:
        for first in range(0, count, len(hole)):
            yield hole if count - first >= len(hole) else bytes(count - first)

    pieces: dict[str, Iterable[bytes | bytearray | memoryview]] = {
        name: zeros(math.prod(shape) * dtype.itemsize) for name, (dtype, shape) in shapes.items()
    }
    pieces |= {name: [tensor_bytes(value)] for name, value in known.items()}
    with Sparse(path, "wb") as file:
        write_container(file, shapes, {KEY: text}, pieces)  # type: ignore[arg-type]
        file.truncate(file.tell())


def read(address: str, part: Path, side: float) -> None:
    """As `lg_field.load` does."""
    lg_field.load(address, Region.box((-side,) * 3, (side,) * 3))


def cropped(address: str, part: Path, side: float) -> None:
    """As `lg_field.files.crop_file` does."""
    crop_file(address, part, Region.box((-side,) * 3, (side,) * 3), overwrite=True)


def command(address: str, part: Path, side: float) -> None:
    """As `lg-field crop` does, which says before what it keeps."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)
        crop(address, part, RegionFlags(box=(*[-side] * 3, *[side] * 3)), overwrite=True)


def main() -> None:
    """Print a line for each way to read."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=2.0, help="of a signal's file")
    parser.add_argument("--scene", action="store_true", help="a scene's file, with the rows of lg-field-tiny")
    parser.add_argument("--latency", type=float, default=0.05)
    parser.add_argument("--counts", type=int, default=16, help="cells along each axis")
    parser.add_argument("--share", type=float, default=0.05, help="of the volume that the box holds")
    chosen = parser.parse_args()
    side, counts = chosen.share ** (1 / 3), (chosen.counts,) * 3
    with tempfile.TemporaryDirectory() as folder:
        path, part = Path(folder) / "field", Path(folder) / "part"
        cells = sparse_scene(path, counts) if chosen.scene else sparse_field(path, int(chosen.gigabytes * 1e9), counts)
        needed = crop_file(path, part, Region.box((-side,) * 3, (side,) * 3))
        with FieldFile.open(part) as file:
            rows = len(file.cells)
        print(f"{path.stat().st_size:,} bytes, a box of {rows:,} of {cells:,} cells, {needed:,} bytes")
        for way in (read, cropped, command) if chosen.scene else (read, cropped):
            with Waves.counted() as waves, range_server(path, 0.0, waves) as (address, log):
                way(address, part, side)
            with range_server(path, chosen.latency) as (address, timed):
                begin = time.perf_counter()
                way(address, part, side)
                seconds = time.perf_counter() - begin
            print(
                f"{way.__name__}: {len(log.requests)} requests, {waves.number} round trips one after the other, "
                f"{log.bytes:,} bytes ({log.bytes / needed:.3f} of those of the crop); {seconds:.2f} s, in which "
                f"{timed.round_trips()} requests followed one another",
                flush=True,
            )


if __name__ == "__main__":
    main()
