"""The adapter to nerfbaselines, on the demo scene with an nb-info.json, offline. Skipped only without nerfbaselines."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

nerfbaselines = pytest.importorskip("nerfbaselines", reason="needs nerfbaselines: pip install --no-deps nerfbaselines")

from demo_scene import write_demo_scene  # noqa: E402
from nerfbaselines import new_cameras  # noqa: E402
from nerfbaselines.datasets import load_dataset  # noqa: E402
from nerfbaselines.evaluation import build_evaluation_protocol  # noqa: E402
from nerfbaselines.training import get_presets_and_config_overrides  # noqa: E402
from PIL import Image  # noqa: E402
from test_stereo import ORDERS, captured  # noqa: E402

import lg_field  # noqa: E402
from lg_field.errors import Notice  # noqa: E402
from lg_field.nerfbaselines.data import placed, views_of  # noqa: E402
from lg_field.nerfbaselines.method import LGFieldMethod  # noqa: E402
from lg_field.nerfbaselines.settings import Settings, as_plain, flat, overridden  # noqa: E402
from lg_field.nerfbaselines.spec import SPEC  # noqa: E402
from lg_field.quality import mean_squared_error, psnr, ssim  # noqa: E402
from lg_field.radiance.placement import place  # noqa: E402
from lg_field.training.lenses import Lenses  # noqa: E402
from lg_field.training.methods import FIRST_CELLS, METHODS  # noqa: E402
from lg_field.training.place import find_place  # noqa: E402

SIZE = 24
PLACE = ("matrix", "rotation")
"""Of a checkpoint: where its scene is."""
QUICK = {
    "steps": 60,
    "rays": "256",
    "sizes.grid_nodes": 4,
    "sizes.hash_levels": 1,
    "sizes.hash_base_res": 4,
    "sizes.occupancy_voxels": 4,
    "training.split_steps": "20",
    "training.steps_per_scene": 48,
    "training.samples_per_batch": 4096,
    "training.occupancy_points": 4096,
}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("nerfbaselines") / "scene"
    write_demo_scene(path, size=SIZE, train=8, test=2)
    for file in path.glob("transforms_*.json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"w": SIZE, "h": SIZE}))
    info = {"loader": "nerfbaselines.datasets.blender:load_blender_dataset", "id": "demo", "scene": "demo"}
    info |= {"evaluation_protocol": "default", "background_color": [255, 255, 255]}
    (path / "nb-info.json").write_text(json.dumps(info))
    return path


def data(scene: Path, split: str) -> Any:
    return load_dataset(str(scene), split=split, supported_camera_models=frozenset(("pinhole",)))


@pytest.fixture(scope="module")
def trained(scene: Path) -> LGFieldMethod:
    method = LGFieldMethod(train_dataset=data(scene, "train"), config_overrides=QUICK)
    figures = [method.train_iteration(step) for step in range(60)]
    assert np.mean([f["loss"] for f in figures[-5:]]) < 0.7 * figures[0]["loss"]
    return method


def test_nerfbaselines_finds_the_method() -> None:
    assert nerfbaselines.get_method_spec("lg-field")["method_class"] == SPEC["method_class"]
    presets, overrides = get_presets_and_config_overrides(SPEC, {"id": "blender", "scene": "lego", "type": None})
    assert presets == {"blender"} and overrides == {"space": "bounded"}
    for preset in SPEC["presets"].values():
        overridden({name: value for name, value in preset.items() if not name.startswith("@")})


def test_protocol_and_library_say_the_same(scene: Path, trained: LGFieldMethod, monkeypatch) -> None:
    """8 bits, white, an image at a time: nerfbaselines' PSNR is ours, but for how 8 bits are rounded; its SSIM leaves
    out windows that reach over the border. LPIPS would download its weights."""
    monkeypatch.setattr("nerfbaselines.metrics.lpips", lambda a, b: np.zeros(len(a)))
    test, protocol = data(scene, "test"), build_evaluation_protocol("default")
    one = nerfbaselines.datasets.dataset_index_select(test, [0])
    shown = protocol.render(trained, one)
    assert shown["color"].shape == (SIZE, SIZE, 3) and shown["color"].dtype == np.float32
    assert shown["depth"].shape == shown["accumulation"].shape == (SIZE, SIZE)
    theirs = protocol.evaluate(shown, one)
    rgba = torch.from_numpy(one["images"][0]).float() / 255
    truth = ((rgba[..., :3] * rgba[..., 3:] + 1 - rgba[..., 3:]) * 255).round() / 255
    ours = (torch.from_numpy(shown["color"]) * 255).round() / 255
    assert theirs["psnr"] == pytest.approx(psnr(mean_squared_error(ours, truth)), abs=0.05)
    assert 0 < theirs["ssim"] <= 1 and theirs["ssim"] == pytest.approx(ssim(ours, truth), abs=0.2)


def test_a_checkpoint_renders_the_same_and_goes_on(scene: Path, trained: LGFieldMethod, tmp_path: Path) -> None:
    trained.save(str(tmp_path / "a"))
    camera = data(scene, "test")["cameras"][:1]
    again = LGFieldMethod(checkpoint=str(tmp_path / "a"))
    for name, values in trained.render(camera).items():
        np.testing.assert_allclose(again.render(camera)[name], values, atol=1e-4)
    again.save(str(tmp_path / "b"))
    for file in ("scene.safetensors", "run.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    more = LGFieldMethod(checkpoint=str(tmp_path / "b"), train_dataset=data(scene, "train"))
    assert more.get_info()["loaded_step"] == 60 and more.trainer.stride == trained.trainer.stride
    assert np.isfinite(more.train_iteration(60)["loss"])


def test_a_checkpoint_is_a_scene_that_can_be_cropped(trained: LGFieldMethod, tmp_path: Path) -> None:
    trained.save(str(tmp_path))
    field = lg_field.load(tmp_path / "scene.safetensors")
    part = lg_field.crop(field, cells=field.cells[: field.num_rows // 2])
    assert part.num_rows < field.num_rows and field.description is not None


def test_settings_are_read_from_text_and_come_back() -> None:
    tiny = overridden({"method": "lg-field-tiny", "rays": "7"})
    assert overridden(as_plain(tiny)) == tiny and tiny.rays == 7 and overridden({}) == Settings.of()
    assert flat(tiny)["training.split_steps"] == tiny.training.split_steps
    assert overridden({"sizes.global_reads_grid": "false", "fields_lr": "1e-3"}).fields_lr == 1e-3
    for name, value, words in (
        ("nothing", 1, "no setting 'nothing'"),
        ("steps", "many", "steps takes int"),
        ("steps", 0, "steps must be at least 1"),
        ("space", "round", "space must be one of"),
        ("method", "lg-field-huge", "method must be one of lg-field, lg-field-tiny"),
        ("sizes.contraction", "perhaps", "sizes.contraction takes bool"),
    ):
        with pytest.raises(ValueError, match=words):
            overridden({name: value})


@pytest.mark.parametrize("name", METHODS)
def test_the_defaults_are_those_of_the_method(name: str) -> None:
    """As in `lg-field train`; and a scene that ends may be called `box`, as runs on disk call it."""
    method, settings = METHODS[name], overridden({"method": name})
    for entry in ("steps", "rays", "fields_lr", "grids_lr", "lr_factor", "sizes", "training"):
        assert getattr(settings, entry) == getattr(method, entry), entry
    assert settings.cells == FIRST_CELLS and overridden({"space": "box"}).space == "bounded"


def test_a_run_needs_something_to_begin_with(scene: Path) -> None:
    with pytest.raises(ValueError, match="a checkpoint or a data set"):
        LGFieldMethod()
    opaque = data(scene, "train")
    opaque["images"] = [image[..., :3] for image in opaque["images"]]
    with pytest.raises(ValueError, match="cut out"):
        LGFieldMethod(train_dataset=opaque, config_overrides={**QUICK, "space": "bounded"})
    unbounded = LGFieldMethod(train_dataset=opaque, config_overrides=QUICK)
    assert unbounded.field.sizes.contraction and np.isfinite(unbounded.train_iteration(0)["loss"])


def walked(photos: list[Any]) -> dict[str, Any]:
    """Photos of a walk as a data set of nerfbaselines, which has no sparse points."""
    poses = np.stack([photo.pose for photo in photos])[:, :3] * np.array([1.0, -1.0, -1.0, 1.0])
    lenses = [[photo.lens.fx, photo.lens.fy, photo.lens.cx, photo.lens.cy] for photo in photos]
    images = [np.asarray(Image.open(photo.image)) for photo in photos]
    sizes = np.array([image.shape[1::-1] for image in images], np.int32)
    models, none = np.zeros(len(photos), np.uint8), np.zeros((len(photos), 0), np.float32)
    cameras = new_cameras(
        poses=poses.astype(np.float32),
        intrinsics=np.array(lenses, np.float32),
        camera_models=models,
        distortion_parameters=none,
        image_sizes=sizes,
    )
    return {"cameras": cameras, "images": images, "metadata": {}}


def test_a_room_is_as_large_as_in_the_other_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capture, photos = captured(tmp_path)
    dataset = walked(photos)
    theirs = find_place(capture, Lenses.of(photos, [(160, 120)] * len(photos)))
    unit = float(torch.linalg.det(theirs.to_world[:3, :3])) ** (1 / 3)
    for space in ("auto", "contracted"):
        ours = placed(dataset, space)
        assert ours.radius == pytest.approx(unit, rel=1e-3) and ours.close == pytest.approx(
            theirs.placement.close, rel=1e-3
        )
    method = LGFieldMethod(train_dataset=dataset, config_overrides=QUICK)
    said = capsys.readouterr().out
    assert said.count("The scene: ") == 1 and "points found in the photos" in said
    assert method.trainer.close == ours.close and method.near == ours.near
    assert np.isfinite(method.train_iteration(0)["loss"])
    dataset["images"] = [image.astype(np.float32) / 255 for image in dataset["images"]]
    assert placed(dataset, "auto").radius == pytest.approx(ours.radius, rel=1e-3)


@pytest.mark.parametrize("said", [True, False], ids=["said", "not said"])
def test_a_run_goes_on_where_its_checkpoint_says_that_the_scene_is(tmp_path: Path, monkeypatch, said: bool) -> None:
    """It is not looked for anew, be it elsewhere by what is found now; and older checkpoints say less."""
    _, photos = captured(tmp_path / "walk")
    dataset = walked(photos)
    there = place(views_of(dataset["cameras"]))
    with monkeypatch.context() as patch:
        patch.setattr("lg_field.nerfbaselines.method.placed", lambda *_: replace(there, close=0.3))
        method = LGFieldMethod(train_dataset=dataset, config_overrides=QUICK)
    method.train_iteration(0)
    drawn = [ray.clone() for ray in seeded(method)]
    method.save(str(tmp_path / "a"))
    run = json.loads((tmp_path / "a" / "run.json").read_text())
    assert run["close"] == 0.3 and run["restricted"] is False
    if not said:
        (tmp_path / "a" / "run.json").write_text(json.dumps({k: run[k] for k in ("step", "begin", "settings", *PLACE)}))
        state = torch.load(tmp_path / "a" / "training.pt", weights_only=True)
        state["trainer"]["place"] = method.matrix
        torch.save(state, tmp_path / "a" / "training.pt")
    monkeypatch.setattr("lg_field.nerfbaselines.method.placed", None)
    again = LGFieldMethod(checkpoint=str(tmp_path / "a"), train_dataset=dataset)
    assert again.trainer.close == 0.3 and not again.trainer.restricted and again.near == method.near
    assert all(torch.equal(a, b) for a, b in zip(seeded(again), drawn)), "the same rays"
    assert np.isfinite(again.train_iteration(1)["loss"])


def seeded(method: LGFieldMethod) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rays of pixels that are always the same."""
    torch.manual_seed(7)
    return method.pixels.draw(16)


def test_a_hull_bounds_a_run_that_goes_on(scene: Path, trained: LGFieldMethod, tmp_path: Path) -> None:
    """What it left empty stays so, and what was learned to be empty is not full again."""
    trained.save(str(tmp_path))
    again = LGFieldMethod(checkpoint=str(tmp_path), train_dataset=data(scene, "train"))
    assert trained.trainer.restricted and again.trainer.restricted
    assert torch.equal(again.field.occupancy.occupied, trained.field.occupancy.occupied)
    assert torch.equal(again.field.occupancy.seen, trained.field.occupancy.seen)


def test_images_that_do_not_belong_to_the_poses_are_said(tmp_path: Path) -> None:
    _, photos = captured(tmp_path)
    dataset = walked(photos)
    order = ORDERS["at random"]
    dataset["images"] = [dataset["images"][k % len(photos)] for k in order][: len(photos)]
    with pytest.warns(Notice, match="do not seem to belong together"):
        assert "guessed" in placed(dataset, "auto").reason
