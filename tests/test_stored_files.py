"""Pictures of scene files whose rows are read as rays reach them: the same pictures, few rows, little memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from bench.far_files import range_server
from bench.large_scenes import write_city, write_street
from commands import lg
from hypothesis import given, settings
from hypothesis import strategies as st
from small_scene import small_scene
from small_shared_grid import make as shared_grid_scene

import lg_field
from lg_field import Region
from lg_field.files import FieldFile, FileError, archive
from lg_field.radiance.field import RadianceField
from lg_field.radiance.render import Camera, field_samples, orbit, render
from lg_field.radiance.scene import Scene
from lg_field.stored.file_rows import FileRows, row_bytes, stored_field

WORLD = tuple(tuple(float(a == b) for a in range(4)) for b in range(4))


def with_shared_grid() -> RadianceField:
    field = shared_grid_scene(density_bias=2.0)
    field.description = Scene(WORLD, step=0.05)
    return field


SCENES = {
    "bounded": lambda: small_scene(nodes=3),
    "contracted": lambda: small_scene(contraction=True),
    "shared grid": with_shared_grid,
}


def saved(field: RadianceField, path: Path, dtype: str = "float32") -> Path:
    lg_field.save(field, path, dtype=dtype)  # type: ignore[arg-type]
    return path


def cameras(field: RadianceField) -> list[Camera]:
    return list(orbit(field, field.description, 2, 24, 16, None))


def same_pictures(a: RadianceField, b: RadianceField, least_light: float) -> None:
    for camera in cameras(a):
        pictures = [render(field, field.description, camera, least_light=least_light) for field in (a, b)]
        assert pictures[0].accumulation.max() > 0.1
        assert all(torch.equal(x, y) for x, y in zip(*pictures))


@pytest.mark.parametrize("name", list(SCENES))
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_pictures_are_those_of_the_whole_scene_to_the_bit(tmp_path, name, dtype):
    field = SCENES[name]()
    path = saved(field, tmp_path / "scene", dtype)
    if name == "bounded":
        archive.compress(path, tmp_path / "packed")
        path = tmp_path / "packed"
    whole = lg_field.load(path)
    with FieldFile.open(path) as file:
        for rows, least_light in ((1, 1e-3), (3, 0.0), (10**6, 1e-3)):
            part = stored_field(file, 2 * rows * row_bytes(file))
            assert part.source.most == min(rows, whole.num_rows)
            same_pictures(whole, part, least_light)
        points = torch.rand(50, 3) * 2 - 1
        with torch.no_grad():
            assert torch.equal(part.density(points), whole.density(points))


def test_of_a_region_as_well(tmp_path):
    path = saved(SCENES["bounded"](), tmp_path / "scene")
    region = Region.box((-0.6, -0.4, -1.0), (1.0, 0.7, 0.9))
    with FieldFile.open(path) as file:
        budget = 4 * row_bytes(file)
        for how in ({"region": region}, {"region": region, "invert": True}, {"cells": file.cells[::2]}):
            same_pictures(file.load(**how), stored_field(file, budget, **how), 1e-3)
        part = stored_field(file, budget, region)
        some = part.selected(torch.arange(0, part.num_rows, 3))
        kept = file.load(region).selected(torch.arange(0, part.num_rows, 3))
        same_pictures(kept, some, 1e-3)
        with pytest.raises(ValueError, match="nothing would be kept"):
            part.selected(torch.arange(0))


def test_only_rows_that_rays_reach_are_read_and_what_is_hidden_is_not(tmp_path):
    path = saved(small_scene((8, 4, 4), 1.0), tmp_path / "scene")
    whole = lg_field.load(path)
    camera = cameras(whole)[0]
    origins, directions = (v.view(-1, 3) for v in camera.rays())
    scene = whole.description
    near, far = (torch.full((len(origins),), v) for v in (scene.near, scene.far))
    samples = field_samples(whole, origins, directions, near, far, scene.step)
    crossed = whole.rows_of_unit(whole.frame.to_unit(samples.positions(origins, directions))).unique()
    with FieldFile.open(path) as file:
        counts = []
        for least_light in (0.0, 1e-3):
            field = stored_field(file, 1 << 30)
            before = file.reader.bytes_read
            render(field, scene, camera, least_light=least_light)
            there = (field.source._place >= 0).nonzero()[:, 0]
            assert bool(torch.isin(there, crossed).all())
            assert file.reader.bytes_read - before == len(there) * row_bytes(file)
            counts.append(len(there))
        assert counts[0] == len(crossed) and counts[1] < 0.8 * counts[0], "opaque cells hide those behind"
        read = file.reader.bytes_read
        render(field, scene, camera)
        assert file.reader.bytes_read == read, "what was looked at last is still there"


@given(st.lists(st.sets(st.integers(0, 31), min_size=1, max_size=6), min_size=1, max_size=12), st.integers(6, 12))
@settings(max_examples=40)
def test_the_rows_asked_last_are_kept(tmp_path_factory, asked, most):
    path = Path(tmp_path_factory.getbasetemp()) / "rows.safetensors"
    if not path.exists():
        saved(small_scene(), path)
    with FieldFile.open(path) as file:
        rows = FileRows(file, torch.arange(32), 2 * most * row_bytes(file))
        last: list[int] = []
        for some in asked:
            wanted = torch.tensor(sorted(some))
            before = file.reader.bytes_read
            found = rows.gather(wanted)
            assert all(torch.equal(found[name], file.read_values(name, wanted)) for name in found)
            read = (file.reader.bytes_read - before) // row_bytes(file) - len(some)
            assert read == len(some - set(last))
            there = set((rows._place >= 0).nonzero()[:, 0].tolist())
            last = [*(row for row in last if row not in some), *some]
            assert some <= there and len(there) <= most
            last = [row for row in last if row in there]
            kept = sum(values.nbytes for values in rows._kept.values())
            assert kept + sum(values.nbytes for values in found.values()) <= rows.budget


def test_an_answer_is_right_or_an_error_where_not_all_rows_have_room(tmp_path):
    path = saved(small_scene(nodes=3), tmp_path / "scene")
    whole, points = lg_field.load(path), torch.rand(50, 3) * 2 - 1
    with FieldFile.open(path) as file:
        few, all_of_them = (stored_field(file, 2 * rows * row_bytes(file)) for rows in (3, whole.num_rows))
        with pytest.raises(
            ValueError, match=r"rows of .*scene were asked at once, there is room for 3: ask under torch.no_grad"
        ):
            few.density(points)
        assert torch.equal(all_of_them.density(points), whole.density(points)), "with gradients"
        with torch.no_grad():
            assert torch.equal(few.density(points), whole.density(points))


def test_damaged_rows_are_found_when_they_are_looked_at(tmp_path):
    path = saved(small_scene(), tmp_path / "scene")
    with FieldFile.open(path) as file:
        entry = file.reader.entries["local"]
    with open(path, "r+b") as out:
        out.seek(entry.start + 5 * entry.row_bytes)
        out.write(b"\xff" * 4)
    with FieldFile.open(path) as file:
        field = stored_field(file, 1 << 20)
        with pytest.raises(FileError, match="local holds NaN"):
            field.source.gather(torch.tensor([4, 5]))


def test_the_command_says_what_it_does_and_makes_the_same_pictures(tmp_path):
    pytest.importorskip("aiohttp", reason="reading addresses needs lg-field[remote]")
    write_city(tmp_path / "city.safetensors", 5, 7)
    write_street(tmp_path / "city.json", 5, 2, 8)
    told = {}
    words = ("--camera", "city.json", "--overwrite")
    with range_server(tmp_path / "city.safetensors", 0.0) as (address, _):
        for memory, source in ((1.0, "city.safetensors"), (0.001, "city.safetensors"), (0.001, address)):
            told[memory] = lg("render", source, *words, "-o", f"at-{memory}", "--memory", memory, cwd=tmp_path)
            for number in range(2):
                a, b = (tmp_path / f"at-{m}" / f"0000{number}.png" for m in (1.0, memory))
                assert a.read_bytes() == b.read_bytes()
    assert "are read as they are looked at" in told[0.001] and "a larger --memory keeps more" in told[0.001]
    assert "looked at" not in told[1.0]
    box = ("--box", 1, 1, 0, 4, 5, 1, "-o", "box.png", "--orbit", 1, "--width", 16, "--height", 16)
    assert "are read as they are looked at" in lg("render", "city.safetensors", *box, "--memory", 1e-4, cwd=tmp_path)
    text = lg("render", "city.safetensors", *box, "--overwrite", "--memory", -1, cwd=tmp_path, fails=True)
    assert "--memory must be a positive number of GB, got -1" in text


MEASURED = """
import json, re
from pathlib import Path
from lg_field.files import FieldFile
from lg_field.radiance.camera_path import read_camera_path
from lg_field.radiance.render import render
from lg_field.stored.file_rows import stored_field

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) * 1024

with FieldFile.open("city.safetensors") as file:
    cameras, told = read_camera_path(Path("city.json"), 24, 24), []
    for field in (stored_field(file, 1 << 20), stored_field(file, 16 << 20), None):
        field = file.load() if field is None else field
        field.memory = 0.01
        pictures = [render(field, field.description, camera) for camera in cameras]
        told.append(peak())
print(json.dumps([file.reader.size, *told]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs the largest memory of a process")
def test_memory_is_bounded_whatever_the_size_of_the_file(tmp_path):
    write_city(tmp_path / "city.safetensors", 20, 17)
    write_street(tmp_path / "city.json", 20, 2, 24)
    done = subprocess.run([sys.executable, "-c", MEASURED], cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    size, first, second, whole = json.loads(done.stdout)
    assert size > 80e6
    assert second - first < 0.5 * size < size < whole - second, (size, first, second, whole)
