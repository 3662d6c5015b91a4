"""Laws of the mesher: closed surfaces, blocks that do not show, files that read back."""

from __future__ import annotations

import runpy
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from lg_field.meshing.mesh import EmptyMeshError, Mesh, color_vertices, marching_cubes
from lg_field.meshing.render import render_mesh
from lg_field.meshing.tools import is_watertight, otsu, smoothed, volume, with_fewer_faces, without_small_pieces
from lg_field.meshing.writing import write_mesh


def ball(points: torch.Tensor) -> torch.Tensor:
    """A density that is 1 on the unit-ish sphere of radius 0.7."""
    return (0.7 / points.norm(dim=-1).clamp_min(1e-3)).clamp_max(5.0)


def solid(mesh: Mesh) -> trimesh.Trimesh:
    return trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)


def test_a_ball_is_closed_and_has_its_volume():
    mesh = solid(marching_cubes(ball, (-1, -1, -1), (1, 1, 1), 48, 1.0))
    assert mesh.is_watertight and mesh.is_winding_consistent
    assert mesh.volume == pytest.approx(4 / 3 * np.pi * 0.7**3, rel=0.02)


@settings(max_examples=12, deadline=None)
@given(block=st.integers(3, 30), resolution=st.integers(6, 28), shift=st.floats(-0.4, 0.4))
def test_blocks_do_not_show(block: int, resolution: int, shift: float):
    def values(points: torch.Tensor) -> torch.Tensor:
        return ball(points + shift)

    box = (-1.0, -0.9, -1.1), (1.0, 1.1, 0.9)
    whole = marching_cubes(values, *box, resolution, 1.0, block=64)
    cut = marching_cubes(values, *box, resolution, 1.0, block=block)
    assert len(whole.faces) == len(cut.faces)
    assert solid(cut).is_watertight
    np.testing.assert_allclose(np.sort(whole.vertices, axis=0), np.sort(cut.vertices, axis=0), atol=1e-6)


def test_surfaces_cut_by_the_box_are_closed():
    mesh = solid(marching_cubes(ball, (-0.5, -0.5, -0.5), (0.5, 0.5, 1.0), 20, 1.0, block=7))
    assert mesh.is_watertight and mesh.volume > 0


def test_inactive_blocks_are_never_asked_and_the_cut_is_closed():
    asked = []

    def values(points: torch.Tensor) -> torch.Tensor:
        asked.append(points)
        return ball(points)

    mesh = marching_cubes(values, (-1, -1, -1), (1, 1, 1), 32, 1.0, block=8, active=lambda boxes: boxes[:, 1, 0] <= 0.0)
    assert torch.cat(asked)[:, 0].max() <= 1e-6
    assert solid(mesh).is_watertight
    assert solid(mesh).volume == pytest.approx(2 / 3 * np.pi * 0.7**3, rel=0.1)


def test_the_mask_is_asked_first():
    def values(points: torch.Tensor) -> torch.Tensor:
        assert bool((points[:, 2] > 0).all())
        return ball(points)

    mesh = marching_cubes(values, (-1, -1, -1), (1, 1, 1), 24, 1.0, mask=lambda points: points[:, 2] > 0)
    assert solid(mesh).is_watertight and mesh.vertices[:, 2].min() > -0.1


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (((1, -1, -1), (-1, 1, 1), 8, 1.0), "below"),
        (((-1, -1, -1), (1, 1, 1), 0, 1.0), "resolution"),
        (((-1, -1, -1), (1, 1, 1), 8, float("nan")), "threshold"),
    ],
)
def test_bad_input_is_named(arguments, match):
    with pytest.raises(ValueError, match=match):
        marching_cubes(ball, *arguments)


def test_a_threshold_out_of_range_says_the_range():
    with pytest.raises(EmptyMeshError, match=r"threshold 99.*values go from 0 to 3"):
        marching_cubes(ball, (-1, -1, -1), (1, 1, 1), 9, 99.0)


@pytest.mark.parametrize(("module", "name"), [("mcubes", "PyMCubes"), ("scipy", "scipy")])
def test_what_is_missing_is_named(module: str, name: str, monkeypatch: pytest.MonkeyPatch):
    """PyMCubes imports SciPy."""
    for loaded in [one for one in sys.modules if one.split(".")[0] == "mcubes"]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"^marching_cubes needs {name}: pip install 'lg-field\[mesh\]'$"):
        marching_cubes(ball, (-1, -1, -1), (1, 1, 1), 9, 1.0)


def test_values_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="finite"):
        marching_cubes(lambda p: p[:, 0] * torch.nan, (-1, -1, -1), (1, 1, 1), 8, 1.0)


def test_mirroring_keeps_the_outside_outside():
    mesh = marching_cubes(ball, (-1, -1, -1), (1, 1, 1), 16, 1.0)
    assert solid(mesh.transformed(np.diag([-2.0, 1, 1, 1]))).volume == pytest.approx(2 * solid(mesh).volume)


@pytest.mark.parametrize("suffix", [".ply", ".obj", ".glb", ".stl"])
def test_files_read_back(tmp_path, suffix):
    mesh = marching_cubes(ball, (-1, -1, -1), (1, 1, 1), 12, 1.0)
    mesh = color_vertices(mesh, lambda p, d: (p + 1) / 2)
    path = tmp_path / f"m{suffix}"
    write_mesh(mesh, path)
    back = trimesh.load(path, force="mesh", process=False)
    assert len(back.faces) == len(mesh.faces)
    if suffix != ".stl":
        np.testing.assert_array_equal(np.asarray(back.visual.vertex_colors)[:, :3], mesh.colors)
    with pytest.raises(FileExistsError, match="--overwrite"):
        write_mesh(mesh, path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_colours_are_seen_from_outside():
    mesh = marching_cubes(ball, (-1, -1, -1), (1, 1, 1), 16, 1.0)
    seen = color_vertices(mesh, lambda p, d: ((p * d).sum(-1, keepdim=True) < 0).float().expand(-1, 3))
    assert seen.colors is not None and (seen.colors == 255).all()


def test_a_picture_of_a_mesh(tmp_path):
    from PIL import Image

    mesh = color_vertices(marching_cubes(ball, (-1, -1, -1), (1, 1, 1), 24, 1.0), lambda p, d: p * 0 + 0.5)
    render_mesh(mesh, tmp_path / "ball.png", size=64)
    pixels = np.asarray(Image.open(tmp_path / "ball.png"))
    assert (pixels[0, 0] == 255).all() and (pixels[32, 32] < 200).all()


def test_a_mesh_is_seen_from_all_sides_in_one_picture(tmp_path):
    """A ball that is red on one side and blue on the other."""
    from PIL import Image

    plain = marching_cubes(ball, (-1, -1, -1), (1, 1, 1), 24, 1.0)
    red = plain.vertices[:, :1] > 0
    mesh = replace(plain, colors=np.where(red, [[200, 20, 20]], [[20, 20, 200]]).astype(np.uint8))
    for sides, shape in ((1, (64, 64, 3)), (2, (64, 128, 3)), (3, (128, 128, 3)), (4, (128, 128, 3))):
        render_mesh(mesh, tmp_path / "b.png", azimuth=0.0, elevation=0.0, size=64, sides=sides)
        pixels = np.asarray(Image.open(tmp_path / "b.png")).astype(int)
        assert pixels.shape == shape
        first, other = pixels[32, 32], pixels[32 + 64 * (sides == 4), 32 + 64 * (sides == 2)]
        assert first[0] > first[2] and (sides in (1, 3) or other[2] > other[0])
        assert sides != 3 or (pixels[64:, 64:] == 255).all()
    with pytest.raises(ValueError, match="at least one side, got 0"):
        render_mesh(mesh, tmp_path / "b.png", sides=0)


def test_the_script_draws_a_mesh_file_and_counts_its_pieces(tmp_path):
    small = marching_cubes(lambda p: ball(p * 4), (-1, -1, -1), (1, 1, 1), 24, 1.0)
    large = marching_cubes(ball, (-1, -1, -1), (1, 1, 1), 24, 1.0)
    faces = np.concatenate([large.faces, small.faces + len(large.vertices)])
    both = type(large)(np.concatenate([large.vertices, small.vertices + 3.0]), faces)
    write_mesh(both, tmp_path / "two.ply")
    script = runpy.run_path(str(Path(__file__).parents[1] / "scripts" / "mesh_sides.py"))
    script["main"](script["Args"](tmp_path / "two.ply", tmp_path / "two.png", size=32))
    shares = script["shares"](script["read"](tmp_path / "two.ply"))
    assert len(shares) == 2 and shares[0] == pytest.approx(volume(large) / (volume(large) + volume(small)), rel=1e-4)
    assert (tmp_path / "two.png").exists()
    with pytest.raises(FileExistsError):
        script["main"](script["Args"](tmp_path / "two.ply", tmp_path / "two.png", size=32))


def waves(points: torch.Tensor) -> torch.Tensor:
    """A gyroid: one winding surface, everywhere."""
    q = points * 9
    return (q.sin() * q.roll(-1, -1).cos()).sum(-1) + 2


@settings(max_examples=6, deadline=None)
@given(block=st.sampled_from([4, 8, 20]), resolution=st.integers(20, 40), threshold=st.sampled_from([1.0, 2.1]))
def test_near_the_surface_only_gives_the_same_mesh(block: int, resolution: int, threshold: float):
    asked = []

    def values(points: torch.Tensor) -> torch.Tensor:
        asked.append(len(points))
        return torch.maximum(waves(points), ball(points + 0.2))

    box = (-1.0, -0.9, -1.1), (1.0, 1.1, 0.9)
    whole = marching_cubes(values, *box, resolution, threshold, block=block)
    everywhere, asked[:] = sum(asked), []
    near = marching_cubes(values, *box, resolution, threshold, block=block, band=True)
    assert len(whole.faces) == len(near.faces) and solid(near).is_watertight
    np.testing.assert_allclose(np.sort(whole.vertices, axis=0), np.sort(near.vertices, axis=0), atol=1e-6)
    assert sum(asked) <= everywhere * 1.1


def test_a_thread_is_followed_and_few_nodes_are_asked():
    """Thinner than the coarse lattice: found where it is thick, followed to its end."""
    asked = []

    def values(points: torch.Tensor) -> torch.Tensor:
        asked.append(len(points))
        turns = torch.stack([0.5 * torch.cos(4 * points[:, 2]), 0.5 * torch.sin(4 * points[:, 2])], dim=-1)
        thread = 0.035 / (points[:, :2] - turns).norm(dim=-1).clamp_min(1e-3) * (points[:, 2].abs() < 0.8)
        return torch.maximum(thread, 0.3 * ball((points - 0.45) * 2.0))

    box = (-1.0, -1.0, -1.0), (1.0, 1.0, 1.0)
    whole = marching_cubes(values, *box, 64, 1.0)
    everywhere, asked[:] = sum(asked), []
    near = marching_cubes(values, *box, 64, 1.0, band=True)
    assert len(near.faces) == len(whole.faces) > 1500 and sum(asked) < 0.2 * everywhere


@given(low=st.floats(-5, 5), gap=st.floats(3, 9), share=st.floats(0.1, 0.9), seed=st.integers(0, 99))
@settings(max_examples=20)
def test_otsu_parts_two_heaps(low: float, gap: float, share: float, seed: int):
    rng = np.random.default_rng(seed)
    values = np.where(rng.random(4000) < share, rng.normal(low, 0.3, 4000), rng.normal(low + gap, 0.3, 4000))
    assert low + 0.9 < otsu(values) < low + gap - 0.9
    with pytest.raises(ValueError, match="give --threshold"):
        otsu(np.full(5, low))


def test_facts_pieces_and_decimation():
    ball_ = marching_cubes(ball, (-1, -1, -1), (1, 1, 1), 40, 1.0)
    speck = marching_cubes(lambda p: ball((p - 3.0) * 12), (2.9, 2.9, 2.9), (3.1, 3.1, 3.1), 6, 1.0)
    faces = np.concatenate([ball_.faces, speck.faces + len(ball_.vertices)])
    both = Mesh(np.concatenate([ball_.vertices, speck.vertices]), faces)
    assert is_watertight(both) and not is_watertight(Mesh(both.vertices, both.faces[1:]))
    assert volume(ball_) == pytest.approx(solid(ball_).volume) and volume(ball_) > 1.3
    alone, dropped = without_small_pieces(both, 0.1)
    assert dropped == 1 and len(alone.faces) == len(ball_.faces) and len(alone.vertices) == len(ball_.vertices)
    assert without_small_pieces(both, 0.0)[1] == 0
    small = with_fewer_faces(color_vertices(ball_, lambda p, d: (p + 1) / 2), 500)
    assert len(small.faces) <= 500 and small.colors is not None and is_watertight(small)
    assert volume(smoothed(ball_, 10)) == pytest.approx(volume(ball_), rel=0.02)
