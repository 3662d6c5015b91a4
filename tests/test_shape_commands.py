"""3D shapes as a user meets them: a mesh goes in, a mesh comes out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from commands import lg, lg_process
from test_shapes import ball, without_cap

import lg_field
from lg_field.memory import check_memory
from lg_field.signals.settings import ShapeConfig
from lg_field.signals.shapes.mesh_file import read_mesh
from lg_field.signals.shapes.occupancy import read_shape


@pytest.fixture(scope="module")
def shapes(tmp_path_factory) -> Path:
    """A folder with meshes in their own units and pose, and one encoded in a process of its own."""
    folder = tmp_path_factory.mktemp("shapes")
    mesh = trimesh.creation.capsule(height=30.0, radius=20.0, count=(24, 24))
    mesh.apply_transform(trimesh.transformations.rotation_matrix(0.4, (1, 2, 3)))
    mesh.apply_translation((100.0, -300.0, 7.0))
    mesh.export(folder / "pill.obj")
    options = ("--resolution", 40, "--counts", 4, 4, 4, "--parameters", 20_000, "--steps", 250, "--points", 6000)
    lg_process("encode", "pill.obj", "-o", "pill", *options, "--overlap", 1, "--metrics", cwd=folder)
    return folder


def load(path: Path) -> trimesh.Trimesh:
    loaded = trimesh.load(path, force="mesh", process=False)
    assert isinstance(loaded, trimesh.Trimesh)
    loaded.merge_vertices()
    return loaded


def test_a_mesh_comes_back_in_its_units_and_pose(shapes: Path):
    facts = json.loads(lg("info", "pill", "--json", cwd=shapes))
    assert facts["description"]["kind"] == "occupancy" and facts["history"]["iou"] > 0.93
    assert facts["history"]["chamfer"] < 0.02 and 0.5 < facts["history"]["normal_consistency"] <= 1.0
    assert facts["cells"]["kept"] < 64 and abs(facts["parameters"]["total"] / 20_000 - 1) < 0.05
    assert "sound" in lg("validate", "pill", cwd=shapes)
    lg("mesh", "pill", "-o", "all.ply", "--resolution", 48, "--min-component", 0, cwd=shapes)
    options = ("--resolution", 48, "--min-component", 0.02, "--metrics", "pill.obj", "--report", "p.png")
    text = lg("mesh", "pill", "-o", "pill.ply", *options, cwd=shapes)
    source, mesh = load(shapes / "pill.obj"), load(shapes / "pill.ply")
    voxel = facts["description"]["spacing"]
    assert "watertight" in text and "not watertight" not in text and mesh.is_watertight
    assert mesh.volume == pytest.approx(source.volume, rel=0.05) and mesh.volume > 0
    np.testing.assert_allclose(mesh.bounds, source.bounds, atol=1.5 * voxel)
    numbers = {" ".join(w[:-1]): float(w[-1]) for part in text.split("\n")[-3].split(", ") if (w := part.split())}
    assert numbers["chamfer"] < 0.01 and numbers["normal consistency"] > 0.9 and numbers["f score"] > 0.3
    from PIL import Image

    assert Image.open(shapes / "p.png").size == (1024, 512)
    lg("mesh", "pill", "-o", "exact.ply", "--resolution", 48, "--min-component", 0.02, "--exact", cwd=shapes)
    exact = load(shapes / "exact.ply")
    assert np.array_equal(exact.faces, mesh.faces)
    np.testing.assert_allclose(exact.vertices, mesh.vertices, atol=1e-3 * voxel)


def test_a_crop_is_closed_and_its_pieces_finished(shapes: Path):
    box = (60.0, -330.0, -40.0, 100.0, -280.0, 60.0)
    lg("crop", "pill", "--box", *box, "-o", "half", cwd=shapes)
    clean = ("--resolution", 40, "--min-component", 0.02)
    lg("mesh", "half", "-o", "half.stl", *clean, cwd=shapes)
    lg("mesh", "pill", "--box", *box, "-o", "same.stl", *clean, cwd=shapes)
    half, source = load(shapes / "half.stl"), load(shapes / "pill.obj")
    assert (shapes / "half.stl").read_bytes() == (shapes / "same.stl").read_bytes()
    whole = read_mesh(shapes / "pill.obj")
    wanted = trimesh.intersections.slice_mesh_plane(source, (-1, 0, 0), (100.0, 0, 0), cap=True)
    assert half.is_watertight and whole.closed
    assert half.volume == pytest.approx(wanted.volume, rel=0.08)
    assert abs(half.bounds[1, 0] - 100.0) < 1.5 and half.bounds[0, 0] == pytest.approx(source.bounds[0, 0], abs=2)
    options = ("--smooth", 5, "--target-faces", 400, "--min-component", 0.05)
    text = lg("mesh", "pill", "-o", "small.glb", "--resolution", 40, *options, cwd=shapes)
    small = load(shapes / "small.glb")
    assert "watertight" in text and 380 <= len(small.faces) <= 400
    assert small.volume == pytest.approx(source.volume, rel=0.05)
    lg("crop", "pill", "--sphere", 100, -300, 7, 12, "-o", "core", cwd=shapes)
    lg("mesh", "core", "-o", "core.ply", "--resolution", 40, cwd=shapes)
    assert load(shapes / "core.ply").volume == pytest.approx(4 / 3 * np.pi * 12**3, rel=0.05)


def test_a_cropped_shape_gets_its_cells_back(shapes: Path):
    lg("crop", "pill", "--box", 60, -330, -40, 100, -280, 60, "--snap", "-o", "part", cwd=shapes)
    text = lg("extend", "part", "--with", "pill.obj", "-o", "grown", "--steps", 60, "--points", 5000, cwd=shapes)
    before, after, whole = (lg_field.load(shapes / n) for n in ("part", "grown", "pill"))
    assert "old cells stay" in text and after.cells.tolist() == whole.cells.tolist()
    assert torch.equal(after.local[torch.isin(after.cells, before.cells)], before.local)
    error = lg("extend", "pill", "--with", "pill.obj", "-o", "x", cwd=shapes, fails=True)
    assert "nothing to add" in error
    ball(5.0).export(shapes / "other.obj")
    assert "within its voxels" in lg("extend", "part", "--with", "other.obj", "-o", "x", cwd=shapes, fails=True)


def test_arrays_of_booleans_are_shapes_and_volumes_have_surfaces(shapes: Path):
    radius = np.linalg.norm(np.indices((24, 20, 22)) - 10.5, axis=0)
    np.save(shapes / "bool.npy", radius < 8)
    np.savez(shapes / "float.npz", 1000 - 100 * radius)
    small = ("--counts", 2, 2, 2, "--parameters", 6000, "--steps", 150)
    lg("encode", "bool.npy", "-o", "bool", *small, "--points", 4000, cwd=shapes)
    assert json.loads(lg("info", "bool", "--json", cwd=shapes))["description"]["kind"] == "occupancy"
    lg("decode", "bool", "-o", "back.npy", cwd=shapes)
    back = np.load(shapes / "back.npy")
    assert back.dtype == bool and (back[..., 0] == (radius < 8)).mean() > 0.97
    lg("encode", "float.npz", "-o", "float", *small, "--lr", 1e-3, "--sample-fraction", 0.5, cwd=shapes)
    lg("mesh", "float", "-o", "float.ply", "--threshold", 300, "--resolution", 32, cwd=shapes)
    volume = load(shapes / "float.ply")
    assert volume.is_watertight and volume.volume == pytest.approx(4 / 3 * np.pi * 7**3, rel=0.15)
    assert "marching cubes at" in lg("mesh", "float", "-o", "auto.ply", "--resolution", 24, cwd=shapes)
    error = lg("mesh", "float", "-o", "x.ply", "--threshold", 9999, cwd=shapes, fails=True)
    assert "outside the range of values" in error and "1000" not in error.split("range")[0]


def test_an_open_mesh_is_taken_with_a_warning(shapes: Path):
    without_cap(ball(3.0), 2.5).export(shapes / "open.off")
    small = ("--counts", 2, 2, 2, "--parameters", 4000, "--steps", 2, "--points", 500, "--resolution", 24)
    text = lg("encode", "open.off", "-o", "open", *small, cwd=shapes)
    assert "warning: the mesh is open" in text and "not watertight" in text
    data = read_shape(shapes / "open.off", ShapeConfig(32))
    volume = data.voxels.count() * data.signal.spacing**3
    assert volume == pytest.approx(4 / 3 * np.pi * 27, rel=0.05)


BAD = [
    (("encode", "text.obj"), "has no faces"),
    (("encode", "torn.ply"), "is not a mesh or is broken"),
    (("encode", "points.ply"), "has no faces"),
    (("encode", "flat.stl"), "has no volume"),
    (("encode", "nan.off"), "NaN or infinite"),
    (("encode", "sheet.obj"), "encloses nothing"),
    (("encode", "pill.obj", "--resolution", 3), "--resolution must be in"),
    (("encode", "pill.obj", "--resolution", 100_000), "--resolution must be in"),
    (("encode", "full.npy"), "full throughout"),
    (("encode", "none.obj"), "does not exist"),
    (("mesh", "pill", "--threshold", 1.5), "outside the range of values, 0 to 1"),
    (("mesh", "pill", "--min-component", 2), "share of the largest piece"),
    (("mesh", "pill", "--target-faces", 2), "at least 4"),
    (("mesh", "pill", "--metrics", "none.obj"), "does not exist"),
    (("mesh", "pill", "--resolution", 60_000), "GB of memory"),
    (("crop", "pill", "--box", 0, 0, 0, 1, 1, 1), "nothing would be kept"),
]


def test_bad_input_is_one_line_and_nothing_is_written(shapes: Path):
    (shapes / "text.obj").write_text("hello\n")
    ball(1.0).export(shapes / "whole.ply")
    (shapes / "torn.ply").write_bytes((shapes / "whole.ply").read_bytes()[:150])
    trimesh.PointCloud(np.random.default_rng(0).random((9, 3))).export(shapes / "points.ply")
    trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]]).export(shapes / "flat.stl")
    (shapes / "nan.off").write_text("OFF\n4 2 0\n0 0 0\n1 0 nan\n0 1 0\n0 0 1\n3 0 1 2\n3 0 1 3\n")
    trimesh.Trimesh([[0, 0, 0], [1, 0, 0.2], [0, 1, 0.3]], [[0, 1, 2]]).export(shapes / "sheet.obj")
    np.save(shapes / "full.npy", np.ones((4, 4, 4), dtype=bool))
    files = sorted(shapes.iterdir())
    for arguments, match in BAD:
        text = lg(*arguments, "-o", "never.ply", cwd=shapes, fails=True)
        assert match in text and text.count("\n") <= 1 + ("marching" in text), (arguments, text)
    assert sorted(shapes.iterdir()) == files
    with pytest.raises(ValueError, match="needs about"):
        check_memory(1 << 60, "it", "less")
