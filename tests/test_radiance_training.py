"""Training without nerfstudio: a loop of ten lines learns a scene, and a resumed one is the uninterrupted one."""

from __future__ import annotations

import copy
import random
import warnings
from itertools import pairwise

import numpy as np
import pytest
import torch
from small_scene import small_scene

from lg_field import PartitionGrid
from lg_field.radiance.compositing import render_weights
from lg_field.radiance.field import RadianceField
from lg_field.radiance.random_state import random_state, restore_random_state
from lg_field.radiance.render import orbit, render
from lg_field.radiance.sizes import RadianceSizes
from lg_field.radiance.training import LONGEST_STRIDE, RadianceTrainer, TrainingSettings
from lg_field.radiance.training_state import selected_state

QUICK = {"steps_per_scene": 48, "samples_per_batch": 4096, "occupancy_points": 4096, "occupancy_interval": 4}
SIZES = RadianceSizes(local_width=4, global_width=8, grid_nodes=4, hash_levels=1, hash_base_res=4, occupancy_voxels=4)


def rays_of_a_scene(views: int = 6, size: int = 20) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(n, 3) origins, (n, 3) directions and (n, 4) RGBA of pictures of a scene that needs no training."""
    scene = small_scene((2, 2, 2), kept=0.6)
    cameras = list(orbit(scene, scene.description, views, size, size))
    pictures = [render(scene, scene.description, camera) for camera in cameras]
    origins, directions = (torch.cat(v).view(-1, 3) for v in zip(*(c.rays() for c in cameras)))
    rgba = torch.cat([torch.cat([p.rgb, p.accumulation], dim=-1).view(-1, 4) for p in pictures])
    return origins, directions, rgba


RAYS = rays_of_a_scene()


def start(contraction: bool = False, **options) -> tuple[RadianceTrainer, torch.optim.Optimizer]:
    torch.manual_seed(0)
    reach = 2.0 if contraction else 1.2
    sizes = RadianceSizes(**vars(SIZES) | {"contraction": contraction})
    field = RadianceField(PartitionGrid((2, 2, 2), (-reach,) * 3, (reach,) * 3), sizes)
    trainer = RadianceTrainer(field, TrainingSettings(**QUICK | options))
    return trainer, torch.optim.Adam(field.parameters(), lr=1e-2, eps=1e-15)


def train(trainer: RadianceTrainer, optimizer: torch.optim.Optimizer, steps: range) -> list[float]:
    """The loop of the module's docstring."""
    origins, directions, colors = RAYS
    errors = []
    for step in steps:
        trainer.begin(step, [optimizer])
        chosen = torch.randint(len(origins), (256,))
        losses = trainer.losses(trainer.render(origins[chosen], directions[chosen]), colors[chosen])
        optimizer.zero_grad()
        sum(losses.values()).backward()  # type: ignore[union-attr]
        optimizer.step()
        errors.append(float(losses["rgb_loss"].detach()))
    return errors


def everything(trainer: RadianceTrainer, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """All numbers that training goes on from."""
    found = {k: v for k, v in trainer.field.state_dict().items() if torch.is_tensor(v)}
    state = trainer.state()
    found |= {"stride": torch.tensor(state["stride"]), "thickness": state["thickness"], "seen": state["seen"]}
    found |= {"random": torch.get_rng_state(), "numpy": torch.tensor(np.random.rand())}  # the type checks use Python's
    for k, moments in enumerate(optimizer.state_dict()["state"].values()):
        found |= {f"{k} {name}": value for name, value in moments.items()}
    return found


def test_a_loop_of_ones_own_learns_a_scene():
    trainer, optimizer = start(split_steps=(40,), prune_from=60, prune_interval=20, unseen_from=50)
    errors = train(trainer, optimizer, range(120))
    assert np.mean(errors[-10:]) < 0.2 * np.mean(errors[:10])
    field = trainer.field
    assert field.grid.counts == (4, 4, 4) and 8 <= field.num_rows <= 64
    assert not field.occupied.all() and 1.0 <= trainer.stride < 8.0


@pytest.mark.parametrize("contraction", [False, True])
@pytest.mark.parametrize("at", [5, 13, 20])
def test_a_resumed_run_is_the_uninterrupted_one_to_the_bit(contraction: bool, at: int):
    """Before the split, between it and a pruning, and on a step that does everything."""
    options = {"split_steps": (8,), "prune_from": 10, "prune_interval": 5, "unseen_from": 9, "overlap": 0.05}
    torch.manual_seed(3), np.random.seed(3), random.seed(3)
    whole = start(contraction, **options)
    train(*whole, range(at))
    saved = copy.deepcopy((whole[0].field.state_dict(), whole[1].state_dict(), whole[0].state()))
    cells = whole[0].field.num_rows
    train(*whole, range(at, 24))
    expected = everything(*whole)
    torch.manual_seed(99), np.random.seed(99), random.seed(99)
    again, optimizer = start(contraction, **options)
    again.field.load_state_dict(saved[0])
    optimizer.load_state_dict(saved[1])
    again.load_state(saved[2])
    assert again.field.num_rows == cells and again.field.local is optimizer.param_groups[0]["params"][0]
    train(again, optimizer, range(at, 24))
    got = everything(again, optimizer)
    assert got.keys() == expected.keys()
    different = [name for name in expected if not torch.equal(got[name], expected[name])]
    assert not different


def test_rendering_changes_no_state_and_learning_does():
    trainer, _ = start()
    torch.manual_seed(1)
    before, parts = copy.deepcopy(trainer.state()), (RAYS[0][:64], RAYS[1][:64])
    view = trainer.render(*parts)
    after = trainer.state()
    assert after["stride"] == before["stride"] and not after["seen"].any()
    trainer.losses(view, RAYS[2][:64])
    assert trainer.state()["seen"].any() and trainer.stride == view.stride != before["stride"]


def test_strides_are_longer_while_steps_have_too_many_samples():
    for wanted, way in ((1, 1), (10**9, -1)):
        trainer, _ = start(samples_per_batch=wanted)
        strides = [trainer.stride]
        for _ in range(30):
            trainer.losses(trainer.render(RAYS[0][:32], RAYS[1][:32]), RAYS[2][:32])
            strides.append(trainer.stride)
        assert all((b - a) * way >= 0 for a, b in pairwise(strides))
        assert strides[-1] == (LONGEST_STRIDE if way > 0 else 1.0)


@pytest.mark.parametrize("color", ["random", "white", "black"])
def test_truth_and_render_stand_on_the_same_background(color: str):
    trainer, _ = start(background_color=color)
    view = trainer.render(RAYS[0][:50], RAYS[1][:50])
    seen = view.picture
    alone = seen.rgb if color == "random" else seen.rgb - (1.0 if color == "white" else 0.0) * (1 - seen.accumulation)
    straight = torch.cat([alone / seen.accumulation.clamp_min(1e-6), seen.accumulation], dim=-1).detach()
    rgb, truth = trainer.compare(view, straight)
    torch.testing.assert_close(rgb, truth, rtol=0, atol=1e-5)
    opaque = torch.rand(50, 3)
    assert torch.equal(trainer.compare(view, opaque)[1], opaque)


@pytest.mark.parametrize("contraction", [False, True])
def test_known_depths_say_where_light_comes_from(contraction: bool):
    """The loss is what a sum over samples says, unknown depths count nowhere, and learning it moves what rays see."""
    trainer, optimizer = start(contraction, depth_loss_mult=0.5, seam_loss_mult=0.0)
    origins, directions, colors = (values[:200] for values in RAYS)
    depth = torch.where(torch.arange(200) % 3 == 0, 1.7, 0.0)
    view = trainer.render(origins, directions)
    samples, longest = view.asked.samples, 4.0 if contraction else 48 * trainer.step_length
    weights = render_weights(view.asked.density, samples, 200)

    def place(t: torch.Tensor) -> torch.Tensor:
        return torch.where(t <= 2.0, t, 4.0 - 4.0 / t) / longest if contraction else t / longest

    middle = 0.5 * (place(samples.starts) + place(samples.ends))
    away = (middle - place(torch.tensor(1.7))).abs() * (depth > 0)[samples.rays]
    found = trainer.losses(view, colors, depth)["depth_loss"]
    torch.testing.assert_close(found, 0.5 * (weights * away).sum() / (depth > 0).sum())
    assert "depth_loss" not in trainer.losses(view, colors)
    assert not bool(trainer.losses(view, colors, torch.zeros(200))["depth_loss"])
    errors = []
    for _ in range(40):
        loss = trainer.losses(trainer.render(origins, directions), colors, depth)["depth_loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        errors.append(float(loss.detach()))
    assert errors[-1] < 0.7 * errors[0]


def test_rays_that_see_nothing_have_gradients_of_zero():
    trainer, _ = start(background_color="white")
    view = trainer.render(RAYS[0][:8], -RAYS[1][:8])
    assert view.asked is None and (view.picture.rgb == 1).all()
    sum(trainer.losses(view, RAYS[2][:8]).values()).backward()  # type: ignore[union-attr]
    grads = [p.grad for p in trainer.field.parameters() if p.numel()]
    assert all(g is not None and not g.any() for g in grads) and not trainer.field.seen.any()


def test_a_state_follows_its_rows_and_another_tables_is_refused():
    trainer, optimizer = start()
    train(trainer, optimizer, range(3))
    state = trainer.state()
    rows = torch.tensor([1, 4, 5])
    small = RadianceTrainer(trainer.field.selected(rows), trainer.settings)
    small.load_state(selected_state(state, rows))
    assert torch.equal(small.field.seen, state["seen"][rows])
    with pytest.raises(ValueError, match=r"thickness has shape \(8, 64\), the field's rows need \(3, 64\)"):
        small.load_state(state)


def test_a_checkpoint_without_training_state_goes_on_and_says_so_once():
    trainer, optimizer = start()
    train(trainer, optimizer, range(3))
    trainer.load_state(None)
    with pytest.warns(UserWarning, match="no training state"):
        trainer.begin(3, [optimizer])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trainer.begin(4, [optimizer])
        trainer.load_state(None, expected=False)
        trainer.begin(5, [optimizer])


def test_random_states_are_plain_and_come_back():
    state = random_state(torch.device("cpu"))
    drawn = (torch.rand(3), np.random.rand(3), np.random.randn(), random.random(), random.gauss(0, 1))
    restore_random_state(state, torch.device("cpu"))
    again = (torch.rand(3), np.random.rand(3), np.random.randn(), random.random(), random.gauss(0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(drawn, again))


@pytest.mark.parametrize(
    ("option", "value", "match"),
    [
        ("samples_per_batch", 0, "samples_per_batch must be at least 1, got 0"),
        ("overlap", -0.1, "overlap must not be negative"),
        ("near_plane", 0.0, "near_plane must be positive"),
        ("background_color", "pink", "random, white or black, got 'pink'"),
    ],
)
def test_settings_that_make_no_sense_are_named(option: str, value: object, match: str):
    with pytest.raises(ValueError, match=match):
        start(**{option: value})


@pytest.mark.parametrize(
    ("option", "value", "match"),
    [
        ("local_width", -1, "local_width must be a whole number of 0 to 65536, got -1"),
        ("hidden_layers", 65, "hidden_layers"),
        ("grid_nodes", 1, "grid_nodes 0 or at least 2"),
        ("occupancy_voxels", 3, "occupancy_voxels must be even"),
        ("color_features", 0, "color_features"),
        ("global_width", 2.5, "global_width"),
        ("w0", float("nan"), "w0 must be a finite number"),
        ("network", "none", "network must be local-global, per-partition or global"),
        ("activation", "none", "activation"),
        ("contraction", 1, "contraction must be true or false"),
        ("frame", (1.0, 2.0), "six numbers"),
        ("frame", (0.0, 0, 0, 1, 0, 1), "lower and an upper corner"),
        ("hash_features", 3, "hash_features must be 1, 2, 4 or 8"),
        ("hash_levels", 17, "hash_levels"),
    ],
)
def test_sizes_that_make_no_sense_are_named(option: str, value: object, match: str):
    with pytest.raises(ValueError, match=match):
        RadianceSizes(**{option: value})


def test_a_checkpoint_of_another_kind_of_field_is_refused_before_anything_changes():
    grid = PartitionGrid((2, 2, 2), (-2.0,) * 3, (2.0,) * 3)
    relu, sine = (
        RadianceField(grid, RadianceSizes(grid_nodes=3, activation=a, contraction=a == "sine"))
        for a in ("relu", "sine")
    )
    before = copy.deepcopy(sine.state_dict())
    with pytest.raises(
        ValueError, match="activation is 'relu' there, 'sine' here, contraction is False there, True here"
    ):
        sine.load_state_dict(relu.state_dict())
    assert all(torch.equal(v, before[k]) for k, v in sine.state_dict().items() if torch.is_tensor(v))
    old = relu.state_dict()
    extra = old["_extra_state"]
    del extra["config"]["hash_levels"]  # from before there was a choice
    relu.load_state_dict(old)
    extra["shape"] = extra.pop("config")  # as version 1 called it
    relu.load_state_dict(old)
    extra["shape"]["local_width"] = -4
    with pytest.raises(ValueError, match="sizes in the checkpoint make no sense"):
        relu.load_state_dict(old)
