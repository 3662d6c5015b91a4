"""What a run says of settings that do nothing, and of gradients that are scaled otherwise than before."""

from __future__ import annotations

import warnings
from dataclasses import replace

import pytest
import torch
from small_scene import small_scene

from lg_field.errors import Notice
from lg_field.radiance.settings import CONTRACTED, TrainingSettings
from lg_field.radiance.training import RadianceTrainer
from lg_field.training.methods import METHODS
from lg_field.training.notices import say_without_effect

USUAL = METHODS["lg-field-tiny"].training


@pytest.mark.parametrize("name", CONTRACTED)
def test_what_does_nothing_in_a_bounded_scene_is_said(name: str) -> None:
    given = replace(USUAL, **{name: 0.123})
    with pytest.warns(Notice, match=f"{name} says something of unbounded scenes alone"):
        say_without_effect(given, False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        say_without_effect(given, True)
        say_without_effect(replace(USUAL, **{name: 0.0}), False)


def test_two_settings_share_a_line_and_methods_own_values_have_none() -> None:
    with pytest.warns(Notice) as said:
        say_without_effect(replace(USUAL, distortion_loss_mult=0.1, gradient_scaling=0.3), False)
    assert [str(w.message).startswith("distortion_loss_mult, gradient_scaling say ") for w in said] == [True]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for method in METHODS.values():
            say_without_effect(method.training, False)
        say_without_effect(TrainingSettings(), False)


def resumed(contraction: bool, before: float | None, now: float) -> list[str]:
    """What is said when training goes on from a checkpoint; None: of a version that says nothing of it."""
    field = small_scene(contraction=contraction)
    scaled = TrainingSettings(gradient_scaling=before or 0.0, occupancy_interval=1000)
    state = RadianceTrainer(field, scaled).state()
    if before is None:
        del state["gradient_scaling"]
    trainer = RadianceTrainer(field, replace(scaled, gradient_scaling=now))
    trainer.load_state(state)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        trainer.begin(1, [torch.optim.Adam(field.parameters())])
        trainer.begin(2, [])
    return [str(w.message) for w in said]


def test_a_run_that_goes_on_says_once_that_gradients_are_scaled_otherwise() -> None:
    assert resumed(True, 0.8, 0.8) == resumed(True, 0.0, 0.0) == resumed(True, None, 0.0) == []
    assert resumed(False, None, 0.8) == resumed(False, 0.8, 0.3) == [], "of bounded scenes they never are"
    (old,) = resumed(True, None, 0.8)
    assert "does not say whether" in old and "within 0.8" in old
    (less,) = resumed(True, 0.8, 0.0)
    assert "within 0.8 scene units of cameras: from here on they are within 0 " in less
