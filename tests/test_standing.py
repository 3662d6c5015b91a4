"""Laws of what stands in the middle: it is kept whole, what it stands on goes, and nothing goes where it hangs free."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ball_scene import ball_scene, circle
from commands import lg
from PIL import Image
from test_focus import even_scene

import lg_field
from lg_field.errors import Notice
from lg_field.radiance.components import shown_voxels
from lg_field.radiance.field import RadianceField
from lg_field.radiance.focus import known_look
from lg_field.radiance.scene import Scene
from lg_field.radiance.sight import Light
from lg_field.radiance.standing import GROWN, Eighths, Standing, ground_below, one_side, side_of, standing
from lg_field.space.regions import VoxelSet

RADIUS = 0.3


def thing(points: torch.Tensor) -> torch.Tensor:
    """A ball in the middle."""
    return points.norm(dim=-1) < RADIUS


def over(points: torch.Tensor, top: torch.Tensor | float, thick: float = 0.25) -> torch.Tensor:
    """A slab below a height."""
    return (points[:, 2] <= top) & (points[:, 2] > top - thick)


def bowl(points: torch.Tensor) -> torch.Tensor:
    flat = points[:, :2].clamp(-1.2, 1.2)
    return -0.27 + 0.25 * flat.square().sum(-1) + 0.1 * flat[:, 0]


def slope(points: torch.Tensor) -> torch.Tensor:
    return -0.35 + 0.3 * points[:, 1].clamp(-1.2, 1.2)


TOPS = {"a bowl": bowl, "a slope": slope}
KINDS = {
    "a floor": lambda p: thing(p) | over(p, -0.27),
    "a table that ends": lambda p: thing(p) | (over(p, -0.27) & (p[:, :2].abs().amax(-1) < 0.9)),
    "a bowl": lambda p: thing(p) | over(p, bowl(p)),
    "a slope": lambda p: thing(p) | over(p, slope(p)),
    "a pit": lambda p: thing(p) | over(p, -0.27) | (over(p, 0.05, 0.57) & (p[:, :2].norm(dim=-1) > 0.7)),
    "two on a floor": lambda p: thing(p) | thing(p - torch.tensor([0.75, 0.0, 0.1]).to(p)) | over(p, -0.27),
}


def scene_of(name: str) -> RadianceField:
    return even_scene(KINDS[name], dense=3.0)


def found_in(field: RadianceField) -> Standing | None:
    assert isinstance(field.description, Scene)
    look = known_look(field.description)
    assert look is not None
    return standing(field, look, shown_voxels(field.occupancy, field.region))


@pytest.mark.parametrize("name", KINDS)
def test_what_stands_there_is_kept_and_what_it_stands_on_is_not(name: str) -> None:
    field = scene_of(name)
    found = found_in(field)
    assert found is not None and 0.2 <= found.share <= 1.0 and 0.0 < found.cut.share < 0.5
    points = torch.rand(20000, 3, generator=torch.Generator().manual_seed(0)) * 3.0 - 1.5
    side, kept = side_of(field.occupancy), found.region.contains(points.double())
    held = field.is_occupied(points)
    top = TOPS.get(name, lambda p: torch.full_like(p[:, 0], -0.27))
    ball = points.norm(dim=-1) < RADIUS
    body = held & ball & (points[:, 2] > top(points) + 1.5 * side)
    assert bool(body.any()) and bool(kept[body].all()), "all of the thing that is clear of the ground"
    other = held & (points[:, :2].norm(dim=-1) > RADIUS + 2.0 * side)
    assert bool(other.any()) and not bool((kept & other).any())
    low = points[kept & held]
    assert float((low[:, 2] - top(low)).min()) > -0.5 * side


def test_without_a_thing_or_a_ground_nothing_stands() -> None:
    assert found_in(even_scene(thing, dense=3.0)) is None
    assert found_in(even_scene(lambda p: over(p, -0.27), dense=3.0)) is None
    assert ground_below(even_scene(thing, dense=3.0), torch.zeros(64, 64, 64, dtype=torch.bool)) is None


def test_the_ground_of_what_stands_there_is_a_plane_above_it() -> None:
    field = scene_of("a floor")
    found = ground_below(field, shown_voxels(field.occupancy, None))
    assert found is not None and found.normal[2] > 0.99
    assert -0.27 < -found.offset / found.normal[2] < -0.27 + 2.0 * side_of(field.occupancy)


def test_a_wall_is_cut_off_where_all_cameras_are_before_it() -> None:
    field = even_scene(lambda p: thing(p) | ((p[:, 0] < -0.2) & (p[:, 0] > -0.45)), dense=3.0)
    shown = shown_voxels(field.occupancy, None)
    assert isinstance(field.description, Scene)
    around = known_look(field.description)
    places = [tuple(p) for p in circle(24, 3.0).origins.tolist() if p[0] > 1.5]
    field.description = replace(field.description, viewpoints=tuple(places))
    before = known_look(field.description)
    assert around is not None and before is not None
    assert one_side(field.description, around) is None and one_side(field.description, before) is not None
    assert standing(field, before, shown, walls=False) is None and ground_below(field, shown) is None
    found = standing(field, before, shown)
    assert found is not None and found.wall and found.above.normal[0] > 0.97
    points = torch.rand(20000, 3, generator=torch.Generator().manual_seed(0)) * 2.0 - 1.0
    kept = points[found.region.contains(points.double()) & field.is_occupied(points)]
    assert len(kept) > 100 and float(kept.norm(dim=-1).max()) < RADIUS + 2.0 * side_of(field.occupancy)
    above = replace(field.description, viewpoints=((0.1, 0.0, 3.0), (0.0, 0.5, 2.0), (-0.3, 0.0, 3.0)))
    overhead = known_look(above)
    assert overhead is not None and one_side(above, overhead) is None


@pytest.fixture(scope="module")
def eighths_near() -> Eighths:
    """Of a ball on a floor; light is the number of the voxel."""
    field = scene_of("a floor")
    shown = shown_voxels(field.occupancy, None)
    numbers = torch.arange(shown.numel())
    return Eighths.of(field, torch.zeros(3, dtype=torch.float64), shown, Light(numbers, numbers.double()))


def test_eighths_have_their_places(eighths_near: Eighths) -> None:
    assert len(eighths_near.places.flatten(0, 1).unique(dim=0)) == 8 * len(eighths_near.numbers), "each its own"
    apart = eighths_near.points[:, 7] - eighths_near.points[:, 0]
    inner = eighths_near.points.abs().amax((1, 2)) < 0.9
    assert torch.allclose(apart[inner], torch.full_like(apart[inner], 4.0 / 128)), "half a voxel"


def test_the_light_of_a_voxel_is_shared_by_its_pieces(eighths_near: Eighths) -> None:
    chosen = torch.rand(len(eighths_near.numbers), 8, generator=torch.Generator().manual_seed(0)) < 0.02
    pieces = eighths_near.pieces(chosen)
    assert torch.equal(pieces > 0, chosen) and int(pieces.max()) > 10
    shares = eighths_near.shares(pieces)
    assert float(shares[0]) == 0.0
    assert float(shares.sum()) == pytest.approx(float(eighths_near.light[chosen.any(1)].sum()))


def test_pieces_grow_to_what_is_nearest_to_them(eighths_near: Eighths) -> None:
    pieces = torch.zeros(len(eighths_near.numbers), 8, dtype=torch.int64)
    away = (eighths_near.points - torch.tensor([0.1, 0.0, 0.0])).norm(dim=-1)
    other = (eighths_near.points + torch.tensor([0.1, 0.0, 0.0])).norm(dim=-1)
    pieces.view(-1)[int(away.argmin())], pieces.view(-1)[int(other.argmin())] = 1, 2
    into = torch.ones_like(pieces, dtype=torch.bool)
    grown = eighths_near.grown(pieces, into)
    first, second = (eighths_near.points.view(-1, 3)[int(a.argmin())] for a in (away, other))
    to_first, to_second = ((eighths_near.points - p).norm(dim=-1) for p in (first, second))
    assert bool((to_first[grown == 1] <= to_second[grown == 1] + 1e-9).all())
    assert bool((to_second[grown == 2] <= to_first[grown == 2] + 1e-9).all())
    limit = GROWN * 4.0 / 64
    assert bool((torch.minimum(to_first, to_second)[grown == 0] > limit - 1e-9).all())
    assert torch.equal(eighths_near.grown(pieces, ~into), pieces), "into nothing"


def test_in_scenes_too_large_for_eighths_whole_voxels_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    field = scene_of("a floor")
    fine = found_in(field)
    monkeypatch.setattr("lg_field.radiance.standing.MAX_VOXELS", 1000)
    coarse = found_in(field)
    assert fine is not None and coarse is not None and coarse.above == fine.above
    assert isinstance(coarse.shape, VoxelSet) and not isinstance(fine.shape, VoxelSet)
    points = torch.rand(20000, 3, generator=torch.Generator().manual_seed(0)).double() * 2.0 - 1.0
    more, less = coarse.region.contains(points), fine.region.contains(points)
    assert bool(less.any()) and bool((more | ~less).all())


def test_among_very_many_voxels_whole_ones_are_looked_at_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    field = scene_of("a floor")
    fine = found_in(field)
    monkeypatch.setattr("lg_field.radiance.standing.MOST", 1000)
    with pytest.warns(Notice, match="looked for among .* whole voxels"):
        coarse = found_in(field)
    assert fine is not None and coarse is not None and isinstance(coarse.shape, VoxelSet)
    assert torch.allclose(torch.tensor(coarse.above.normal), torch.tensor(fine.above.normal), atol=0.05)
    points = torch.rand(20000, 3, generator=torch.Generator().manual_seed(0)) * 2.0 - 1.0
    kept = coarse.region.contains(points.double()) & field.is_occupied(points)
    assert bool(kept.any()) and float(points[kept].norm(dim=-1).max()) < RADIUS + 4.0 * side_of(field.occupancy)
    body = (points.norm(dim=-1) < RADIUS) & (points[:, 2] > -0.27 + 2.5 * side_of(field.occupancy))
    assert bool(kept[body & field.is_occupied(points)].all())


def test_a_crop_by_focus_has_the_thing_alone(tmp_path: Path) -> None:
    lg_field.save(scene_of("a table that ends"), tmp_path / "s.safetensors")
    said = lg("crop", "s.safetensors", "--focus", "-o", "one.safetensors", cwd=tmp_path)
    assert "cut from what it stands on at" in said and "% of its surface is cut" in said and "goes through" not in said
    one, whole = (lg_field.load(tmp_path / f"{n}.safetensors") for n in ("one", "s"))
    assert isinstance(one, RadianceField) and one.num_rows < whole.num_rows
    points = torch.rand(4000, 3, generator=torch.Generator().manual_seed(1)) * 2.0 - 1.0
    shown = one.is_occupied(points)
    assert bool(shown.any()) and float(points[shown][:, :2].norm(dim=-1).max()) < RADIUS + 2 * side_of(one.occupancy)
    assert torch.equal(one.density(points[shown]), whole.density(points[shown]))
    again = lg("crop", "one.safetensors", "--focus", "--dry-run", cwd=tmp_path)
    assert "nothing cut from it" in again
    words = ("mesh", "s.safetensors", "--focus", "-o", "m.ply", "--resolution", 24, "--report", "m.png", "--sides")
    assert "--sides must be at least 1, got 0" in lg(*words, 0, cwd=tmp_path, fails=True)
    lg(*words, 4, cwd=tmp_path)
    with Image.open(tmp_path / "m.png") as picture:
        assert picture.size == (1024, 1024)
    plane = lg("crop", "s.safetensors", "--above-plane", "--component", 1, "--dry-run", cwd=tmp_path)
    assert "the ground that was found" in plane


def test_what_hangs_free_is_not_cut_and_a_bare_table_is_said(tmp_path: Path) -> None:
    hangs = even_scene(lambda p: thing(p) | (over(p, -0.7) & (p[:, :2].abs().amax(-1) < 0.9)), dense=3.0)
    lg_field.save(hangs, tmp_path / "h.safetensors")
    said = lg("crop", "h.safetensors", "--focus", "-o", "one.safetensors", cwd=tmp_path)
    assert "hangs free: nothing had to be cut" in said
    one = lg_field.load(tmp_path / "one.safetensors")
    assert isinstance(one, RadianceField)
    points = torch.rand(4000, 3, generator=torch.Generator().manual_seed(1)) * 2.0 - 1.0
    assert torch.equal(one.is_occupied(points), hangs.is_occupied(points) & (points[:, 2] > -0.5))
    bare = even_scene(lambda p: over(p, -0.1) & (p[:, :2].abs().amax(-1) < 0.9), dense=3.0)
    lg_field.save(bare, tmp_path / "b.safetensors")
    said = lg("crop", "b.safetensors", "--focus", "--dry-run", cwd=tmp_path)
    assert "nothing cut from it: no object was found" in said
    bounded = ball_scene([(0.0, 0.0, 0.0, 0.3)])
    bounded.description = bare.description
    lg_field.save(bounded, tmp_path / "c.safetensors")
    assert "the scene is bounded" in lg("crop", "c.safetensors", "--focus", "--dry-run", cwd=tmp_path)
    lg_field.save(even_scene(lambda p: over(p, -0.1), dense=3.0), tmp_path / "e.safetensors")
    said = lg("crop", "e.safetensors", "--focus", "--dry-run", cwd=tmp_path)
    assert "nothing that the cameras look at ends" in said
