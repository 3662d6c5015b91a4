"""Corrections of photos without nerfstudio: the same as its own, in step with it, and no part of the scene."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import lg
from hypothesis import given, settings
from hypothesis import strategies as st
from nerfstudio.cameras.camera_optimizers import CameraOptimizerConfig
from nerfstudio.engine.callbacks import TrainingCallbackAttributes
from nerfstudio.engine.optimizers import Optimizers
from test_placing import capture
from test_train import pipeline_of, small

import lg_field
from lg_field.captures import read_capture
from lg_field.nerfstudio.config import lg_field_tiny
from lg_field.training import corrections as ours
from lg_field.training import pose_fitting
from lg_field.training.corrections import Corrections, PoseCorrections, described
from lg_field.training.optimizing import fused_adam, set_rates
from lg_field.training.run import RunSettings, SceneRun

EARLY = 2
"""Step of the first turn of cameras, of short runs."""
BOTH = RunSettings("lg-field-tiny", steps=9, camera_optimizer="SO3xR3", exposure="True")
__all__ = ["small"]  # a fixture


@pytest.fixture(autouse=True)
def early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of a few steps have turns of cameras."""
    monkeypatch.setattr(pose_fitting, "FIRST", EARLY)
    monkeypatch.setattr(pose_fitting, "INTERVAL", 2)


@given(seed=st.integers(0, 999), size=st.sampled_from([1e-3, 0.05, 0.5]))
@settings(max_examples=20)
def test_poses_are_corrected_as_nerfstudio_does(seed: int, size: float) -> None:
    theirs = CameraOptimizerConfig(mode="SO3xR3").setup(num_cameras=4, device="cpu")
    mine, generator = PoseCorrections(4), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        mine.pose_adjustment.copy_(size * torch.randn(4, 6, generator=generator))
        theirs.pose_adjustment.copy_(mine.pose_adjustment)
    photos = torch.tensor([3, 0, 0, 2])
    torch.testing.assert_close(mine(photos), theirs(photos), rtol=0, atol=2e-5 * max(1.0, size))
    turn = mine(photos)[:, :, :3]
    torch.testing.assert_close(turn @ turn.mT, torch.eye(3).expand(4, 3, 3), rtol=0, atol=3e-6)
    made = Corrections(4, "SO3xR3", False)
    made.load_state_dict({"camera_optimizer.pose_adjustment": mine.pose_adjustment.detach()})
    assert made.described() == described(mine, None) is not None


def test_the_defaults_are_those_of_ns_train() -> None:
    config, said = lg_field_tiny.config, RunSettings()
    model = config.pipeline.model
    assert (model.camera_optimizer.mode, model.exposure) == (said.camera_optimizer, said.exposure)
    assert model.exposure_loss_mult == ours.EXPOSURE_PENALTY
    rates = {ours.POSES: ours.POSE_RATE, ours.COLORS: ours.COLOR_RATE}
    assert {name: config.optimizers[name]["optimizer"].lr for name in rates} == rates


def test_poses_have_no_gradients_and_colours_have_some_in_every_step() -> None:
    made, photos = Corrections(3, "SO3xR3", True), torch.tensor([0, 2])
    origins, directions = torch.rand(2, 3), torch.eye(3)[:2]
    moved = made.rays(origins, directions, photos)
    assert not any(part.requires_grad for part in moved)
    assert torch.equal(moved[0], origins) and torch.equal(moved[1], directions), "no change at first"
    develop = made.develop(photos)
    assert develop is not None and develop(torch.rand(2, 3), torch.ones(2, 1)).requires_grad
    assert made.losses().keys() == {"exposure_loss"}
    assert made.groups().keys() == {ours.POSE_RATE, ours.COLOR_RATE}
    none = Corrections(3, "off", False)
    assert none.rays(origins, directions, photos) == (origins, directions) and none.develop(photos) is None
    assert not none.losses() and not none.groups() and none.described() is None and not none.state_dict()


def test_steps_are_those_of_ns_train(tmp_path: Path, small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the same seeds and pixels."""
    model = lg_field_tiny.config.pipeline.model
    monkeypatch.setattr(model.camera_optimizer, "mode", BOTH.camera_optimizer)
    monkeypatch.setattr(model, "exposure", True)
    data = capture(tmp_path / "scene")
    config, pipeline = pipeline_of(data)
    for group in config.optimizers.values():
        group["scheduler"].max_steps = BOTH.steps
    groups = pipeline.get_param_groups()
    optimizers = Optimizers({name: config.optimizers[name] for name in groups}, groups)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    begin, *_ = pipeline.model.get_training_callbacks(TrainingCallbackAttributes(optimizers, scaler, pipeline, None))
    run = SceneRun(read_capture(data), BOTH)
    run.field.load_state_dict(pipeline.model.table.state_dict())
    pipeline.train()
    for step in range(BOTH.steps):
        pixels = run.draw(64)
        torch.manual_seed(step)
        optimizers.zero_grad_all()
        begin.run_callback(step)
        outputs = pipeline.model(pipeline.datamanager.train_ray_generator(torch.stack(pixels, dim=-1)))
        losses = pipeline.model.get_loss_dict(outputs, {"image": run.photos.colors(pixels)})
        sum(losses.values()).backward()
        optimizers.optimizer_scaler_step_all(scaler)
        optimizers.scheduler_step_all(step)
        torch.manual_seed(step)
        run.begin(step)
        said = run.learn(pixels)
        run.step += 1
        assert said.psnr == pytest.approx(-10 * np.log10(float(pipeline.model.trainer.error)), abs=0.02)
    poses, theirs = run.corrections.camera_optimizer, pipeline.model.camera_optimizer.pose_adjustment.detach()
    assert poses is not None and run.corrections.exposure is not None and bool(theirs.any())
    torch.testing.assert_close(poses.pose_adjustment.detach(), theirs, rtol=0, atol=3e-4)
    changes = run.corrections.exposure.change.detach(), pipeline.model.exposure.change.detach()
    torch.testing.assert_close(*changes, rtol=0, atol=2e-3)


def test_a_corrected_run_goes_on_exactly_and_its_scene_knows_nothing_of_it(tmp_path: Path, small: None) -> None:
    found = read_capture(capture(tmp_path / "scene"))
    whole = SceneRun(found, BOTH)
    whole.train()
    first = SceneRun(found, BOTH)
    first.train(lambda step: setattr(first, "stopping", step.number == 4))
    first.save(tmp_path / "training.pt")
    second = SceneRun(found, BOTH)
    second.load(tmp_path / "training.pt")
    second.train()
    for name, value in whole.corrections.state_dict().items():
        assert bool(value.any()) or name.endswith("pose_since"), name
        assert torch.equal(second.corrections.state_dict()[name], value), name
    assert torch.equal(whole.field.local, second.field.local)
    lg_field.save(whole.packed(), tmp_path / "scene.safetensors")
    assert not any("camera" in n or "exposure" in n for n in lg_field.load(tmp_path / "scene.safetensors").state_dict())
    with pytest.raises(ValueError, match="--camera-optimizer SO3xR3: go on with the same"):
        SceneRun(found, replace(BOTH, camera_optimizer="off")).load(tmp_path / "training.pt")


def test_a_run_of_before_corrections_goes_on_without(tmp_path: Path, small: None) -> None:
    found, said = (
        read_capture(capture(tmp_path / "scene")),
        replace(BOTH, steps=2, camera_optimizer="off", exposure="False"),
    )
    run = SceneRun(found, said)
    run.train()
    run.save(tmp_path / "training.pt")
    state = torch.load(tmp_path / "training.pt", weights_only=True)
    del state["corrections"]
    state["settings"] = {k: v for k, v in state["settings"].items() if k not in ("camera_optimizer", "exposure")}
    torch.save(state, tmp_path / "training.pt")
    again = SceneRun(found, said)
    again.load(tmp_path / "training.pt")
    assert again.step == 2 and torch.equal(again.field.local, run.field.local)
    with pytest.raises(ValueError, match="--exposure False: go on with the same"):
        SceneRun(found, replace(said, exposure="auto")).load(tmp_path / "training.pt")


@pytest.mark.parametrize(("name", "value"), [("camera_optimizer", "SE3"), ("exposure", "yes")])
def test_unknown_corrections_are_refused(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be one of"):
        replace(RunSettings(), **{name: value}).complete()


def test_processes_of_torchrun_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    text = lg("train", "--data", "scene", cwd=tmp_path, fails=True)
    assert "torchrun --nproc-per-node 2 -m lg_field.nerfstudio.train lg-field" in text and text.count("\n") == 1


def test_the_command_says_how_far_photos_were_corrected(tmp_path: Path, small: None) -> None:
    capture(tmp_path / "scene", count=6)
    words = ["--method", "lg-field-tiny", "--steps", 5, "--rays", 32, "--test-photos", 0]
    text = lg("train", "--data", "scene", *words, "--camera-optimizer", "SO3xR3", "--exposure", "True", cwd=tmp_path)
    assert "Training photos: cameras moved by 0.0" in text and "times as bright as the average" in text
    assert "Training photos" not in lg("train", "--data", "scene", *words, "--overwrite", cwd=tmp_path)


def test_groups_of_adam_have_rates_of_their_own(tmp_path: Path, small: None) -> None:
    run = SceneRun(read_capture(capture(tmp_path / "scene", count=6)), BOTH)
    optimizer = fused_adam(run.field, 1e-2, 3e-2, run.corrections.groups())
    set_rates(optimizer, 0.5)
    rates = [group["lr"] for group in optimizer.param_groups]
    assert rates == pytest.approx([5e-3, 1.5e-2, ours.POSE_RATE / 2, ours.COLOR_RATE / 2])
    parts = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert parts == {id(p) for module in (run.field, run.corrections) for p in module.parameters() if p.numel()}
    assert [p is run.field.features for p in optimizer.param_groups[1]["params"]].count(True) == 1
