"""Cells, seams and components of compositions: a scene cut in two and composed has those of the whole."""

from __future__ import annotations

import json
from functools import reduce
from pathlib import Path

import numpy as np
import pytest
import torch
from ball_scene import MEDIUM, SMALL, ball_scene
from commands import lg
from PIL import Image

import lg_field
from lg_field import Region
from lg_field.radiance.arrangement import Place, read_arrangement
from lg_field.radiance.components import Pieces, shown_voxels
from lg_field.radiance.composition import HERE, Composition, Part
from lg_field.radiance.field import RadianceField
from lg_field.radiance.ground import above_ground
from lg_field.radiance.merged_pieces import MergedPieces, PartVoxels, merged_ground, stacks_of
from lg_field.radiance.opening import CompositionFile
from lg_field.radiance.outputs import OUTPUTS, ray_output, render_output
from lg_field.radiance.render import Camera, ask_view, orbit
from lg_field.radiance.solid import solid_voxels
from lg_field.table.editing import crop

THROUGH = Region.box((-9.0, -9.0, -9.0), (-0.43, 9.0, 9.0))
"""Cuts the largest ball, within its cells."""
ELSEWHERE = Place((0.7, -1.3, 0.4), (25.0, -40.0, 110.0), 1.7)


@pytest.fixture(scope="module", params=[False, True], ids=["bounded", "contracted"])
def whole(request: pytest.FixtureRequest) -> RadianceField:
    return ball_scene(contraction=request.param)


def halves(field: RadianceField) -> list[RadianceField]:
    return [crop(field, THROUGH), crop(field, THROUGH, invert=True)]


def parts_of(fields: list[RadianceField], place: Place = HERE) -> list[Part]:
    return [Part(str(k), field, place) for k, field in enumerate(fields)]


def voxels(part: Part) -> PartVoxels:
    field = part.field
    return PartVoxels(part.name, field.occupancy, part.place, field.region, lambda: field)


def rays_around(place: Place, field: RadianceField) -> Camera:
    camera = next(orbit(field, field.description, 1, 24, 24))
    pose, way = camera.to_scene.clone(), place.similarity()
    pose[:3, :3] = way.directions(pose[:3, :3].T.contiguous()).T
    pose[:3, 3] = way.points(pose[:3, 3])
    return Camera(pose, camera.focal, camera.width, camera.height)


@pytest.mark.parametrize("place", [Place(), ELSEWHERE], ids=["here", "elsewhere"])
def test_two_halves_show_what_the_whole_shows(whole: RadianceField, place: Place) -> None:
    together, one = Composition(parts_of(halves(whole), place)), Composition(parts_of([whole], place))
    rays = [v.view(-1, 3) for v in rays_around(place, whole).rays()]
    asked = [ask_view(volume, volume.description, *rays, 0.0) for volume in (one, together)]
    for name in OUTPUTS:
        before, after = (ray_output(some, some.field.description, name)[0] for some in asked)
        assert before[before.isfinite()].std() > 1e-3 or name == "seam"
        assert torch.allclose(before, after, atol=2e-4, equal_nan=True), name


def test_a_field_alone_shows_its_own_cells_and_seams(whole: RadianceField) -> None:
    camera, alone = rays_around(Place(), whole), Composition(parts_of([whole]))
    for name in ("cells", "seam"):
        pictures = [render_output(volume, whole.description, camera, name) for volume in (whole, alone)]
        assert torch.allclose(*pictures, atol=1e-5) and pictures[0].max() > 0.01
    copies = Composition([*alone.parts, Part("copy", whole, Place((0.0, 5.0, 0.0)))])
    there = rays_around(copies.parts[1].place, whole)
    cells = [render_output(copies, copies.description, c, "cells") for c in (camera, there)]
    assert (cells[0] - cells[1]).abs().max() > 0.2, "copies in other places have colours of their own"


@pytest.mark.parametrize("solid", [0.0, 0.3])
def test_components_of_two_halves_are_those_of_the_whole(whole: RadianceField, solid: float) -> None:
    pieces = Pieces.of(solid_voxels(whole, shown_voxels(whole.occupancy, None), solid))
    for place in (Place(), ELSEWHERE):
        merged = MergedPieces.of(stacks_of([voxels(p) for p in parts_of(halves(whole), place)]), solid)
        assert torch.equal(merged.sizes, pieces.sizes) and torch.equal(merged.pieces[0].labels, pieces.labels)
        point = place.similarity().points(torch.tensor([0.5, 0.4, -0.2], dtype=torch.float64))
        ours, theirs = merged.nearest(point), pieces.nearest(merged.stacks[0].places(point[None])[0])
        assert ours == theirs
        assert merged.nearest(merged.inner_point(2))[0] == 2
        kept = merged.kept([1])
        assert set(kept) == {"0", "1"}, "the cut goes through the largest ball"
        joined = reduce(torch.logical_or, (some.dense for some in kept.values()))
        if not solid:
            assert torch.equal(joined, pieces.labels == 1)


def test_pieces_of_different_scenes_are_one_where_their_voxels_touch() -> None:
    ball = ball_scene([(0.0, 0.0, 0.0, 0.5)])

    def pieces(*places: Place) -> MergedPieces:
        return MergedPieces.of(stacks_of([voxels(Part(str(k), ball, place)) for k, place in enumerate(places)]))

    turned = (20.0, 30.0, 40.0)
    assert len(pieces(Place(), Place((0.95, 0.0, 0.0), turned))) == 1
    assert len(pieces(Place(), Place((1.3, 0.0, 0.0), turned))) == 2
    assert len(pieces(Place(), Place(scale=0.1))) == 1, "one within the other"
    assert len(pieces(Place(scale=0.1), Place())) == 1
    apart = pieces(Place(scale=0.5), Place((3.0, 0.0, 0.0)), Place((3.0, 0.9, 0.0), turned), Place((9.0, 0.0, 0.0)))
    assert len(apart) == 3 and set(apart.kept([1])) == {"1", "2"} and set(apart.kept([3])) == {"0"}
    assert apart.volumes.diff().le(0).all() and apart.nearest(torch.tensor([9.0, 0.0, 0.0]).double())[0] == 2
    unbounded = voxels(Part("far", ball_scene([(0.0, 0.0, 0.0, 0.5)], contraction=True), Place((0.9, 0.0, 0.0))))
    assert len(MergedPieces.of(stacks_of([voxels(Part("a", ball)), unbounded]))) == 1
    with pytest.raises(ValueError, match="there is no component 4"):
        apart.kept([4])


def test_the_ground_of_two_halves_is_that_of_the_whole(whole: RadianceField) -> None:
    from ball_scene import occupy_where

    pytest.importorskip("open3d", reason="finding the ground needs lg-field[mesh]")
    field = ball_scene(contraction=bool(whole.sizes.contraction))
    occupy_where(field, lambda p: (p[:, 2].abs() < 0.12) & (p.norm(dim=-1) < 0.7))
    before = above_ground(field.occupancy, solid_voxels(field, shown_voxels(field.occupancy, None), 0.01), (0, 0, 1))
    after = merged_ground(stacks_of([voxels(p) for p in parts_of(halves(field))]), (0, 0, 1), 0.01)
    assert after.normal == pytest.approx(before.normal) and after.offset == pytest.approx(before.offset)


# -- the commands


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, field = tmp_path_factory.mktemp("scenes"), ball_scene()
    lg_field.save(field, folder / "whole.safetensors")
    for name, half in zip(("left", "right"), halves(field)):
        lg_field.save(half, folder / f"{name}.safetensors")
    lg_field.save(ball_scene([MEDIUM, SMALL]), folder / "chair.safetensors")
    lg("compose", "left.safetensors", "right.safetensors", "-o", "both.json", cwd=folder)
    lg("compose", "whole.safetensors", "chair.safetensors", "--place", "chair", "--move", 0, 3, 0, "-o", "two.json",
       cwd=folder)  # fmt: skip
    return folder


def loaded(path: Path) -> Composition:
    with CompositionFile.open(str(path)) as file:
        return file.load()


def held(volume: Composition | RadianceField) -> torch.Tensor:
    """(n,) bool: which of some points are in what a volume shows."""
    points = (torch.rand(20000, 3, generator=torch.Generator().manual_seed(1)) * 2 - 1) * torch.tensor([1.0, 4.0, 1.0])
    return volume.is_occupied(points)


@pytest.mark.parametrize(
    "words",
    [
        ("--component", "largest"),
        ("--component", 0.5, 0.4, -0.2, "--invert"),
        ("--box", -1, -1, -1, 0.1, 1, 1, "--piece", 1, "--invert"),
        ("--above-plane", 0, 0, 1, 0.1, "--component", 1),
    ],
)
def test_objects_of_two_halves_are_those_of_the_whole(folder: Path, tmp_path: Path, words: tuple[object, ...]) -> None:
    lg("crop", "whole.safetensors", *words, "-o", tmp_path / "one.safetensors", cwd=folder)
    said = lg("crop", "both.json", *words, "-o", tmp_path / "both.json", cwd=folder)
    assert "left: " in said and "right: " in said
    one, both = lg_field.load(tmp_path / "one.safetensors"), loaded(tmp_path / "both.json")
    assert held(one).any() and torch.equal(held(one), held(both))


def test_what_cameras_look_at_of_two_halves_is_that_of_the_whole(folder: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    field = ball_scene([(0.0, 0.0, 0.0, 0.3), (0.7, 0.6, 0.6, 0.15)])
    field.description = replace(field.description, viewpoints=((3.0, 0.0, 0.4), (0.0, 3.0, 0.4), (-3.0, 0.1, 0.4)))
    cut = Region.box((-9.0, -9.0, -9.0), (0.03, 9.0, 9.0))
    lg_field.save(field, tmp_path / "w.safetensors")
    lg_field.save(crop(field, cut), tmp_path / "l.safetensors")
    lg_field.save(crop(field, cut, invert=True), tmp_path / "r.safetensors")
    lg("compose", "l.safetensors", "r.safetensors", "-o", "b.json", cwd=tmp_path)
    for source, output in (("w.safetensors", "wf.safetensors"), ("b.json", "bf.json")):
        lg("crop", source, "--focus", "-o", output, cwd=tmp_path)
    one, both = lg_field.load(tmp_path / "wf.safetensors"), loaded(tmp_path / "bf.json")
    assert held(one).any() and torch.equal(held(one), held(both)) and not torch.equal(held(field), held(one))


def test_cells_are_those_of_the_parts_that_are_named(folder: Path, tmp_path: Path) -> None:
    field = lg_field.load(folder / "chair.safetensors")
    some = field.cells[field.occupied.any(1)][:3].tolist()
    words = [f"chair:{some[0]}", f"{some[1]},{some[2]}"]
    said = lg("crop", "two.json", "--cells", *words, "-o", tmp_path / "c.json", cwd=folder)
    assert "whole: 0 of 64 cells; chair: 3 of 64 cells" in said and "it stays listed" in said
    made, shown = read_arrangement(str(tmp_path / "c.json")), loaded(tmp_path / "c.json")
    told = lg("info", "c.json", cwd=tmp_path)
    assert "of these parts less:" in told and "whole: nothing" in told and "chair: exactly" in told
    assert [part.shown for part in made.parts] == [False, True] and [p.name for p in shown.parts] == ["chair"]
    assert sorted(shown.cells.tolist()) == sorted(some)
    alone = Composition([Part("chair", crop(field, cells=some), Place((0.0, 3.0, 0.0)))])
    assert torch.equal(held(shown), held(alone)) and held(shown).any()
    lg("crop", "two.json", "--cells", *words, "--invert", "-o", tmp_path / "rest.json", cwd=folder)
    rest, every = loaded(tmp_path / "rest.json"), loaded(folder / "two.json")
    assert torch.equal(held(rest) ^ held(shown), held(every)) and not (held(rest) & held(shown)).any()
    lg("compose", "c.json", "-o", "again.json", cwd=tmp_path)
    assert torch.equal(held(loaded(tmp_path / "again.json")), held(shown))


def test_whole_cells_are_kept_where_that_is_asked(folder: Path, tmp_path: Path) -> None:
    box = ("--box", -0.9, -0.9, -0.9, 0.2, 0.9, 0.9, "--snap")
    lg("crop", "whole.safetensors", *box, "-o", tmp_path / "one.safetensors", cwd=folder)
    lg("crop", "two.json", *box, "-o", tmp_path / "two.json", cwd=folder)
    one, two = lg_field.load(tmp_path / "one.safetensors"), loaded(tmp_path / "two.json")
    assert (
        held(one).any()
        and torch.equal(held(one), held(two))
        and read_arrangement(str(tmp_path / "two.json")).region is None
    )


def picture(folder: Path, source: str, *words: object) -> np.ndarray:
    path = {"camera_to_world": lg_field.load(folder / "whole.safetensors").description.camera, "fov": 40.0, "aspect": 1}
    path["camera_to_world"] = np.asarray(path["camera_to_world"]).ravel().tolist()
    (folder / "camera.json").write_text(
        json.dumps({"render_height": 24, "render_width": 24, "camera_type": "perspective", "camera_path": [path]})
    )
    lg("render", source, "--camera", "camera.json", *words, "-o", "shot.png", "--overwrite", cwd=folder)
    return np.asarray(Image.open(folder / "shot.png")).astype(int)


@pytest.mark.parametrize("words", [("--show", "cells"), ("--show", "seam"), ("--show", "depth"), ("--component", 1)])
def test_pictures_of_two_halves_are_those_of_the_whole(folder: Path, words: tuple[object, ...]) -> None:
    before, after = (picture(folder, source, *words) for source in ("whole.safetensors", "both.json"))
    assert before.std() > 5 and np.abs(before - after).max() <= 2


def test_only_colours_are_transparent(folder: Path) -> None:
    words = ("--orbit", 1, "--transparent", "--show", "seam", "-o", "x.png")
    assert "--transparent is for colours" in lg("render", "both.json", *words, cwd=folder, fails=True)


def test_what_is_kept_of_parts_is_meshed(folder: Path, tmp_path: Path) -> None:
    trimesh = pytest.importorskip("trimesh", reason="meshes need lg-field[mesh]")
    usual = ("--resolution", 32, "--threshold", 0.05, "--no-colors")
    lg("mesh", "two.json", "--component", 0.5, 3.4, -0.2, "-o", tmp_path / "m.ply", *usual, cwd=folder)
    low, high = trimesh.load(tmp_path / "m.ply").bounds
    middle = np.array([MEDIUM[0], MEDIUM[1] + 3.0, MEDIUM[2]])
    assert np.abs((low + high) / 2 - middle).max() < 0.1 and (high - low).max() < 2 * MEDIUM[3] + 0.2


def test_a_page_saves_the_part_that_it_shows(folder: Path, tmp_path: Path) -> None:
    from lg_field.cli.compose import CompositionSource
    from lg_field.cli.objects import ObjectFlags
    from lg_field.cli.options import RegionFlags
    from lg_field.viewer.arranging import CompositionSubject

    source = CompositionSource(str(folder / "two.json"))
    part = source.part(RegionFlags(objects=ObjectFlags(component=("1",))))
    subject = CompositionSubject(part.field, source.arrangement, folder / "two.json", source.name)
    assert subject.outputs == OUTPUTS and subject.names() == ("whole",)
    subject.save(tmp_path / "part.json")
    assert torch.equal(held(loaded(tmp_path / "part.json")), held(part.field))
