"""Few photos far apart are learned coarse first: which captures, what waits, and that nothing else changes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nerfstudio.engine.callbacks import TrainingCallbackAttributes
from test_placing import capture, manager

from lg_field import PartitionGrid
from lg_field.captures import read_capture
from lg_field.nerfstudio.model import LGModelConfig
from lg_field.radiance.coarse_first import held, waiting
from lg_field.radiance.field import RadianceField
from lg_field.radiance.hash_grid import HashGrid
from lg_field.radiance.settings import TrainingSettings
from lg_field.radiance.sizes import RadianceSizes
from lg_field.radiance.training import RadianceTrainer
from lg_field.training.few_photos import APART, FEW, coarse_until, few_photos, neighbours_apart
from lg_field.training.run import RunSettings, SceneRun

SIZES = RadianceSizes(
    local_width=4, global_width=8, grid_nodes=3, hash_levels=3, hash_base_res=4, log2_hashmap_size=7, occupancy_voxels=4
)
QUICK = {"steps_per_scene": 48, "samples_per_batch": 4096, "occupancy_points": 512, "split_steps": (), "prune_from": 99}
grids = st.builds(HashGrid, st.integers(1, 6), st.just(2), st.integers(3, 9), st.integers(2, 8))


# -- what waits


@given(grid=grids, until=st.integers(1, 900), steps=st.lists(st.integers(0, 1000), min_size=2, max_size=9))
def test_grids_begin_one_after_the_other_and_go_on(grid: HashGrid, until: int, steps: list[int]) -> None:
    first = grid.entries(0)
    learning = []
    for step in sorted(steps):
        found = waiting(grid, step, until)
        assert (found is None) == (step >= until)
        learning.append(grid.num_entries + 1 if found is None else found.first_line)
        assert learning[-1] >= first
    assert learning == sorted(learning)
    assert waiting(grid, 0, until).first_line == first  # type: ignore[union-attr]
    assert waiting(grid, until - 1, until).first_line <= grid.num_entries  # type: ignore[union-attr]


def test_a_field_without_shared_grid_has_its_cells_wait() -> None:
    assert waiting(None, 3, 4) == (0,) and waiting(None, 4, 4) is None and waiting(None, 0, 0) is None


@given(lines=st.integers(0, 9), first=st.integers(0, 12))
def test_what_is_held_has_its_values_and_no_gradients(lines: int, first: int) -> None:
    values = torch.randn(lines, 2, requires_grad=True)
    seen = held(values, first)
    assert torch.equal(seen, values)
    (3.0 * seen).sum().backward()
    expected = torch.full((lines, 2), 3.0)
    expected[first:] = 0.0
    assert values.grad is not None and torch.equal(values.grad, expected)
    with torch.no_grad():
        assert held(values, first) is values


# -- a training step


def a_trainer(until: int, contraction: bool = True, backend: str = "auto") -> tuple[RadianceTrainer, torch.optim.Adam]:
    torch.manual_seed(0)
    sizes = RadianceSizes(**vars(SIZES) | {"contraction": contraction, "color_width": 0, "color_features": 27})
    field = RadianceField(PartitionGrid((2, 2, 2), (-2.0,) * 3, (2.0,) * 3), sizes)
    field.backend = backend
    trainer = RadianceTrainer(field, TrainingSettings(**QUICK))
    trainer.coarse_until = until
    return trainer, torch.optim.Adam(field.parameters(), lr=1e-2)


def steps_of(trainer: RadianceTrainer, optimizer: torch.optim.Adam, steps: range) -> list[torch.Tensor]:
    """Rendered colours of some steps on the same rays."""
    pictures = []
    generator = torch.Generator().manual_seed(1)
    directions = torch.nn.functional.normalize(torch.randn(64, 3, generator=generator), dim=-1)
    colors = torch.rand(64, 3, generator=generator)
    for step in steps:
        torch.manual_seed(step)
        trainer.begin(step, [optimizer])
        view = trainer.render(-1.5 * directions, directions)
        losses = trainer.losses(view, colors)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        pictures.append(view.picture.rgb.detach())
    return pictures


@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize("contraction", [True, False])
def test_what_waits_stays_to_the_bit_and_the_rest_learns(contraction: bool, backend: str) -> None:
    trainer, optimizer = a_trainer(6, contraction, backend)
    plain, other = a_trainer(0, contraction, backend)
    field, sizes = trainer.field, SIZES.hash_grid()
    assert sizes is not None and field.hash_table is not None
    levels = [sizes.entries(k) for k in range(3)]
    before = [field.hash_table.detach().clone(), field.features.detach().clone()]
    assert torch.equal(steps_of(trainer, optimizer, range(1))[0], steps_of(plain, other, range(1))[0])
    steps_of(trainer, optimizer, range(1, 2))  # level k begins at step 2 k

    def changed() -> list[bool]:
        parts = [*zip(field.hash_table.detach().split(levels), before[0].split(levels)), (field.features, before[1])]
        return [not torch.equal(now, then) for now, then in parts]

    assert changed() == [True, False, False, False]
    steps_of(trainer, optimizer, range(2, 4))
    assert changed() == [True, True, False, False]
    steps_of(trainer, optimizer, range(4, 6))
    assert changed() == [True, True, True, False]
    steps_of(trainer, optimizer, range(6, 7))
    assert changed() == [True] * 4
    assert plain.field.hash_table is not None
    assert not torch.equal(plain.field.features, before[1]) and not torch.equal(plain.field.hash_table, before[0])


def test_a_step_that_waits_for_nothing_asks_the_tables_themselves() -> None:
    """So what it computes is what it was, to the bit."""
    trainer, optimizer = a_trainer(0)
    trainer.begin(0, [optimizer])
    field = trainer.field
    assert field.waiting is None and field._trainable_rows(field.features) is field.features
    assert field.hash_table is not None and field._trainable_lines(field.hash_table) is field.hash_table


def test_beside_frozen_rows_nothing_waits() -> None:
    trainer, optimizer = a_trainer(6)
    trainer.field.freeze_(torch.arange(8) < 4)
    trainer.begin(0, [optimizer])
    assert trainer.field.waiting is None


def test_cells_weights_learn_while_their_grids_wait() -> None:
    trainer, optimizer = a_trainer(6)
    before = trainer.field.local.detach().clone()
    steps_of(trainer, optimizer, range(2))
    assert not torch.equal(trainer.field.local, before)


# -- which captures


def ring(count: int, turns: float = 1.0) -> torch.Tensor:
    """(count, 3) places on an arc about the origin."""
    angle = torch.linspace(0, 2 * np.pi * turns, count + 1)[:-1].double()
    return torch.stack([2 * angle.cos(), 2 * angle.sin(), torch.full_like(angle, 0.3)], dim=-1)


@given(count=st.integers(2, 60), turns=st.floats(0.02, 1.0), scale=st.floats(1e-3, 1e3), seed=st.integers(0, 9))
def test_photos_are_few_by_number_and_angle_in_any_unit(count: int, turns: float, scale: float, seed: int) -> None:
    places = ring(count, turns)
    apart = neighbours_apart(places)
    few = few_photos(places)
    assert (few is not None) == (count < FEW and apart >= APART)
    turned = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(seed)).double())[0]
    assert neighbours_apart(scale * places @ turned) == pytest.approx(apart, abs=1e-3)
    assert few is None or few.startswith(f"{count} photos, {apart:.0f} degrees")


def test_a_photo_alone_or_none_is_no_matter_of_angles() -> None:
    assert few_photos(ring(1)) is None and few_photos(torch.zeros(0, 3)) is None


def test_rings_of_twelve_are_few_and_of_sixty_are_not() -> None:
    assert few_photos(ring(12)) is not None
    assert few_photos(ring(60)) is None
    assert few_photos(ring(12, turns=0.1)) is None  # near each other, as from a stand


@pytest.mark.parametrize("few", ["12 photos, 30 degrees from one to the next", None])
@pytest.mark.parametrize("asked", ["auto", "always", "never"])
def test_the_setting_decides_and_it_is_said(asked: str, few: str | None) -> None:
    settings = TrainingSettings(coarse_first=asked, coarse_steps=100)  # type: ignore[arg-type]
    on = asked == "always" or (asked == "auto" and few is not None)
    until, line = coarse_until(settings, few, 1000)
    assert until == (100 if on else 0) and (line is not None) == on
    if on:
        assert "step 100" in str(line) and "coarse_first never" in str(line) and (few is None or few in str(line))
    assert coarse_until(settings, few, 0)[0] == until
    assert coarse_until(settings, few, 60)[0] == (30 if on else 0)  # half of a short run
    elsewhere, line = coarse_until(settings, few, 1000, rows_elsewhere=True)
    assert elsewhere == 0 and (line is not None) == on


def test_a_choice_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="coarse_first must be auto, always, never, got 'often'"):
        TrainingSettings(coarse_first="often").check()  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="coarse_steps must not be negative"):
        TrainingSettings(coarse_steps=-1).check()
    with pytest.raises(ValueError, match="coarse_first must be one of auto, always, never"):
        RunSettings(coarse_first="often").complete()  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [12, 60])
def test_both_trainers_see_the_same(count: int, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    data, steps = capture(tmp_path / "scene", count=count), 400
    found = manager(data).train_dataset
    config = LGModelConfig(sizes=SIZES)  # type: ignore[arg-type]
    model = config.setup(scene_box=found.scene_box, num_train_data=len(found), metadata=found.metadata)
    trainer = SimpleNamespace(config=SimpleNamespace(max_num_iterations=steps))
    capsys.readouterr()
    model.get_training_callbacks(TrainingCallbackAttributes(None, None, None, trainer))  # type: ignore[arg-type]
    said = " ".join(capsys.readouterr().out.split())
    run = SceneRun(read_capture(data), RunSettings("lg-field-tiny", steps=steps))
    assert run.trainer.coarse_until == model.trainer.coarse_until == (steps // 2 if count == 12 else 0)
    notes = [note for note in run.notes if "learned from step" in note]
    assert len(notes) == (count == 12) and all(note in said for note in notes)
    never = SceneRun(read_capture(data), RunSettings("lg-field-tiny", steps=steps, coarse_first="never"))
    assert never.trainer.coarse_until == 0


def test_runs_from_before_there_was_a_choice_learn_everything_from_the_start() -> None:
    old = LGModelConfig.__new__(LGModelConfig)
    old.__setstate__({"steps_per_scene": 99})
    assert (old.coarse_first, old.steps_per_scene) == ("never", 99)
    assert LGModelConfig().coarse_first == "auto"
