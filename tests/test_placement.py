"""Laws of where a scene is found: by cameras, sparse points and what alphas leave."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from lg_field.radiance.hull import hull_box, hull_voxels, visual_hull
from lg_field.radiance.placement import LOOK, Placement, look_at, meeting_point, near_cubic, place, stay, turn, upward
from lg_field.radiance.views import VIEWPOINTS, Views, corners, far_apart


def looking(origins: Tensor, target: Tensor, up: Tensor | None = None) -> Tensor:
    """(n, 3, 4) poses of cameras that look at a point."""
    back = torch.nn.functional.normalize(origins - target, dim=-1)
    up = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64) if up is None else up
    right = torch.nn.functional.normalize(torch.linalg.cross(up.expand_as(back), back), dim=-1)
    return torch.stack([right, torch.linalg.cross(back, right), back, origins], dim=-1)


def ring(count: int = 24, target: tuple[float, ...] = (0.0, 0.0, 0.0), distance: float = 4.0) -> Views:
    """Cameras around a point, at two heights, with square images of 53 degrees."""
    angle = torch.arange(count, dtype=torch.float64) * (2 * math.pi / count)
    rise = torch.where(torch.arange(count) % 2 == 0, 0.3, 0.9).double()
    middle = torch.tensor(target, dtype=torch.float64)
    around = torch.stack([angle.cos() * rise.cos(), angle.sin() * rise.cos(), rise.sin()], dim=-1)
    ones = torch.ones(count, 2, dtype=torch.float64)
    return Views(looking(middle + distance * around, middle), ones, 0.5 * ones)


def from_above(count: int = 20) -> tuple[Views, Tensor]:
    """Cameras that look straight down, turned differently, and points on the ground."""
    generator = torch.Generator().manual_seed(0)
    origins = torch.rand(count, 3, generator=generator).double() * torch.tensor([4.0, 6.0, 0.2]) + torch.tensor(
        [0, 0, 5.0]
    )
    spin = torch.rand(count, generator=generator).double() * 0.3 + math.pi * (torch.arange(count) % 2)
    right = torch.stack([spin.cos(), spin.sin(), 0 * spin], dim=-1)
    back = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64).expand(count, 3)
    poses = torch.stack([right, torch.linalg.cross(back, right), back, origins], dim=-1)
    ground = torch.rand(2000, 3, generator=generator).double() * torch.tensor([4.0, 6.0, 0.3])
    ones = torch.ones(count, 2, dtype=torch.float64)
    return Views(poses, ones, 0.5 * ones), ground


def ball(views: Views, middle: Tensor, radius: float, size: int = 64) -> Tensor:
    """(views, size, size) alpha of a ball."""
    steps = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    row, column = torch.meshgrid(steps, steps, indexing="ij")
    flat = torch.stack([column, row], dim=-1)[None] - views.centers[:, None, None]
    right, down = (flat / views.focals[:, None, None]).unbind(-1)
    local = torch.stack([right, -down, -torch.ones_like(right)], dim=-1)
    rays = torch.nn.functional.normalize(torch.einsum("vij,vhwj->vhwi", views.poses[:, :, :3], local), dim=-1)
    away = (middle - views.origins)[:, None, None]
    along = (away * rays).sum(-1)
    return ((away - along[..., None] * rays).norm(dim=-1) < radius).float()


def similar(views: Views, rotation: Tensor, scale: float, shift: Tensor) -> Views:
    """The views in a world that was turned, scaled and shifted."""
    poses = torch.cat(
        [rotation @ views.poses[:, :, :3], (views.poses[:, :, 3] @ rotation.T * scale + shift)[..., None]], -1
    )
    return Views(poses, views.focals, views.centers)


@settings(max_examples=20)
@given(st.tuples(*[st.floats(-50.0, 50.0)] * 3), st.floats(0.01, 1e3))
def test_the_focus_is_where_cameras_look(target: tuple[float, float, float], distance: float):
    views = ring(target=target, distance=distance)
    focus, radius, _ = look_at(views)
    assert torch.allclose(focus, torch.tensor(target, dtype=torch.float64), atol=1e-6 * distance, rtol=0)
    assert radius == pytest.approx(LOOK * 0.5 * distance, rel=1e-6), "of half of the image at the focus"


def test_a_few_cameras_that_look_elsewhere_do_not_move_the_focus():
    views = ring(30)
    poses = views.poses.clone()
    poses[:4] = looking(poses[:4, :, 3], torch.tensor([3.0, -3.0, 2.0], dtype=torch.float64))
    focus = meeting_point(Views(poses, views.focals, views.centers))
    assert focus is not None and float(focus.norm()) < 0.15


def test_projection_is_inverse_to_looking():
    views = ring(5, target=(1.0, 2.0, 3.0))
    places, depth = views.project(torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64))
    assert torch.allclose(places, torch.full_like(places, 0.5)) and torch.allclose(depth, torch.full_like(depth, 4.0))
    behind = views.origins + (views.origins - torch.tensor([1.0, 2.0, 3.0]))
    assert bool((views.project(behind)[1].diagonal() < 0).all())


def test_parallel_axes_do_not_meet_and_points_say_where_the_scene_is():
    views, ground = from_above()
    assert meeting_point(views) is None
    focus, radius, _ = look_at(views, ground)
    assert torch.allclose(focus, torch.tensor([2.0, 3.0, 0.15]).double(), atol=0.3)
    assert 3.0 < radius / LOOK < 6.5, "all cameras' ground, not that of one"
    alone, _, _ = look_at(views)
    assert bool(((alone - views.origins) * views.axes).sum(-1).gt(0).all()), "ahead of the cameras"


@settings(max_examples=20)
@given(st.tuples(*[st.floats(-50.0, 50.0)] * 3), st.floats(0.01, 1e3))
def test_of_cameras_that_look_outward_the_room_around_them_is_the_scene(target, distance: float):
    """As large as the sparse points say, or several times as large as where the cameras are."""
    middle = torch.tensor(target, dtype=torch.float64)
    views = ring(40, target, distance)
    turned = Views(looking(views.origins, 2 * views.origins - middle), views.focals, views.centers)
    focus, radius, how = look_at(turned)
    assert "outward" in how and float((focus - middle).norm()) < distance and 2.0 < radius / distance < 4.0
    walls = middle + 6 * distance * torch.nn.functional.normalize(torch.randn(500, 3).double(), dim=1)
    focus, radius, _ = look_at(turned, walls)
    assert float((focus - middle).norm()) < distance and 4.0 < radius / distance < 8.0
    assert "outward" not in look_at(views)[2] and "outward" not in look_at(views, walls)[2]
    ahead = views.origins + distance * torch.tensor([3.0, 0.0, 0.0]).double()
    onward = Views(looking(views.origins, ahead), views.focals, views.centers)
    assert "outward" not in look_at(onward)[2]


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.floats(0.0, 1.2), st.floats(0.4, 6.3), st.floats(0.0, 0.1))
def test_up_is_across_the_horizons_of_cameras_on_any_part_of_a_ring(seed: int, rise: float, part: float, roll: float):
    """Where the mean of their own leans towards where they stand; rolls of some degrees cancel. In any world."""
    generator = torch.Generator().manual_seed(seed)
    count = 40
    angle = torch.rand(count, generator=generator).double() * part + seed
    where = torch.stack(
        [angle.cos() * math.cos(rise), angle.sin() * math.cos(rise), 0 * angle + math.sin(rise)], dim=-1
    )
    poses = looking(3.0 * where, 0.1 * torch.randn(count, 3, generator=generator).double())
    turns = roll * torch.randn(count, 1, generator=generator).double()
    right, above = poses[:, :, 0].clone(), poses[:, :, 1].clone()
    poses[:, :, 0] = turns.cos() * right + turns.sin() * above
    poses[:, :, 1] = turns.cos() * above - turns.sin() * right
    ones = torch.ones(count, 2, dtype=torch.float64)
    world = turn(torch.randn(3, generator=generator))
    found = upward(similar(Views(poses, ones, 0.5 * ones), world, 2.0, torch.ones(3).double()))
    off = math.degrees(math.acos(min(1.0, float(found @ world[:, 2]))))
    mean = torch.nn.functional.normalize(poses[:, :, 1].mean(0), dim=0)
    leaning = math.degrees(math.acos(min(1.0, float(mean[2]))))
    assert off < max(8.0, 1.05 * leaning)
    if part > 1.2 and roll < 0.05:
        assert off < 5.0


def test_up_is_the_cameras_up_and_from_the_air_against_the_view():
    assert torch.allclose(upward(ring()), torch.tensor([0.0, 0.0, 1.0]).double(), atol=1e-6)
    views, ground = from_above()
    assert torch.allclose(upward(views, ground), torch.tensor([0.0, 0.0, 1.0]).double(), atol=1e-6)
    turned_alike = Views(views.poses[::2], views.focals[::2], views.centers[::2])
    assert float(upward(turned_alike, ground)[2]) > 0.99, "a flat ground seen from the air is no wall"


@given(st.tuples(*[st.floats(-1.0, 1.0)] * 3))
@example((0.0, 1.2e-07, -0.0625))
def test_turning_takes_up_to_the_third_axis(direction: tuple[float, float, float]):
    up = torch.tensor(direction, dtype=torch.float64)
    if float(up.norm()) < 1e-3:
        return
    rotation = turn(up / up.norm())
    assert torch.allclose(rotation @ rotation.T, torch.eye(3).double(), atol=1e-9)
    assert torch.allclose(rotation @ (up / up.norm()), torch.tensor([0.0, 0.0, 1.0]).double(), atol=1e-6)
    assert float(torch.linalg.det(rotation)) == pytest.approx(1.0)


def test_the_hull_holds_the_object_and_little_else():
    views, middle = ring(40), torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64)
    alphas = ball(views, middle, 0.4)
    points = torch.rand(20_000, 3, generator=torch.Generator().manual_seed(0)).double() * 3 - 1.5
    hull, away = visual_hull(views, alphas, points), (points - middle).norm(dim=-1)
    assert bool(hull[away < 0.4].all()) and not bool(hull[away > 1.0].any())
    box = hull_box(views, alphas, torch.tensor([[-4.0] * 3, [4.0] * 3]), torch.eye(3).double())
    assert box is not None
    assert bool((box[0] < middle - 0.4).all() and (box[1] > middle + 0.4).all())
    assert float((box[1] - box[0]).max()) < 1.3, "tight"
    voxels = hull_voxels(views, alphas, box, torch.eye(3).double(), nodes=32)
    index = ((points - box[0]) / (box[1] - box[0]) * 32).long()
    within = away < 0.4
    assert bool(voxels[tuple(index[within].unbind(-1))].all())
    assert float(voxels.float().mean()) < 0.8


def test_a_bad_mask_among_many_does_not_carve_the_object_away():
    views, middle = ring(40), torch.zeros(3, dtype=torch.float64)
    alphas = ball(views, middle, 0.4)
    alphas[3] = 0.0
    assert bool(visual_hull(views, alphas, torch.zeros(1, 3).double()).all())
    assert (
        hull_box(views, torch.zeros_like(alphas), torch.tensor([[-4.0] * 3, [4.0] * 3]), torch.eye(3).double()) is None
    )


@settings(max_examples=2)
@given(st.floats(0.05, 20.0), st.tuples(*[st.floats(-10.0, 10.0)] * 3), st.floats(-3.0, 3.0))
def test_a_world_in_other_units_is_placed_the_same(scale: float, shift: tuple[float, float, float], angle: float):
    """The place of a turned, scaled and shifted world gives the same cameras about the same box."""
    views = ring(16)
    alphas = ball(views, torch.tensor([0.2, 0.1, 0.0]).double(), 0.5, size=48)
    c, s = math.cos(angle), math.sin(angle)
    about_x = torch.tensor([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]], dtype=torch.float64)
    other = similar(views, about_x, scale, torch.tensor(shift, dtype=torch.float64))
    first, second = place(views, alphas=alphas), place(other, alphas=alphas)
    assert second.radius == pytest.approx(first.radius * scale, rel=0.1)
    assert second.near == pytest.approx(first.near, rel=0.1)
    wanted = torch.tensor(shift).double() + scale * (about_x @ first.focus)
    assert float((second.focus - wanted).norm()) < 0.1 * second.radius
    assert torch.allclose(first.matrix() @ _homogeneous(first.focus), _homogeneous(torch.zeros(3)), atol=1e-9)


def test_what_is_told_is_taken():
    views = ring()
    box = torch.tensor([[-1.0, -2.0, 0.0], [1.0, 2.0, 3.0]])
    found = place(views, box=box)
    assert found.box is not None and torch.allclose(found.focus, box.double().mean(0), atol=1e-9)
    matrix = found.matrix()
    corners = torch.stack([(matrix @ _homogeneous(corner))[:3] for corner in box])
    assert torch.allclose(corners, found.box, atol=1e-6)
    up = torch.tensor([1.0, 0.0, 0.0])
    found = place(views, up=up, focus=torch.tensor([0.5, 0.0, 0.0]))
    assert torch.allclose(found.rotation @ up.double(), torch.tensor([0.0, 0.0, 1.0]).double(), atol=1e-9)
    assert torch.allclose(found.focus, torch.tensor([0.5, 0.0, 0.0]).double()) and found.box is None


def test_from_the_air_all_there_is_fits_a_box_and_around_an_object_it_does_not():
    views, ground = from_above()
    found: Placement = place(views, ground)
    assert found.box is not None and found.near > 0.0
    inside = (_turned(found, ground) >= found.box[0]).all(-1) & (_turned(found, ground) <= found.box[1]).all(-1)
    assert float(inside.double().mean()) > 0.9
    edges = _turned(found, views.at_corners(5.0))[:, :2]
    assert bool((edges >= found.box[0, :2]).all() and (edges <= found.box[1, :2]).all()), "all that images show"
    generator = torch.Generator().manual_seed(0)
    far = torch.nn.functional.normalize(torch.randn(2000, 3, generator=generator), dim=-1).double() * 20
    assert place(ring(), far).box is None


def test_known_boxes_stay():
    views, box = ring(12), torch.tensor([[-1.5] * 3, [1.5] * 3])
    found = stay(views, box, ball(views, torch.zeros(3).double(), 0.4, size=48))
    assert torch.equal(found.matrix(), torch.eye(4).double()) and torch.equal(found.box, box.double())
    assert found.hull is not None and bool(found.hull[32, 32, 32]) and not bool(found.hull[0, 0, 0])
    assert stay(views, box, torch.zeros(12, 8, 8)).hull is None, "alphas that leave nothing say nothing"


@given(st.lists(st.floats(0.1, 10.0), min_size=3, max_size=3), st.integers(8, 512))
def test_cells_are_nearly_cubic(extent: list[float], cells: int):
    counts = near_cubic(extent, cells)
    side = (math.prod(extent) / cells) ** (1 / 3)
    assert all(n == 1 or 0.66 * side < length / n < 1.51 * side for n, length in zip(counts, extent))


def test_few_viewpoints_stand_for_all():
    points = torch.rand(200, 3, generator=torch.Generator().manual_seed(0))
    chosen = far_apart(points)
    assert chosen.shape == (VIEWPOINTS, 3)
    assert float(torch.cdist(points, chosen).amin(1).max()) < 0.5, "none is far from all of them"
    few = far_apart(points[:3])
    assert sorted(set(map(tuple, few.tolist()))) == sorted(map(tuple, points[:3].tolist()))
    assert len(corners(torch.tensor([[0.0] * 3, [1.0] * 3])).unique(dim=0)) == 8


def _homogeneous(point: Tensor) -> Tensor:
    return torch.cat([point.double(), torch.ones(1, dtype=torch.float64)])


def _turned(placement: Placement, points: Tensor) -> Tensor:
    matrix = placement.matrix()
    return points.double() @ matrix[:3, :3].T + matrix[:3, 3]
