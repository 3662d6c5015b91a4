"""Scenes larger than memory, meshed and edited: what comes out is that of the whole scene to the bit."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from bench.large_scenes import write_city
from commands import lg
from small_scene import small_scene
from small_shared_grid import make as shared_grid_scene

import lg_field
from lg_field import PartitionGrid, Region
from lg_field.cli import view as view_command
from lg_field.files import FieldFile
from lg_field.radiance import occupancy
from lg_field.radiance.carving import only_voxels
from lg_field.radiance.components import shown_voxels
from lg_field.radiance.field import RadianceField
from lg_field.radiance.render import orbit, render
from lg_field.radiance.scene import Scene
from lg_field.radiance.surface import mesh_bounds, radiance_mesh
from lg_field.radiance.threshold import automatic_threshold
from lg_field.stored.file_rows import row_bytes, stored_field
from lg_field.viewer.selection import size_of
from lg_field.viewer.subject import SceneSubject

BOX = Region.box((-0.6, -0.4, -1.0), (1.0, 0.7, 0.9))
FEW = 3
"""Rows that there is room for."""


def with_shared_grid() -> RadianceField:
    field = shared_grid_scene(density_bias=2.0)
    field.description = Scene(tuple(tuple(float(a == b) for a in range(4)) for b in range(4)), step=0.05)
    return field


SCENES = {
    "bounded": lambda: small_scene(nodes=3),
    "contracted": lambda: small_scene(contraction=True),
    "shared grid": with_shared_grid,
}


@pytest.fixture(params=list(SCENES))
def path(request, tmp_path) -> Path:
    lg_field.save(SCENES[request.param](), tmp_path / "scene.safetensors")
    return tmp_path / "scene.safetensors"


def little(file: FieldFile) -> RadianceField:
    return stored_field(file, 2 * FEW * row_bytes(file))


def same_picture(a: RadianceField, b: RadianceField) -> bool:
    camera = next(orbit(b, b.description, 1, 20, 14, None))
    pictures = [render(field, field.description, camera) for field in (a, b)]
    assert pictures[1].accumulation.max() > 0.1
    return all(torch.equal(x, y) for x, y in zip(*pictures))


def test_a_mesh_is_that_of_the_whole_scene_to_the_bit(path):
    with FieldFile.open(path) as file:
        found = []
        for field in (file.load(), little(file)):
            field.memory = 0.02 if field.rows_elsewhere else 2.0
            box = mesh_bounds(field).box
            level = automatic_threshold(field, box)
            mesh = radiance_mesh(field, 14, level, box)
            found.append((level, mesh.vertices.tobytes(), mesh.faces.tobytes(), mesh.colors.tobytes()))
    assert found[0] == found[1] and len(found[0][1]) > 1000


def test_a_part_is_saved_as_that_of_the_whole_scene_is(path, tmp_path):
    with FieldFile.open(path) as file:
        for number, dtype in enumerate(("float32", "int8")):
            saved = []
            for field in (file.load(), little(file)):
                shown = shown_voxels(field.occupancy, BOX)
                part = only_voxels(field, shown)
                part.drop_unread_lines_()
                target = tmp_path / f"{number}-{len(saved)}"
                lg_field.save(part, target, dtype=dtype)
                saved.append(target.read_bytes())
                assert field.num_rows > part.num_rows >= FEW
                assert same_picture(field, file.load()), "the source is what it was"
            assert saved[0] == saved[1]


def test_voxels_take_a_byte_each(path):
    with FieldFile.open(path) as file:
        field = little(file)
        part = field.selected(torch.arange(field.num_rows - 1))
        for some in (field, part):
            grid = some.occupancy
            held = {value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in grid.buffers()}
            assert sum(held.values()) <= some.occupied.numel() + 8 * some.num_rows + 4
        part.occupancy.restore_(part.occupied & False)
        assert not part.occupied.any() and field.occupied.any()


def test_voxels_are_grown_a_slab_at_a_time(monkeypatch):
    grid, bits = PartitionGrid((5, 3, 2), (0.0,) * 3, (1.0,) * 3), torch.rand(5 * 3 * 2 * 64) < 0.03
    whole = {by: occupancy.dilate(bits, grid, 4, by) for by in (1, 2)}
    places = bits.view(20, 12, 8).nonzero()
    for by, grown in whole.items():
        near = (torch.cartesian_prod(*map(torch.arange, (20, 12, 8)))[:, None] - places).abs().amax(2).amin(1) <= by
        assert torch.equal(grown, near)
    for slab in (1, 97, 700):
        monkeypatch.setattr(occupancy, "SLAB", slab)
        assert all(torch.equal(occupancy.dilate(bits, grid, 4, by), grown) for by, grown in whole.items())


def test_what_is_selected_keeps_rows_in_the_same_memory(tmp_path):
    lg_field.save(small_scene(), tmp_path / "scene")
    with FieldFile.open(tmp_path / "scene") as file:
        field = stored_field(file, 1 << 20)
        field.source.gather(torch.arange(10))
        read = file.reader.bytes_read
        part = field.selected(torch.arange(5, 20))
        found = part.source.gather(torch.arange(5))
        assert file.reader.bytes_read == read, "they were there"
        part.source.gather(torch.arange(15))
        read = file.reader.bytes_read
        field.source.gather(torch.arange(20))
        assert file.reader.bytes_read == read
        assert torch.equal(found["local"], file.read_values("local", torch.arange(5, 10)))


def test_the_page_edits_and_saves_as_it_does_with_all_rows(path, tmp_path):
    with FieldFile.open(path) as file:
        told = []
        for name, field in (("whole", file.load()), ("few", little(file))):
            subject = SceneSubject(field, field.description, tmp_path / f"{name}.safetensors")
            selection = subject.selection
            sizes = [size_of(field, field.num_rows, True), size_of(field, 5, False, torch.float16)]
            weights = subject.weight_sizes()
            eye = torch.tensor(field.description.camera or [[1.0, 0, 0, 3], [0, 1, 0, 0], [0, 0, 1, 0]])[:3, 3].double()
            picked = subject.pick(eye, -eye / eye.norm())
            selection.keep_region(BOX)
            subject.show()
            size = size_of(subject.shown, subject.shown.num_rows, True)
            files = subject.save(subject.free_path(".safetensors"))
            mesh = subject.mesh(12)
            assert selection.undo()
            subject.show()
            assert same_picture(subject.shown, file.load())
            bytes_written = [one.read_bytes() for one in files]
            told.append((sizes, weights.tolist(), picked, size, bytes_written, mesh.vertices.tobytes()))
    assert told[0] == told[1]


def test_several_browsers_take_turns(tmp_path):
    lg_field.save(small_scene(nodes=3), tmp_path / "scene")
    with FieldFile.open(tmp_path / "scene") as file:
        field = little(file)
        parts = [field, field.selected(torch.arange(0, field.num_rows, 2)), field.selected(torch.arange(9))]
        wanted = [file.load(cells=part.cells) for part in parts]
        right: list[bool] = []

        def look(part: RadianceField, whole: RadianceField) -> None:
            right.extend(same_picture(part, whole) for _ in range(4))

        threads = [threading.Thread(target=look, args=pair) for pair in zip(parts, wanted)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert right == [True] * 12


def test_the_page_of_a_file_reads_rows_as_they_are_looked_at(tmp_path, monkeypatch):
    lg_field.save(small_scene(), tmp_path / "scene.safetensors")
    seen = []

    class Page:
        url = "the page"

        def wait(self) -> None:
            with torch.no_grad():
                seen.append(part.field.density(torch.zeros(1, 3)))

    def page(name, shown, port):
        nonlocal part
        part = shown
        return Page()

    part: view_command.Part
    monkeypatch.setattr(view_command, "view_of_field", page)
    view_command.view(str(tmp_path / "scene.safetensors"), memory=1e-5, device="cpu")
    assert part.field.rows_elsewhere and part.precision == "float32" and len(seen) == 1, "while the file is open"
    view_command.view(str(tmp_path / "scene.safetensors"), device="cpu")
    assert not part.field.rows_elsewhere


MEASURED = """
import json, re
from pathlib import Path
from lg_field.cli.mesh import mesh
from lg_field.cli.options import RegionFlags

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) * 1024

box, told = RegionFlags(box=(0.0, 0.0, -0.1, 20.0, 20.0, 1.7)), []
for memory in (0.01, 0.1, 4.0):
    mesh(Path(f"{memory}.ply"), "city.safetensors", resolution=30, threshold=5.0, region=box, memory=memory)
    told.append(peak())
print(json.dumps(told))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs the largest memory of a process")
def test_a_mesh_takes_little_memory_whatever_the_size_of_the_file(tmp_path):
    write_city(tmp_path / "city.safetensors", 20, 17)
    size = (tmp_path / "city.safetensors").stat().st_size
    done = subprocess.run([sys.executable, "-c", MEASURED], cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    few, more, whole = json.loads(done.stdout.splitlines()[-1])
    assert size > 80e6
    assert more - few < 0.1e9 and size < whole - more, (size, few, more, whole)
    assert (tmp_path / "0.01.ply").read_bytes() == (tmp_path / "4.0.ply").read_bytes()


def test_memory_must_be_a_number_of_gigabytes(tmp_path):
    lg_field.save(small_scene(), tmp_path / "scene.safetensors")
    told = lg("mesh", "scene.safetensors", "-o", "x.ply", "--memory", 0, cwd=tmp_path, fails=True)
    assert "--memory must be a positive number of GB, got 0" in told
