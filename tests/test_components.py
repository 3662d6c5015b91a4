"""Laws of objects in scenes: connected pieces, voxels that carry a cut, grounds, what cameras see, floaters."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from ball_scene import LARGE, MEDIUM, SMALL, ball_scene, circle, occupy, random_points
from hypothesis import given, settings
from hypothesis import strategies as st

import lg_field
from lg_field.meshing.mesh import EmptyMeshError
from lg_field.radiance.carving import Held, floaters, noted, pieces_of_field, without_pieces
from lg_field.radiance.components import (
    Pieces,
    beside,
    cut_through,
    kept_middles,
    middles,
    settled,
    settles,
    shown_voxels,
    voxel_set,
)
from lg_field.radiance.edits import edit_words
from lg_field.radiance.ground import above_ground
from lg_field.radiance.hull import visual_hull
from lg_field.radiance.occupancy import rows_of_dense
from lg_field.radiance.render import render
from lg_field.radiance.sight import cameras_that_see, seen_shares
from lg_field.radiance.solid import solid_voxels, with_skin
from lg_field.radiance.surface import radiance_mesh
from lg_field.space.regions import HalfSpace, Region
from lg_field.table.editing import crop, merge

ALL = (LARGE, MEDIUM, SMALL)


def random_voxels(seed: int, share: float, counts: tuple[int, int, int] = (7, 6, 9)) -> torch.Tensor:
    return torch.rand(counts, generator=torch.Generator().manual_seed(seed)) < share


@settings(max_examples=30)
@given(seed=st.integers(0, 999), share=st.floats(0.0, 0.5))
def test_pieces_partition_the_voxels_and_do_not_touch(seed: int, share: float) -> None:
    voxels = random_voxels(seed, share)
    pieces = Pieces.of(voxels)
    assert torch.equal(pieces.labels > 0, voxels) and int(pieces.sizes.sum()) == int(voxels.sum())
    assert torch.equal(pieces.sizes, torch.bincount(pieces.labels.view(-1), minlength=len(pieces) + 1)[1:])
    assert bool((pieces.sizes[1:] <= pieces.sizes[:-1]).all())
    pool = torch.nn.functional.max_pool3d
    for number in range(1, len(pieces) + 1):
        own = pieces.voxels([number])
        near = pool(own[None, None].float(), 3, stride=1, padding=1)[0, 0] > 0
        assert torch.equal(near & voxels, own), "nothing beside a piece is of another"
        assert len(Pieces.of(own)) == 1


def test_pieces_go_over_the_borders_of_cells() -> None:
    field = ball_scene([(0.0, 0.0, 0.0, 0.3)])
    pieces = pieces_of_field(field)
    assert len(pieces) == 1 and len(settled(field).cells) == 64
    assert int(field.occupied.any(1).sum()) == 8, "the ball lies in eight cells"


def test_a_point_names_the_nearest_piece() -> None:
    field = ball_scene()
    pieces, r = pieces_of_field(field), field.sizes.occupancy_voxels
    assert len(pieces) == 3
    for number, ball in enumerate(ALL, 1):
        place = field.frame.to_places(torch.tensor([ball[:3]])) * r
        found, away = pieces.nearest(place[0])
        assert found == number and away < 1.0
    with pytest.raises(ValueError, match="no component 4: what is shown has 3"):
        pieces.voxels([4])
    with pytest.raises(ValueError, match="no component"):
        Pieces.of(torch.zeros(2, 2, 2, dtype=torch.bool)).nearest(torch.zeros(3))


@pytest.mark.parametrize("contraction", [False, True])
@pytest.mark.parametrize("invert", [False, True])
def test_a_component_is_cut_out_to_the_bit(contraction: bool, invert: bool) -> None:
    """Kept weights are the same bits, kept points have the same density and colour, all else is empty."""
    field = ball_scene(contraction=contraction)
    pieces = pieces_of_field(field)
    region = voxel_set(field.occupancy, pieces.voxels([2]))
    small = settled(crop(field, region, invert=invert))
    assert small.region is None and small.num_rows < field.num_rows and bool(small.occupied.any(1).all())
    old = torch.isin(field.cells, small.cells)
    for name in ("local", "features"):
        assert torch.equal(getattr(small, name), getattr(field, name)[old])
    x = random_points(reach=1.5)
    kept = field.is_occupied(x) & (region.contains(x) != invert)
    assert torch.equal(small.is_occupied(x), kept) and 0 < int(kept.sum()) < int(field.is_occupied(x).sum())
    assert all(torch.equal(a, b) for a, b in zip(small(x[kept]), field(x[kept])))
    assert int(small.occupied.sum()) == int(pieces.sizes.sum() - pieces.sizes[1] if invert else pieces.sizes[1])


def test_settling_answers_every_query_as_the_region_did() -> None:
    field = ball_scene()
    voxels = voxel_set(field.occupancy, pieces_of_field(field).voxels([3]))
    half = Region.box((-1.0, -1.0, -1.0), (1.0, -0.2, 1.0))
    x = random_points()
    for region in (voxels, voxels & half, half - voxels, voxels | voxels, ~voxels & half & ~half | voxels):
        masked = crop(field, region)
        small = settled(masked)
        assert torch.equal(small.is_occupied(x), masked.is_occupied(x))
        assert torch.equal(small(x)[0], masked(x)[0] * small.is_occupied(x) + small(x)[0] * ~small.is_occupied(x))
    kept = settled(crop(field, voxels), keep_region=True)
    assert kept.region == voxels and torch.equal(kept.occupied, settled(crop(field, voxels)).occupied)
    assert settled(field) is field and settles(field, voxels & half) and not settles(field, half)


def test_a_crop_of_a_crop_is_the_crop_of_both() -> None:
    field = ball_scene()
    one = voxel_set(field.occupancy, pieces_of_field(field).voxels([1]))
    box = Region.box((-0.7, -1.0, -1.0), (1.0, 1.0, 0.4))
    once = settled(crop(field, one & box))
    twice = settled(crop(settled(crop(field, one)), box))
    assert torch.equal(once.cells, twice.cells) and torch.equal(once.occupied, twice.occupied)
    ball = Region.sphere((0.0, 0.0, 0.0), 0.4)
    for a, b in ((one, one), (box, box), (box, ball | box), (ball | box, box | one | ball)):
        with pytest.raises(ValueError, match=r"^nothing would be kept: .* without itself holds nothing$"):
            crop(field, a - b)
    with pytest.raises(ValueError, match="nothing would be kept"):
        settled(crop(settled(crop(field, one)), ~one))


@pytest.mark.parametrize("contraction", [False, True])
def test_objects_of_one_cell_merge_into_all_that_they_were(contraction: bool) -> None:
    field = ball_scene(contraction=contraction)
    pieces = pieces_of_field(field)
    whole, ball = pieces.labels > 0, pieces.voxels([1])
    part = ball & (torch.rand(ball.shape, generator=torch.Generator().manual_seed(0)) < 0.5)
    one, rest = (settled(crop(field, voxel_set(field.occupancy, some))) for some in (part, whole & ~part))
    both = torch.isin(one.cells, rest.cells)
    assert bool(both.any()), "they share cells"
    joined = merge(one, rest)
    x = random_points()
    kept = joined.is_occupied(x)
    assert torch.equal(kept, field.is_occupied(x)) and torch.equal(kept, one.is_occupied(x) | rest.is_occupied(x))
    assert all(torch.equal(a, b) for a, b in zip(joined(x[kept]), field(x[kept])))
    with torch.no_grad():
        rest.local.add_(1.0)
    with pytest.raises(ValueError, match="their rows differ in cells that both have"):
        merge(one, rest)


def test_a_component_is_one_piece_of_mesh() -> None:
    trimesh = pytest.importorskip("trimesh")
    field = ball_scene()
    pieces = pieces_of_field(field)
    for number in (1, 2):
        small = settled(crop(field, voxel_set(field.occupancy, pieces.voxels([number]))))
        mesh = radiance_mesh(small, 40, 1e-4, colors=False)
        body = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
        assert body.body_count == 1 and body.is_watertight
        middle = torch.tensor(ALL[number - 1][:3], dtype=torch.float64)
        away = (torch.from_numpy(mesh.vertices) - middle).norm(dim=-1)
        assert float(away.max()) < ALL[number - 1][3] + 0.15
    whole = radiance_mesh(field, 40, 1e-4, colors=False)
    assert trimesh.Trimesh(whole.vertices, whole.faces, process=False).body_count == 3
    occupy(field, [])
    with pytest.raises(EmptyMeshError):
        radiance_mesh(field, 16, 1e-4)


def test_what_is_rendered_of_two_components_is_what_each_shows() -> None:
    """Every ray that meets one of them alone sees what it saw before."""
    from lg_field.radiance.cameras import Camera

    field = ball_scene(contraction=True)
    scene = field.description
    camera = Camera(torch.tensor(scene.camera, dtype=torch.float64), 1.0, 24, 24)
    pieces = pieces_of_field(field)
    parts = [settled(crop(field, voxel_set(field.occupancy, pieces.voxels([k])))) for k in (1, 2, 3)]
    whole = render(field, scene, camera)
    seen = [render(part, scene, camera) for part in parts]
    hits = torch.stack([picture.accumulation[..., 0] > 0 for picture in seen])
    for picture, hit in zip(seen, hits):
        alone = hit & (hits.sum(0) == 1)
        assert bool(alone.any()) and torch.allclose(picture.rgb[alone], whole.rgb[alone], atol=1e-5)
    assert torch.equal(hits.any(0), whole.accumulation[..., 0] > 0)


# -- cuts


def test_a_cut_is_counted_where_it_goes_through_voxels() -> None:
    shown = torch.zeros(6, 5, 5, dtype=torch.bool)
    shown[1:5, 1:4, 1:4] = True
    kept = shown.clone()
    kept[3:] = False
    found = cut_through(shown, kept)
    assert found.cut == 9 and found.surface == 18 and found.share == 0.5
    assert cut_through(shown, shown).cut == 0 and cut_through(shown, ~shown) == (0, 0)
    assert torch.equal(beside(torch.ones(2, 2, 2, dtype=torch.bool)), torch.ones(2, 2, 2, dtype=torch.bool))
    assert not bool(beside(torch.zeros(2, 2, 2, dtype=torch.bool)).any())


@pytest.mark.parametrize("contraction", [False, True])
def test_only_cuts_through_an_object_are_found(contraction: bool) -> None:
    field = ball_scene(contraction=contraction)
    shown = shown_voxels(field.occupancy, None)
    whole = HalfSpace((-1.0, 0.0, 0.0), 0.12)
    for region, cut in ((whole, 0.0), (HalfSpace((1.0, 0.0, 0.0), 0.4), 0.05)):
        small = crop(field, region)
        share = cut_through(shown, kept_middles(shown, small.cells, small.region, field.occupancy)).share
        assert share >= cut if cut else share == 0.0
    component = voxel_set(field.occupancy, Pieces.of(shown).voxels([2]))
    small = crop(field, component)
    kept = kept_middles(shown, small.cells, component, field.occupancy)
    assert torch.equal(kept, component.dense) and cut_through(shown, kept).cut == 0
    by_cells = kept_middles(shown, field.cells[field.occupied.any(1)][:3], None, field.occupancy)
    assert bool(by_cells.any()) and bool((by_cells & ~shown).sum() == 0)


# -- ground


@pytest.mark.parametrize("up", [(0.0, 0.0, 1.0), (0.0, -3.0, 0.0)])
def test_the_ground_is_found_below_what_stands_on_it(up: tuple[float, float, float]) -> None:
    pytest.importorskip("open3d")
    field = ball_scene()
    axis, sign = max(range(3), key=lambda k: abs(up[k])), 1.0 if sum(up) > 0 else -1.0
    grid = field.occupancy
    index = torch.ones((16,) * 3, dtype=torch.bool)
    if field.sizes.occupancy_voxels * 4 != 16:
        index = torch.ones((field.sizes.occupancy_voxels * 4,) * 3, dtype=torch.bool)
    points = middles(grid, index.nonzero())
    height = points[:, axis] * sign
    slab = (height < -0.55) & (height > -0.8)
    stands = (points - torch.tensor([0.0, 0.0, 0.0]).double()).norm(dim=-1) < 0.6
    voxels = (slab | (stands & (height > -0.56))).view(index.shape)
    found = above_ground(grid, voxels, up)
    normal = torch.tensor(found.normal).double()
    cosine = float(normal @ torch.tensor(up).double() / torch.tensor(up).double().norm())
    assert cosine > 0.99
    inside = found.contains(points).view(index.shape)
    left = voxels & inside
    assert not bool((left & (slab & ~stands).view(index.shape)).any()), "the slab is gone"
    assert int(left.sum()) > 0.6 * int(stands.sum()) and len(Pieces.of(left)) == 1


def test_no_ground_is_said() -> None:
    pytest.importorskip("open3d")
    field = ball_scene([SMALL])
    with pytest.raises(ValueError, match="no level plane"):
        above_ground(field.occupancy, shown_voxels(field.occupancy, None), (0.0, 0.0, 1.0))


def test_no_ground_lies_above_what_cameras_look_at() -> None:
    """Of an unbounded scene, whose origin is that: a ceiling is none."""
    pytest.importorskip("open3d")
    field = ball_scene(contraction=True)
    grid = field.occupancy
    index = torch.ones_like(shown_voxels(grid, None))
    height = middles(grid, index.nonzero())[:, 2].view(index.shape)
    floor, ceiling = (height < -0.3) & (height > -0.45), (height < 0.58) & (height > 0.4)
    assert bool(floor.any()) and bool(ceiling.any())
    found = above_ground(grid, floor | ceiling, (0.0, 0.0, 1.0))
    assert bool(found.contains(torch.tensor([[0.0, 0.0, 0.0]])))
    with pytest.raises(ValueError, match="no level plane"):
        above_ground(grid, ceiling, (0.0, 0.0, 1.0))


# -- haze


def test_solid_voxels_are_those_that_absorb() -> None:
    field = ball_scene()
    with torch.no_grad():
        field.local.zero_()
        density = float(field.density(torch.tensor([[0.5, 0.4, -0.2]])))
    shown = shown_voxels(field.occupancy, None)
    side = 2.0 / shown.shape[0]
    absorbed = 1.0 - math.exp(-density * side)
    assert torch.equal(solid_voxels(field, shown, 0.0), shown)
    assert int(solid_voxels(field, shown, 0.2 * absorbed).sum()) > 0.5 * int(shown.sum())
    levels = [solid_voxels(field, shown, part) for part in (0.0, 0.3, 0.6, 0.9, 0.999999)]
    assert all(not bool((after & ~before).any()) for before, after in itertools.pairwise(levels))


def test_a_skin_is_of_no_other_piece() -> None:
    shown = torch.zeros(9, 3, 3, dtype=torch.bool)
    shown[:8] = True
    solid = torch.zeros_like(shown)
    solid[:3], solid[4:8] = True, True
    pieces = Pieces.of(solid)
    assert len(pieces) == 2 and len(Pieces.of(shown)) == 1
    first, second = (with_skin(pieces, [k], shown) for k in (1, 2))
    assert torch.equal(first, shown & (torch.arange(9) >= 3)[:, None, None])
    assert torch.equal(second, (torch.arange(9) <= 3)[:, None, None].expand_as(shown))
    assert torch.equal(with_skin(Pieces.of(shown), [1], shown), shown)


# -- cameras


def test_cameras_see_what_they_look_at() -> None:
    field, views = ball_scene(), circle()
    pieces = pieces_of_field(field)
    for number, ball in enumerate(ALL[:2]):
        shares = seen_shares(field, field.description, views, pieces, torch.tensor(ball[:3]).double())
        assert float(shares.sum()) == pytest.approx(1.0) and int(shares.argmax()) == number


def test_pieces_hidden_from_all_cameras_are_seen_by_none() -> None:
    field, views = ball_scene([(0.0, 0.0, 0.0, 0.2)]), circle()
    index = torch.ones_like(shown_voxels(field.occupancy, None))
    away = middles(field.occupancy, index.nonzero()).norm(dim=-1).view(index.shape)
    shell = (away > 0.6) & (away < 0.95)
    both = shell | (away < 0.2)
    grid = field.occupancy
    grid.restore_(rows_of_dense(both, field.cells, field.grid, grid.per_axis))
    with torch.no_grad():
        field.local.zero_()
        thick = field.opacity(torch.tensor([[0.75, 0.0, 0.0]]), 0.3)
    assert float(thick) > 0.99, "the shell is opaque"
    pieces = pieces_of_field(field)
    assert len(pieces) == 2
    assert cameras_that_see(field, field.description, views.origins, pieces, [1, 2], views) == [len(views.poses), 0]
    assert cameras_that_see(field, field.description, views.origins, pieces, [2]) == [0]
    drop = floaters(field, pieces, 0.0, 1, views.origins, views)
    assert drop.tolist() == [False, True]


def test_cameras_that_look_elsewhere_do_not_see_it() -> None:
    from dataclasses import replace

    field, views = ball_scene(), circle()
    away = replace(views, poses=torch.cat([-views.poses[:, :, :3], views.poses[:, :, 3:]], dim=2))
    pieces = pieces_of_field(field)
    assert cameras_that_see(field, field.description, views.origins, pieces, [1, 2, 3], away) == [0, 0, 0]
    assert min(cameras_that_see(field, field.description, views.origins, pieces, [1, 2, 3], views)) > 0


def test_full_masks_keep_all_and_empty_ones_nothing() -> None:
    field, views = ball_scene(), circle()
    points = middles(field.occupancy, shown_voxels(field.occupancy, None).nonzero())
    full = torch.ones(len(views.poses), 20, 20)
    assert bool(visual_hull(views, full, points, least=0.0).all())
    assert not bool(visual_hull(views, torch.zeros_like(full), points, least=0.0).any())
    one = visual_hull(views, torch.cat([full[:1], 0 * full[1:]]), points, least=0.0)
    assert not bool(one.any())


# -- floaters


def test_floaters_are_the_small_pieces_and_nothing_else_changes() -> None:
    field = ball_scene()
    pieces = pieces_of_field(field)
    drop = floaters(field, pieces, 0.1)
    assert drop.tolist() == [False, False, True]
    small = without_pieces(field, pieces, drop)
    x = random_points()
    gone = voxel_set(field.occupancy, pieces.voxels([3])).contains(x)
    assert torch.equal(small.is_occupied(x), field.is_occupied(x) & ~gone)
    assert without_pieces(field, pieces, floaters(field, pieces, 0.0)) is field
    again = pieces_of_field(small)
    assert not bool(floaters(small, again, 0.1).any()), "cleaning twice is cleaning once"
    with pytest.raises(ValueError):
        without_pieces(field, pieces, torch.ones(3, dtype=torch.bool))


def test_what_was_dropped_is_written_down(tmp_path) -> None:
    field = ball_scene()
    pieces = pieces_of_field(field)
    before = Held.by(field)
    small = noted(without_pieces(field, pieces, floaters(field, pieces, 0.1)), "clean", before)
    lg_field.save(small, tmp_path / "s.safetensors")
    again = lg_field.load(tmp_path / "s.safetensors")
    (words,) = edit_words(again.history)
    assert f"{before.voxels:,} -> {int(small.occupied.sum()):,}" in words and "clean" in words
    for _ in range(40):
        noted(small, "clean", before)
    assert len(edit_words(small.history)) == 16
    for odd in ({"edits": 3}, {"edits": [1, {"edit": "a"}, {"voxels": [1], "cells": [1, 2]}]}, {}):
        assert edit_words(odd) == []
