"""Laws of what cameras look at: it ends, haze and ground do not belong to it, and meshes are of it, without crumbs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from ball_scene import MEDIUM, ball_scene, bias_of_density, circle, occupy_where, random_points
from commands import lg
from hypothesis import given, settings
from hypothesis import strategies as st
from small_scene import small_scene

import lg_field
from lg_field.meshing.mesh import Mesh, marching_cubes
from lg_field.meshing.tools import volume, without_crumbs
from lg_field.radiance.carving import only_voxels
from lg_field.radiance.components import middles, shown_voxels
from lg_field.radiance.field import RadianceField
from lg_field.radiance.focus import REACH, SEEN, known_look, looked_at
from lg_field.radiance.scene import Scene
from lg_field.radiance.sight import seen_light
from lg_field.radiance.surface import lit_points, mesh_bounds
from lg_field.radiance.threshold import MARGIN, automatic_threshold, parting_threshold, seen_threshold

PLACES = tuple(map(tuple, circle(6, 3.0).origins.tolist()))
SOLID, HAZE = 3.0, -6.0
"""Added to the logarithm of the density."""


def even_scene(holds: Callable[[torch.Tensor], torch.Tensor], dense: float = 0.5) -> RadianceField:
    """An unbounded scene, of even density within `dense` of the origin (along each axis) and of haze outside."""
    field = small_scene((8, 8, 8), kept=1.0, contraction=True)
    with torch.no_grad():
        field.local.zero_()
        for parameter in field.shared.parameters():
            parameter.zero_()
        inner = (field.grid.boxes(field.cells).mean(1).abs() < dense).all(-1)
    bias = bias_of_density(field)
    with torch.no_grad():
        field.local[:, bias] = torch.where(inner, SOLID, HAZE)
    occupy_where(field, holds)
    field.description = replace(field.description, viewpoints=PLACES)
    return field


def everywhere(points: torch.Tensor) -> torch.Tensor:
    return torch.ones(len(points), dtype=torch.bool)


def found_in(field: RadianceField, least: float = 0.0):
    assert isinstance(field.description, Scene)
    look = known_look(field.description)
    assert look is not None
    return looked_at(field, look, shown_voxels(field.occupancy, field.region), least)


@pytest.fixture(scope="module")
def hazy() -> RadianceField:
    """A cube of side 1 around the origin, and haze to infinity."""
    return even_scene(everywhere)


# -- what is looked at


def test_haze_is_parted_from_what_cameras_look_at(hazy: RadianceField) -> None:
    found = found_in(hazy, SEEN)
    assert found is not None and found.level > 0.0 and not found.above and 0.5 < found.share <= 1.0
    points = middles(hazy.occupancy, (found.pieces.labels == found.number).nonzero())
    assert float(points.abs().max()) < 0.5 and len(points) == 16**3
    skin = middles(hazy.occupancy, found.voxels.nonzero()).abs()
    assert 0.5 < float(skin.max()) < 0.6, "and what is shown right beside it"
    alone = only_voxels(hazy, found.voxels)
    again = found_in(alone)
    assert again is not None and again.level == 0.0 and torch.equal(again.voxels, found.voxels)


def test_haze_that_ends_is_parted_as_well() -> None:
    """It takes most of the voxels and little of the light; the object alone is found, as in haze to infinity."""
    field = even_scene(lambda points: (points.abs() < 1.2).all(-1))
    found = found_in(field, SEEN)
    assert found is not None and found.level > 0.0 and found.share > 0.5
    points = middles(field.occupancy, (found.pieces.labels == found.number).nonzero())
    assert float(points.abs().max()) < 0.75


def test_what_does_not_end_is_not_found() -> None:
    assert found_in(even_scene(everywhere, dense=3.0)) is None


def test_cameras_that_look_at_nothing_find_nothing() -> None:
    field = even_scene(lambda points: points.abs().amax(-1) > 6.0, dense=3.0)
    assert found_in(field, SEEN) is None


def test_a_floor_that_does_not_end_is_cut_away() -> None:
    pytest.importorskip("open3d")

    def holds(points: torch.Tensor) -> torch.Tensor:
        floor = (points[:, 2] < -0.25) & (points[:, 2] > -0.45)
        return floor | (points.norm(dim=-1) < 0.3)

    field = even_scene(holds, dense=3.0)
    found = found_in(field)
    assert found is not None and found.above
    points = middles(field.occupancy, found.voxels.nonzero())
    assert float(points.norm(dim=-1).max()) < 0.3 and float(points[:, 2].max()) > 0.2
    assert float(points[:, 2].min()) > -0.26


def test_of_a_bounded_scene_it_is_the_piece_most_seen() -> None:
    field = ball_scene([(0.0, 0.0, 0.0, 0.25), (0.7, 0.7, -0.6, 0.35)])
    field.description = replace(field.description, viewpoints=PLACES)
    found = found_in(field)
    assert found is not None and found.level == 0.0 and found.number == 2
    assert float(middles(field.occupancy, found.voxels.nonzero()).norm(dim=-1).max()) <= 0.25


places = st.tuples(*[st.floats(-3, 3, width=32)] * 3)
directions = st.sampled_from([(0.0, 0.0, 1.0), (0.0, -2.0, 0.0), (0.6, 0.0, 0.8)])


@given(st.lists(places, max_size=5), directions)
def test_cameras_of_a_scene_look_at_the_origin(points: list[tuple[float, ...]], up: tuple[float, float, float]) -> None:
    scene = Scene(tuple(map(tuple, torch.eye(4).tolist())), up=up, viewpoints=tuple(points))  # type: ignore[arg-type]
    look = known_look(scene)
    there = [p for p in points if torch.tensor(p).double().norm() > 1e-6]
    assert (look is None) == (not there)
    if look is not None:
        turns = look.views.poses[:, :, :3]
        assert torch.allclose(turns @ turns.transpose(1, 2), torch.eye(3).double(), atol=1e-6)
        assert torch.allclose(torch.linalg.det(turns), torch.ones(len(there)).double())
        seen, depth = look.views.project(look.focus[None])
        assert torch.allclose(seen, torch.full_like(seen, 0.5)) and bool((depth > 0).all())


def test_light_is_counted_once_and_less_behind_the_focus(hazy: RadianceField) -> None:
    assert isinstance(hazy.description, Scene)
    look = known_look(hazy.description)
    assert look is not None
    light = seen_light(hazy, hazy.description, look.views, look.focus).light
    assert 0.0 < float(light.sum()) <= 1.0 and bool((light >= 0).all())
    away = seen_light(hazy, hazy.description, look.views, torch.tensor([0.0, 0.0, -REACH]).double()).light
    assert float(away.sum()) < float(light.sum())


# -- thresholds, colours, crumbs


def test_the_threshold_is_half_of_what_all_rays_meet(hazy: RadianceField) -> None:
    found = found_in(hazy)
    assert found is not None
    alone = only_voxels(hazy, found.voxels)
    box = mesh_bounds(alone).box
    density = float(alone.density(torch.zeros(1, 3)).detach())
    seen = seen_threshold(alone, box)
    assert seen == pytest.approx(MARGIN * density, rel=1e-4)
    assert automatic_threshold(alone, box) == min(parting_threshold(alone, box), seen)
    alone.description = replace(alone.description, viewpoints=())
    assert seen_threshold(alone, box) is None
    assert automatic_threshold(alone, box) == parting_threshold(alone, box)


def test_colours_are_looked_for_where_light_stops(hazy: RadianceField) -> None:
    points = torch.tensor([[0.0, 0.0, 0.3], [0.0, 0.0, 0.52]])
    down = torch.tensor([[0.0, 0.0, -1.0]]).expand(2, 3)
    lit = lit_points(hazy, points, down)
    assert torch.allclose(lit[0], points[0], atol=1e-3), "in the solid part that is at once"
    assert 0.4 < float(lit[1, 2]) < 0.5 and torch.equal(lit[:, :2], points[:, :2])


def ball(center: float, radius: float) -> Mesh:
    low, high = (center - 1.2 * radius,) * 3, (center + 1.2 * radius,) * 3
    return marching_cubes(lambda p: radius / (p - center).norm(dim=-1).clamp_min(1e-6), low, high, 16, 1.0)


def together(*meshes: Mesh) -> Mesh:
    starts = np.cumsum([0] + [len(m.vertices) for m in meshes])
    faces = np.concatenate([m.faces + n for m, n in zip(meshes, starts)])
    return Mesh(np.concatenate([m.vertices for m in meshes]), faces)


BIG, CAVITY, SPECK = ball(0.0, 1.0), ball(0.0, 0.15), ball(3.0, 0.1)
HOLED = together(BIG, replace(CAVITY, faces=CAVITY.faces[:, ::-1].copy()), SPECK)


@settings(max_examples=20)
@given(share=st.floats(0.0, 1.0))
def test_crumbs_are_what_encloses_less_than_a_share(share: float) -> None:
    left = without_crumbs(HOLED, share)
    sizes = [volume(m) for m in (BIG, CAVITY, SPECK)]
    small = [size < share * sizes[0] for size in sizes]
    assert left.dropped == sum(small) and not small[0]
    lost = sum(size for size, gone in zip(sizes, small) if gone)
    assert left.share == pytest.approx(lost / sum(sizes), abs=1e-9)
    kept = sizes[0] - (0.0 if small[1] else sizes[1]) + (0.0 if small[2] else sizes[2])
    assert volume(left.mesh) == pytest.approx(kept, rel=1e-6)


# -- commands


def test_a_mesh_is_of_what_cameras_look_at_unless_all_is_wanted(hazy: RadianceField, tmp_path: Path) -> None:
    lg_field.save(hazy, tmp_path / "s.safetensors")
    said = lg("mesh", "s.safetensors", "-o", "m.ply", "--resolution", 16, cwd=tmp_path)
    assert "what the cameras look at is meshed" in said and "--whole" in said
    mesh = trimesh.load(tmp_path / "m.ply")
    assert mesh.body_count == 1 and float(np.abs(mesh.vertices).max()) < 0.65
    assert "meshed," not in lg(
        "mesh", "s.safetensors", "--whole", "--threshold", 0.1, "-o", "w.ply", "--resolution", 16, cwd=tmp_path
    )
    assert float(np.abs(trimesh.load(tmp_path / "w.ply").vertices).max()) > 0.9


def test_files_are_cropped_to_what_cameras_look_at(hazy: RadianceField, tmp_path: Path) -> None:
    lg_field.save(hazy, tmp_path / "s.safetensors")
    said = lg("crop", "s.safetensors", "--focus", "-o", "one.safetensors", cwd=tmp_path)
    assert "--focus: component" in said and "parted by --solid" in said and "kept surface" not in said
    found, one = found_in(hazy), lg_field.load(tmp_path / "one.safetensors")
    assert found is not None and isinstance(one, RadianceField)
    assert torch.equal(shown_voxels(one.occupancy, one.region), found.voxels)
    inside = random_points(200, 0.5)
    assert torch.equal(one.density(inside), hazy.density(inside))
    for words, expected in (
        (("--focus", 2), "a share above 0"),
        (("--focus", "--component", 1), "not both"),
        (("--focus", "--box", 3, 3, 3, 4, 4, 4, "--solid", 0.5), "see nothing"),
    ):
        said = lg("crop", "s.safetensors", *words, "--dry-run", cwd=tmp_path, fails=True)
        assert expected in said and "Traceback" not in said
    lg_field.save(ball_scene(), tmp_path / "blind.safetensors")
    said = lg("crop", "blind.safetensors", "--focus", "--dry-run", cwd=tmp_path, fails=True)
    assert "does not say where cameras were" in said
    piece = lg("crop", "blind.safetensors", "--piece", *MEDIUM[:3], "--dry-run", cwd=tmp_path)
    assert "component 2 of 3" in piece
