"""The viewer without a browser: selecting and cropping, what cells look like, what a click means, what is saved."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_scene import EYE, small_scene

import lg_field
from lg_field.cli.options import RegionFlags
from lg_field.files import FieldFile, crop_file
from lg_field.networks import LocalGlobalNetwork
from lg_field.ops import ChainSizes
from lg_field.radiance.outputs import ray_output
from lg_field.radiance.render import Camera, ask_view, render_rays
from lg_field.signals.signal import Signal
from lg_field.space.cell_list import cells_from_dict, cells_to_dict
from lg_field.space.contraction import contract
from lg_field.space.partition import PartitionGrid
from lg_field.space.regions import Region
from lg_field.table.editing import crop
from lg_field.viewer.cells import line_glb, outside, wireframe
from lg_field.viewer.outputs import OUTPUTS, to_picture
from lg_field.viewer.picking import Pose, first_cell, in_rectangle, on_screen
from lg_field.viewer.selection import Selection, bounds_of, size_of
from lg_field.viewer.signals import SignalSubject
from lg_field.viewer.subject import HORIZON, SceneSubject

FIELD = small_scene()
masks = st.lists(st.booleans(), min_size=FIELD.num_rows, max_size=FIELD.num_rows).map(torch.tensor)


def chosen(mask: torch.Tensor) -> Selection:
    selection = Selection(FIELD)
    selection.select(FIELD.cells[mask])
    return selection


# -- selecting


@given(masks)
def test_growing_and_shrinking_are_each_others_mirror(mask):
    grown, mirrored = chosen(mask), chosen(~mask)
    assert torch.equal(grown.selected, mask)
    grown.grow()
    mirrored.shrink()
    mirrored.invert()
    assert torch.equal(grown.selected, mirrored.selected) and bool((grown.selected | ~mask).all())
    index = FIELD.grid.unravel(FIELD.cells)
    near = (index[:, None] - index[None]).abs().sum(-1) <= 1
    assert torch.equal(grown.selected, (near & mask).any(1))


@given(st.lists(st.tuples(st.sampled_from(["keep", "remove", "undo", "redo"]), masks), max_size=8))
def test_undo_and_redo_walk_along_the_crops(steps):
    selection, states, at = Selection(FIELD), [torch.ones(FIELD.num_rows, dtype=torch.bool)], 0
    for name, mask in steps:
        if name == "undo":
            assert selection.undo() == (at > 0)
            at = max(0, at - 1)
        elif name == "redo":
            assert selection.redo() == (at + 1 < len(states))
            at = min(len(states) - 1, at + 1)
        else:
            selection.select(FIELD.cells[mask])
            after = states[at] & mask if name == "keep" else states[at] & ~mask
            if not bool((states[at] & mask).any()) or not bool(after.any()):
                with pytest.raises(ValueError, match=r"nothing (is selected|would be kept)"):
                    getattr(selection, name)()
                continue
            getattr(selection, name)()
            states, at = [*states[: at + 1], after], at + 1
            assert not bool(selection.selected.any())
        assert torch.equal(selection.kept, states[at])
    while selection.undo():
        pass
    assert selection.current() is FIELD


def test_what_is_shown_is_the_crop_of_the_same_cells_or_region():
    selection = Selection(FIELD)
    selection.select(FIELD.cells[::3])
    selection.keep()
    assert_same(selection.current(), crop(FIELD, cells=FIELD.cells[::3]))
    region = Region.sphere((0.3, 0.0, 0.0), 0.8)
    selection.keep_region(region)
    assert_same(selection.current(), crop(crop(FIELD, cells=FIELD.cells[::3]), region))
    with pytest.raises(ValueError, match="nothing would be kept"):
        selection.keep_region(Region.sphere((9.0, 9.0, 9.0), 0.1))


def test_full_cells_follow_the_crop():
    grid = PartitionGrid((4, 4, 4), (-1.0,) * 3, (1.0,) * 3)
    field = LocalGlobalNetwork(grid, ChainSizes(3, 1, 4, 4, 1), torch.arange(0, 64, 2), fill=-1.0)
    field.full = torch.arange(1, 30, 2)
    selection, region = Selection(field), Region.box((-1.0, -1.0, -1.0), (0.1, 0.1, 0.1))
    some = field.cells[3:20]
    for edit, want in (
        (selection.keep, crop(field, cells=some)),
        (selection.remove, crop(field, cells=some, invert=True)),
        (lambda: selection.keep_region(region), crop(field, region)),
    ):
        selection.select(some)
        edit()
        assert_same(selection.current(), want)
        assert (selection.current().full is None) == (want.full is None)
        selection.undo()
    assert torch.equal(selection.current().full, field.full)


def assert_same(a, b) -> None:
    assert a.region == b.region
    left, right = ({k: v for k, v in f.state_dict().items() if torch.is_tensor(v)} for f in (a, b))
    assert left.keys() == right.keys() and all(torch.equal(v, right[k]) for k, v in left.items())


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_sizes_are_those_of_the_file(tmp_path, dtype):
    lg_field.save(FIELD, tmp_path / "f", dtype=dtype)
    size = size_of(FIELD, FIELD.num_rows, True, getattr(torch, dtype))
    with FieldFile.open(tmp_path / "f") as file:
        parts = file.bytes_by_part()
    assert size.bytes == parts["rows"] + parts["shared"] and size.parameters == FIELD.num_parameters()["total"]
    part = crop(FIELD, cells=FIELD.cells[:5])
    assert size_of(FIELD, 5, True).parameters == part.num_parameters()["total"]


# -- what cells look like


@pytest.mark.parametrize("counts", [(2, 3), (1, 1), (2, 3, 4), (1, 1, 5)])
def test_a_full_block_has_each_edge_once_and_a_closed_outside(counts):
    grid = PartitionGrid(counts, (0.0,) * len(counts), tuple(map(float, counts)))
    cells = torch.arange(grid.num_cells)
    points, lines, colors = wireframe(grid, cells, torch.ones(len(cells)), lambda p: p)
    nodes = [c + 1 for c in counts]
    edges = sum(math.prod([*nodes[:k], counts[k], *nodes[k + 1 :]]) for k in range(len(counts)))
    assert len(lines) == edges and len(points) == len(colors) == 2 * edges
    ends = points[lines]
    assert np.allclose(np.abs(ends[:, 0] - ends[:, 1]).sum(1), 1.0)
    assert len({tuple(map(tuple, e)) for e in ends}) == edges
    if len(counts) == 3:
        vertices, faces = outside(grid, cells, lambda p: p)
        a, b, c = counts
        assert len(faces) == 4 * (a * b + b * c + c * a)
        corners = [tuple(v) for v in vertices]
        sides = [frozenset({corners[f[i]], corners[f[i - 1]]}) for f in faces for i in range(3)]
        assert all(sides.count(s) % 2 == 0 for s in set(sides[:60]))


def test_borders_are_curved_as_the_contraction_curves_them():
    field = small_scene((2, 2, 4), kept=1.0, contraction=True)
    subject = SceneSubject(field, field.description, Path("x.safetensors"))
    points, lines, _ = wireframe(*subject.drawn(subject.selection.kept)[:2], torch.zeros(16), subject.to_space, 6)
    space = torch.from_numpy(points).double()
    assert float(space.abs().max()) <= HORIZON + 1e-3
    within = contract(space[space.abs().amax(1) < HORIZON - 0.1])
    part = (within / torch.tensor(field.grid.cell_size)).frac().abs()
    assert len(within) > 90 and bool((((part < 1e-4) | (part > 1 - 1e-4)).sum(1) >= 2).all())
    assert len(lines) == 6 * (2 * 3 * 5 * 2 + 4 * 9)


def test_lines_are_one_binary_gltf(tmp_path):
    trimesh = pytest.importorskip("trimesh")
    points = np.array([[0, 0, 0], [1, 0, 0], [1, 2, 0]], np.float32)
    data = line_glb(points, np.array([[0, 1], [1, 2]], np.uint32), np.full((3, 3), 200, np.uint8))
    (tmp_path / "lines.glb").write_bytes(data)
    scene = trimesh.load(tmp_path / "lines.glb")
    (path,) = scene.geometry.values()
    assert np.allclose(np.sort(path.vertices, 0), np.sort(points, 0)) and math.isclose(path.length, 3.0)


# -- what a click means


def test_a_click_finds_the_first_cell_along_the_ray():
    scene = FIELD.description
    index = FIELD.grid.unravel(FIELD.cells)
    for y in range(4):
        for z in range(4):
            origin = torch.tensor([5.0, -0.75 + 0.5 * y, -0.75 + 0.5 * z])
            column = FIELD.cells[(index[:, 1] == y) & (index[:, 2] == z)]
            want = int(column[-1]) if len(column) else None
            assert first_cell(FIELD, scene, origin, torch.tensor([-1.0, 0.0, 0.0])) == want
    assert first_cell(FIELD, scene, torch.tensor([5.0, 0.0, 0.0]), torch.tensor([1.0, 0.0, 0.0])) is None


def test_points_are_on_the_screen_where_their_rays_are():
    camera = Camera(torch.tensor(FIELD.description.camera, dtype=torch.float64), 1.2, 30, 20)
    origins, directions = camera.rays()
    pose = Pose(camera.to_scene, 2 * math.atan(0.5 / 1.2), 1.5)
    at = on_screen((origins + 2.5 * directions).view(-1, 3), pose).view(20, 30, 2)
    y, x = torch.meshgrid((torch.arange(20) + 0.5) / 20, (torch.arange(30) + 0.5) / 30, indexing="ij")
    assert torch.allclose(at, torch.stack([x, y], dim=-1).double(), atol=1e-5)
    hit = in_rectangle((origins + directions).view(-1, 3), pose, (0.5, 0.0), (1.0, 0.5)).view(20, 30)
    assert bool(hit[:10, 15:].all()) and int(hit.sum()) == 150
    behind = torch.tensor([[2 * v for v in EYE]])
    assert not in_rectangle(behind, pose, (0.0, 0.0), (1.0, 1.0)).any()


# -- outputs


def test_outputs_show_what_they_say():
    scene = FIELD.description
    origins, directions = (v.view(-1, 3) for v in Camera(torch.tensor(scene.camera).double(), 1.2, 24, 16).rays())
    asked = ask_view(FIELD, scene, origins, directions)
    picture = render_rays(FIELD, scene, origins, directions)
    for name in OUTPUTS:
        value, accumulation, depth = ray_output(asked, scene, name)
        assert torch.allclose(accumulation, picture.accumulation) and torch.allclose(depth, picture.depth, atol=1e-4)
        image = to_picture(value.view(16, 24, -1))
        assert image.shape == (16, 24, 3) and image.dtype == np.uint8
    assert torch.equal(ray_output(asked, scene, "rgb")[0], picture.rgb)
    assert bool((ray_output(asked, scene, "density")[0] > 0).eq(picture.accumulation > 0).all())
    colors = ray_output(asked, scene, "cells")[0]
    solid = picture.accumulation[:, 0] > 0.999
    points = origins + directions * picture.depth
    alone = solid & (FIELD.rows_of_unit(FIELD.frame.to_unit(points)) >= 0)
    assert len(colors[alone].unique(dim=0)) > 3
    with pytest.raises(ValueError, match="output must be one of"):
        ray_output(asked, scene, "colour")


def test_a_seam_is_where_neighbours_disagree():
    field = small_scene((1, 4, 1), kept=1.0)
    with torch.no_grad():
        field.features.zero_()
        field.local.copy_(field.local[:1].expand_as(field.local))
    scene = field.description
    y = torch.linspace(-0.99, 0.99, 199)
    origins = torch.stack([torch.full_like(y, 4.0), y, torch.zeros_like(y)], dim=1)
    directions = torch.tensor([-1.0, 0.0, 0.0]).expand(199, 3)

    def jump() -> torch.Tensor:
        return ray_output(ask_view(field, scene, origins, directions), scene, "seam")[0][:, 0]

    assert float(jump().max()) < 0.02
    with torch.no_grad():
        field.local[3, -field.chain.out_features :] += 4.0  # all outputs of one cell
    found = jump()
    near = (y - 0.5).abs() < 0.045
    assert float(found[near].min()) > 0.05 and float(found[(y - 0.5).abs() > 0.06].max()) < 0.02


# -- signals


@pytest.mark.parametrize(
    ("signal", "counts", "box"),
    [
        (Signal("image", (20, 30), 3), (2, 3), "0 10 10 20"),
        (Signal("audio", (400,), 1, "float32", (-1.0, 1.0), 100.0), (4,), "1 2"),
        (Signal("video", (8, 20, 30), 3, rate=10.0), (2, 2, 3), "4 0 10 8 10 20"),
        (Signal("volume", (8, 8, 8), 1, "float32", (0.0, 1.0)), (2, 2, 2), "4 0 0 8 4 4"),
    ],
)
def test_signals_are_picked_boxed_and_measured(signal, counts, box):
    grid = PartitionGrid(counts, (-1.0,) * len(counts), (1.0,) * len(counts))
    field = LocalGlobalNetwork(grid, ChainSizes(len(counts), signal.channels, 4, 4, 1), fill=-1.0)
    field.description = signal
    flags = lambda numbers: RegionFlags(box=numbers).resolve(field)[0]  # noqa: E731
    subject = SignalSubject(field, Path("x.safetensors"), box=flags)
    cells = field.cells[field.rows_touching(subject.box_region(box))]
    assert len(cells) == 1
    assert " ".join(f"{v:g}" for v in subject.extent(cells)[0][1].flatten().tolist()) == box
    assert field.rows_touching(subject.box_region(subject.box_text())).tolist() == list(range(grid.num_cells))
    with pytest.raises(ValueError, match="needs"):
        subject.box_region("1 2 three")
    if signal.kind == "video":
        subject.frame = 5
    drawn = subject.drawn(torch.ones(grid.num_cells, dtype=torch.bool))
    middles = subject.to_space(drawn.grid.boxes(drawn.cells).mean(1))
    assert torch.allclose(middles.abs().amax(0)[:2], middles.abs().amax(0)[:2].clamp_max(0.5))
    if subject.flat:
        for middle, row in zip(middles, drawn.rows):
            eye = torch.tensor([0.1, -0.2, 2.0], dtype=torch.float64)
            assert subject.pick(eye, middle - torch.tensor([0, 0, 2e-3]) - eye) == int(field.cells[row])
        assert subject.pick(torch.tensor([3.0, 0.0, 1.0]).double(), torch.tensor([0.0, 0.0, -1.0]).double()) is None


# -- files


def test_a_crop_is_saved_once_and_its_json_makes_it_again(tmp_path):
    source = tmp_path / "scene.safetensors"
    lg_field.save(FIELD, source, dtype="float16")
    field = lg_field.load(source)
    subject = SceneSubject(field, field.description, source, torch.float16)
    for region in (None, Region.sphere((0.3, 0.0, 0.0), 0.8)):
        if region is None:
            subject.selection.select(field.cells[3:9])
            subject.selection.keep()
        else:
            subject.selection.undo()
            subject.selection.keep_region(region)
        subject.show()
        path = subject.free_path(".safetensors")
        saved, listed = subject.save(path)
        with pytest.raises(FileExistsError, match="exists"):
            subject.save(path)
        again = tmp_path / f"again-{path.name}"
        shape, cells = RegionFlags(region=listed).resolve(field)
        assert (shape is None) == (region is None)
        crop_file(source, again, shape, cells=cells)
        assert again.read_bytes() == saved.read_bytes()
    assert sorted(p.name for p in tmp_path.glob("scene-crop*")) == [
        *("scene-crop-2.region.json", "scene-crop-2.safetensors"),
        *("scene-crop.region.json", "scene-crop.safetensors"),
    ]
    assert bounds_of(field, field.cells).shape == (2, 3)


def test_cell_lists_of_another_grid_are_refused(tmp_path):
    data = json.loads(json.dumps(cells_to_dict(FIELD.grid, [1, 2])))
    assert cells_from_dict(data, FIELD.grid) == [1, 2] and cells_from_dict({"type": "box"}, FIELD.grid) is None
    with pytest.raises(ValueError, match="another grid"):
        cells_from_dict(data, FIELD.grid.refined())
    for bad in ("x", [], [1.5], [True]):
        with pytest.raises(ValueError, match="whole numbers"):
            cells_from_dict(data | {"cells": bad}, FIELD.grid)
    (tmp_path / "r.json").write_text(json.dumps(data))
    with pytest.raises(ValueError, match="not both"):
        RegionFlags(region=tmp_path / "r.json", box=(0, 0, 0, 1, 1, 1)).resolve(FIELD)


def test_the_core_does_not_import_viser():
    code = "import sys, lg_field.viewer.view; print('viser' in sys.modules, 'nerfstudio' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_the_page_loads_nothing_from_elsewhere():
    viser = pytest.importorskip("viser")
    from lg_field.viewer.page import QuietRoot

    root = Path(viser.__file__).parent / "client/build"
    served = QuietRoot(root)
    page = (served / "index.html").read_bytes().decode()
    assert "googletagmanager" in (root / "index.html").read_text()
    assert "https://www" not in page and "gtag" not in page and "Content-Security-Policy" in page
    assert (served / "logo.svg").read_bytes() == (root / "logo.svg").read_bytes()
    assert not (served / "../../__init__.py").exists() and not (served / "../../../../../../etc/passwd").exists()
