"""The commands over scenes: `mesh` of a part of a file or a run, `render` to files, camera paths, units."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from commands import lg
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from small_scene import small_scene

import lg_field
from lg_field.cli.options import RegionFlags
from lg_field.cli.scene import PICTURES, VIDEOS, what_it_holds
from lg_field.radiance.camera_path import read_camera_path
from lg_field.radiance.cut_picture import BEFORE, cut_view
from lg_field.radiance.render import Camera, look_along
from lg_field.radiance.scene import Scene
from lg_field.table.editing import crop

PARTS = {
    "--box": ("--box", -1.0, -0.6, -1.1, 0.4, 1.2, 0.9),
    "--box --invert": ("--box", -0.6, -0.5, -0.7, 0.5, 0.6, 0.4, "--invert"),
    "--box --sphere": ("--box", -1.4, -1.4, -1.4, -0.5, 0.0, 0.0, "--sphere", 0.6, 0.2, 0.0, 0.7),
    "--sphere --snap": ("--sphere", 0.8, 0.8, 0.8, 0.5, "--snap"),
    "--obb": ("--obb", 0.1, 0.0, -0.1, 0.3, 0.4, 0.5, 2.0, 1.2, 0.8),
}
RESOLUTION = 16


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run that was never trained, dense everywhere, and a scene file of the same field."""
    pytest.importorskip("nerfstudio", reason="a run needs nerfstudio")
    import yaml
    from small_model import make_model

    from lg_field.nerfstudio.config import lg_field_tiny
    from lg_field.nerfstudio.runs import load_run

    folder = tmp_path_factory.mktemp("run")
    (folder / "nerfstudio_models").mkdir()
    (folder / "config.yml").write_text(yaml.dump(lg_field_tiny.config))
    model = make_model()
    state = {f"_model.{k}": v for k, v in model.state_dict().items()}
    checkpoint = {"step": 7, "pipeline": state, "optimizers": {}, "schedulers": {}, "scalers": {}}
    torch.save(checkpoint, folder / "nerfstudio_models/step-000000007.ckpt")
    transform = {"transform": [[0.0, -1, 0, 0.5], [1, 0, 0, 0], [0, 0, 1, 0]], "scale": 0.5}
    (folder / "dataparser_transforms.json").write_text(json.dumps(transform))
    field = load_run(folder).field()
    field.description = Scene(tuple(map(tuple, np.asarray(load_run(folder).scene_to_world()).tolist())))
    lg_field.save(field, folder / "scene.safetensors")
    return folder / "config.yml", folder / "scene.safetensors"


def meshed(source: tuple[object, ...], part: tuple[object, ...], folder: Path, *more: object) -> trimesh.Trimesh:
    arguments = ("-o", folder / "m.ply", "--resolution", RESOLUTION, "--threshold", 0.05, "--overwrite", *more)
    assert "watertight" in lg("mesh", *source, *part, *arguments, cwd=folder)
    return trimesh.load(folder / "m.ply", process=False)


@pytest.mark.parametrize("name", PARTS)
def test_the_mesh_of_a_part_is_the_same_of_a_file_and_of_a_run_and_is_that_part(places, tmp_path, name):
    config, scene = places
    of_file = meshed((scene,), PARTS[name], tmp_path, "--no-colors")
    of_run = meshed(("--load-config", config), PARTS[name], tmp_path, "--no-colors")
    assert of_file.is_watertight and np.array_equal(of_file.vertices, of_run.vertices)
    assert np.array_equal(of_file.faces, of_run.faces)
    field = lg_field.load(scene)
    shape, cells, invert, snap = asked(PARTS[name], field)
    part = crop(field, shape, cells=cells, invert=invert)
    part.region = None if snap else part.region
    steps = (torch.arange(40) + 0.5) / 40 * 3 - 1.5
    points = torch.cartesian_prod(steps, steps, steps)
    with torch.no_grad():
        solid = (part.density(points) >= 0.05) & part.is_occupied(points)
    want = float(solid.double().mean()) * 27
    assert of_file.volume == pytest.approx(want, abs=0.3 * 3 / RESOLUTION * of_file.area)
    low, high = points[solid].amin(0).numpy(), points[solid].amax(0).numpy()
    assert np.abs(of_file.bounds - np.stack([low, high])).max() < 3 / RESOLUTION


def asked(words: tuple[object, ...], field: lg_field.radiance.field.RadianceField) -> tuple:
    """The region, the cells, --invert and --snap of a command line."""
    given: dict[str, tuple[float, ...]] = {}
    name = ""
    for word in words:
        if isinstance(word, str):
            name = word.removeprefix("--")
            given[name] = ()
        else:
            given[name] = (*given[name], word)  # type: ignore[arg-type]
    flags = RegionFlags(**{k: v for k, v in given.items() if v})  # type: ignore[arg-type]
    return (*flags.resolve(field), "invert" in given, "snap" in given)


def test_units_are_those_asked_for(places, tmp_path):
    config, scene = places
    part = PARTS["--box"]
    plain = meshed((scene,), part, tmp_path, "--no-colors")
    matrix = np.asarray(lg_field.load(scene).description.scene_to_world)
    want = plain.vertices @ matrix[:3, :3].T + matrix[:3, 3]
    for words in (("--world",), ("--output-units", "world")):
        assert np.allclose(meshed((scene,), part, tmp_path, "--no-colors", *words).vertices, want, atol=1e-5)
    said = lg("mesh", scene, "-o", "x.ply", "--world", "--output-units", "scene", cwd=tmp_path, fails=True)
    assert said.startswith("lg-field: --world is short for") and not (tmp_path / "x.ply").exists()
    transforms = config.parent / "dataparser_transforms.json"
    kept = transforms.read_text()
    transforms.unlink()
    try:
        meshed(("--load-config", config), part, tmp_path, "--no-colors")
        said = lg("mesh", "--load-config", config, "-o", "x.ply", "--world", cwd=tmp_path, fails=True)
        assert "dataparser_transforms.json is missing" in said
    finally:
        transforms.write_text(kept)


def test_a_run_that_takes_more_than_the_memory_says_how_to_keep_within_it(places, tmp_path):
    config, scene = places
    field = lg_field.load(scene)
    size = (field.local.nbytes + field.features.nbytes) / 1e9
    words = ("--resolution", 8, "--threshold", 0.05, "--no-colors", "-o", "m.ply", "--overwrite")
    for memory, said in ((0.9 * size, True), (1.1 * size, False)):
        text = lg("mesh", "--load-config", config, *words, "--memory", memory, cwd=tmp_path)
        assert ("mesh the scene file that `lg-field pack` makes" in text) == said


def test_an_empty_part_is_one_line(places, tmp_path):
    asked_for = ("--threshold", 1e9, "--resolution", RESOLUTION, "-o", "x.ply")
    said = lg("mesh", places[1], *asked_for, cwd=tmp_path, fails=True)
    assert said.splitlines()[-1].startswith("lg-field: no surface") and not list(tmp_path.iterdir())


# -- render


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scene") / "scene.safetensors"
    lg_field.save(small_scene(), path)
    return path


SMALL = ("--width", 18, "--height", 12)


@pytest.mark.parametrize("name", ["p.png", "p.jpg", "p.JPEG", "p.webp"])
def test_one_picture_is_written_in_the_format_of_its_name(scene, tmp_path, name):
    lg("render", scene, "--orbit", 1, *SMALL, "-o", name, cwd=tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [name]
    with Image.open(tmp_path / name) as image:
        assert image.size == (18, 12) and image.format == {"p.png": "PNG", "p.webp": "WEBP"}.get(name, "JPEG")


def test_where_rays_end_is_a_choice_that_hardly_shows(scene, tmp_path):
    """Within a shade of 255, which is where rounding falls."""
    pictures = []
    for number, words in enumerate(((), ("--least-light", 0))):
        lg("render", scene, "--orbit", 1, *SMALL, *words, "-o", f"{number}.png", cwd=tmp_path)
        pictures.append(np.asarray(Image.open(tmp_path / f"{number}.png")).astype(int))
    usual, whole = pictures
    assert np.abs(usual - whole).max() <= 1 and usual.std() > 1


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv"])
def test_videos_have_the_pictures_of_the_orbit(scene, tmp_path, name):
    av = pytest.importorskip("av", reason="videos need av")
    lg("render", scene, "--orbit", 3, *SMALL, "-o", name, cwd=tmp_path)
    with av.open(str(tmp_path / name)) as video:
        assert len(list(video.decode(video=0))) == 3


def test_a_folder_holds_pictures_with_alpha(scene, tmp_path):
    lg("render", scene, "--orbit", 2, *SMALL, "-o", "views.v2", "--transparent", cwd=tmp_path)
    assert sorted(p.name for p in (tmp_path / "views.v2").iterdir()) == ["00000.png", "00001.png"]
    assert np.asarray(Image.open(tmp_path / "views.v2/00000.png")).shape == (12, 18, 4)


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (("-o", "p.gif", "--orbit", 1), "cannot write .gif; .png"),
        (("-o", "v.webm", "--orbit", 2), "cannot write .webm"),
        (("-o", "p.tiff", "--orbit", 1), "cannot write .tiff"),
        (("-o", "p.jpg", "--orbit", 1, "--transparent"), ".jpg has no alpha"),
        (("-o", "v.mp4", "--orbit", 2, "--transparent"), ".mp4 has no alpha"),
        (("-o", "p.png", "--orbit", 2), "is one picture, 2 were asked for"),
        (("-o", "p", "--orbit", 1, "--width", 0), "a picture has 1 to"),
        (("-o", "p", "--orbit", 1, "--width", -4, "--height", -4), "a picture has 1 to"),
        (("-o", "p", "--orbit", 1, "--fps", 0), "--fps must be at least 1"),
        (("-o", "p", "--orbit", 1, "--elevation", "nan"), "--elevation finite"),
        (("-o", "p", "--orbit", 1, "--least-light", 1), "--least-light must be at least 0 and below 1"),
        (("-o", "p", "--orbit", 1, "--least-light", -0.1), "--least-light must be at least 0 and below 1"),
        (("-o", "p"), "either --orbit COUNT or --camera"),
        (("-o", "p", "--camera", "gone.json"), "gone.json"),
    ],
)
def test_what_cannot_be_written_is_refused_before_the_work(tmp_path, words, match):
    said = lg("render", tmp_path / "never-read.safetensors", *words, cwd=tmp_path, fails=True)
    assert match in said and len(said.splitlines()) == 1 and not list(tmp_path.iterdir())


@given(stem=st.from_regex(r"[a-z]{1,8}", fullmatch=True), suffix=st.sampled_from(["", ".1", ".v2", *PICTURES, *VIDEOS]))
def test_a_name_says_what_it_holds(stem, suffix):
    holds = what_it_holds(Path(stem + suffix.upper()), False)
    assert holds == ("picture" if suffix in PICTURES else "video" if suffix in VIDEOS else "folder")


# -- camera paths

numbers = st.floats(-100, 100, allow_nan=False)
frames = st.lists(st.tuples(st.lists(numbers, min_size=16, max_size=16), st.floats(1, 179)), min_size=1, max_size=4)


@given(frames=frames, size=st.none() | st.tuples(st.integers(1, 500), st.integers(1, 500)))
def test_a_camera_path_is_read_as_it_is_written(tmp_path_factory, frames, size):
    path = tmp_path_factory.mktemp("path") / "c.json"
    data: dict = {"camera_path": [{"camera_to_world": m, "fov": f} for m, f in frames], "camera_type": "perspective"}
    if size is not None:
        data |= {"render_width": size[0], "render_height": size[1]}
    path.write_text(json.dumps(data))
    cameras = read_camera_path(path, 30, 20)
    assert len(cameras) == len(frames)
    for camera, (matrix, angle) in zip(cameras, frames):
        assert camera.to_scene.flatten().tolist() == matrix
        assert 2 * math.degrees(math.atan(0.5 / camera.focal)) == pytest.approx(angle)
        assert (camera.width, camera.height) == (size or (30, 20))


EYE = np.eye(4).flatten().tolist()


@pytest.mark.parametrize(
    "data",
    [
        "{",
        "[1]",
        "{}",
        '{"camera_path": []}',
        '{"camera_path": {"a": 1}}',
        '{"camera_path": [1]}',
        json.dumps({"camera_path": [{"camera_to_world": EYE[:15], "fov": 50}]}),
        json.dumps({"camera_path": [{"camera_to_world": EYE, "fov": 0}]}),
        json.dumps({"camera_path": [{"camera_to_world": EYE, "fov": 180}]}),
        json.dumps({"camera_path": [{"camera_to_world": [math.nan, *EYE[1:]], "fov": 50}]}),
        json.dumps({"camera_path": [{"camera_to_world": EYE}]}),
        json.dumps({"camera_path": [{"camera_to_world": EYE, "fov": 50}], "camera_type": "fisheye"}),
        json.dumps({"camera_path": [{"camera_to_world": EYE, "fov": 50}], "render_width": 10**9}),
        json.dumps({"camera_path": [{"camera_to_world": EYE, "fov": 50}], "render_width": -5, "render_height": -5}),
    ],
)
def test_anything_else_is_refused_by_name(tmp_path, data):
    path = tmp_path / "c.json"
    path.write_text(data)
    with pytest.raises(ValueError, match=r"c\.json is not a nerfstudio camera path: ."):
        read_camera_path(path, 30, 20)


def test_a_path_of_cameras_gives_a_picture_each(scene, tmp_path):
    camera = [v for row in lg_field.load(scene).description.camera for v in row]
    data = {"camera_path": [{"camera_to_world": camera, "fov": 50}] * 2, "render_width": 9, "render_height": 7}
    (tmp_path / "c.json").write_text(json.dumps(data))
    lg("render", scene, "--camera", "c.json", "-o", "out", cwd=tmp_path)
    first, second = (np.asarray(Image.open(p)) for p in sorted((tmp_path / "out").iterdir()))
    assert first.shape == (7, 9, 3) and (first == second).all() and first.std() > 0


# -- a crop's picture


def test_a_crop_shows_its_cut_and_nothing_else_as_one(scene):
    field = lg_field.load(scene)
    half = lg_field.crop(field, lg_field.Region.box([-1.0, -1.0, -1.0], [0.2, 1.0, 1.0]))
    away = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    up = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    cut_side, other = (Camera(look_along(4 * d, -d, up), 1.2, 24, 24) for d in (away, -away))
    seen = cut_view(field, half, field.description, cut_side)
    depths = seen.part.depth[seen.cut]
    assert len(depths) > 10 and float((4 - depths).max()) < 0.25 + 2 * BEFORE * 0.05, "at the plane x = 0.2"
    assert not bool((seen.kept & seen.cut).any())
    assert bool((seen.whole.accumulation[seen.kept] > 0.5).all())
    back = cut_view(field, half, field.description, other)
    assert not bool(back.cut.any()) or back.cut.float().mean() < seen.cut.float().mean() / 4
    same = cut_view(field, field, field.description, cut_side)
    assert not bool(same.cut.any()) and torch.equal(same.kept, same.whole.accumulation > 0.5)
    assert torch.equal(same.picture(), torch.cat([same.whole.rgb] * 2, dim=1))


def test_crop_writes_a_picture_of_what_it_would_keep(scene, tmp_path):
    box = ("--box", -1, -1, -1, 0.2, 1, 1)
    said = lg("crop", scene, *box, "--dry-run", "--report", "kept.png", cwd=tmp_path)
    assert "with the cut in red" in said and [p.name for p in tmp_path.iterdir()] == ["kept.png"]
    with Image.open(tmp_path / "kept.png") as image:
        assert image.size == (640, 640)
        pixels = np.asarray(image.convert("RGB")).astype(int)
    red = (pixels[..., 0] > 120) & (pixels[..., 1:].max(-1) < 110)
    assert red[:, 320:].sum() > 100
    assert "exists" in lg("crop", scene, *box, "--dry-run", "--report", "kept.png", cwd=tmp_path, fails=True)
    early = lg("crop", "missing.safetensors", *box, "--dry-run", "--report", "kept.jpg", cwd=tmp_path, fails=True)
    assert "a .png" in early, "before anything is read"
