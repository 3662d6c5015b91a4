"""`lg-field train` is ns-train's equal without nerfstudio: same rays, places, defaults, losses; it goes on exactly."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from commands import lg
from hypothesis import given
from hypothesis import strategies as st
from nerfstudio.engine.callbacks import TrainingCallbackAttributes
from nerfstudio.engine.optimizers import Optimizers
from PIL import Image
from test_captures import blender, colmap, transforms
from test_placing import capture

import lg_field
from lg_field.captures import read_capture
from lg_field.nerfstudio.config import lg_field as full_method
from lg_field.nerfstudio.config import lg_field_tiny as tiny_method
from lg_field.nerfstudio.dataset import DEPTH
from lg_field.radiance.scene import Scene
from lg_field.training.depths import DEPTH_SHARE
from lg_field.training.lenses import distorted, undistorted
from lg_field.training.masks import something_empty
from lg_field.training.methods import METHODS
from lg_field.training.photo_set import Draw, PhotoSet
from lg_field.training.place import first_grid, goes_on
from lg_field.training.run import RunSettings, SceneRun, spaced
from lg_field.training.shares import drawn_shares, near_each_other

TINY = METHODS["lg-field-tiny"]
SMALL = {
    "sizes": replace(TINY.sizes, grid_nodes=4, hash_levels=2, log2_hashmap_size=8, global_width=16, local_width=8),
    "training": replace(
        TINY.training,
        split_steps=(3,),
        steps_per_scene=32,
        samples_per_batch=2**10,
        occupancy_points=2**10,
        occupancy_interval=4,
        prune_interval=5,
        prune_from=5,
        seam_points=32,
    ),
}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """`lg-field-tiny` is much smaller."""
    monkeypatch.setitem(METHODS, "lg-field-tiny", replace(TINY, **SMALL, rays=64))


def pipeline_of(data: Path):
    """nerfstudio's pipeline of the small method, and its trainer's configuration."""
    config = copy.deepcopy(tiny_method.config)
    config.pipeline.datamanager.data, config.pipeline.datamanager.train_num_rays_per_batch = data, 64
    model = config.pipeline.model
    for name, value in vars(SMALL["training"]).items():
        setattr(model, name, value)
    model.sizes = replace(model.sizes, **vars(SMALL["sizes"]))
    torch.manual_seed(42)
    return config, config.pipeline.setup(device="cpu", test_mode="val", world_size=1, local_rank=0)


# -- what both trainers share


@pytest.mark.parametrize("theirs", [full_method, tiny_method], ids=lambda m: m.config.method_name)
def test_the_defaults_are_those_of_ns_train(theirs) -> None:
    method, config = METHODS[theirs.config.method_name], theirs.config
    manager, model = config.pipeline.datamanager, config.pipeline.model
    assert (config.max_num_iterations, manager.train_num_rays_per_batch) == (method.steps, method.rays)
    assert (manager.opaque_share, manager.pixel_sampler.object_share) == (method.opaque_share, method.object_share)
    assert manager.pixel_sampler.depth_share == DEPTH_SHARE
    assert {k: getattr(model, k) for k in vars(method.training)} == vars(method.training)
    assert vars(model.sizes) == vars(method.sizes)
    for name, rate in (("fields", method.fields_lr), ("grids", method.grids_lr)):
        group = config.optimizers[name]
        assert group["optimizer"].lr == rate and group["scheduler"].factor == method.lr_factor
    assert config.machine.seed == RunSettings().seed


KINDS = {
    "blender": lambda f: blender(f, {"train": 5, "val": 2, "test": 3}),
    "nerfstudio": lambda f: transforms(f, 20, k1=0.05, k2=-0.01, p1=0.003, p2=0.01),
    "fisheye": lambda f: transforms(f, 20, camera_model="OPENCV_FISHEYE", k1=0.05, k2=0.01),
    "instant-ngp": lambda f: transforms(f, 20, aabb_scale=4, k1=0.05),
    "colmap": lambda f: colmap(f, False, [f"{k}.png" for k in range(20)]),
    "cut out": lambda f: capture(f, masks="alpha"),
    "masks": lambda f: capture(f, masks="grey"),
    "backdrop": lambda f: capture(f, masks="backdrop"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_rays_colours_and_place_are_those_of_ns_train(kind: str, tmp_path: Path, small: None) -> None:
    """Of every kind of capture, with every kind of lens; unbounded or in the same box, with the same hull."""
    data = KINDS[kind](tmp_path / "scene")
    _, pipeline = pipeline_of(data)
    manager, table = pipeline.datamanager, pipeline.model.table
    run = SceneRun(read_capture(data), RunSettings("lg-field-tiny"))
    files = [p.name for p in manager.train_dataset.image_filenames]
    assert files == [p.image.name for p in run.capture.part("train")]
    assert run.field.grid.counts == table.grid.counts and run.field.config() == table.config()
    assert np.allclose((run.field.grid.lower, run.field.grid.upper), (table.grid.lower, table.grid.upper), atol=1e-5)
    assert float((run.field.occupied != table.occupied).float().mean()) < 0.01
    assert run.near == pytest.approx(float(pipeline.model.near), rel=1e-4)
    assert run.rays == manager.train_pixel_sampler.num_rays_per_batch
    pixels = Draw(run.photos, 0.5)(200)
    bundle = manager.train_ray_generator(torch.stack(pixels, dim=-1))
    ours = run.photos.rays(pixels)
    assert torch.allclose(ours[0], bundle.origins, atol=1e-5) and torch.allclose(ours[1], bundle.directions, atol=1e-5)
    images = [manager.train_dataset[k]["image"] for k in range(len(files))]
    assert torch.equal(run.photos.colors(pixels), torch.stack([images[k][r, c] for k, r, c in zip(*pixels)]))
    assert run.backdrop == pytest.approx(pipeline.model.backdrop.tolist(), abs=0.05)
    assert run.photos.depth(pixels) is None and not getattr(manager.train_dataset, "depths", False), "unbounded"


@pytest.mark.parametrize(
    ("space", "bounded", "contracted"),
    [("auto", True, False), ("auto", False, True), ("bounded", False, False), ("contracted", True, True)],
)
def test_where_a_scene_ends_is_asked_or_found(space: str, bounded: bool, contracted: bool) -> None:
    """Then its first cells fill that box; else contracted space, or what the cameras look at."""
    box = torch.tensor([[-1.0, -2.0, -1.0], [1.0, 2.0, 3.0]]) if bounded else None
    assert goes_on(space, bounded) == contracted
    grid = first_grid(box, contracted, 32)
    wanted = [[-2.0] * 3, [2.0] * 3] if contracted else [[-1.0] * 3, [1.0] * 3] if box is None else box.tolist()
    assert [list(grid.lower), list(grid.upper)] == wanted and 8 <= grid.num_cells <= 96
    assert first_grid(box, contracted, counts=(1, 2, 3)).counts == (1, 2, 3)


@pytest.mark.parametrize(("space", "learned"), [("auto", True), ("bounded", True), ("contracted", False)])
def test_a_scene_told_to_go_on_learns_no_depths(tmp_path: Path, small: None, space: str, learned: bool) -> None:
    """Though its box is known: without contracted density far depths say nothing. In nerfstudio as in our own loop."""
    data = colmap(tmp_path / "scene", False, [f"{k}.png" for k in range(20)])
    run = SceneRun(read_capture(data), RunSettings("lg-field-tiny", space=space))
    assert run.contracted == (space != "bounded") and (run.photos.depths is not None) == (space == "bounded")
    config = copy.deepcopy(tiny_method.config.pipeline)
    config.datamanager.data, config.datamanager.scene_box = data, (-2.0, -2.0, -2.0, 2.0, 2.0, 2.0)
    config.datamanager.train_num_rays_per_batch, config.model.space = 64, space
    config.model.sizes = replace(config.model.sizes, **vars(SMALL["sizes"]))
    pipeline = config.setup(device="cpu", test_mode="val", world_size=1, local_rank=0)
    assert pipeline.datamanager.train_dataset.metadata["bounded"]
    assert pipeline.datamanager.train_dataset.depths == learned
    assert pipeline.model.table.sizes.contraction == (space == "contracted")


def test_depths_are_those_of_ns_train(tmp_path: Path, small: None) -> None:
    data = KINDS["colmap"](tmp_path / "scene")
    _, pipeline = pipeline_of(data)
    dataset, run = pipeline.datamanager.train_dataset, SceneRun(read_capture(data), RunSettings("lg-field-tiny"))
    dataset.depths = True
    run.photos.measure(run.capture.part("train"), run.place.points(run.capture))
    pixels = Draw(run.photos, 0.5)(200)
    depth, theirs = run.photos.depth(pixels), [dataset[k][DEPTH] for k in range(len(dataset))]
    assert torch.allclose(depth, torch.stack([theirs[k][r, c, 0] for k, r, c in zip(*pixels)]), atol=1e-5)
    assert int((depth > 0).sum()) >= 25
    assert run.learn(pixels).psnr > 0.0


@pytest.mark.parametrize("masks", ["alpha", "none"])
def test_losses_are_those_of_ns_train(masks: str, tmp_path: Path, small: None) -> None:
    """For the same seeds and pixels, over steps that look for empty space, split and prune."""
    data, count = capture(tmp_path / "scene", masks=masks), 9
    config, pipeline = pipeline_of(data)
    config.max_num_iterations = count
    for group in config.optimizers.values():
        group["scheduler"].max_steps = count
    groups = {name: config.optimizers[name] for name in ("fields", "grids")}
    optimizers = Optimizers(groups, pipeline.get_param_groups())
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    attributes = TrainingCallbackAttributes(optimizers, scaler, pipeline, SimpleNamespace(config=config))
    begin, *_ = pipeline.model.get_training_callbacks(attributes)
    run = SceneRun(read_capture(data), RunSettings("lg-field-tiny", steps=count))
    run.field.load_state_dict(pipeline.model.table.state_dict())
    pipeline.train()
    for step in range(count):
        pixels = run.draw(64)
        torch.manual_seed(step)
        optimizers.zero_grad_all()
        begin.run_callback(step)
        manager = pipeline.datamanager
        outputs = pipeline.model(manager.train_ray_generator(torch.stack(pixels, dim=-1)))
        losses = pipeline.model.get_loss_dict(outputs, {"image": run.photos.colors(pixels)})
        sum(losses.values()).backward()
        optimizers.optimizer_scaler_step_all(scaler)
        optimizers.scheduler_step_all(step)
        torch.manual_seed(step)
        run.begin(step)
        said = run.learn(pixels)
        assert said.psnr == pytest.approx(-10 * np.log10(float(losses["rgb_loss"].detach())), abs=0.02)
        assert torch.equal(run.field.cells, pipeline.model.table.cells)
    assert run.field.grid.counts != (4, 4, 4) and run.field.num_rows > 64


# -- lenses and pixels


@given(st.lists(st.floats(-0.05, 0.05), min_size=6, max_size=6), st.integers(0, 99))
def test_distortion_is_undone(numbers: list[float], seed: int) -> None:
    flat = torch.rand(20, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 1.2 - 0.6
    of_all = torch.tensor(numbers, dtype=torch.float64).expand(20, 6)
    assert torch.allclose(undistorted(distorted(flat, of_all), of_all), flat, atol=1e-9)


def test_shares_of_a_step_follow_each_other() -> None:
    """Each among its own places; where pixels run out, the last has fewer; where there are no places, none is drawn."""
    near, known = torch.tensor([3, 5, 7]), torch.tensor([100, 200])
    found = list(drawn_shares(8, (near, 0.75), (torch.empty(0), 0.5), (None, 0.5), (known, 0.5)))
    assert [some for some, _ in found] == [slice(0, 6), slice(6, 8)]
    assert bool(torch.isin(found[0][1], near).all() & torch.isin(found[1][1], known).all())
    assert list(drawn_shares(8, (None, 1.0))) == []


def test_shares_of_some_photos_are_theirs_alone_and_drawn_alike() -> None:
    """Photos of 10 pixels; the second has none of the places, the third most of them."""
    places, photos = torch.tensor([1, 4, 20, 21, 22, 29, 33]), torch.tensor([2, 1, 0])
    [(some, drawn)] = drawn_shares(12000, (places, 0.5), photos=photos, pixels=10)
    assert some == slice(0, 6000)
    found, times = drawn.unique(return_counts=True)
    assert found.tolist() == [1, 4, 20, 21, 22, 29]
    assert bool(((times - 1000).abs() < 200).all()), "some are drawn more often than others"
    assert list(drawn_shares(8, (places, 0.5), photos=torch.tensor([1]), pixels=10)) == []


def test_photos_near_each_other_are_the_nearest_ones() -> None:
    positions = torch.tensor([[0.0, 0, 0], [0.1, 0, 0], [0.2, 0, 0], [9.0, 0, 0], [9.1, 0, 0], [9.2, 0, 0]])
    groups = {tuple(sorted(near_each_other(positions, 3).tolist())) for _ in range(40)}
    assert groups == {(0, 1, 2), (3, 4, 5)}
    assert sorted(near_each_other(positions, 9).tolist()) == list(range(6))


def test_photos_show_that_something_is_empty_or_nothing() -> None:
    half, full = torch.full((2, 4, 4), 0.6), torch.ones(2, 4, 4)
    assert something_empty(None, None) is None and something_empty(half, full) is None
    assert torch.equal(something_empty(half, half), half * half) and something_empty(full * 0.4, None) is not None


def test_photos_of_several_sizes_are_drawn_from_pixel_by_pixel(tmp_path: Path) -> None:
    transforms(tmp_path, 4)
    Image.fromarray(np.full((8, 12, 3), 77, np.uint8)).save(tmp_path / "images/1.png")
    photos = read_capture(tmp_path).photos
    drawn = PhotoSet.read(photos, False, "ignore")
    pixels = Draw(drawn, 0.75)(4000)
    heights = torch.tensor([image.shape[0] for image in drawn.images])
    assert sorted(set(heights.tolist())) == [8, 16] and bool((pixels.rows < heights[pixels.photos]).all())
    number = next(k for k, p in enumerate(photos) if p.image.stem == "1")
    here = pixels.photos == number
    assert bool((drawn.colors(pixels)[here] * 255 == 77).all())
    assert float(here.float().mean()) == pytest.approx(96 / (96 + 3 * 384), abs=0.03)
    every = drawn.all_of(number)
    assert set(zip(*(v.tolist() for v in every))) == {(number, r, c) for r in range(8) for c in range(12)}


def test_pixels_outside_of_ignored_masks_are_never_drawn(tmp_path: Path) -> None:
    found = read_capture(capture(tmp_path, masks="grey"))
    photos = PhotoSet.read(found.part("train"), False, "ignore")
    assert photos.counted is not None
    pixels = Draw(photos, 0.75)(2000)
    assert all(bool(photos.counted[k][r, c]) for k, r, c in zip(*(v.tolist() for v in pixels)))
    photos.counted = [torch.zeros_like(mask) for mask in photos.counted]
    with pytest.raises(ValueError, match="leave no pixel"):
        Draw(photos, 0.75)


def test_test_photos_are_evenly_spaced() -> None:
    assert spaced(10, 3) == [1, 5, 8] and spaced(3, 10) == [0, 1, 2] and spaced(200, 1) == [100]


# -- runs


def test_a_run_that_stopped_goes_on_exactly(tmp_path: Path, small: None) -> None:
    found, settings = read_capture(capture(tmp_path / "scene", masks="alpha")), RunSettings("lg-field-tiny", steps=10)
    whole = SceneRun(found, settings)
    whole.train()
    first = SceneRun(found, settings)
    first.train(lambda step: setattr(first, "stopping", step.number == 5))
    first.save(tmp_path / "training.pt")
    assert first.step == 6
    second = SceneRun(found, settings)
    second.load(tmp_path / "training.pt")
    second.train()
    for name, value in whole.field.state_dict().items():
        if torch.is_tensor(value):
            assert torch.equal(value, second.field.state_dict()[name]), name
    with pytest.raises(ValueError, match="--seed 42: go on with the same"):
        SceneRun(found, replace(settings, seed=1)).load(tmp_path / "training.pt")


def test_a_run_does_not_go_on_with_other_photos(tmp_path: Path, small: None) -> None:
    data, other = (transforms(tmp_path / name, count) for name, count in (("a", 20), ("b", 21)))
    run = SceneRun(read_capture(data), RunSettings("lg-field-tiny", steps=1))
    run.train()
    run.save(tmp_path / "run.pt")
    with pytest.raises(ValueError, match="training photos"):
        SceneRun(read_capture(other), RunSettings("lg-field-tiny", steps=1)).load(tmp_path / "run.pt")


def test_scene_space_leads_back_to_the_data_set(tmp_path: Path, small: None) -> None:
    run = SceneRun(read_capture(capture(tmp_path, scale=7.0)), RunSettings("lg-field-tiny"))
    scene = run.scene()
    to_world = torch.tensor(scene.scene_to_world, dtype=torch.float64)
    places = run.photos.lenses.poses[..., 3] @ to_world[:3, :3].T + to_world[:3, 3]
    wanted = torch.from_numpy(np.stack([p.pose[:3, 3] for p in run.capture.part("train")]))
    assert torch.allclose(places, wanted, atol=1e-6)
    assert torch.allclose(torch.tensor(scene.camera, dtype=torch.float64)[:3], run.photos.lenses.poses[0])


def test_the_command_trains_scores_and_goes_on(tmp_path: Path, small: None) -> None:
    capture(tmp_path / "scene", masks="alpha")
    words = ("train", "--data", "scene", "--method", "lg-field-tiny")
    text = lg(*words, "--steps", 60, cwd=tmp_path)
    run = tmp_path / "outputs/scene"
    assert "PSNR" in text and "2 test photos" in text and "from step" not in text
    facts = json.loads((run / "run.json").read_text())
    assert facts["step"] == 60 and facts["scores"]["psnr"] > 10.0
    field = lg_field.load(run / "scene.safetensors")
    assert isinstance(field.description, Scene) and field.history["psnr"] == facts["scores"]["psnr"]
    assert "holds a run" in lg(*words, cwd=tmp_path, fails=True)
    text = lg(*words, "--steps", 62, "--resume", "--test-photos", 0, cwd=tmp_path)
    assert "from step 60" in text and json.loads((run / "run.json").read_text())["step"] == 62
    lg("crop", run / "scene.safetensors", "--sphere", 0, 0, 0, 0.5, "-o", "part", cwd=tmp_path)
    assert "with --method lg-field-tiny: go on" in lg(*words[:3], "--resume", cwd=tmp_path, fails=True)
    (run / "training.pt").write_bytes(b"damaged")
    assert "no checkpoint" in lg(*words, "--resume", cwd=tmp_path, fails=True)


def test_bad_input_ends_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    transforms(tmp_path / "scene", 4)
    for words, said in (
        (("nowhere",), "nowhere does not exist"),
        (("empty",), "is empty"),
        (("scene", "-o", "file"), "is a file"),
        (("scene", "-o", "scene"), "is the data"),
        (("scene", "--resume"), "nothing to resume"),
        (("scene", "--steps", -1), "steps must be at least 0"),
        (("scene", "--downscale", 0.5), "downscale must be at least 1"),
        (("scene", "--test-photos", -1), "--test-photos must not be negative"),
        (("scene", "--device", "abacus"), "--device abacus"),
    ):
        text = lg("train", "--data", *words, cwd=tmp_path, fails=True)
        assert said in text and text.count("\n") == 1, text
    assert not (tmp_path / "outputs").exists()


def test_training_needs_no_nerfstudio(tmp_path: Path) -> None:
    capture(tmp_path / "scene", count=6)
    program = (
        "import sys, lg_field.cli as c\nsys.argv[0] = 'lg-field'\nc.main()\nprint('HAS', 'nerfstudio' in sys.modules)"
    )
    words = ["train", "--data", "scene", "--method", "lg-field-tiny", "--steps", "1", "--rays", "32"]
    done = subprocess.run([sys.executable, "-c", program, *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.endswith("HAS False\n"), done.stderr[-2000:]
