"""Scene files from strangers end in one line on the page, before anything that they claim is allocated."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import pytest
from small_scene import small_scene
from test_web_reading import hashed
from web_node import needs_node, node

from lg_field.files import FieldFile, save

pytestmark = needs_node
FUZZ = """
let seed = start;
const random = (below) => {
  seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
  return Math.floor((seed / 2 ** 32) * below);
};
const data = new Uint8Array(await readFile(source)), length = Number(new DataView(data.buffer).getBigUint64(0, true));
const digits = [...Array(length).keys()].filter((k) => data[8 + k] >= 48 && data[8 + k] <= 57), counts = [0, 0];
for (let turn = 0; turn < turns; turn++) {
  const bytes = data.slice();
  for (let k = 0; k < 1 + random(3); k++) {
    if (turn % 2) bytes[8 + random(length)] = random(128);
    else bytes[8 + digits[random(digits.length)]] = 48 + random(10);
  }
  const line = await refused(async () => {
    const field = await openField({ bytes: turn % 7 ? bytes : bytes.slice(0, random(bytes.length)), name: "it" });
    await field.rows([0], () => {});
    await cropFile(field, { cells: [field.cells[0]] });
  });
  counts[line === null ? 0 : 1] += 1;
  if (line !== null && (line.includes("\\n") || line.length > 500)) return line;
}
return counts;
"""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound file."""
    path = tmp_path_factory.mktemp("scene") / "scene.safetensors"
    save(hashed(), path)
    return path


def with_header(data: bytes, change: Any) -> bytes:
    """A file with another header: `change` is given its data, or bytes take its place."""
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    text = change if isinstance(change, bytes) else json.dumps(change(header) or header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def described(change: Any) -> Any:
    def inner(header: dict[str, Any]) -> None:
        about = json.loads(header["__metadata__"]["lg_field"])
        change(about)
        header["__metadata__"]["lg_field"] = json.dumps(about)

    return inner


HOSTILE: dict[str, Any] = {
    "empty": b"",
    "short": b"\x01\x02",
    "huge header": struct.pack("<Q", 1 << 62) + bytes(100),
    "no JSON": struct.pack("<Q", 8) + b"notjson!" + bytes(8),
    "not text": struct.pack("<Q", 8) + bytes([255] * 8),
    "a list": struct.pack("<Q", 2) + b"[]",
    "twins": lambda data: with_header(data, b'{"a":{},"a":{}}'),
    "no field": lambda data: with_header(data, lambda h: h.update(__metadata__={})),
    "claims": lambda data: with_header(data, lambda h: h["features"].update(shape=[1 << 40, 1 << 40])),
    "negative": lambda data: with_header(data, lambda h: h["features"].update(shape=[-1, -5])),
    "overlap": lambda data: with_header(data, lambda h: h["local"].update(data_offsets=h["cells"]["data_offsets"])),
    "gap": lambda data: with_header(data, lambda h: h.pop("local") and None),
    "type": lambda data: with_header(data, lambda h: h["features"].update(dtype="Q4")),
    "many": lambda data: with_header(data, lambda h: h.update({f"t{k}": {} for k in range(5000)})),
    "other network": lambda data: with_header(data, described(lambda a: a.update(network="signal"))),
    "newer": lambda data: with_header(data, described(lambda a: a.update(version=9))),
    "newer size": lambda data: with_header(data, described(lambda a: a["config"].update(wings=2))),
    "cells": lambda data: with_header(data, described(lambda a: a["grid"].update(counts=[1 << 20, 1 << 20, 1]))),
    "wide": lambda data: with_header(data, described(lambda a: a["config"].update(global_width=1 << 16))),
    "levels": lambda data: with_header(data, described(lambda a: a["config"].update(hash_levels=1 << 30))),
    "region": lambda data: with_header(data, described(lambda a: a.update(region={"type": "box"}))),
    "scene": lambda data: with_header(data, described(lambda a: a["description"].update(step=-1.0))),
    "infinite": lambda data: with_header(data, described(lambda a: a["config"].update(w0=math.inf))),
    "truncated": lambda data: data[:-1000],
    "longer": lambda data: data + bytes(8),
    "unsorted": lambda data: swapped(data),
}


def swapped(data: bytes) -> bytes:
    """The first two cells in the wrong order."""
    at = data.index(struct.pack("<QQ", 0, 1), 8)
    return data[:at] + struct.pack("<QQ", 1, 0) + data[at + 16 :]


def test_files_from_strangers_end_in_a_line(scene: Path, tmp_path: Path) -> None:
    data = scene.read_bytes()
    names = {}
    for number, (name, make) in enumerate(HOSTILE.items()):
        path = tmp_path / f"{number}.safetensors"
        path.write_bytes(make if isinstance(make, bytes) else make(data))
        names[name] = str(path)
    code = """const found = {};
    for (const [name, path] of Object.entries(names)) found[name] = await refused(() => fromDisk(path));
    return { found, memory: process.memoryUsage().rss };"""
    got = node(code, names=names)
    for name, line in got["found"].items():
        assert line and "\n" not in line and len(line) < 500, (name, line)
    assert got["memory"] < 300e6


@pytest.mark.parametrize(("dtype", "turns"), [("float32", 1000), ("int8", 500)])
def test_damage_of_any_kind_is_a_line_too(dtype: Any, turns: int, tmp_path: Path) -> None:
    save(hashed(activation="sine"), tmp_path / "scene.safetensors", dtype=dtype)
    sound, refused = node(FUZZ, source=str(tmp_path / "scene.safetensors"), start=7, turns=turns)
    assert sound + refused == turns and min(sound, refused) > turns // 50


def test_other_fields_are_no_scenes(tmp_path: Path) -> None:
    field = small_scene()
    field.description = None
    save(field, tmp_path / "plain.safetensors")
    line = node("return refused(() => fromDisk(source));", source=str(tmp_path / "plain.safetensors"))
    assert "lg-field pack" in line


@pytest.mark.parametrize(("dtype", "name"), [("float32", "local"), ("int8", "local_scale")])
def test_weights_that_are_not_finite_are_refused(dtype: Any, name: str, tmp_path: Path) -> None:
    save(hashed(), tmp_path / "scene.safetensors", dtype=dtype)
    with FieldFile.open(tmp_path / "scene.safetensors") as file:
        at = file.reader.entries[name].start
    data = bytearray((tmp_path / "scene.safetensors").read_bytes())
    data[at : at + 4] = struct.pack("<f", math.nan)
    (tmp_path / "bad.safetensors").write_bytes(data)
    code = """const field = await fromDisk(source);
    return [await refused(() => field.rows([0], () => {})), await refused(() => cropFile(field, { cells: [0] })),
            await refused(() => field.rows([3], () => {})), await refused(() => field.rows([99], () => {}))];"""
    first, second, fine, beyond = node(code, source=str(tmp_path / "bad.safetensors"))
    assert "NaN" in first and "NaN" in second and fine is None and "no row 99" in beyond
