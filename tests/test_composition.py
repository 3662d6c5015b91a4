"""Laws of compositions: cut in two and put together, moved with the camera, copies for nothing, parts that occlude."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ball_scene import LARGE, MEDIUM, ball_scene, random_points
from hypothesis import given, settings
from hypothesis import strategies as st
from small_scene import small_scene

import lg_field
from lg_field import Region
from lg_field.radiance.arrangement import Arrangement, PartEntry, Place, read_arrangement, write_arrangement
from lg_field.radiance.composition import Composition, Part, common_scene, merged_samples, parts_of
from lg_field.radiance.field import RadianceField
from lg_field.radiance.opening import CompositionFile
from lg_field.radiance.outputs import OUTPUTS, ray_output
from lg_field.radiance.render import Camera, Picture, ask_view, look_along, orbit, render
from lg_field.radiance.surface import mesh_bounds, radiance_mesh
from lg_field.radiance.threshold import default_threshold
from lg_field.space.regions.similarity import Similarity
from lg_field.table.editing import crop

ELSEWHERE = Place((0.7, -1.3, 0.4), (25.0, -40.0, 110.0), 1.7)
FINITE = st.floats(-3.0, 3.0, allow_nan=False)
PLACES = st.builds(
    Place, st.tuples(FINITE, FINITE, FINITE), st.tuples(*[st.floats(-180.0, 180.0)] * 3), st.floats(0.2, 4.0)
)


def camera_of(field: RadianceField | Composition, size: int = 24) -> Camera:
    return next(orbit(field, field.description, 1, size, size))


def seen_by(volume: RadianceField | Composition, camera: Camera, least_light: float = 1e-3) -> Picture:
    return render(volume, volume.description, camera, least_light=least_light)


def moved_camera(camera: Camera, way: Similarity) -> Camera:
    pose = camera.to_scene.clone()
    pose[:3, :3] = way.directions(pose[:3, :3].T.contiguous()).T
    pose[:3, 3] = way.points(pose[:3, 3])
    return Camera(pose, camera.focal, camera.width, camera.height)


def db(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(-10 * (a - b).square().mean().clamp_min(1e-12).log10())


@pytest.fixture(scope="module", params=[False, True], ids=["bounded", "contracted"])
def whole(request: pytest.FixtureRequest) -> RadianceField:
    return ball_scene(contraction=request.param)


# -- the laws of rendering


@pytest.mark.parametrize("place", [Place(), ELSEWHERE], ids=["here", "elsewhere"])
def test_a_scene_cut_in_two_and_put_together_renders_as_before(whole: RadianceField, place: Place) -> None:
    region = Region.box((-9.0, -9.0, -9.0), (0.07, 9.0, 9.0))
    halves = [crop(whole, region), crop(whole, region, invert=True)]
    together = Composition([Part(str(k), half, place) for k, half in enumerate(halves)])
    one = Composition([Part("whole", whole, place)])
    camera = moved_camera(camera_of(whole), place.similarity())
    before, after = seen_by(one, camera), seen_by(together, camera)
    assert before.accumulation.std() > 0.1
    for a, b in zip(before, after):
        assert torch.allclose(a, b, atol=2e-5)


def test_a_field_alone_in_a_composition_is_that_field(whole: RadianceField) -> None:
    camera, alone = camera_of(whole), Composition([Part("a", whole)])
    for a, b in zip(seen_by(whole, camera), seen_by(alone, camera)):
        assert torch.allclose(a, b, atol=1e-6)
    assert torch.equal(camera_of(alone).to_scene, camera.to_scene)
    points = random_points(reach=1.5)
    with torch.no_grad():
        assert torch.equal(alone.density(points), whole.density(points))
    assert torch.equal(alone.is_occupied(points), whole.is_occupied(points))


@given(place=PLACES)
@settings(max_examples=8)
def test_a_moved_copy_renders_as_a_moved_camera(whole: RadianceField, place: Place) -> None:
    camera = camera_of(whole, 16)
    moved = Composition([Part("a", whole, place)])
    before, after = seen_by(whole, camera), seen_by(moved, moved_camera(camera, place.similarity()))
    assert db(before.rgb, after.rgb) > 45 and db(before.accumulation, after.accumulation) > 45
    hit = (before.accumulation > 0.9)[..., 0]
    off = (before.depth * place.scale - after.depth)[hit].abs()
    assert float(off.median()) < 1e-3 * place.scale


def test_parts_hide_what_is_behind_them_from_either_side() -> None:
    first, second = ball_scene([(0.0, 0.0, 0.0, 0.4)]), ball_scene([(0.0, 0.0, 0.0, 0.4)])
    with torch.no_grad():
        second.local.copy_(torch.randn(second.local.shape, generator=torch.Generator().manual_seed(5)))
    apart = Composition([Part("a", first), Part("b", second, Place((-2.0, 0.0, 0.0)))])
    for side, front in ((4.0, apart.parts[0]), (-6.0, apart.parts[1])):
        eye = torch.tensor([side, 0.0, 0.0], dtype=torch.float64)
        ahead = torch.tensor([-1.0 if side > 0 else 1.0, 0.0, 0.0], dtype=torch.float64)
        camera = Camera(look_along(eye, ahead, torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)), 6.0, 12, 12)
        both, alone = seen_by(apart, camera), seen_by(Composition([front]), camera)
        hit = (alone.accumulation > 0.999)[..., 0]
        assert hit.sum() > 10
        assert torch.allclose(both.rgb[hit], alone.rgb[hit], atol=2e-3)
        assert torch.allclose(both.depth[hit], alone.depth[hit], atol=2e-2)


def test_a_bounded_part_stands_in_an_unbounded_one() -> None:
    """Where only one of them holds something it alone is seen; the bounded one hides the other."""
    room, chair = ball_scene([(3.0, 0.0, 0.0, 1.5)], contraction=True), ball_scene([LARGE])
    both = Composition([Part("room", room), Part("chair", chair, Place((0.2, 0.85, 0.0), scale=0.5))])
    eye = torch.tensor([-3.0, 0.0, 0.2], dtype=torch.float64)
    camera = Camera(look_along(eye, *torch.eye(3, dtype=torch.float64)[[0, 2]]), 1.2, 32, 32)
    picture = seen_by(both, camera)
    alone = [seen_by(Composition([part]), camera) for part in both.parts]
    for part, other in ((0, 1), (1, 0)):
        only = ((alone[other].accumulation < 1e-6) & (alone[part].accumulation > 0.5))[..., 0]
        assert only.any() and torch.allclose(picture.rgb[only], alone[part].rgb[only], atol=2e-3)
    hidden = ((alone[1].accumulation > 0.999) & (alone[0].accumulation > 0.5))[..., 0]
    assert hidden.any() and torch.allclose(picture.depth[hidden], alone[1].depth[hidden], atol=1e-2)


def test_samples_of_all_parts_are_sorted_along_each_ray(whole: RadianceField) -> None:
    both = Composition([Part("a", whole), Part("b", whole, ELSEWHERE), Part("c", whole, Place((0.1, 0.0, 0.0)))])
    origins, directions = (v.view(-1, 3) for v in camera_of(both, 12).rays())
    samples, owners = merged_samples(both, origins, directions)
    assert owners.unique().tolist() == [0, 1, 2]
    key = samples.rays.double() * 1e6 + samples.middles
    assert bool((key.diff() >= 0).all())
    for number, part in enumerate(both.parts):
        mine = owners == number
        alone, _ = merged_samples(Composition([part]), origins, directions)
        assert torch.equal(samples.starts[mine], alone.starts) and torch.equal(samples.rays[mine], alone.rays)


def test_fields_with_and_without_a_colour_layer_go_together() -> None:
    from lg_field.radiance.field import RadianceSizes

    plain = RadianceField(small_scene().grid, RadianceSizes(color_width=0, color_features=27, density_bias=4.0)).eval()
    plain.description = small_scene().description
    both = Composition([Part("a", small_scene()), Part("b", plain, Place((0.5, 2.5, 0.0)))])
    seen = seen_by(both, camera_of(both, 12))
    assert bool(seen.rgb.isfinite().all()) and seen.rgb.std() > 0.01


def test_what_rays_show_of_a_composition(whole: RadianceField) -> None:
    both = Composition([Part("a", whole), Part("b", whole, ELSEWHERE)])
    origins, directions = (v.view(-1, 3) for v in camera_of(both, 8).rays())
    asked = ask_view(both, both.description, origins, directions, 0.0)
    for name in OUTPUTS:
        assert len(ray_output(asked, both.description, name)[0]) == 64
    colours = ray_output(asked, both.description, "cells")[0]
    assert colours.std() > 0.05


# -- meshes


def test_the_mesh_of_a_moved_part_is_the_moved_mesh() -> None:
    field, place = ball_scene([MEDIUM]), Place((2.0, 0.5, -1.0), (0.0, 0.0, 90.0), 2.0)
    moved = Composition([Part("a", field, place)])
    plain = radiance_mesh(field, 24, 0.05, colors=True)
    there = radiance_mesh(moved, 24, 0.05 / place.scale, colors=True)
    want = place.similarity().points(torch.from_numpy(plain.vertices).double())
    low, high = want.amin(0), want.amax(0)
    found = torch.from_numpy(there.vertices).double()
    assert torch.allclose(torch.stack([found.amin(0), found.amax(0)]), torch.stack([low, high]), atol=0.05)
    assert default_threshold(moved) == pytest.approx(default_threshold(field) / place.scale)
    assert there.colors is not None and there.colors.std() > 0


def test_the_mesh_of_two_parts_holds_both() -> None:
    field = ball_scene([MEDIUM])
    two = Composition([Part("a", field), Part("b", field, Place((4.0, 0.0, 0.0)))])
    box, alone = mesh_bounds(two).box, mesh_bounds(field).box
    assert torch.allclose(box[0], alone[0]) and torch.allclose(
        box[1], alone[1] + torch.tensor([4.0, 0.0, 0.0]).double()
    )
    mesh = torch.from_numpy(radiance_mesh(two, 48, 0.05, colors=False).vertices)
    assert bool((mesh[:, 0] < 1.0).any()) and bool((mesh[:, 0] > 4.0).any())
    assert not bool(((mesh[:, 0] > 1.2) & (mesh[:, 0] < 3.8)).any())


def test_densities_add_and_colours_are_those_of_the_denser_part() -> None:
    first, second = ball_scene([LARGE]), ball_scene([MEDIUM])
    both, points = Composition([Part("a", first), Part("b", second, Place((0.3, 0.0, 0.0)))]), random_points(500)
    with torch.no_grad():
        shifted = second(points - torch.tensor([0.3, 0.0, 0.0]))[0]
        density, features = both(points)
        assert torch.allclose(density, first.density(points) + shifted, rtol=1e-4, atol=1e-5)
        ahead = torch.nn.functional.normalize(points, dim=1)
        colors = both.rgb(features, ahead)
    assert bool((colors >= 0).all()) and bool((colors <= 1).all())


# -- description and places


def test_world_units_are_those_of_the_first_part_wherever_it_stands() -> None:
    scene = small_scene().description
    there = common_scene([(scene, ELSEWHERE)])
    point = torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64)
    matrix, moved = (torch.tensor(s.scene_to_world, dtype=torch.float64) for s in (scene, there))
    out = ELSEWHERE.similarity().points(point)
    assert torch.allclose(moved[:3, :3] @ out + moved[:3, 3], matrix[:3, :3] @ point + matrix[:3, 3])
    assert there.step == pytest.approx(scene.step * ELSEWHERE.scale)
    assert common_scene([(scene, Place())]) == scene
    assert common_scene([(scene, Place())], (0.0, 0.5, 1.0)).background == (0.0, 0.5, 1.0)


@given(place=PLACES)
def test_a_place_and_its_inverse_undo_each_other(place: Place) -> None:
    way, points = place.similarity(), random_points(20).double()
    assert torch.allclose(way.inverse().points(way.points(points)), points, atol=1e-9)
    assert torch.allclose(way.inverse().matrix() @ way.matrix(), torch.eye(4, dtype=torch.float64), atol=1e-9)
    boxes = torch.stack([points, points + 0.5], dim=1)
    inside = way.points(points + 0.25)
    around = way.boxes(boxes)
    assert bool(((inside >= around[:, 0]) & (inside <= around[:, 1])).all())


def test_boxes_that_stay_are_the_same_to_the_bit_and_may_be_infinite() -> None:
    boxes = torch.tensor([[[0.1, 0.2, -torch.inf], [0.3, 0.7, torch.inf]]])
    assert torch.equal(Place().similarity().boxes(boxes), boxes)
    assert torch.equal(Place((1.0, 2.0, 3.0)).similarity().boxes(boxes)[0, 0, 2], torch.tensor(-torch.inf))


# -- files


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("parts")
    (made / "sub").mkdir()
    lg_field.save(ball_scene(), made / "room.safetensors")
    lg_field.save(ball_scene([MEDIUM]), made / "sub/chair.safetensors")
    parts = (
        PartEntry("room", "room.safetensors"),
        PartEntry("chair", "sub/chair.safetensors", ELSEWHERE),
        PartEntry("chair-2", "sub/chair.safetensors", Place((-3.0, 0.0, 0.0))),
    )
    write_arrangement(Arrangement(parts), made / "scene.json")
    return made


def test_what_is_written_is_read(folder: Path, tmp_path: Path) -> None:
    made = read_arrangement(str(folder / "scene.json"))
    cropped = Arrangement(made.parts, Region.sphere((0.0, 0.0, 0.0), 1.0), (0.1, 0.2, 0.3))
    write_arrangement(cropped, tmp_path / "a.json")
    assert read_arrangement(str(tmp_path / "a.json")) == cropped
    with pytest.raises(FileExistsError, match="--overwrite"):
        write_arrangement(cropped, tmp_path / "a.json")


def test_copies_of_a_file_cost_nothing_more(folder: Path, tmp_path: Path) -> None:
    made = read_arrangement(str(folder / "scene.json"))
    write_arrangement(Arrangement(made.parts[:2]), folder / "fewer.json")
    with (
        CompositionFile.open(str(folder / "scene.json")) as file,
        CompositionFile.open(str(folder / "fewer.json")) as few,
    ):
        whole, fewer = file.load(), few.load()
        assert file.bytes_read == few.bytes_read
    room, chair, copy = whole.parts
    assert chair.field is copy.field and room.field is not chair.field
    assert len({id(p) for part in whole.parts for p in part.field.parameters()}) == len(
        {id(p) for part in fewer.parts for p in part.field.parameters()}
    )


def test_a_region_reads_only_its_rows_and_shows_what_the_whole_shows_there(folder: Path) -> None:
    region = Region.box((-0.9, -0.9, -0.3), (0.1, 0.1, 0.7))
    with CompositionFile.open(str(folder / "scene.json")) as file:
        part = file.load(region)
        read = file.bytes_read
    with CompositionFile.open(str(folder / "scene.json")) as file:
        whole = file.load()
        assert read < file.bytes_read
    assert "chair-2" not in [p.name for p in part.parts], "it has nothing there"
    camera = camera_of(whole, 20)
    masked = Composition(whole.parts, region, whole.description)
    assert db(seen_by(masked, camera).accumulation, seen_by(part, camera).accumulation) > 30, "steps begin elsewhere"
    assert seen_by(part, camera).accumulation.max() > 0.5
    points = random_points(reach=1.0)
    with torch.no_grad():
        assert torch.equal(part.density(points), whole.density(points) * region.contains(points))
    with (
        CompositionFile.open(str(folder / "scene.json")) as file,
        pytest.raises(ValueError, match="nothing would be kept"),
    ):
        file.load(Region.box((50.0,) * 3, (51.0,) * 3))


def test_parts_of_a_field_are_itself() -> None:
    field = small_scene()
    (part,) = parts_of(field)
    assert part.field is field and part.place == Place()
