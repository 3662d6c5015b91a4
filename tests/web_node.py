"""The page's modules run by node: pieces of code that give back data, and hosts that misbehave."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import lg_field

STATIC = Path(lg_field.__file__).parent / "web" / "static"
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="needs node, which scripts/setup.sh installs")
IMPORTS = """
const { openField, FieldError } = await import(STATIC + "field.js");
const { cropFile, regionJson, rowsToKeep } = await import(STATIC + "crop.js");
const space = await import(STATIC + "space.js"), { readFile, writeFile } = await import("node:fs/promises");
const fromDisk = async (path) =>
  openField({ bytes: new Uint8Array(await readFile(path)), name: path.split("/").pop() });
const refused = async (task) => {
  try { await task(); } catch (error) { if (error instanceof FieldError) return error.message; throw error; }
  return null;
};
"""


def node(code: str, **values: Any) -> Any:
    """What a piece of JavaScript returns.

    Args:
        code: the body of an async function; `openField`, `cropFile`, `space` and others of the page are there.
        values: data it sees by these names.
    """
    names = "".join(f"const {name} = {json.dumps(value)};\n" for name, value in values.items())
    program = f"const STATIC = {json.dumps(STATIC.as_uri() + '/')};\n{IMPORTS}{names}"
    program += f"const result = await (async () => {{ {code} }})();\nconsole.log(JSON.stringify(result ?? null));"
    command = [str(NODE), "--input-type=module", "-"]
    done = subprocess.run(command, input=program, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


Answer = Callable[[BaseHTTPRequestHandler, bytes, int, int], None]
"""Answers a request for the bytes from the first number to before the second one."""


class Host(ThreadingHTTPServer):
    """Serves bytes as `answer` says, and notes the ranges that it is asked for."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, data: bytes, answer: Answer) -> None:
        self.data, self.answer, self.asked = data, answer, list[tuple[int, int]]()
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/scene.safetensors"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Host

    def do_GET(self) -> None:
        first, last = self.headers["Range"].removeprefix("bytes=").split("-")
        end = min(int(last) + 1, len(self.server.data))
        self.server.asked.append((int(first), end))
        self.server.answer(self, self.server.data, int(first), end)

    def log_message(self, *_: object) -> None:
        """Nothing."""


def send(
    to: BaseHTTPRequestHandler, status: int, body: bytes, length: int | None = None, **headers: str | None
) -> None:
    """An answer; `length` is what it claims to have."""
    to.send_response(status)
    for name, value in headers.items():
        if value is not None:
            to.send_header(name.replace("_", "-"), value)
    to.send_header("Content-Length", str(len(body) if length is None else length))
    to.end_headers()
    to.wfile.write(body)


def ranges(to: BaseHTTPRequestHandler, data: bytes, first: int, end: int) -> None:
    """What a good host does."""
    send(to, 206, data[first:end], Content_Range=f"bytes {first}-{end - 1}/{len(data)}")


class Rounds:
    """Answers all requests that have come once no further one comes: `number` counts those that wait for each other."""

    def __init__(self, quiet: float = 0.5) -> None:
        self.quiet, self.number = quiet, 0
        self.last, self.met = 0.0, threading.Condition()

    def __call__(self, to: BaseHTTPRequestHandler, data: bytes, first: int, end: int) -> None:
        with self.met:
            mine, self.last = self.number, time.monotonic()
            while self.number == mine:
                left = self.last + self.quiet - time.monotonic()
                if left <= 0:
                    self.number += 1
                    self.met.notify_all()
                else:
                    self.met.wait(left)
        ranges(to, data, first, end)


@contextmanager
def host(data: bytes, answer: Answer = ranges) -> Iterator[Host]:
    """A host of one file."""
    with Host(data, answer) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
