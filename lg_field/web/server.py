"""A host on this machine for one page: only the files it is given, with byte ranges."""

from __future__ import annotations

import os
import re
import secrets
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from lg_field.errors import notice
from lg_field.files.ranges import Ranges

HOME = "127.0.0.1"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".wgsl": "text/plain; charset=utf-8",
    ".json": "application/json",
    ".jpg": "image/jpeg",
    ".safetensors": "application/octet-stream",
}
"""Of what a page consists of."""
PIECE = 1 << 18
FAR_PIECE = 1 << 23
"""Bytes that are read at a time: of a file here, and of one that is far away."""
Held = bytes | Path | Ranges
"""What is served under a name: its bytes, the file that holds them, or one that is read by ranges, from several threads
at a time."""
RANGE = re.compile(r"bytes=(\d*)-(\d*)")


@dataclass(frozen=True)
class Part:
    """Bytes of a file that a request is answered with."""

    first: int
    last: int
    """The last one itself; below `first` for none."""
    whole: bool

    @property
    def count(self) -> int:
        """Bytes of it."""
        return self.last - self.first + 1


def part_of(asked: str | None, size: int) -> Part | None:
    """What a Range header asks for.

    Args:
        asked: the header, None without one. One that is not understood, or names several ranges, is left unheeded, as
            HTTP allows: the whole file answers it.
        size: bytes of the file.

    Returns:
        None where the range lies beyond the file.
    """
    everything = Part(0, size - 1, True)
    found = RANGE.fullmatch((asked or "").strip())
    if found is None or found.groups() == ("", ""):
        return everything
    if not found[1]:
        count = int(found[2])
        return Part(max(0, size - count), size - 1, False) if count and size else None
    first, last = int(found[1]), int(found[2]) if found[2] else size - 1
    if found[2] and last < first:
        return everything
    return Part(first, min(last, size - 1), False) if first < size else None


class PageServer(ThreadingHTTPServer):
    """Serves some files by name on 127.0.0.1 until it is closed."""

    daemon_threads = True
    request_queue_size = 128
    """Connections that may wait to be taken."""

    def __init__(self, files: Mapping[str, Held], port: int = 8080) -> None:
        """
        Args:
            files: name -> what holds its contents. "index.html" is the page itself.
            port: the next free one is taken if it is not free; 0 = any.

        Raises:
            OSError: none of the next hundred ports is free.
        """
        self.files = dict(files)
        self.tag = secrets.token_hex(8)
        failed: OSError | None = None
        for number in range(port, min(port + 100, 65536)):
            try:
                super().__init__((HOME, number), _Handler)
                return
            except OSError as error:
                failed = error
        raise OSError(f"no port from {port} on is free: {failed}")

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Browsers close connections as they like; other errors are printed."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    @property
    def url(self) -> str:
        """Address of the page."""
        return f"http://{HOME}:{self.server_address[1]}/"

    @cached_property
    def hosts(self) -> set[str]:
        """What a browser on this machine calls it; another name is another site's that leads here."""
        return {f"{name}:{self.server_address[1]}" for name in (HOME, "localhost")}


def about(held: Held) -> tuple[int, int]:
    """Bytes of what is served, and when it was changed (nanoseconds; 0 where that is not known)."""
    if isinstance(held, Path):
        found = os.stat(held)
        return found.st_size, found.st_mtime_ns
    return (held.size if isinstance(held, Ranges) else len(held)), 0


def pieces_of(held: Held, part: Part) -> Iterator[bytes | bytearray]:
    """The bytes of a part, one piece after the other.

    Raises:
        OSError: they cannot be read, or there are fewer.
    """
    if isinstance(held, bytes):
        yield held[part.first : part.last + 1]
        return
    if isinstance(held, Ranges):
        for start in range(part.first, part.last + 1, FAR_PIECE):
            yield far_piece(held, start, min(FAR_PIECE, part.last + 1 - start))
        return
    with open(held, "rb") as file:
        file.seek(part.first)
        left = part.count
        while left > 0:
            piece = file.read(min(left, PIECE))
            if not piece:
                raise OSError("the file became shorter")
            yield piece
            left -= len(piece)


def far_piece(held: Ranges, start: int, count: int) -> bytes | bytearray:
    """Bytes of a file that is far away; raises OSError for whatever goes wrong on the way, or if there are fewer."""
    try:
        found = held.read(start, count)
    except Exception as error:  # of fsspec's file systems, each of which has its own
        raise OSError(f"{type(error).__name__}: {error}") from error
    if len(found) < count:
        raise OSError("the file became shorter")
    return found


class _Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD."""

    protocol_version = "HTTP/1.1"
    server: PageServer

    def do_GET(self) -> None:
        """A file, or a part of it."""
        self._answer(body=True)

    def do_HEAD(self) -> None:
        """The same without its bytes."""
        self._answer(body=False)

    def log_message(self, *_: object) -> None:
        """Nothing: the terminal is the user's."""

    def _answer(self, body: bool) -> None:
        name = unquote(urlsplit(self.path).path).lstrip("/") or "index.html"
        held = self.server.files.get(name)
        if self.headers.get("Host") not in self.server.hosts:
            self.send_error(403, "this page is for this machine only")
            return
        if held is None:
            self.send_error(404)
            return
        try:
            size, changed = about(held)
            part = part_of(self.headers.get("Range"), size)
            self._send_head(name, size, changed, part)
            if body and part is not None:
                self._send_bytes(held, part)
        except ConnectionError:  # the browser has closed it
            self.close_connection = True
        except OSError as error:
            self.close_connection = True
            notice(f"{name} could not be read, so a request was dropped: {error}")

    def _send_head(self, name: str, size: int, changed: int, part: Part | None) -> None:
        self.send_response(416 if part is None else 200 if part.whole else 206)
        self.send_header("Content-Type", TYPES.get(Path(name).suffix, "application/octet-stream"))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Cache-Control", "no-cache")
        self.send_header("ETag", f'"{self.server.tag}-{changed}-{size}"')
        self.send_header("X-Content-Type-Options", "nosniff")
        if part is None:
            self.send_header("Content-Range", f"bytes */{size}")
        elif not part.whole:
            self.send_header("Content-Range", f"bytes {part.first}-{part.last}/{size}")
        self.send_header("Content-Length", str(0 if part is None else part.count))
        self.end_headers()

    def _send_bytes(self, held: Held, part: Part) -> None:
        for piece in pieces_of(held, part):
            self.wfile.write(piece)
