"""Poses are improved in turns, in nerfstudio and without, and test photos say where their cameras are."""

from __future__ import annotations

import json
import random
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
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.engine.callbacks import TrainingCallbackAttributes
from nerfstudio.engine.optimizers import Optimizers
from PIL import Image
from small_model import make_model
from test_camera_fit import changes, looks, textured
from test_placing import capture, ring
from test_train import pipeline_of, small

from lg_field.captures import read_capture
from lg_field.errors import UserError
from lg_field.nerfstudio.config import lg_field_tiny
from lg_field.nerfstudio.corrections import PoseConfig, PoseOptimizer, fitted_rays, fitting
from lg_field.training import corrections, pose_fitting
from lg_field.training.camera_fit import moved, rotations
from lg_field.training.corrections import PoseCorrections
from lg_field.training.pose_fitting import EARLY, FIRST, FREQUENT, TOGETHER, TRIAL, PoseFitting, cameras_due
from lg_field.training.run import RunSettings, SceneRun

__all__ = ["small"]  # a fixture
PIXELS, STEPS = 48, 300


@given(photos=st.integers(1, 100), first=st.sampled_from([FIRST, 600]))
@settings(max_examples=20)
def test_every_camera_has_its_turn_once_a_round(photos: int, first: int) -> None:
    asked = [cameras_due(step, photos, first) for step in range(4000)]
    assert all(found is None for found in asked[:first]) and asked[first] is not None
    turns = [found.tolist() for found in asked if found is not None]
    assert max(map(len, turns)) <= TOGETHER
    round_ = -(-photos // TOGETHER)
    for k in range(0, len(turns) - round_, round_):
        assert Counter(n for some in turns[k : k + round_] for n in some) == Counter(range(photos))
    at = [step for step, found in enumerate(asked) if found is not None]
    apart = np.diff(at)[round_ * FREQUENT :]
    assert all(a <= b for a, b in pairwise(apart)) and apart[-1] > np.diff(at)[0], "ever more rarely"


class Off:
    """Cameras that look at the waved wall from elsewhere than they are said to."""

    def __init__(self, show: Any = textured) -> None:
        self.poses, self.said, self.looked = PoseCorrections(5), [], 0
        look: Any = self.look
        self.fit = PoseFitting(look, lambda photos: show, "auto", self.said.append, lambda: 700)

    def look(self, photos: torch.Tensor, count: int, generator: Any = None) -> Any:
        self.looked += 1
        seen = looks(len(photos), count, self.looked)
        return moved(seen, changes(5, 1)[photos])


def test_a_trial_waits_for_the_fine_and_is_made_once_of_a_resumed_run_too() -> None:
    """A run that goes on with poses on trial, and had none so far, has its trial at once."""
    run = Off()
    for step in (TRIAL, 699):
        run.fit(step, run.poses)
    assert not run.said and not run.looked
    for step in range(700, 710):
        run.fit(step, run.poses)
    assert len(run.said) == 1 and "Poses seem to be off" in run.said[0] and bool(run.poses.pose_adjustment.any())
    late = Off()
    late.fit(3001, late.poses)
    assert len(late.said) == 1 and float(late.poses.pose_gain) > 0.4
    assert late.fit.first == int(late.poses.pose_since) == 3001, "its cameras have turns as early ones have"
    again = Off()
    again.poses.pose_gain.fill_(0.1)
    for step in (700, 720, 740):
        again.fit(step, again.poses)
    assert not again.said and not again.looked and not bool(again.poses.pose_adjustment.any())


@pytest.mark.parametrize(("certain", "trials"), [(0.1, [EARLY]), (99.0, [TRIAL])])
def test_poses_that_are_clearly_off_are_found_early(
    monkeypatch: pytest.MonkeyPatch, certain: float, trials: list[int]
) -> None:
    monkeypatch.setattr(pose_fitting, "CERTAIN", certain)
    run, said = Off(), []
    run.fit.coarse_until = lambda: 0
    for step in range(EARLY - 1, TRIAL + 2):
        run.fit(step, run.poses)
        said += [step] * (len(run.said) - len(said))
    assert said == trials


@pytest.mark.parametrize("color", [0.3, torch.nan])
def test_a_field_that_shows_nothing_says_nothing_of_poses(color: float) -> None:
    run = Off(lambda origins, directions: (torch.full_like(origins, color), torch.full_like(origins[:, 0], torch.nan)))
    run.fit(700, run.poses)
    assert len(run.said) == 1 and "cannot be told" in run.said[0] and not bool(run.poses.pose_adjustment.any())


def test_no_camera_has_no_turn() -> None:
    assert cameras_due(10_000, 0) is None


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
        said[:3, :3] = rotations(np.radians(degrees) * axis / axis.norm()) @ pose[:, :3]
        frames.append({"file_path": f"images/{k:03}.png", "transform_matrix": said.tolist()})
    lens = {"fl_x": PIXELS, "fl_y": PIXELS, "cx": PIXELS / 2, "cy": PIXELS / 2, "w": PIXELS, "h": PIXELS}
    (folder / "transforms.json").write_text(json.dumps(lens | {"camera_model": "OPENCV", "frames": frames}))
    return folder


def trained(
    folder: Path, degrees: float, mode: Any, monkeypatch: pytest.MonkeyPatch, steps: int = STEPS, rays: int = 512
) -> SceneRun:
    monkeypatch.setattr(pose_fitting, "TRIAL", FIRST)
    found = read_capture(folder if folder.exists() else painted_ball(folder, degrees))
    run = SceneRun(found, RunSettings("lg-field-tiny", steps=steps, rays=rays, camera_optimizer=mode))
    run.train()
    return run


def aside(run: SceneRun, changes: torch.Tensor) -> float:
    """Degrees, on average, by which changed cameras see the ball's middle elsewhere than the photos show it."""
    to_scene = run.place.matrix
    middle = to_scene[:3, 3]
    off = []
    for change, pose in zip(changes.double(), run.photos.lenses.poses):
        seen = (rotations(change[3:]) @ pose[:, :3]).mT @ (middle - pose[:, 3] - change[:3])
        off.append(torch.acos((-seen[2] / seen.norm()).clamp(-1, 1)))  # photos show it in their middle
    return float(torch.rad2deg(torch.stack(off)).mean())


def test_poses_that_are_off_are_found_out_and_improved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Then cameras are where their photos were taken, and the scene is as sharp as the photos are."""
    without = trained(tmp_path / "scene", 1.5, "off", monkeypatch)
    assert "Poses seem" not in capsys.readouterr().err
    run = trained(tmp_path / "scene", 1.5, "auto", monkeypatch)
    said = capsys.readouterr().err
    assert "Poses seem to be off: the field is" in said and "improved from now on" in said
    poses = run.corrections.poses
    assert poses is not None and float(poses.pose_gain) > 0.7
    given, found = (aside(run, change) for change in (torch.zeros(len(run.photos), 6), poses.pose_adjustment.detach()))
    assert given > 0.9 and found < 0.6 * given, (given, found)
    assert "cameras moved by" in str(run.corrections.described())
    without.corrections.mode, without.corrections.camera_optimizer = "SO3xR3", PoseCorrections(0)
    assert run.scores(2)["psnr_camera_fitted"] > without.scores(2)["psnr_camera_fitted"] + 1.0


def test_poses_that_are_right_stay_and_their_trial_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without = trained(tmp_path / "scene", 0.0, "off", monkeypatch, FIRST + 5, 256)
    run = trained(tmp_path / "scene", 0.0, "auto", monkeypatch, FIRST + 5, 256)
    assert "Poses seem to be right" in capsys.readouterr().err
    assert torch.equal(run.field.local, without.field.local) and run.corrections.poses is None
    assert "psnr_camera_fitted" not in run.scores(2) and run.corrections.described() is None
    run.save(tmp_path / "training.pt")
    again = SceneRun(run.capture, run.settings)
    again.load(tmp_path / "training.pt")
    kept = again.corrections.camera_optimizer, run.corrections.camera_optimizer
    assert kept[0] is not None and kept[1] is not None and torch.equal(kept[0].pose_gain, kept[1].pose_gain)


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


def test_test_cameras_are_fitted_in_nerfstudio(tmp_path: Path, small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    _, pipeline = pipeline_of(capture(tmp_path / "scene", count=9))
    model = pipeline.model.eval()
    (camera, batch), (other, _) = list(pipeline.datamanager.fixed_indices_eval_dataloader)[:2]
    outputs = model.get_outputs_for_camera(camera)
    names = model.get_image_metrics_and_images(outputs, batch)[0].keys()
    model.camera_optimizer.said.mode = "SO3xR3"
    asked: list[Any] = []

    def fitted(of: Any, image: torch.Tensor, counted: Any) -> torch.Tensor:
        asked.append(of)
        return image[..., :3]

    monkeypatch.setattr(model, "render_fitted", fitted)
    found = model.get_image_metrics_and_images(outputs, batch)[0]
    assert {*found} - {*names} == {"psnr_camera_fitted"} and asked == [camera]
    model.get_outputs_for_camera(other)
    found = model.get_image_metrics_and_images(outputs, batch)[0]
    assert "psnr_camera_fitted" not in found, "those outputs are of another camera than the last picture"


def waved(photos: torch.Tensor) -> Any:
    return textured


def test_rays_of_a_test_camera_begin_where_its_photo_was_taken() -> None:
    """Its pose says another place and another direction."""
    lens = {"fx": 60.0, "fy": 60.0, "cx": 24.0, "cy": 24.0, "width": 48, "height": 48}
    true = Cameras(torch.eye(4)[None, :3], **lens)
    rays = true.generate_rays(0, keep_shape=True)
    shown, _ = textured(rays.origins.reshape(-1, 3).double(), rays.directions.reshape(-1, 3).double())
    image = shown.view(48, 48, 3).float()
    said = torch.eye(4)[None, :3].clone()
    said[0, :, :3] = rotations(torch.tensor([0.010, -0.008, 0.012]))
    said[0, :, 3] = torch.tensor([0.03, -0.02, 0.01])
    camera = Cameras(said, **lens)

    def off(bundle: Any) -> float:
        at, wanted = (textured_at(r.origins.reshape(-1, 3), r.directions.reshape(-1, 3)) for r in (bundle, rays))
        return float((at - wanted).norm(dim=-1).mean())

    found = fitted_rays(camera, image, None, waved, torch.ones(3))
    assert off(found) < 0.1 * off(camera.generate_rays(0, keep_shape=True))
    again = fitted_rays(camera, image, None, waved, torch.ones(3))
    assert torch.equal(found.directions, again.directions), "a score is not drawn anew"
    # a field that shows nothing says nothing: the camera stays where it is given
    nothing = lambda photos: lambda origins, directions: (torch.ones_like(origins), origins[:, 0] * torch.nan)  # noqa: E731
    stayed, given = fitted_rays(camera, image, None, nothing, torch.ones(3)), camera.generate_rays(0, keep_shape=True)
    torch.testing.assert_close(stayed.directions, given.directions, rtol=0, atol=1e-6)


def textured_at(origins: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    return origins + textured(origins.double(), directions.double())[1][:, None] * directions


@pytest.mark.parametrize(("rows_on", "space"), [("device", "contracted"), ("host", "bounded")])
def test_a_trial_in_nerfstudio_changes_nothing(
    tmp_path: Path,
    small: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    rows_on: str,
    space: str,
) -> None:
    """Where poses are right all is as without one, to the bit; the trial is said."""
    monkeypatch.setattr(pose_fitting, "TRIAL", 3)
    monkeypatch.setattr(corrections, "DOUBTFUL", 99.0)
    model = lg_field_tiny.config.pipeline.model
    monkeypatch.setattr(model, "rows_on", rows_on)
    monkeypatch.setattr(model, "space", space)
    data, states = capture(tmp_path / "scene"), {}
    for mode in ("off", "auto"):
        monkeypatch.setattr(model.camera_optimizer, "mode", mode)
        torch.manual_seed(1), random.seed(1), np.random.seed(1)
        config, pipeline = pipeline_of(data)
        groups = pipeline.get_param_groups()
        optimizers = Optimizers({name: config.optimizers[name] for name in groups}, groups)
        scaler = torch.amp.GradScaler("cpu", enabled=False)
        begin, *_ = pipeline.model.get_training_callbacks(
            TrainingCallbackAttributes(optimizers, scaler, pipeline, None)
        )
        pipeline.train()
        for step in range(5):
            optimizers.zero_grad_all()
            begin.run_callback(step)
            _, losses, _ = pipeline.get_train_loss_dict(step)
            sum(losses.values()).backward()
            optimizers.optimizer_scaler_step_all(scaler)
        states[mode] = {n: v.clone() for n, v in pipeline.state_dict().items() if torch.is_tensor(v)}
        assert ("Poses seem" in capsys.readouterr().out) == (mode == "auto")
    assert float(states["auto"]["_model.camera_optimizer.pose_gain"]) < 99.0
    for name, value in states["off"].items():
        assert torch.equal(value, states["auto"][name]), name


def test_runs_are_read_with_another_number_of_photos(small: None, capsys: pytest.CaptureFixture[str]) -> None:
    """Pictures of a run whose photos are no longer all there know nothing of where these were."""
    before, now = (
        make_model(photos=7, camera_optimizer=PoseConfig()),
        make_model(photos=5, camera_optimizer=PoseConfig()),
    )
    now.load_state_dict(before.state_dict())
    assert now.camera_optimizer.pose_adjustment.shape == (5, 6) and "left out" not in capsys.readouterr().out
    with torch.no_grad():
        before.camera_optimizer.pose_adjustment += 0.1
    now.load_state_dict(before.state_dict())
    assert not bool(now.camera_optimizer.pose_adjustment.any())
    assert "Poses of 7 training photos are left out: there are 5 now." in capsys.readouterr().out
    with pytest.raises(UserError, match="auto or SO3xR3: go on with the same"):
        make_model(photos=7, camera_optimizer=PoseConfig(mode="off")).load_state_dict(before.state_dict())


@pytest.mark.parametrize(("mode", "words"), [("SE3", "take SO3xR3"), ("SO3xR3", "data manager")])
def test_what_is_not_known_is_refused(mode: Any, words: str) -> None:
    optimizer = PoseOptimizer(CameraOptimizerConfig(mode=mode), 5, "cpu")
    pipeline: Any = SimpleNamespace(datamanager=object())
    attributes = TrainingCallbackAttributes(None, None, pipeline, None)
    with pytest.raises(UserError, match=words):
        fitting(optimizer, attributes, waved, torch.ones(3), lambda: 0)
