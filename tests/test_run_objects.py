"""`crop-scene` with what the training images say: the object that cameras look at, and masks; and settled runs."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
import yaml
from PIL import Image

pytest.importorskip("nerfstudio", reason="the plugin needs nerfstudio")

from ball_scene import circle, occupy, random_points
from commands import lg
from small_model import make_model

import lg_field
from lg_field.captures.masks import mask_files, read_mask
from lg_field.cli import crop_scene as crop_scene_command
from lg_field.cli.sights import check_places
from lg_field.errors import Notice
from lg_field.nerfstudio.config import lg_field_tiny
from lg_field.nerfstudio.runs import Run, load_run
from lg_field.radiance.components import Pieces, shown_voxels
from lg_field.radiance.views import Views

FAR, NEAR = (-0.8, -0.8, -0.2, 0.6), (0.8, 0.8, 0.2, 0.45)
"""A larger ball, and one that the cameras look at."""
COUNT, SIZE = 5, 48


def views() -> Views:
    """Cameras around the smaller ball; the other one is in many of their images, too."""
    around = circle(COUNT, 4.0, focal=1.0)
    poses = around.poses.clone()
    poses[:, :, 3] += torch.tensor(NEAR[:3], dtype=torch.float64)
    return replace(around, poses=poses)


def ball_mask(view: Views, ball: tuple[float, ...], grow: float = 1.35) -> np.ndarray:
    """(SIZE, SIZE) uint8 picture of a ball, 255 inside."""
    steps = (torch.arange(SIZE, dtype=torch.float64) + 0.5) / SIZE
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    origins, directions = view.rays(torch.stack([x, y], dim=-1).view(-1, 2))
    away = torch.tensor(ball[:3], dtype=torch.float64) - origins
    beside = (away - (away * directions).sum(-1, keepdim=True) * directions).norm(dim=-1)
    return ((beside <= ball[3] * grow).view(SIZE, SIZE).numpy() * np.uint8(255)).astype(np.uint8)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that was never trained, its voxels set by hand, with its data set."""
    folder = tmp_path_factory.mktemp("run")
    data, cameras = folder / "data", views()
    (data / "train").mkdir(parents=True)
    frames = []
    for k, pose in enumerate(cameras.poses):
        Image.new("RGBA", (SIZE, SIZE), (90, 90, 90, 255)).save(data / f"train/r_{k}.png")
        matrix = [*pose.tolist(), [0.0, 0.0, 0.0, 1.0]]
        frames.append({"file_path": f"./train/r_{k}", "transform_matrix": matrix})
    angle = 2 * math.atan(0.5 / float(cameras.focals[0, 0]))
    for split in ("train", "val", "test"):
        (data / f"transforms_{split}.json").write_text(json.dumps({"camera_angle_x": angle, "frames": frames}))
    config = yaml.load(yaml.dump(lg_field_tiny.config), Loader=yaml.Loader)
    config.pipeline.datamanager.data = data
    (folder / "nerfstudio_models").mkdir()
    (folder / "config.yml").write_text(yaml.dump(config))
    model = make_model()
    occupy(model.field.table, [FAR, NEAR])
    state = {f"_model.{k}": v for k, v in model.state_dict().items()}
    checkpoint = {"step": 7, "pipeline": state, "optimizers": {}, "schedulers": {}, "scalers": {}}
    torch.save(checkpoint, folder / "nerfstudio_models/step-000000007.ckpt")
    transform = {"transform": [[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]], "scale": 1.0}
    (folder / "dataparser_transforms.json").write_text(json.dumps(transform))
    return load_run(folder)


Crop = Callable[..., str]


@pytest.fixture
def crop(run: Run, capsys: pytest.CaptureFixture[str]) -> Crop:
    def call(*words: object, fails: bool = False, source: Path | None = None) -> str:
        sys.argv = ["crop-scene", "--load-config", str(source or run.config_path), *map(str, words)]
        if fails:
            with pytest.raises(SystemExit) as stop:
                crop_scene_command.main()
            assert stop.value.code == 1
        else:
            crop_scene_command.main()
        said = capsys.readouterr()
        return said.out + said.err

    return call


def kept(folder: Path, x: torch.Tensor) -> torch.Tensor:
    return load_run(folder).field().is_occupied(x)


def beside(x: torch.Tensor, ball: tuple[float, ...]) -> torch.Tensor:
    return (x - torch.tensor(ball[:3])).norm(dim=-1) < ball[3] + 0.4


def write_masks(run: Run, folder: Path, ball: tuple[float, ...] | None, suffix: str = ".png") -> Path:
    """One mask per image: of a ball, or all white."""
    folder.mkdir()
    for k in range(COUNT):
        mask = np.full((SIZE, SIZE), 255, np.uint8) if ball is None else ball_mask(views()[k], ball)
        Image.fromarray(mask).save(folder / f"r_{k}{suffix}")
    return folder


X = random_points(3000, 1.5)


def test_two_components_stand_apart(run: Run) -> None:
    field = run.field()
    assert len(Pieces.of(shown_voxels(field.occupancy, None))) == 2
    assert bool((field.is_occupied(X) == (beside(X, FAR) | beside(X, NEAR)) * field.is_occupied(X)).all())


def test_the_focus_is_what_cameras_look_at_even_if_it_is_smaller(run: Run, crop: Crop, tmp_path: Path) -> None:
    said = crop("--focus", "-o", tmp_path / "near")
    assert "--focus: component 2 of 2" in said
    assert torch.equal(kept(tmp_path / "near", X), run.field().is_occupied(X) & beside(X, NEAR))
    said = crop("--focus", 1, "-o", tmp_path / "both")
    assert "component 2, 1 of 2, 100.0%" in said
    assert torch.equal(kept(tmp_path / "both", X), run.field().is_occupied(X))
    said = crop("--focus", "--sphere", -0.8, -0.8, -0.2, 0.9, "-o", tmp_path / "far")
    field = load_run(tmp_path / "far").field()
    assert (
        field.region is not None
        and bool(field.is_occupied(X).any())
        and not bool((field.is_occupied(X) & beside(X, NEAR)).any())
    )


def test_a_mesh_of_the_focus_is_of_what_the_runs_cameras_look_at(run: Run, tmp_path: Path) -> None:
    words = ("--focus", "--resolution", 24, "--threshold", 1e-4, "--no-colors", "-o", "m.ply")
    said = lg("mesh", "--load-config", run.config_path, *words, cwd=tmp_path)
    assert "--focus: component 2 of 2" in said
    away = np.linalg.norm(trimesh.load(tmp_path / "m.ply").vertices - NEAR[:3], axis=1)
    assert len(away) and away.max() < NEAR[3] + 0.4


def test_the_largest_component_and_its_region_for_later(run: Run, crop: Crop, tmp_path: Path) -> None:
    crop("--component", "largest", "-o", tmp_path / "one")
    assert torch.equal(kept(tmp_path / "one", X), run.field().is_occupied(X) & beside(X, FAR))
    crop("--region", tmp_path / "one/region.json", "-o", tmp_path / "again")
    first, again = (load_run(tmp_path / n).field() for n in ("one", "again"))
    assert torch.equal(first.occupied, again.occupied) and torch.equal(first.cells, again.cells)
    assert first.region is None and torch.equal(
        first.local, run.field().local[torch.isin(run.field().cells, first.cells)]
    )
    crop("--component", "largest", "--keep-optimizer", "-o", tmp_path / "train")
    assert load_run(tmp_path / "train").field().region is not None, "training must not fill what was dropped"
    assert torch.equal(kept(tmp_path / "train", X), kept(tmp_path / "one", X))


def test_points_and_planes_in_world_units(run: Run, crop: Crop, tmp_path: Path) -> None:
    import shutil

    moved = tmp_path / "moved"
    shutil.copytree(run.config_path.parent, moved)
    transform = {"transform": [[0.0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0]], "scale": 0.5}
    (moved / "dataparser_transforms.json").write_text(json.dumps(transform))
    world = torch.tensor([[NEAR[1], -NEAR[0], NEAR[2]]]) * 2
    crop("--world", "--component", *world[0].tolist(), "-o", tmp_path / "near", source=moved / "config.yml")
    assert torch.equal(kept(tmp_path / "near", X), run.field().is_occupied(X) & beside(X, NEAR))
    crop("--world", "--above-plane", 0, 0, 1, -0.2, "-o", tmp_path / "above", source=moved / "config.yml")
    assert torch.equal(kept(tmp_path / "above", X), run.field().is_occupied(X) & (X[:, 2] >= 0.1))


def test_masks_keep_what_they_agree_on(run: Run, crop: Crop, tmp_path: Path) -> None:
    said = crop("--masks", write_masks(run, tmp_path / "far", FAR), "-o", tmp_path / "a")
    assert f"{COUNT} masks of {COUNT} training images" in said
    assert torch.equal(kept(tmp_path / "a", X), run.field().is_occupied(X) & beside(X, FAR))


def test_masks_of_all_ones_keep_all_that_images_show(run: Run, crop: Crop, tmp_path: Path) -> None:
    crop("--masks", write_masks(run, tmp_path / "ones", None, ".png.png"), "-o", tmp_path / "a")
    assert torch.equal(kept(tmp_path / "a", X), run.field().is_occupied(X))


def test_some_masks_are_enough_and_shapes_go_with_them(run: Run, crop: Crop, tmp_path: Path) -> None:
    masks = write_masks(run, tmp_path / "m", NEAR)
    (masks / "r_1.png").unlink()
    said = crop("--masks", masks, "--above-plane", 0, 0, 1, -0.2, "-o", tmp_path / "a")
    assert f"{COUNT - 1} masks of {COUNT}" in said
    field = run.field()
    assert torch.equal(kept(tmp_path / "a", X), field.is_occupied(X) & beside(X, NEAR) & (X[:, 2] >= 0.2))


def test_a_file_is_cut_by_what_its_photos_say(run: Run, crop: Crop, tmp_path: Path) -> None:
    lg("pack", "--load-config", run.config_path, "-o", "s.safetensors", cwd=tmp_path)
    data = run.config.pipeline.datamanager.data
    words: tuple[object, ...] = ("crop", "s.safetensors", "--data", data)
    said = lg(*words, "--masks", write_masks(run, tmp_path / "far", FAR), "-o", "m.safetensors", cwd=tmp_path)
    assert f"{COUNT} masks of {COUNT} training images" in said
    said = lg(*words, "--focus", "-o", "f.safetensors", cwd=tmp_path)
    assert "--focus: component 2 of 2" in said
    for name, ball in (("m", FAR), ("f", NEAR)):
        found = lg_field.load(tmp_path / f"{name}.safetensors").is_occupied(X)
        assert torch.equal(found, run.field().is_occupied(X) & beside(X, ball))
    said = lg("crop", "s.safetensors", "--masks", tmp_path / "far", "--dry-run", cwd=tmp_path, fails=True)
    assert "name their folder by --data" in said
    assert "give one of these" in lg(*words, "--box", 0, 0, 0, 1, 1, 1, "--dry-run", cwd=tmp_path, fails=True)
    scene, cameras = lg_field.load(tmp_path / "s.safetensors").description, views()
    there = tuple(map(tuple, cameras.origins.tolist()))
    check_places(cameras, replace(scene, viewpoints=there), data)
    with pytest.warns(Notice, match="does not say where its cameras were"):
        check_places(cameras, replace(scene, viewpoints=()), data)
    with pytest.raises(ValueError, match="are not those that the scene was trained on"):
        check_places(cameras, replace(scene, viewpoints=tuple((x + 3.0, y, z) for x, y, z in there)), data)


def test_bad_masks_and_shares_are_named(run: Run, crop: Crop, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    black = tmp_path / "black"
    black.mkdir()
    for k in range(COUNT):
        Image.new("L", (8, 8)).save(black / f"r_{k}.png")
    text = tmp_path / "text"
    text.mkdir()
    for k in range(COUNT):
        (text / f"r_{k}.png").write_text("no picture")
    for words, expected in (
        (("--masks", tmp_path / "none"), "one mask per training image"),
        (("--masks", tmp_path / "empty"), f"masks of 0 of the {COUNT} training images; they are named as the images"),
        (("--masks", black), "agree on nothing"),
        (("--masks", text), "not an image"),
        (("--focus", 0), "a share above 0"),
        (("--focus", 1, 2), "a share above 0"),
        (("--focus", "--cells", 0), "not both"),
    ):
        said = crop(*words, "-o", tmp_path / "x", fails=True)
        assert expected in said and "Traceback" not in said and not (tmp_path / "x").exists()
    lost = load_run(run.config_path)
    lost.config.pipeline.datamanager.data = tmp_path / "gone"
    other = tmp_path / "other"
    (other / "nerfstudio_models").mkdir(parents=True)
    (other / "config.yml").write_text(yaml.dump(lost.config))
    (other / "nerfstudio_models" / run.checkpoint_path.name).write_bytes(run.checkpoint_path.read_bytes())
    assert "is not there" in crop("--focus", "-o", tmp_path / "x", fails=True, source=other / "config.yml")


def test_masks_are_found_by_the_names_of_images(tmp_path: Path) -> None:
    images = [Path("/somewhere/left/a.jpg"), Path("/somewhere/right/a.jpg"), Path("/somewhere/b.jpg")]
    for name in ("left/a.png", "right/a.jpg.png", "b.png", ".hidden.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (2, 2)).save(tmp_path / name)
    assert mask_files(images, tmp_path) == [tmp_path / "left/a.png", tmp_path / "right/a.jpg.png", tmp_path / "b.png"]
    (tmp_path / "left/a.bmp").write_bytes((tmp_path / "left/a.png").read_bytes())
    with pytest.raises(ValueError, match=r"could both be the mask of .*left/a\.jpg"):
        mask_files(images, tmp_path)


def test_masks_are_bright_or_opaque_inside(tmp_path: Path) -> None:
    solid = np.zeros((10, 20), dtype=np.uint8)
    solid[:, 10:] = 255
    colour = np.zeros((10, 20, 3), dtype=np.uint8)
    colour[:, 10:, 1] = 200
    alpha = np.full((10, 20, 4), 255, dtype=np.uint8)
    alpha[..., 3] = solid
    for k, array in enumerate((solid, colour, alpha)):
        Image.fromarray(array).save(tmp_path / f"{k}.png")
        found = read_mask(tmp_path / f"{k}.png")
        half = found.shape[1] // 2
        assert not bool(found[:, : half - 20].any()) and bool((found[:, half + 20 :] == 1).all())
