"""Meshes as they are in the world: far from the origin, thin, tiny; what a file cannot hold is said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from commands import lg
from hypothesis import given, settings
from hypothesis import strategies as st

from lg_field.errors import Notice
from lg_field.files import save
from lg_field.meshing.mesh import Mesh
from lg_field.meshing.metrics import compare
from lg_field.meshing.tools import is_watertight, volume
from lg_field.meshing.writing import SUFFIXES, edge_length, needs_doubles, offset_path, write_mesh
from lg_field.networks import LocalGlobalNetwork
from lg_field.signals.encode import build_network
from lg_field.signals.settings import NetworkConfig, ShapeConfig
from lg_field.signals.shapes.mesh_file import SourceMesh, read_mesh
from lg_field.signals.shapes.occupancy import read_shape
from lg_field.signals.shapes.thickness import thinnest
from lg_field.signals.signal import Signal
from lg_field.signals.surface import signal_mesh

UTM = (500_000.25, 5_400_000.5, 120.125)


def ball(offset: tuple[float, float, float] = UTM, size: float = 1.0, colors: bool = False) -> Mesh:
    solid = trimesh.creation.icosphere(2, radius=size)
    rgb = np.random.default_rng(0).integers(0, 256, (len(solid.vertices), 3)).astype(np.uint8) if colors else None
    return Mesh(solid.vertices + np.array(offset), solid.faces.astype(np.int64), rgb)


def source(solid: trimesh.Trimesh, path: Path) -> SourceMesh:
    solid.export(path)
    return read_mesh(path)


def read(path: Path) -> trimesh.Trimesh:
    back = trimesh.load(path, force="mesh", process=False)
    assert isinstance(back, trimesh.Trimesh)
    if offset_path(path).exists():
        back.vertices += json.loads(offset_path(path).read_text())["offset"]
    return back


@pytest.mark.filterwarnings("ignore::lg_field.errors.Notice")
@pytest.mark.parametrize("suffix", SUFFIXES)
@given(place=st.tuples(*[st.floats(-1e7, 1e7)] * 3), size=st.sampled_from([1e-5, 1.0, 1e3]))
@settings(max_examples=4, deadline=None)
def test_vertices_stay_where_they_are_wherever_that_is(tmp_path_factory, suffix: str, place, size: float):
    mesh = ball(place if size >= 1.0 else (0.0, 0.0, 0.0), size)
    path = tmp_path_factory.mktemp("far") / f"m{suffix}"
    written, back = write_mesh(mesh, path), read(path)
    corners = mesh.vertices[mesh.faces]
    near = 2e-3 * edge_length(mesh) + 1e-15 * np.abs(mesh.vertices).max()
    np.testing.assert_allclose(np.asarray(back.vertices)[back.faces], corners, atol=near, rtol=0)
    np.testing.assert_allclose(
        np.asarray(back.vertices)[back.faces], written.vertices[written.faces], atol=1e-9 * max(1.0, size), rtol=1e-15
    )


def test_near_the_origin_nothing_is_said_and_files_are_of_32_bits(tmp_path: Path, recwarn: pytest.WarningsRecorder):
    mesh = ball((1.0, -2.0, 3.0), colors=True)
    assert not needs_doubles(mesh) and needs_doubles(ball())
    for suffix in SUFFIXES:
        write_mesh(mesh, tmp_path / f"m{suffix}")
    assert len(list(tmp_path.iterdir())) == len(SUFFIXES) and b"property float x" in (tmp_path / "m.ply").read_bytes()
    assert not [w for w in recwarn if issubclass(w.category, Notice)]
    np.testing.assert_array_equal(np.asarray(read(tmp_path / "m.ply").visual.vertex_colors)[:, :3], mesh.colors)


def test_what_was_done_to_far_coordinates_is_said(tmp_path: Path):
    mesh = ball()
    with pytest.warns(Notice, match=r"a\.stl holds 32-bit|\(500000, 5400000, 120\) was taken away"):
        write_mesh(mesh, tmp_path / "a.stl")
    with pytest.warns(Notice, match="its node's translation"):
        write_mesh(mesh, tmp_path / "a.glb")
    write_mesh(mesh, tmp_path / "a.ply")
    assert b"property double x" in (tmp_path / "a.ply").read_bytes()
    near = ball((0.0, 0.0, 0.0))
    write_mesh(near, tmp_path / "a.stl", overwrite=True)
    assert not offset_path(tmp_path / "a.stl").exists()  # it was of the file that is gone
    offset_path(tmp_path / "b.stl").write_text("mine")
    with pytest.raises(FileExistsError, match=r"b\.stl\.offset\.json exists"):
        write_mesh(mesh, tmp_path / "b.stl")
    assert not (tmp_path / "b.stl").exists()


def test_figures_are_of_the_file_as_written(tmp_path: Path):
    mesh = ball()
    written = write_mesh(mesh, tmp_path / "a.ply")
    assert is_watertight(written) and volume(written) == pytest.approx(read(tmp_path / "a.ply").volume, rel=1e-6)
    assert volume(written) == pytest.approx(volume(ball((0.0, 0.0, 0.0))), rel=1e-6)
    found = compare(written, mesh.vertices, mesh.faces)
    assert found["chamfer"] < 1e-6 and found["f_score"] == pytest.approx(1.0)


@given(st.floats(0.002, 0.2), st.sampled_from([(0, 1, 2), (2, 0, 1), (1, 2, 0)]))
@settings(max_examples=4, deadline=None)
def test_the_thickness_of_a_sheet_is_found(tmp_path_factory, thickness: float, order: tuple[int, ...]):
    extents = np.array([1.0, 0.7, thickness])[list(order)]
    mesh = source(trimesh.creation.box(extents), tmp_path_factory.mktemp("sheet") / "s.ply")
    assert thinnest(mesh) == pytest.approx(thickness, rel=0.02)


def test_round_bodies_are_not_thin(tmp_path: Path, recwarn: pytest.WarningsRecorder):
    for name, solid in (("ball", trimesh.creation.icosphere(3)), ("box", trimesh.creation.box((1, 1, 1)))):
        mesh = source(solid, tmp_path / f"{name}.ply")
        assert thinnest(mesh) > 0.2 * (mesh.vertices.max(0) - mesh.vertices.min(0)).max()
        read_shape(tmp_path / f"{name}.ply", ShapeConfig(resolution=32))
    assert not [w for w in recwarn if issubclass(w.category, Notice)]


def test_the_resolution_a_thin_part_needs_is_said_and_is_enough(tmp_path: Path, recwarn: pytest.WarningsRecorder):
    source(trimesh.creation.box((1, 1, 0.05)), tmp_path / "s.ply")
    with pytest.warns(Notice, match=r"s\.ply: it is about 0\.05 thick .* --resolution 45 ") as said:
        read_shape(tmp_path / "s.ply", ShapeConfig(resolution=24))
    enough = int(str(said[0].message).split("--resolution ")[1].split()[0])
    recwarn.clear()
    data = read_shape(tmp_path / "s.ply", ShapeConfig(resolution=enough))
    assert not [w for w in recwarn if issubclass(w.category, Notice)]
    assert data.voxels.count() * data.signal.spacing**3 == pytest.approx(0.05, rel=0.5)  # whole layers


def sheet_field(layer: int) -> LocalGlobalNetwork:
    """A field of 16 x 16 x 9 voxels of which one layer, between the nodes of a coarse lattice, is inside."""
    signal = Signal("occupancy", (16, 16, 9), 1, "bool", (0.0, 1.0), origin=(0.0, 0.0, 0.0), spacing=1.0)
    field = build_network(signal, NetworkConfig(local_width=3, global_width=4, hidden_layers=1, counts=(1, 1, 1)))

    def forward(points: torch.Tensor, chunk: int = 0) -> torch.Tensor:
        z = (points[..., 2:] + 1) / 2 * 9
        return 1.0 - (z - layer).abs() * 2

    field.forward = forward  # type: ignore[method-assign]
    return field


@pytest.mark.parametrize("layer", [1, 2, 5, 7])
def test_a_sheet_between_the_first_nodes_is_found(layer: int):
    mesh = signal_mesh(sheet_field(layer), 16)
    assert is_watertight(mesh) and volume(mesh) == pytest.approx(16 * 16, rel=0.2)
    assert np.abs(mesh.vertices[:, 2] - layer).max() < 1.0


def test_an_encoded_mesh_far_away_comes_back_there(tmp_path: Path):
    mesh = ball()
    write_mesh(mesh, tmp_path / "in.ply")
    data = read_shape(tmp_path / "in.ply", ShapeConfig(resolution=16))
    field = build_network(data.signal, NetworkConfig(local_width=3, global_width=4, hidden_layers=1, counts=(2, 2, 2)))
    save(field, tmp_path / "a.st")
    for suffix in SUFFIXES:
        lg("mesh", "a.st", "-o", f"a{suffix}", "--resolution", 12, "--threshold", 0.5005, cwd=tmp_path)
    low, high = (np.array(UTM) - 2, np.array(UTM) + 2)
    volumes = []
    for suffix in SUFFIXES:
        back = read(tmp_path / f"a{suffix}")
        assert (back.vertices >= low).all() and (back.vertices <= high).all()
        back.vertices -= UTM
        volumes.append(back.volume)
    np.testing.assert_allclose(volumes, volumes[0], rtol=1e-4)
