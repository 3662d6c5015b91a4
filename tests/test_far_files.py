"""Files far away: few round trips, few bytes more than needed, and archives whose regions are read by blocks."""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from bench.far_files import Log, Request, Waves, command, range_server, sparse_field, sparse_scene
from commands import lg
from hypothesis import given, settings
from hypothesis import strategies as st
from small_shared_grid import make as shared_grid_scene
from test_files import KINDS, corner, make, same

import lg_field
from lg_field import PartitionGrid, Region
from lg_field.errors import Notice
from lg_field.files import FieldFile, FileError, archive, crop_file
from lg_field.files.ranges import (
    FIRST_BYTES,
    MOST_IN_FLIGHT,
    LocalRanges,
    Ranges,
    open_ranges,
)
from lg_field.radiance.field import RadianceField, RadianceSizes
from lg_field.radiance.scene import Scene

FEW = 8
"""Successive round trips that a region may take."""


# -- round trips


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scene with several row tensors and a shared grid, 13 MB."""
    torch.manual_seed(2)
    sizes = RadianceSizes(grid_nodes=7, grid_features=4, hash_levels=3, log2_hashmap_size=12)
    field = RadianceField(PartitionGrid((12, 12, 12), (-1.0,) * 3, (1.0,) * 3), sizes)
    field.occupancy.restore_(torch.rand(field.occupied.shape) < 0.1)
    field.description = Scene(tuple(tuple(float(i == j) for i in range(4)) for j in range(4)))
    path = tmp_path_factory.mktemp("far") / "scene.safetensors"
    lg_field.save(field, path)
    return path


BOX = Region.box((-0.4,) * 3, (0.4,) * 3)


def test_requests_that_overlap_are_one_round_trip() -> None:
    log = Log()
    log.requests = [Request(0.0, 1.0, 5), Request(2.5, 3.0, 0), Request(0.5, 1.2, 5), Request(1.0, 2.0, 5)]
    assert log.round_trips() == 3 and log.bytes == 15


def needed_of(path: Path, tmp_path: Path) -> int:
    """Bytes that a box needs: those of the crop's file, and the whole list of cells."""
    size = crop_file(path, tmp_path / "needed", BOX, overwrite=True)
    with FieldFile.open(path) as whole, FieldFile.open(tmp_path / "needed") as part:
        return size + 8 * (len(whole.cells) - len(part.cells))


def in_few_trips(path: Path, needed: int, read: Callable[[str], object]) -> Any:
    """What is read of a far file in few round trips, with few bytes more than are needed."""
    with Waves.counted() as waves, range_server(path, 0.0, waves) as (address, log):
        found = read(address)
    assert 1 < waves.number <= FEW and log.bytes <= 1.1 * needed
    return found, len(log.requests)


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_a_box_of_a_scene_takes_few_round_trips_and_few_bytes_more(scene: Path, tmp_path: Path, dtype: str) -> None:
    pytest.importorskip("aiohttp", reason="reading addresses needs lg-field[remote]")
    path, part = tmp_path / "f", tmp_path / "part"
    with FieldFile.open(scene) as file:
        crop_file(scene, path, cells=file.cells, dtype=dtype)
    needed, want = needed_of(path, tmp_path), lg_field.load(path, BOX)
    found, requests = in_few_trips(path, needed, lambda address: lg_field.load(address, BOX))
    assert same(found, want) and requests > FEW
    in_few_trips(path, needed, lambda address: crop_file(address, part, BOX))
    assert part.read_bytes() == (tmp_path / "needed").read_bytes()
    for other in ("float16", "float32", "int8"):
        crop_file(path, tmp_path / "near", BOX, dtype=other, overwrite=True)
        in_few_trips(path, needed, lambda at: crop_file(at, part, BOX, dtype=other, overwrite=True))  # noqa: B023
        assert part.read_bytes() == (tmp_path / "near").read_bytes()


def test_the_command_takes_few_round_trips(scene: Path, tmp_path: Path) -> None:
    pytest.importorskip("aiohttp", reason="reading addresses needs lg-field[remote]")
    needed = needed_of(scene, tmp_path)
    read = lambda address: command(address, tmp_path / "part", 0.4)  # noqa: E731
    _, requests = in_few_trips(scene, needed, read)
    assert (tmp_path / "part").read_bytes() == (tmp_path / "needed").read_bytes() and requests > FEW


def test_a_box_of_a_scene_with_rows_like_those_of_lego_takes_few_round_trips(tmp_path: Path) -> None:
    """The largest box and grid that the tests' time allows: more requests than are made at a time."""
    pytest.importorskip("aiohttp", reason="reading addresses needs lg-field[remote]")
    cells = sparse_scene(tmp_path / "f", (24,) * 3)
    needed = needed_of(tmp_path / "f", tmp_path)
    found, requests = in_few_trips(tmp_path / "f", needed, lambda address: lg_field.load(address, BOX))
    assert found.num_rows < 0.08 * cells and requests > MOST_IN_FLIGHT


def test_a_box_of_a_large_signal_takes_few_round_trips(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp", reason="reading addresses needs lg-field[remote]")
    cells = sparse_field(tmp_path / "f", 20_000_000, (16, 16, 16))
    assert os.stat(tmp_path / "f").st_blocks * 512 < 2_000_000, "a file with holes"
    rows = lg_field.load(tmp_path / "f", BOX).num_rows
    needed = needed_of(tmp_path / "f", tmp_path)
    for read in (lambda address: lg_field.load(address, BOX), lambda address: crop_file(address, tmp_path / "p", BOX)):
        in_few_trips(tmp_path / "f", needed, read)
    assert lg_field.load(tmp_path / "p").num_rows == rows < cells / 5


def test_size_and_first_bytes_are_asked_for_at_the_same_time(scene: Path) -> None:
    pytest.importorskip("aiohttp", reason="reading addresses needs lg-field[remote]")
    both = threading.Barrier(2, timeout=30.0)
    with range_server(scene, 0.0, lambda method: both.wait()) as (address, log), open_ranges(address) as far:
        assert far.requests == 1 and far.bytes_read == log.bytes == FIRST_BYTES and far.size == scene.stat().st_size
        assert far.read(0, FIRST_BYTES) == scene.read_bytes()[:FIRST_BYTES] and far.requests == 1


def test_a_crop_of_a_far_file_is_the_crop_of_it(scene: Path, tmp_path: Path) -> None:
    pytest.importorskip("aiohttp", reason="reading addresses needs lg-field[remote]")
    crop_file(scene, tmp_path / "near", BOX)
    with range_server(scene, 0.0) as (address, log):
        crop_file(address, tmp_path / "far", BOX)
    assert (tmp_path / "far").read_bytes() == (tmp_path / "near").read_bytes()
    assert log.bytes < 1.2 * (tmp_path / "near").stat().st_size


def test_of_a_server_without_ranges_the_file_is_read_once(scene: Path, tmp_path: Path) -> None:
    pytest.importorskip("aiohttp", reason="reading addresses needs lg-field[remote]")
    notice = pytest.warns(Notice, match="sends no ranges, the whole file is read")
    with range_server(scene, 0.0, ranges=False) as (address, log), notice:
        found = lg_field.load(address, BOX)
    assert same(found, lg_field.load(scene, BOX)) and log.bytes == scene.stat().st_size


# -- archives


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
@pytest.mark.parametrize("kind", [*KINDS, "shared grid"])
def test_an_archive_is_the_file_bit_by_bit_and_is_read_like_it(kind: str, dtype: str, tmp_path: Path) -> None:
    field = shared_grid_scene() if kind == "shared grid" else make(kind)
    path, packed, back = (tmp_path / name for name in ("f", "packed", "back"))
    lg_field.save(field, path, dtype=dtype)
    assert archive.compress(path, packed) == packed.stat().st_size < path.stat().st_size
    archive.decompress(packed, back)
    assert back.read_bytes() == path.read_bytes()
    region = corner(field.grid.dim)
    assert same(lg_field.load(packed), lg_field.load(path)) and same(
        lg_field.load(packed, region), lg_field.load(path, region)
    )
    crop_file(packed, tmp_path / "a", region)
    crop_file(path, tmp_path / "b", region)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with pytest.raises(FileExistsError):
        archive.compress(path, packed)
    with pytest.raises(FileError, match="is an archive already"):
        archive.compress(packed, tmp_path / "twice")
    with pytest.raises(FileError, match="is no archive"):
        archive.decompress(path, tmp_path / "twice")
    assert not (tmp_path / "twice").exists() and not list(tmp_path.glob(".*"))


def test_a_region_of_a_far_archive_is_read_by_its_blocks(scene: Path, tmp_path: Path) -> None:
    pytest.importorskip("aiohttp", reason="reading addresses needs lg-field[remote]")
    part, packed = tmp_path / "part", tmp_path / "packed"
    with FieldFile.open(scene) as file:
        crop_file(scene, part, cells=range(600), dtype="int8")
    size = archive.compress(part, packed)
    with range_server(packed, 0.0) as (address, log), FieldFile.open(address) as file:
        found = file.load(cells=range(100, 160))
        assert file.reader.bytes_read == log.bytes < 0.5 * size
    assert same(found, lg_field.load(part, cells=range(100, 160)))


def test_whole_numbers_pack_better_than_they_are(tmp_path: Path) -> None:
    """Weights that were trained are near zero mostly: of those an archive takes fewer bits."""
    field = make("radiance")
    with torch.no_grad():
        field.local.copy_(torch.randn_like(field.local))
        field.features.copy_(torch.randn_like(field.features))
    size = lg_field.save(field, tmp_path / "f", dtype="int8")
    assert archive.compress(tmp_path / "f", tmp_path / "a") < 0.92 * size


@given(st.binary(max_size=300), st.integers(1, 8))
def test_numbers_are_taken_apart_and_put_together(data: bytes, width: int) -> None:
    assert archive.gathered(archive.scattered(data, width), width) == data


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("sound")
    lg_field.save(make("image"), folder / "f")
    archive.compress(folder / "f", folder / "a")
    return (folder / "a").read_bytes()


@given(data=st.data())
@settings(max_examples=60)
def test_damaged_archives_are_refused_or_load(sound: bytes, data: st.DataObject, tmp_path_factory) -> None:
    changed = bytearray(sound)
    place = data.draw(st.integers(8, 300) | st.integers(8, len(sound) - 1))
    kind = data.draw(st.sampled_from(["byte", "cut", "double"]))
    if kind == "byte":
        changed[place] = data.draw(st.integers(0, 255))
    elif kind == "cut":
        del changed[place : place + data.draw(st.integers(1, 64))]
    else:
        changed[place:place] = changed[place : place + data.draw(st.integers(1, 64))]
    path = tmp_path_factory.getbasetemp() / "damaged-archive"
    path.write_bytes(bytes(changed))
    try:
        field = lg_field.load(path)
    except FileError as error:
        assert "\n" not in str(error)
    else:
        assert bool(field.local.isfinite().all())


def test_an_archive_cannot_claim_more_than_its_blocks_hold(sound: bytes, tmp_path: Path) -> None:
    for offset, kind, value in ((16, "<Q", 1 << 60), (8, "<I", 1 << 30), (12, "<I", 1 << 31), (8, "<I", 0)):
        changed = bytearray(sound)
        struct.pack_into(kind, changed, offset, value)
        (tmp_path / "a").write_bytes(bytes(changed))
        with pytest.raises(FileError, match="archive"):
            lg_field.load(tmp_path / "a")


def test_commands_pack_unpack_and_take_archives(tmp_path: Path) -> None:
    lg_field.save(make("radiance"), tmp_path / "f.safetensors")
    assert "bytes" in lg("compress", "f.safetensors", "-o", "f.lga", cwd=tmp_path)
    lg("decompress", "f.lga", "-o", "back.safetensors", cwd=tmp_path)
    assert (tmp_path / "back.safetensors").read_bytes() == (tmp_path / "f.safetensors").read_bytes()
    lg("compress", "f.lga", "-o", "s.lga", "--dtype", "int8", cwd=tmp_path)
    assert "int8" in lg("info", "s.lga", cwd=tmp_path) and "sound" in lg("validate", "s.lga", cwd=tmp_path)
    lg("crop", "s.lga", "-o", "part.safetensors", "--cells", "0-9", cwd=tmp_path)
    assert lg_field.load(tmp_path / "part.safetensors").num_rows == 10
    assert "exists" in lg("compress", "f.safetensors", "-o", "f.lga", cwd=tmp_path, fails=True)


def test_a_crop_of_an_open_file_leaves_it_as_it_is(scene: Path, tmp_path: Path) -> None:
    with FieldFile.open(scene) as file:
        before = file.skeleton.region
        for number in range(2):
            crop_file(file, tmp_path / f"{number}", BOX)
        assert file.skeleton.region is before and same(file.load(), lg_field.load(scene))
    assert (tmp_path / "0").read_bytes() == (tmp_path / "1").read_bytes()


def test_a_local_file_is_a_source_of_ranges(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"0123456789")
    with open(tmp_path / "f", "rb") as file:
        ranges: Ranges = LocalRanges(file)
        ranges.prefetch([(0, 4)])
        assert bytes(ranges.read(8, 9)) == b"89" and ranges.bytes_read == 2 and ranges.size == 10


@pytest.mark.parametrize("dtype", ["as-is", "float32", "int8"])
def test_an_archive_of_another_type_of_weights_keeps_cells_without_a_row(tmp_path: Path, dtype: str) -> None:
    from test_info import field_on

    field = field_on((3, 3, 3), list(range(2, 25)))
    field.full = torch.tensor([0, 26])
    lg_field.save(field, tmp_path / "f.safetensors")
    lg("compress", "f.safetensors", "-o", "f.lga", "--dtype", dtype, cwd=tmp_path)
    back = lg_field.load(tmp_path / "f.lga")
    assert torch.equal(back.cells, field.cells) and torch.equal(back.cell_sets()["full"], field.full)


def test_rows_in_one_piece_take_fewer_requests_and_as_many_bytes() -> None:
    from bench.row_tensors import Plan, apart, box_rows

    widths = {"cells": 8, "features": 21296, "local": 4272, "occupied": 64}
    rows, whole = box_rows(16, 0.05), sum(widths.values())
    assert len(rows) == 216 and rows == sorted(set(rows)) and max(rows) < 16**3
    ranges = apart(rows, widths, 16**3)
    assert len(set(ranges)) == len(ranges) == 4 * 216
    plans = [Plan.of(ranges), Plan.of([(row * whole, whole) for row in rows])]
    assert plans[0].requests > 1.5 * plans[1].requests and plans[0].waves == plans[1].waves == 3
    assert all(whole * 216 <= plan.bytes <= 1.1 * whole * 216 for plan in plans)
