"""Poses are improved in turns, in nerfstudio and without, and test photos say where their cameras are."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from commands import lg
from hypothesis import given, settings
from hypothesis import strategies as st
from nerfstudio.cameras.camera_optimizers import CameraOptimizerConfig
from nerfstudio.engine.callbacks import TrainingCallbackAttributes
from PIL import Image
from test_camera_fit import textured
from test_placing import capture, ring
from test_train import pipeline_of, small

from lg_field.captures import read_capture
from lg_field.errors import UserError
from lg_field.nerfstudio.corrections import fitted_rays, fitting
from lg_field.training.camera_fit import turned
from lg_field.training.corrections import PoseCorrections
from lg_field.training.pose_fitting import FIRST, FREQUENT, TOGETHER, turn
from lg_field.training.run import RunSettings, SceneRun

__all__ = ["small"]  # a fixture
PIXELS, STEPS = 48, 300


@given(photos=st.integers(1, 100))
@settings(max_examples=20)
def test_every_camera_has_its_turn_once_a_round(photos: int) -> None:
    asked = [turn(step, photos) for step in range(4000)]
    assert all(found is None for found in asked[:FIRST])
    turns = [found.tolist() for found in asked if found is not None]
    assert max(map(len, turns)) <= TOGETHER
    round_ = -(-photos // TOGETHER)
    for k in range(0, len(turns) - round_, round_):
        assert Counter(n for some in turns[k : k + round_] for n in some) == Counter(range(photos))
    at = [step for step, found in enumerate(asked) if found is not None]
    apart = np.diff(at)[round_ * FREQUENT :]
    assert all(a <= b for a, b in pairwise(apart)) and apart[-1] > np.diff(at)[0], "ever more rarely"


def test_no_camera_has_no_turn() -> None:
    assert turn(10_000, 0) is None


def painted_ball(folder: Path, degrees: float) -> Path:
    """A painted ball of radius 1, cut out, from 30 cameras that are said to be turned by `degrees` about some axis."""
    (folder / "images").mkdir(parents=True)
    rng, frames = np.random.default_rng(0), []
    across = (torch.arange(PIXELS, dtype=torch.float64) + 0.5) / PIXELS - 0.5
    ahead = torch.stack(
        [across.expand(PIXELS, -1), -across[:, None].expand(-1, PIXELS), -torch.ones(PIXELS, PIXELS)], -1
    )
    for k, pose in enumerate(ring(30, target=(0.0, 0.0, 0.0), distance=3.5).poses):
        rays, eye = torch.nn.functional.normalize(ahead @ pose[:, :3].mT, dim=-1), pose[:, 3]
        nearest = -(rays @ eye)
        deep = 1.0 - (eye.square().sum() - nearest.square())
        x, y, z = (eye + (nearest - deep.clamp_min(0.0).sqrt())[..., None] * rays).unbind(-1)
        colors = torch.stack([torch.sin(7 * x + y), torch.sin(6 * y - 2 * z), torch.sin(8 * z + 3 * x)], dim=-1)
        layers = torch.cat([0.5 + 0.45 * colors, (deep > 0.0).double()[..., None]], dim=-1)
        Image.fromarray((layers * 255).byte().numpy()).save(folder / "images" / f"{k:03}.png")
        axis = torch.from_numpy(rng.normal(size=3))
        said = torch.eye(4, dtype=torch.float64)
        said[:3] = pose
        said[:3, :3] = turned(np.radians(degrees) * axis / axis.norm()) @ pose[:, :3]
        frames.append({"file_path": f"images/{k:03}.png", "transform_matrix": said.tolist()})
    lens = {"fl_x": PIXELS, "fl_y": PIXELS, "cx": PIXELS / 2, "cy": PIXELS / 2, "w": PIXELS, "h": PIXELS}
    (folder / "transforms.json").write_text(json.dumps(lens | {"camera_model": "OPENCV", "frames": frames}))
    return folder


def test_turned_cameras_turn_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the scene is as sharp as the photos are, whatever was said of their cameras."""
    found = read_capture(painted_ball(tmp_path / "scene", 1.5))
    scores = {}
    for mode in ("off", "SO3xR3"):
        run = SceneRun(found, RunSettings("lg-field-tiny", steps=STEPS, rays=512, camera_optimizer=mode))
        run.train()
        run.corrections.camera_optimizer = run.corrections.camera_optimizer or PoseCorrections(0)
        scores[mode] = run.scores()["psnr_camera_fitted"]
    assert scores["SO3xR3"] > scores["off"] + 1.0, scores


def test_a_run_without_corrections_says_nothing_of_fitted_cameras(tmp_path: Path, small: None) -> None:
    run = SceneRun(read_capture(capture(tmp_path / "scene", count=6)), RunSettings("lg-field-tiny", steps=1))
    run.train()
    assert "psnr_camera_fitted" not in run.scores(1)


def test_the_command_scores_fitted_cameras(tmp_path: Path, small: None) -> None:
    capture(tmp_path / "scene", count=6)
    words = ["--method", "lg-field-tiny", "--steps", 3, "--rays", 32, "--test-photos", 1]
    lg("train", "--data", "scene", *words, "--camera-optimizer", "SO3xR3", cwd=tmp_path)
    said = json.loads((tmp_path / "outputs" / "scene" / "run.json").read_text())
    assert "psnr_camera_fitted" in json.dumps(said)


def test_nerfstudio_fits_the_same_pixels(tmp_path: Path, small: None) -> None:
    """The data manager and the photos of `lg-field train` say the same of a photo."""
    data = capture(tmp_path / "scene", count=6)
    _, pipeline = pipeline_of(data)
    run = SceneRun(read_capture(data), RunSettings("lg-field-tiny", steps=1))
    numbers, white = torch.tensor([2, 0]), (1.0, 1.0, 1.0)
    torch.manual_seed(3)
    ours = run.photos.seen(numbers, 40, white)
    torch.manual_seed(3)
    theirs = pipeline.datamanager.seen(numbers, 40, torch.tensor(white))
    for mine, its in zip(ours, theirs):
        torch.testing.assert_close(mine, its, rtol=0, atol=2e-6)


def test_test_cameras_are_fitted_in_nerfstudio(tmp_path: Path, small: None) -> None:
    _, pipeline = pipeline_of(capture(tmp_path / "scene", count=6))
    model = pipeline.model.eval()
    camera, batch = next(iter(pipeline.datamanager.fixed_indices_eval_dataloader))
    outputs = model.get_outputs_for_camera(camera)
    names = model.get_image_metrics_and_images(outputs, batch)[0].keys()
    model.camera_optimizer = CameraOptimizerConfig(mode="SO3xR3").setup(num_cameras=5, device="cpu")
    assert {*model.get_image_metrics_and_images(outputs, batch)[0]} - {*names} == {"psnr_camera_fitted"}
    # a field that shows nothing says nothing: the camera stays where it is given
    background = torch.ones(3)
    nothing = lambda photos: lambda origins, directions: (torch.ones_like(origins), origins[:, 0] * torch.nan)  # noqa: E731
    rays, same = (
        fitted_rays(camera, batch["image"], None, nothing, background),
        camera.generate_rays(0, keep_shape=True),
    )
    torch.testing.assert_close(rays.directions, same.directions, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("mode", "words"), [("SE3", "take SO3xR3"), ("SO3xR3", "data manager")])
def test_what_is_not_known_is_refused(mode: Any, words: str) -> None:
    optimizer = CameraOptimizerConfig(mode=mode).setup(num_cameras=5, device="cpu")
    pipeline: Any = SimpleNamespace(datamanager=object())
    attributes = TrainingCallbackAttributes(None, None, pipeline, None)
    with pytest.raises(UserError, match=words):
        fitting(optimizer, attributes, lambda photos: textured, torch.ones(3))
