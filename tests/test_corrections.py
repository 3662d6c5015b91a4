"""Corrections of training photos: exposure is 0 on average, poses come back, and neither is part of the scene."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_model import bundle, make_model
from small_scene import small_scene

from lg_field.nerfstudio.corrections import (
    COLORS,
    POSES,
    PoseConfig,
    corrected_rays,
    without_corrections,
)
from lg_field.radiance.compositing import Samples, render_weights, spread
from lg_field.radiance.exposure import Exposure
from lg_field.radiance.render import ask, picture, shade
from lg_field.radiance.training import RadianceTrainer, TrainingSettings
from lg_field.training.corrections import described


def disturbed(photos: int, seed: int = 0) -> Exposure:
    exposure = Exposure(photos)
    with torch.no_grad():
        exposure.change.copy_(0.2 * torch.randn(photos, 3, 4, generator=torch.Generator().manual_seed(seed)))
    return exposure


@given(photos=st.integers(1, 9), seed=st.integers(0, 999))
@settings(max_examples=20)
def test_the_average_photo_shows_the_scenes_colours(photos: int, seed: int) -> None:
    exposure = disturbed(photos, seed)
    rgb, opacity = torch.rand(5, 3), torch.rand(5, 1)
    shown = torch.stack([exposure(rgb, opacity, torch.full((5,), k)) for k in range(photos)])
    torch.testing.assert_close(shown.mean(0), rgb, rtol=0, atol=1e-5)
    assert float(exposure.gains().mean()) == pytest.approx(1.0, abs=1e-5)
    nothing = exposure(torch.zeros(5, 3), torch.zeros(5, 1), torch.zeros(5, dtype=torch.long))
    assert torch.equal(nothing, torch.zeros(5, 3)), "where there is nothing a camera shows nothing"


def test_exposures_are_found_up_to_their_average() -> None:
    gains, scene = torch.tensor([0.6, 1.0, 1.4]), torch.rand(64, 3)
    exposure, photos = Exposure(3), torch.arange(3).repeat_interleave(64)
    assert float(exposure.penalty().detach()) == 0.0
    optimizer = torch.optim.Adam(exposure.parameters(), lr=2e-2)
    for _ in range(300):
        optimizer.zero_grad()
        shown = exposure(scene.repeat(3, 1), torch.ones(192, 1), photos)
        (shown - scene.repeat(3, 1) * gains[photos, None]).square().mean().backward()
        optimizer.step()
    torch.testing.assert_close(exposure.gains(), gains, rtol=0, atol=0.02)
    assert float(exposure.penalty().detach()) > 0.0


@given(seed=st.integers(0, 999), rays=st.integers(1, 4))
@settings(max_examples=20)
def test_spread_is_the_distortion_of_all_pairs(seed: int, rays: int) -> None:
    torch.manual_seed(seed)
    counts = torch.randint(0, 6, (rays,))
    index = torch.repeat_interleave(torch.arange(rays), counts)
    edges = [torch.rand(int(n) + 1, dtype=torch.float64).sort().values for n in counts]
    starts, ends = torch.cat([e[:-1] for e in edges]), torch.cat([e[1:] for e in edges])
    samples, density = Samples(index, starts, ends), 5 * torch.rand(len(index), dtype=torch.float64)
    weights = render_weights(density, samples, rays)
    apart = (samples.middles[:, None] - samples.middles).abs() * (index[:, None] == index)
    pairs = (weights[:, None] * weights * apart).sum() + (weights.square() * samples.lengths).sum() / 3
    found = spread(weights, samples.middles, samples.lengths, samples, rays)
    torch.testing.assert_close(found, pairs / rays)
    weights = weights.detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda w: spread(w, samples.middles, samples.lengths, samples, rays), (weights,))


def test_less_spread_is_less_haze() -> None:
    """One wall has no spread to speak of; the same light from two walls has their distance."""
    samples = Samples(torch.zeros(2, dtype=torch.long), torch.tensor([0.0, 0.9]), torch.tensor([0.1, 1.0]))
    wall, two = torch.tensor([1.0, 0.0]), torch.tensor([0.5, 0.5])
    near, far = (spread(w, samples.middles, samples.lengths, samples, 1) for w in (wall, two))
    assert float(near) == pytest.approx(0.1 / 3) and float(far) > 10 * float(near)


@pytest.mark.parametrize("contraction", [False, True])
def test_the_distortion_loss_of_unbounded_scenes_has_gradients_and_a_weight(contraction: bool) -> None:
    field = small_scene(contraction=contraction, kept=1.0)
    trainer = RadianceTrainer(field, TrainingSettings(distortion_loss_mult=0.1))
    rays = bundle()
    losses = trainer.losses(trainer.render(rays.origins, rays.directions), torch.rand(32, 3))
    assert ("distortion_loss" in losses) == contraction
    if not contraction:
        return
    assert 0.0 < float(losses["distortion_loss"].detach()) <= 0.1
    losses["distortion_loss"].backward()
    assert field.local.grad is not None and bool(field.local.grad.any())


def test_a_negative_weight_of_the_distortion_is_refused() -> None:
    with pytest.raises(ValueError, match="distortion_loss_mult must not be negative"):
        TrainingSettings(distortion_loss_mult=-1.0).check()


def test_what_rays_see_has_the_gradient_of_where_they_begin() -> None:
    field = small_scene(kept=1.0, nodes=4).double()
    field.color.double()
    rays = bundle(6)
    origins, directions = rays.origins.double().requires_grad_(), rays.directions.double().requires_grad_()
    starts = torch.linspace(3.3, 4.7, 9, dtype=torch.float64).repeat(6)
    samples = Samples(torch.arange(6).repeat_interleave(9), starts, starts + 0.1)

    def seen(origins: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
        asked = ask(field, origins, directions, samples)
        return picture(asked, shade(asked), 9.0, None).rgb

    assert torch.autograd.gradcheck(seen, (origins, directions), eps=1e-7, atol=1e-4, rtol=1e-3)


def test_exposures_improve_in_every_step_and_poses_have_no_gradient() -> None:
    options: dict[str, Any] = {"camera_optimizer": PoseConfig(mode="SO3xR3"), "exposure": True}
    model = make_model(**options)
    model.train()
    assert {POSES, COLORS} <= model.get_param_groups().keys()
    for step in range(3):
        model.zero_grad()
        model.trainer.step = step
        losses = model.get_loss_dict(model.get_outputs(bundle()), {"image": torch.rand(32, 3)})
        losses["rgb_loss"].backward()
        assert model.camera_optimizer.pose_adjustment.grad is None
        assert bool(model.exposure.change.grad.any())
    assert "exposure_loss" in losses and "camera_opt_regularizer" not in losses
    line = described(model.camera_optimizer.poses, model.exposure)
    assert line is not None and "no camera was moved" in line and "1.00 to 1.00 times as bright" in line
    plain = make_model()
    assert plain.camera_optimizer.poses is None and plain.exposure is None
    assert POSES not in make_model(camera_optimizer=PoseConfig(mode="off")).get_param_groups()


def test_rays_are_those_of_the_corrected_camera() -> None:
    model, rays = make_model(camera_optimizer=PoseConfig(mode="SO3xR3")), bundle()
    same = corrected_rays(model.camera_optimizer, rays)
    assert torch.equal(same[0], rays.origins) and torch.equal(same[1], rays.directions)
    with torch.no_grad():
        model.camera_optimizer.pose_adjustment[:] = torch.tensor([0.1, -0.2, 0.3, 0.0, 0.0, torch.pi / 2])
    origins, directions = corrected_rays(model.camera_optimizer, rays)
    torch.testing.assert_close(origins, rays.origins + torch.tensor([0.1, -0.2, 0.3]))
    x, y, z = rays.directions.unbind(1)
    torch.testing.assert_close(directions, torch.stack([-y, x, z], dim=1), rtol=0, atol=1e-6)


def test_a_picture_and_another_run_know_nothing_of_corrections() -> None:
    model = make_model(camera_optimizer=PoseConfig(mode="SO3xR3"), exposure=True)
    model.eval()
    before = model(bundle())["rgb"]
    with torch.no_grad():
        model.camera_optimizer.pose_adjustment.normal_()
        model.exposure.change.normal_()
    assert torch.equal(model(bundle())["rgb"], before)
    state = {f"_model.{name}": value for name, value in model.state_dict().items()}
    others = without_corrections(state)
    assert {n for n in state if n not in others} == {
        "_model.camera_optimizer.pose_adjustment",
        "_model.camera_optimizer.pose_gain",
        "_model.camera_optimizer.pose_since",
        "_model.exposure.change",
    }
    fresh = make_model(camera_optimizer=PoseConfig(mode="SO3xR3"), exposure=True)
    fresh.load_state_dict({name.removeprefix("_model."): value for name, value in others.items()})
    assert not bool(fresh.exposure.change.any()) and torch.equal(fresh.eval()(bundle())["rgb"], before)
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh.exposure.change, model.exposure.change)
