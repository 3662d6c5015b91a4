"""Files far away: few round trips, few bytes more than needed, and archives whose regions are read by blocks."""

from __future__ import annotations

import os
import struct
import threading
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from bench.far_files import Log, Request, range_server, sparse_field
from commands import lg
from hypothesis import given, settings
from hypothesis import strategies as st
from small_shared_grid import make as shared_grid_scene
from test_files import KINDS, corner, make, same

import lg_field
from lg_field import PartitionGrid, Region
from lg_field.files import FieldFile, FileError, archive, crop_file
from lg_field.files.ranges import GAP_SHARE, REQUEST_BYTES, FarRanges, LocalRanges, Ranges, merged, open_ranges
from lg_field.radiance.field import RadianceField, RadianceSizes
from lg_field.radiance.scene import Scene

FEW = 8
"""Successive round trips that a region may take."""
RANGES = st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 300)), max_size=30)


# -- which ranges are fetched


@given(RANGES)
def test_merged_ranges_hold_all_that_is_wanted_and_little_more(ranges: list[tuple[int, int]]) -> None:
    found = merged(ranges)
    wanted = {at for start, count in ranges for at in range(start, start + count)}
    fetched = [at for start, count in found for at in range(start, start + count)]
    assert wanted <= set(fetched) and len(fetched) == len(set(fetched)) and fetched == sorted(fetched)
    assert len(fetched) <= (1 + GAP_SHARE) * len(wanted) and len(found) <= len(ranges)
    assert merged(found)[0:0] == [] and all(count > 0 for _, count in found)


def test_gaps_are_closed_where_that_costs_less_than_a_request() -> None:
    large = 100 * REQUEST_BYTES
    near, far = large + REQUEST_BYTES, 3 * large
    assert merged([(0, large), (near, large), (far, large)]) == [(0, near + large), (far, large)]
    assert len(merged([(0, large), (large + REQUEST_BYTES + 1, large)])) == 2, "the gap costs more"
    assert len(merged([(0, 10), (12, 10)])) == 2, "what is wanted is so little"


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


class Waves:
    """Holds requests until all that a fetch makes at a time have come: how long each takes does not matter."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.number = 0
        """Of round trips that followed one another."""
        self.left = self.together = self.here = 0
        self.met = threading.Condition()
        fetch = FarRanges._fetch

        def told(far: FarRanges, ranges: list[tuple[int, int]]) -> list[bytes]:
            cat_ranges = far.system.cat_ranges

            def expected(paths: list[str], *rest: Any, batch_size: int, **options: Any) -> list[bytes]:
                self.left, self.together = len(paths), batch_size
                return cat_ranges(paths, *rest, batch_size=batch_size, **options)

            with patch.object(far.system, "cat_ranges", expected):
                return fetch(far, ranges)

        monkeypatch.setattr(FarRanges, "_fetch", told)

    def __call__(self) -> None:
        with self.met:
            self.here, mine = self.here + 1, self.number
            if self.here >= min(self.left, self.together):
                self.left, self.here, self.number = max(0, self.left - self.here), 0, self.number + 1
                self.met.notify_all()
            elif not self.met.wait_for(lambda: self.number != mine, 30.0):
                raise AssertionError(f"{self.here} requests came at a time, {self.left} of {self.together} were to")


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_a_box_of_a_scene_takes_few_round_trips_and_few_bytes_more(
    scene: Path, tmp_path: Path, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("aiohttp", reason="reading addresses needs lg-field[remote]")
    path = tmp_path / "f"
    with FieldFile.open(scene) as file:
        crop_file(scene, path, cells=file.cells, dtype=dtype)
    with FieldFile.open(path) as file:
        want, needed = file.load(BOX), file.reader.bytes_read
    waves = Waves(monkeypatch)
    with range_server(path, 0.0, waves) as (address, log), FieldFile.open(address) as file:
        found = file.load(BOX)
        assert file.reader.bytes_read == log.bytes
    assert same(found, want)
    assert 1 < waves.number <= FEW < len(log.requests) and log.bytes <= 1.1 * needed


def test_a_box_of_a_large_signal_takes_few_round_trips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("aiohttp", reason="reading addresses needs lg-field[remote]")
    cells = sparse_field(tmp_path / "f", 20_000_000, (16, 16, 16))
    assert os.stat(tmp_path / "f").st_blocks * 512 < 2_000_000, "a file with holes"
    with FieldFile.open(tmp_path / "f") as file:
        rows = file.load(BOX).num_rows
        needed = file.reader.bytes_read
    waves = Waves(monkeypatch)
    with range_server(tmp_path / "f", 0.0, waves) as (address, log):
        assert lg_field.load(address, BOX).num_rows == rows < cells / 5
    assert 1 < waves.number <= FEW and log.bytes <= 1.1 * needed


def test_a_crop_of_a_far_file_is_the_crop_of_it(scene: Path, tmp_path: Path) -> None:
    pytest.importorskip("aiohttp", reason="reading addresses needs lg-field[remote]")
    crop_file(scene, tmp_path / "near", BOX)
    with range_server(scene, 0.0) as (address, log):
        crop_file(address, tmp_path / "far", BOX)
    assert (tmp_path / "far").read_bytes() == (tmp_path / "near").read_bytes()
    assert log.bytes < 1.2 * (tmp_path / "near").stat().st_size


def test_what_was_not_foretold_is_read_all_the_same(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    data = np.random.default_rng(0).bytes(5000)
    fsspec.filesystem("memory").pipe("/ranges", data)
    with open_ranges("memory://ranges") as far:
        far.prefetch([(100, 50), (400, 1000)])
        for start, count in ((0, 10), (110, 20), (140, 40), (390, 20), (1300, 300), (4990, 100), (6000, 5)):
            assert bytes(far.read(start, count)) == data[start : start + count]
        before = far.requests
        far.prefetch([(0, 5000)])
        assert bytes(far.read(7, 4000)) == data[7:4007] and far.requests == before + 1
    with pytest.raises(FileNotFoundError), open_ranges("memory://gone"):
        pass


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


def test_a_local_file_is_a_source_of_ranges(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"0123456789")
    with open(tmp_path / "f", "rb") as file:
        ranges: Ranges = LocalRanges(file)
        ranges.prefetch([(0, 4)])
        assert bytes(ranges.read(8, 9)) == b"89" and ranges.bytes_read == 2 and ranges.size == 10
