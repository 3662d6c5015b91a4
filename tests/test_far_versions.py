"""Far files that are replaced while they are read, and servers that send whole files."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch
from bench.far_files import range_server

import lg_field
from lg_field import PartitionGrid, Region
from lg_field.errors import Notice
from lg_field.files import FieldFile, container, crop_file, ranges
from lg_field.files.container import Lines, Reader, runs
from lg_field.files.ranges import FIRST_BYTES, open_ranges
from lg_field.files.versions import Version
from lg_field.radiance.field import RadianceField, RadianceSizes

REPLACED = "was replaced while it was read .* read it again, or download it first"
COUNT = 50_000


def over_http() -> None:
    pytest.importorskip("aiohttp", reason="reading addresses needs lg-field[remote]")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "f").write_bytes(bytes(range(250)) * (COUNT // 250))
    return tmp_path / "f"


def replace(path: Path, size: int = COUNT) -> None:
    """Another file in its place."""
    other = path.with_name("other")
    other.write_bytes(bytes([7]) * size)
    other.replace(path)


# -- replaced files


@pytest.mark.parametrize("version", ["ETag", "Last-Modified"])
def test_a_far_file_that_is_replaced_by_one_of_the_same_size_is_an_error(file: Path, version: str) -> None:
    over_http()
    with range_server(file, 0.0, version=version) as (address, _), open_ranges(address) as far:
        assert far.read(20_000, 3) == bytes([0, 1, 2])
        replace(file)
        with pytest.raises(OSError, match=REPLACED) as caught:
            far.read(30_000, 3)
        assert version in str(caught.value) and "\n" not in str(caught.value)
        with pytest.raises(OSError, match=REPLACED):
            far.prefetch([(10_000, 10), (40_000, 10)])
    with range_server(file, 0.0, version=version) as (address, _), open_ranges(address) as far:
        assert far.read(30_000, 3) == bytes([7, 7, 7]), "opened again it is the new file"


@pytest.mark.parametrize(("size", "start"), [(30_000, 20_000), (30_000, 40_000), (60_000, 40_000)])
def test_one_of_another_size_is_found_without_any_version(file: Path, size: int, start: int) -> None:
    over_http()
    with range_server(file, 0.0, version=None) as (address, _), open_ranges(address) as far:
        replace(file, size)
        with pytest.raises(OSError, match=f"its length was 50000 and is {size} now"):
            far.read(start, 3)


def test_a_file_that_stays_is_read_to_its_end_whatever_the_server_says(file: Path) -> None:
    over_http()
    for version in ("ETag", "Last-Modified", None):
        with range_server(file, 0.0, version=version) as (address, _), open_ranges(address) as far:
            far.prefetch([(start, 10) for start in range(0, COUNT, 1000)])
            assert far.read(0, 2 * COUNT) == file.read_bytes()


def test_a_file_that_is_replaced_leaves_no_crop_of_both(tmp_path: Path) -> None:
    over_http()
    torch.manual_seed(0)
    sizes = RadianceSizes(grid_nodes=4, grid_features=4, hash_levels=1, log2_hashmap_size=8)
    field = RadianceField(PartitionGrid((6, 6, 6), (-1.0,) * 3, (1.0,) * 3), sizes)
    lg_field.save(field, tmp_path / "scene")
    count = 0

    def hold(method: str) -> None:
        nonlocal count
        count += method == "GET"
        if count == 3:
            with torch.no_grad():
                field.local.add_(1.0)
            lg_field.save(field, tmp_path / "again", overwrite=True)
            (tmp_path / "again").replace(tmp_path / "scene")

    region = Region.box((-0.4,) * 3, (0.4,) * 3)
    with range_server(tmp_path / "scene", 0.0, hold) as (address, _), pytest.raises(OSError, match=REPLACED):
        crop_file(address, tmp_path / "part", region)
    assert not (tmp_path / "part").exists() and count >= 3


def test_what_says_nothing_with_its_answers_is_asked_after_each_fetch(file: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    memory.pipe("/versions", file.read_bytes())
    with open_ranges("memory://versions") as far:
        assert bytes(far.read(20_000, 3)) == bytes([0, 1, 2])
        memory.pipe("/versions", bytes([7]) * COUNT)
        with pytest.raises(OSError, match=REPLACED):
            far.read(30_000, 3)
    with open_ranges(f"file://{file}") as far:
        assert bytes(far.read(20_000, 3)) == bytes([0, 1, 2])
        replace(file)
        with pytest.raises(OSError, match=REPLACED):
            far.read(30_000, 3)


def test_weak_and_strong_versions_are_the_same_and_errors_say_nothing() -> None:
    version = Version("f")
    version.answered(200, {"ETag": 'W/"a"', "Last-Modified": "Monday"})
    version.answered(206, {"ETag": '"a"', "Content-Range": "bytes 0-9/100"})
    version.answered(503, {"ETag": '"error page"', "Content-Range": "bytes 0-9/7"})
    version.answered(206, {"Last-Modified": "Tuesday", "Content-Range": "bytes 0-9/*"})
    version.check()
    assert version.named
    version.answered(206, {"ETag": '"b"'})
    with pytest.raises(OSError, match=REPLACED):
        version.check()


# -- servers that send whole files


def test_a_server_without_ranges_whose_first_answer_fails_is_asked_once_more_and_not_for_many_copies(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    over_http()
    monkeypatch.setattr(ranges, "PAUSE", 0.0)
    lock, failed = threading.Lock(), []

    def hold(method: str) -> None:
        with lock:
            first = method == "GET" and len(failed) < 2  # the client itself asks a second time
            failed.extend([method] * first)
        if first:
            raise ConnectionResetError

    notice = pytest.warns(Notice, match="sends no ranges")
    with range_server(file, 0.0, hold, ranges=False) as (address, log), notice, open_ranges(address) as far:
        assert FIRST_BYTES < COUNT
        far.prefetch([(start, 10) for start in range(5_000, COUNT, 1000)])
        assert far.read(20_000, 3) == bytes([0, 1, 2])
    assert failed and log.bytes == COUNT


# -- near files


def test_of_a_near_file_nothing_is_said_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where lines lie is then worked out once, when they are read."""
    field = RadianceField(PartitionGrid((4, 4, 4), (-1.0,) * 3, (1.0,) * 3), RadianceSizes(hash_levels=0))
    lg_field.save(field, tmp_path / "f")
    rows, counted = torch.arange(0, 64, 2), []
    monkeypatch.setattr(container, "runs", lambda *some: counted.append(1) or runs(*some))
    with FieldFile.open(tmp_path / "f") as opened:
        reader: Reader = opened.reader
        counted.clear()
        reader.foretell([Lines("local", rows)])
        reader.prefetch([Lines("local", rows)])
        assert not counted
        found = reader.read("local", rows)
        assert len(counted) == 1
        assert b"".join(map(bytes, reader.pieces("local", rows))) == found.numpy().tobytes()
        assert torch.equal(found, field.local.detach()[rows])
