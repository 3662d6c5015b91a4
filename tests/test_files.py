"""The field file: round trips, reading by region, safety against strangers, and writes that are whole or not at all."""

from __future__ import annotations

import http.server
import json
import os
import random
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

import lg_field
from lg_field import PartitionGrid, Region
from lg_field.files import FieldFile, FileError, crop_file, merge_files
from lg_field.files.atomic import temporary_folder
from lg_field.networks.local_global import local_global_siren
from lg_field.radiance.field import RadianceField, RadianceSizes
from lg_field.radiance.scene import Scene
from lg_field.signals.signal import Signal
from lg_field.table.cell_table import CellTable


def make(kind: str) -> CellTable:
    torch.manual_seed(1)
    if kind == "radiance":
        field = RadianceField(
            PartitionGrid((4, 4, 4), (-1.0,) * 3, (1.0,) * 3), RadianceSizes(grid_nodes=3, local_width=5)
        )
        field.occupied.copy_(torch.rand(field.occupied.shape) > 0.5)
        field.description = Scene(tuple(tuple(float(i == j) for i in range(4)) for j in range(4)))
        return field
    dim = {"audio": 1, "image": 2, "video": 3}[kind]
    field = local_global_siren(PartitionGrid((8,) * dim, (-1.0,) * dim, (1.0,) * dim), 2, 9, 11, 2)
    field.description = Signal(kind, (32,) * dim, 2)
    return field


KINDS = ["audio", "image", "video", "radiance"]
HALF = Region.box([-1.0], [0.0])


def corner(dim: int) -> Region:
    return Region.box([-1.0] * dim, [-0.3] * dim)


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    left, right = a.state_dict(), b.state_dict()
    skip = {"_extra_state"}
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left.keys() - skip)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_is_loaded(kind: str, tmp_path: Path) -> None:
    field = make(kind)
    field.history = {"steps": 3}
    path = tmp_path / "f.safetensors"
    assert lg_field.save(field, path) == path.stat().st_size
    back = lg_field.load(path)
    assert same(field, back) and back.grid == field.grid
    assert (back.description, back.history) == (field.description, {"steps": 3})
    assert torch.equal(load_file(path)["local"], field.local), "the safetensors package reads it too"
    parameters = 4 * field.num_parameters()["total"]
    assert parameters < path.stat().st_size < parameters + 8 * field.num_rows + field.num_rows * 64 + 3000
    with pytest.raises(FileExistsError, match="--overwrite"):
        lg_field.save(field, path)


@pytest.mark.parametrize("kind", KINDS)
def test_cropping_a_file_loading_a_region_and_cropping_the_field_agree(kind: str, tmp_path: Path) -> None:
    field = make(kind)
    whole, part = tmp_path / "whole", tmp_path / "part"
    lg_field.save(field, whole)
    region = corner(field.grid.dim)
    small = lg_field.crop(field, region)
    assert same(small, lg_field.load(whole, region))
    size = crop_file(whole, part, region)
    assert same(small, lg_field.load(part)) and lg_field.load(part).region == region
    with FieldFile.open(whole) as file, FieldFile.open(part) as cut:
        big, little = file.bytes_by_part(), cut.bytes_by_part()
    assert little["rows"] * field.num_rows == big["rows"] * small.num_rows
    assert little["shared"] == big["shared"] and size == sum(v for k, v in little.items() if k != "total")
    rest = tmp_path / "rest"
    crop_file(whole, rest, cells=small.cells.tolist(), invert=True)
    crop_file(whole, part, region, snap=True, overwrite=True)
    assert lg_field.load(part).region is None
    merge_files(part, rest, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_halves_the_bytes(kind: str, dtype: str, tmp_path: Path) -> None:
    field = make(kind)
    whole, part = tmp_path / "whole", tmp_path / "part"
    lg_field.save(field, whole)
    crop_file(whole, part, cells=[0, 1], dtype=dtype)
    back = lg_field.load(part)
    assert back.local.dtype == torch.float32
    assert torch.equal(back.local, field.local[:2].to(getattr(torch, dtype)).float())
    with torch.no_grad():
        field.local[1, 0] = 1e6
    lg_field.save(field, whole, overwrite=True)
    before = part.read_bytes()
    if dtype == "float16":
        with pytest.raises(FileError, match="too large for"):
            crop_file(whole, part, cells=[0, 1], dtype=dtype, overwrite=True)
        assert part.read_bytes() == before and sorted(tmp_path.iterdir()) == [part, whole]


class RangeHandler(http.server.BaseHTTPRequestHandler):
    """Serves `data` with range requests and counts the bytes of bodies."""

    data, sent = b"", 0

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.data)))
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()

    def do_GET(self) -> None:
        low, high = 0, len(self.data) - 1
        wanted = self.headers.get("Range")
        if wanted:
            a, b = wanted.removeprefix("bytes=").split("-")
            low, high = int(a), min(high, int(b) if b else high)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {low}-{high}/{len(self.data)}")
        else:
            self.send_response(200)
        body = self.data[low : high + 1]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        type(self).sent += len(body)
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def allowed(path: Path, cells: int, rows: int) -> float:
    """Bytes that reading some rows may take: header, cell list, shared part, kept rows, and 1 %."""
    with FieldFile.open(path) as file:
        part, everything = file.bytes_by_part(), 8 * cells
    return 1.01 * (part["header"] + everything + part["shared"] + (part["rows"] - everything) * rows / cells)


@pytest.mark.parametrize("kind", KINDS)
def test_a_region_costs_only_its_rows(kind: str, tmp_path: Path) -> None:
    field, path = make(kind), tmp_path / "f"
    size = lg_field.save(field, path)
    region = corner(field.grid.dim)
    with FieldFile.open(path) as file:
        part = file.load(region)
        read = file.reader.bytes_read
    assert read <= allowed(path, field.num_rows, part.num_rows)
    assert kind == "audio" or read < 0.5 * size


def test_a_region_is_read_over_http(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp", reason="reading addresses needs lg-field[remote]")
    field, path = make("video"), tmp_path / "f"
    lg_field.save(field, path)
    handler = type("Handler", (RangeHandler,), {"data": path.read_bytes(), "sent": 0})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        part = lg_field.load(f"http://127.0.0.1:{server.server_port}/f", corner(3))
    finally:
        server.shutdown()
    assert same(part, lg_field.crop(field, corner(3)))
    assert handler.sent <= allowed(path, field.num_rows, part.num_rows)


def test_any_fsspec_address_will_do() -> None:
    fsspec = pytest.importorskip("fsspec")
    field = make("image")
    lg_field.save(field, path := Path(os.environ.get("TMPDIR", "/tmp")) / f"lg-field-{os.getpid()}")
    fsspec.filesystem("memory").pipe("/field", path.read_bytes())
    path.unlink()
    assert same(lg_field.load("memory://field", cells=[3]), lg_field.crop(field, cells=[3]))


# -- files from strangers


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("sound") / "f"
    lg_field.save(make("image"), path)
    return path.read_bytes()


def parts(data: bytes) -> tuple[dict, bytes]:
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def join(header: object, body: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def described(data: bytes, **changes: object) -> bytes:
    header, body = parts(data)
    about = json.loads(header["__metadata__"]["lg_field"])
    header["__metadata__"]["lg_field"] = json.dumps(about | changes)
    return join(header, body)


def with_tensor(data: bytes, name: str, values: torch.Tensor) -> bytes:
    header, body = parts(data)
    first, last = header[name]["data_offsets"]
    raw = values.contiguous().view(torch.uint8).numpy().tobytes()
    assert len(raw) == last - first
    return join(header, body[:first] + raw + body[last:])


def header_with(data: bytes, name: str, **changes: object) -> bytes:
    header, body = parts(data)
    return join(header | {name: header[name] | changes}, body)


def attacks(data: bytes) -> dict[str, bytes]:
    header, body = parts(data)
    about = json.loads(header["__metadata__"]["lg_field"])
    cells, local = torch.arange(64), torch.zeros(header["local"]["shape"])
    deep = '{"type":"complement","part":' * 3000 + "1" + "}" * 3000
    nested = json.loads(json.dumps(header))
    text = nested["__metadata__"]["lg_field"].replace('"region":null', f'"region":{deep}')
    nested["__metadata__"]["lg_field"] = text
    nan = local.clone()
    nan[5, 5] = torch.nan
    return {
        "empty": b"",
        "short": data[:5],
        "truncated": data[:-9],
        "longer": data + b"0",
        "gigantic header": struct.pack("<Q", 1 << 62) + data[8:],
        "header of zeros": struct.pack("<Q", 1 << 19) + bytes(1 << 20),
        "json bomb": join(b"[" * 500_000 + b"]" * 500_000, body),
        "names twice": join(b'{"a":1,"a":2}', body),
        "no metadata": join({k: v for k, v in header.items() if k != "__metadata__"}, body),
        "other version": described(data, version=2),
        "other network": described(data, network="os.system"),
        "huge grid": described(data, grid=about["grid"] | {"counts": [1 << 40, 1 << 40]}),
        "no grid": described(data, grid=None),
        "nan grid": described(data, grid=about["grid"] | {"lower": ["nan", 0]}),
        "huge width": described(data, config=about["config"] | {"local_width": 1 << 50}),
        "large width": described(data, config=about["config"] | {"local_width": 60_000}),
        "negative width": described(data, config=about["config"] | {"local_width": -4}),
        "odd config": described(data, config=about["config"] | {"activation": "evil"}),
        "deep region": join(nested, body),
        "signal of other channels": described(data, description=about["description"] | {"channels": 3}),
        "missing entries": described(data, description={"kind": "image"}),
        "descending cells": with_tensor(data, "cells", cells.flip(0)),
        "negative cells": with_tensor(data, "cells", cells - 1),
        "cells twice": with_tensor(data, "cells", torch.cat([cells[:1], cells[:-1]])),
        "cells too far": with_tensor(data, "cells", cells + 1),
        "nan weights": with_tensor(data, "local", nan),
        "infinite weights": with_tensor(data, "local", local + torch.inf),
        "shape overflow": header_with(data, "local", shape=[1 << 40, 1 << 40]),
        "negative shape": header_with(data, "local", shape=[-64, -1]),
        "offsets outside": header_with(data, "local", data_offsets=[0, 1 << 40]),
        "overlap": header_with(data, "local", data_offsets=[8, 8 + 4 * local.numel()]),
        "unknown type": header_with(data, "local", dtype="F8"),
    }


def test_hostile_files_are_refused_in_one_line(sound: bytes, tmp_path: Path) -> None:
    import resource

    for name, data in attacks(sound).items():
        path = tmp_path / "hostile"
        path.write_bytes(data)
        before, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        with pytest.raises(FileError) as refusal:
            lg_field.load(path)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        text = str(refusal.value)
        assert "\n" not in text and len(text) < 600 and "hostile" in text, (name, text)
        assert time.process_time() - begin < 2.0 and grown < 200_000, (name, grown)


@given(data=st.data())
@settings(max_examples=int(os.environ.get("LG_FIELD_FUZZ_CASES", "300")))
def test_damaged_files_are_refused_or_load(sound: bytes, data: st.DataObject, tmp_path_factory) -> None:
    """Whatever bytes are changed, cut or doubled: a FileError, or a field whose weights are finite."""
    changed = bytearray(sound)
    header = struct.unpack("<Q", sound[:8])[0] + 8
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, header - 1) | st.integers(0, len(sound) - 1))
        kind = data.draw(st.sampled_from(["byte", "cut", "double", "digit"]))
        if kind == "byte":
            changed[min(place, len(changed) - 1)] = data.draw(st.integers(0, 255))
        elif kind == "digit":
            changed[min(place, len(changed) - 1)] = data.draw(st.sampled_from(b"0123456789-e.[]{}\"':,"))
        elif kind == "cut":
            del changed[place : place + data.draw(st.integers(1, 64))]
        else:
            changed[place:place] = changed[place : place + data.draw(st.integers(1, 64))]
        if not changed:
            break
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(bytes(changed))
    try:
        field = lg_field.load(path)
    except FileError as error:
        assert "\n" not in str(error)
    else:
        assert bool(field.local.isfinite().all())


CROPS = """
import os, sys
from lg_field.files import crop_file
for _ in sys.stdin:
    process = os.fork()
    if process == 0:
        print(os.getpid(), flush=True)
        for _ in range(99):
            print(crop_file(sys.argv[1], sys.argv[2], cells=range(1000), overwrite=True), flush=True)
        os._exit(0)
    os.waitpid(process, 0)
    print("dead", flush=True)
"""
"""For each line that comes a process that crops until it is killed, forked so that it imports nothing."""


def test_kills_leave_source_and_target_whole(tmp_path: Path) -> None:
    """kill -9 at random moments of a crop over an older target: the target is the old file or the new one."""
    grid = PartitionGrid((32, 32), (-1.0, -1.0), (1.0, 1.0))
    source, target, wanted = (tmp_path / n for n in ("source", "target", "wanted"))
    lg_field.save(local_global_siren(grid, 3, 48, 8), source)
    crop_file(source, wanted, cells=range(1000))
    lg_field.save(make("image"), target)
    old, new, whole = target.read_bytes(), wanted.read_bytes(), source.read_bytes()
    chance, seen = random.Random(0), set()
    command, pipes = [sys.executable, "-c", CROPS, source, target], dict.fromkeys(("stdin", "stdout"), subprocess.PIPE)
    with subprocess.Popen([*map(str, command)], text=True, bufsize=1, **pipes) as process:
        assert process.stdin is not None and process.stdout is not None
        for turn in range(6):
            target.write_bytes(old)
            process.stdin.write("crop\n")
            crops = int(process.stdout.readline())
            if turn % 2:  # in a later crop, which writes over its result, else within the first
                assert process.stdout.readline()
            time.sleep(chance.uniform(0.0, 0.3))
            os.kill(crops, signal.SIGKILL)
            while "dead" not in process.stdout.readline():
                assert process.poll() is None
            now = target.read_bytes()
            assert now in (old, new) and source.read_bytes() == whole
            seen.add(now == new)
    assert True in seen
    stray = tmp_path / ".target.elsewhere-1.x"
    stray.write_text("another machine's")
    crop_file(source, target, cells=[0], overwrite=True)
    assert list(tmp_path.glob(".target*")) == [stray], "what the killed left is gone, what others write is not"


def test_a_temporary_folder_is_gone_afterwards_also_one_of_a_process_that_was_killed(tmp_path: Path) -> None:
    with temporary_folder(tmp_path / "new" / "out.png") as folder:
        (folder / "scene.safetensors").write_bytes(b"0")
        assert folder.parent == tmp_path / "new"
        with temporary_folder(tmp_path / "new" / "out.png") as other:
            assert folder.exists() and other != folder, "a living process's"
    assert not list((tmp_path / "new").iterdir())
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    name = folder.name.split("-")
    killed = folder.with_name("-".join(name[:-1]) + f"-{int(ended.stdout)}.0123")
    (killed / "deep").mkdir(parents=True)
    with temporary_folder(tmp_path / "new" / "out.png"):
        assert not killed.exists()
