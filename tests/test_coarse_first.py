"""Few photos far apart are learned coarse first: which captures, what waits, and that nothing else changes."""

from __future__ import annotations

import copy
from itertools import pairwise
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
from lg_field.radiance.coarse_first import held, lines_of_frequencies, waiting
from lg_field.radiance.field import RadianceField
from lg_field.radiance.settings import TrainingSettings
from lg_field.radiance.sizes import RadianceSizes
from lg_field.radiance.trainable import trainable_shared
from lg_field.radiance.training import RadianceTrainer
from lg_field.training.few_photos import APART, FEW, coarse_until, few_photos, neighbours_apart
from lg_field.training.methods import METHODS
from lg_field.training.run import RunSettings, SceneRun

SIZES = RadianceSizes(
    local_width=4,
    global_width=8,
    grid_nodes=3,
    hash_levels=3,
    hash_base_res=4,
    log2_hashmap_size=7,
    global_frequencies=3,
    occupancy_voxels=4,
)
QUICK = {"steps_per_scene": 48, "samples_per_batch": 4096, "occupancy_points": 512, "split_steps": (), "prune_from": 99}
sizes_drawn = st.builds(
    RadianceSizes,
    network=st.sampled_from(["local-global", "global", "per-partition"]),
    hash_levels=st.integers(0, 6),
    log2_hashmap_size=st.integers(3, 9),
    hash_base_res=st.integers(2, 8),
    global_frequencies=st.integers(0, 8),
    grid_nodes=st.sampled_from([0, 3]),
    global_reads_grid=st.booleans(),
)


# -- what waits


@given(sizes=sizes_drawn, until=st.integers(1, 900), steps=st.lists(st.integers(0, 1000), min_size=2, max_size=9))
def test_what_has_begun_goes_on_and_at_the_end_all_has(sizes: RadianceSizes, until: int, steps: list[int]) -> None:
    grid = sizes.hash_grid()
    every = 0 if grid is None else grid.num_entries
    begun, silent = [], []
    for step in sorted(steps):
        found = waiting(sizes, step, until)
        assert (found is None) == (step >= until)
        begun.append(every if found is None else found.first_line)
        silent.append(set() if found is None else set(found.frequency_lines))
    assert begun == sorted(begun) and all(later <= earlier for earlier, later in pairwise(silent))
    start = waiting(sizes, 0, until)
    assert start is not None and start.first_line == 0
    frequencies = sizes.global_frequencies if sizes.parts.shared else 0
    assert len(start.frequency_lines) == 6 * (frequencies - frequencies // 2)


def test_a_stage_lets_in_a_frequency_and_a_level() -> None:
    sizes = METHODS["lg-field-tiny"].sizes
    grid, found = sizes.hash_grid(), [waiting(sizes, step, 750) for step in (0, 149, 150, 300, 450, 600, 749)]
    assert grid is not None
    starts = [sum(map(grid.entries, range(level))) for level in (0, 0, 1, 2, 3, 4, 4)]
    assert [one.first_line for one in found if one is not None] == starts
    assert [len(one.frequency_lines) // 6 for one in found if one is not None] == [3, 3, 2, 1, 0, 0, 0]
    assert waiting(sizes, 750, 750) is None and waiting(sizes, 0, 0) is None


@pytest.mark.parametrize("reads_grid", [True, False])
@pytest.mark.parametrize("first", range(5))
def test_lines_of_frequencies_are_those_that_read_them(first: int, reads_grid: bool) -> None:
    """Points half a wave of frequency `first` apart differ in its phases and higher ones', not in their positions."""
    sizes = RadianceSizes(**vars(SIZES) | {"global_frequencies": 4, "global_reads_grid": reads_grid})
    field = RadianceField(PartitionGrid((1, 1, 1), (-1.0,) * 3, (1.0,) * 3), sizes)
    field.backend = "torch"
    points = torch.rand(5, 3)
    inputs = field._inputs(points, torch.zeros(5, dtype=torch.int64), torch.tensor([0, 5]))[1]
    assert inputs is not None
    lines, angle = lines_of_frequencies(sizes, first), torch.pi * 2.0 ** torch.arange(first, 4)
    phases = (points[:, None] * angle[:, None]).flatten(1)
    assert len(set(lines)) == len(lines) == 6 * (4 - first)
    assert torch.allclose(inputs[:, list(lines)], torch.cat([phases.sin(), phases.cos()], dim=1), atol=1e-5)


@given(lines=st.integers(0, 9), first=st.integers(0, 12))
def test_what_is_held_has_its_values_and_no_gradients(lines: int, first: int) -> None:
    values = torch.randn(lines, 2, requires_grad=True)
    seen = held(values, slice(first, None))
    assert torch.equal(seen, values)
    (3.0 * seen).sum().backward()
    expected = torch.full((lines, 2), 3.0)
    expected[first:] = 0.0
    assert values.grad is not None and torch.equal(values.grad, expected)
    with torch.no_grad():
        assert held(values, slice(None)) is values


# -- a training step


def a_trainer(until: int, contraction: bool = True, backend: str = "auto") -> tuple[RadianceTrainer, torch.optim.Adam]:
    torch.manual_seed(0)
    sizes = RadianceSizes(**vars(SIZES) | {"contraction": contraction, "color_width": 0, "color_features": 27})
    field = RadianceField(PartitionGrid((2, 2, 2), (-2.0,) * 3, (2.0,) * 3), sizes)
    field.backend = backend
    trainer = RadianceTrainer(field, TrainingSettings(**QUICK))
    trainer.coarse_until = until
    return trainer, torch.optim.Adam(field.parameters(), lr=1e-2)


def steps_of(trainer: RadianceTrainer, optimizer: torch.optim.Adam, steps: range) -> None:
    """Some steps on the same rays."""
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


@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize("contraction", [True, False])
def test_what_waits_stays_to_the_bit_and_the_rest_learns(contraction: bool, backend: str) -> None:
    """In stages of 2 steps: a level and a frequency begin at step 2, a level at 4, everything at 6."""
    trainer, optimizer = a_trainer(6, contraction, backend)
    field, sizes = trainer.field, trainer.field.sizes
    grid = sizes.hash_grid()
    assert grid is not None and field.hash_table is not None
    high = [lines_of_frequencies(sizes, 1), lines_of_frequencies(sizes, 2)]
    alone = [line for line in high[0] if line not in high[1]]
    parts = [grid.entries(k) for k in range(3)]
    before = copy.deepcopy(field)
    assert before.hash_table is not None

    def changed() -> list[bool]:
        pairs = [*zip(field.hash_table.split(parts), before.hash_table.split(parts)), (field.features, before.features)]
        return [not torch.equal(now, then) for now, then in pairs]

    def silent() -> list[bool]:
        weights = field.shared["global_weight_0"].detach()
        return [not weights[lines].any() for lines in (alone, list(high[1]))]

    assert silent() == [False, False]
    steps_of(trainer, optimizer, range(2))
    assert changed() == [False] * 4 and silent() == [True, True]
    steps_of(trainer, optimizer, range(2, 4))
    assert changed() == [True, False, False, False] and silent() == [False, True]
    steps_of(trainer, optimizer, range(4, 6))
    assert changed() == [True, True, False, False] and silent() == [False, False]
    steps_of(trainer, optimizer, range(6, 7))
    assert changed() == [True] * 4


def test_a_step_that_waits_for_nothing_asks_the_tables_themselves() -> None:
    """So what it computes is what it was, to the bit."""
    trainer, optimizer = a_trainer(0)
    trainer.begin(0, [optimizer])
    field = trainer.field
    assert field.waiting is None and field._trainable_rows(field.features) is field.features
    assert field.hash_table is not None and field._trainable_lines(field.hash_table) is field.hash_table
    assert all(trainable_shared(field)[name] is tensor for name, tensor in field.shared.items())
    assert torch.equal(field.shared["global_weight_0"], a_trainer(0)[0].field.shared["global_weight_0"])


def test_beside_frozen_rows_nothing_waits() -> None:
    trainer, optimizer = a_trainer(6)
    trainer.field.freeze_(torch.arange(8) < 4)
    before = trainer.field.shared["global_weight_0"].detach().clone()
    trainer.begin(0, [optimizer])
    assert trainer.field.waiting is None and torch.equal(trainer.field.shared["global_weight_0"], before)


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


def inward(places: torch.Tensor) -> torch.Tensor:
    """Unit directions from places to the origin."""
    return -torch.nn.functional.normalize(places, dim=-1)


@given(count=st.integers(2, 60), turns=st.floats(0.02, 1.0), scale=st.floats(1e-3, 1e3), seed=st.integers(0, 9))
def test_photos_are_few_by_number_and_angle_in_any_unit(count: int, turns: float, scale: float, seed: int) -> None:
    places = ring(count, turns)
    apart = neighbours_apart(places)
    few = few_photos(places, inward(places))
    assert (few is not None) == (count < FEW and apart >= APART)
    turned = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(seed)).double())[0]
    assert neighbours_apart(scale * places @ turned) == pytest.approx(apart, abs=1e-3)
    assert few is None or few.startswith(f"{count} photos, {apart:.0f} degrees")


def test_a_photo_alone_or_none_is_no_matter_of_angles() -> None:
    assert few_photos(ring(1), inward(ring(1))) is None and few_photos(torch.zeros(0, 3), torch.zeros(0, 3)) is None


def test_rings_of_twelve_are_few_and_of_sixty_are_not() -> None:
    assert few_photos(ring(12), inward(ring(12))) is not None
    assert few_photos(ring(60), inward(ring(60))) is None
    stand = ring(12, turns=0.1)
    assert few_photos(stand, inward(stand)) is None, "near each other"
    assert few_photos(ring(12), -inward(ring(12))) is None, "of a room, the angles say nothing"


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
    assert coarse_until(settings, few, 1) == (0, None), "nothing is said where nothing waits"


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
    notes = [note for note in run.notes if "detail waits until" in note]
    assert len(notes) == (count == 12) and all(note in said for note in notes)
    never = SceneRun(read_capture(data), RunSettings("lg-field-tiny", steps=steps, coarse_first="never"))
    assert never.trainer.coarse_until == 0


def test_runs_from_before_there_was_a_choice_learn_everything_from_the_start() -> None:
    old = LGModelConfig.__new__(LGModelConfig)
    old.__setstate__({"steps_per_scene": 99})
    assert (old.coarse_first, old.steps_per_scene) == ("never", 99)
    assert LGModelConfig().coarse_first == "auto"


@pytest.mark.parametrize(("known", "until"), [(True, 40), (False, 0)])
def test_a_run_that_goes_on_waits_as_long_as_it_was_to(known: bool, until: int) -> None:
    """However many steps it is to have now; of before there was such a thing nothing waits."""
    field = RadianceField(PartitionGrid((2, 2, 2), (-1.0,) * 3, (1.0,) * 3), RadianceSizes())
    first, second = (RadianceTrainer(field, TrainingSettings()) for _ in range(2))
    first.coarse_until, second.coarse_until = 40, 400
    state = first.state()
    second.load_state(state if known else {name: v for name, v in state.items() if name != "coarse_until"})
    assert second.coarse_until == until and second.resumed and not first.resumed
