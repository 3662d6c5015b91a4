"""What is close to a camera teaches less: values stay, gradients are scaled, on every way that a step is computed."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_at_once import STEP, a_field, some_rays

from lg_field.radiance.at_once import ask_at_once, march_training
from lg_field.radiance.beside import points_beside
from lg_field.radiance.compositing import Samples
from lg_field.radiance.gradient_scaling import NearScaling, scaled_near
from lg_field.radiance.render import ask, picture, shade
from lg_field.radiance.training import RadianceTrainer, TrainingSettings


@given(st.floats(0.01, 50.0), st.floats(0.1, 10.0))
def test_gradients_grow_with_the_square_of_the_distance_until_they_are_whole(distance: float, until: float) -> None:
    samples = Samples(torch.tensor([0]), torch.tensor([distance - 0.005]), torch.tensor([distance + 0.005]))
    values = torch.tensor([[0.3, 0.7]], requires_grad=True)
    scaled = NearScaling(samples, until)(values)
    assert torch.equal(scaled, values)
    (grad,) = torch.autograd.grad(scaled.sum(), values)
    expected = min(1.0, distance / until) ** 2
    torch.testing.assert_close(grad, torch.full_like(grad, expected), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("until", [0.0, 1.5])
def test_nothing_is_computed_where_nothing_is_scaled(until: float) -> None:
    samples = Samples(torch.tensor([0]), torch.tensor([1.0]), torch.tensor([1.1]))
    assert (NearScaling(samples, until).factors is None) == (until == 0.0)
    with torch.no_grad():
        assert NearScaling(samples, until).factors is None


def gradients(asked, color: bool) -> tuple[torch.Tensor, ...]:
    """Of the picture, the opacity and the dependence on the direction, by all parameters."""
    shown = picture(asked, shade(asked), 1000.0, None)
    loss = shown.rgb.square().sum() + shown.accumulation.sum() + asked.opacity.square().sum()
    loss = loss if color else loss + asked.dependence.sum()
    parameters = [p for p in asked.field.parameters() if p.numel()]
    return shown.rgb, *torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)


@pytest.mark.parametrize("color", [False, True])
def test_every_way_that_a_step_is_computed_scales_the_same(color: bool) -> None:
    """Asked at once or one after the other; another picture's gradients without; an opacity's as they are."""
    field = a_field(contraction=True, color=color)
    origins, directions, near, far = some_rays()
    marched = march_training(field, origins, directions, near, far, STEP)
    beside = points_beside(field, marched.unit, marched.samples.rays, 50, 20)
    until = float(marched.samples.middles.median())
    at_once, _ = ask_at_once(field, origins, directions, marched, beside, scaled_until=until)
    in_turn = scaled_near(ask(field, origins, directions, marched.samples), until)
    plain, _ = ask_at_once(field, origins, directions, marched, beside)
    ours, theirs, without = (gradients(asked, color) for asked in (at_once, in_turn, plain))
    for a, b in zip(ours, theirs):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
    assert torch.equal(ours[0], without[0])
    assert max(float((a - b).abs().max()) for a, b in zip(ours[1:], without[1:])) > 1e-3
    of_opacity = (torch.autograd.grad(asked.opacity.sum(), field.local)[0] for asked in (at_once, plain))
    assert torch.equal(*of_opacity)


@pytest.mark.parametrize("contraction", [False, True])
def test_only_unbounded_scenes_scale(contraction: bool) -> None:
    """Cameras of bounded ones look at a box from outside."""
    origins, directions, near, far = some_rays()
    found = []
    for distance in (0.0, 1e3):
        torch.manual_seed(3)
        field = a_field(contraction)
        trainer = RadianceTrainer(field, TrainingSettings(gradient_scaling=distance, seam_loss_mult=0.0))
        view = trainer.render(origins, directions, near, far)
        found.append(torch.autograd.grad(view.picture.rgb.sum(), field.local)[0])
    assert bool(found[0].abs().max() > 0)
    assert torch.equal(*found) != contraction


def test_a_negative_distance_is_refused() -> None:
    with pytest.raises(ValueError, match="gradient_scaling must not be negative"):
        TrainingSettings(gradient_scaling=-1.0).check()
