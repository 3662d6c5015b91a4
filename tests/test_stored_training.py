"""Training with rows in host memory or on disk is training with rows in the field, number by number."""

from __future__ import annotations

import io
import resource

import pytest
import torch
from test_distributed import SETTINGS, STEPS, close, fresh, rays

from lg_field import PartitionGrid
from lg_field.radiance.field import RadianceField
from lg_field.radiance.sizes import RadianceSizes
from lg_field.radiance.training import RadianceTrainer, TrainingSettings
from lg_field.stored.field import ROWS
from lg_field.stored.late import LateRows
from lg_field.stored.trainer import StoredTrainer
from lg_field.stored.training_field import TrainingField
from lg_field.table.checkpoint import CheckpointError

CUT = 17
PLAIN = {"color_width": 0, "color_features": 27}


@pytest.fixture(autouse=True)
def double():
    """`fresh` changes it."""
    before = torch.get_default_dtype()
    yield
    torch.set_default_dtype(before)


def stored(where: str, folder, contraction: bool = False, **options: object) -> StoredTrainer:
    return StoredTrainer(*fresh(contraction, **(options or PLAIN)), where=where, folder=folder)


def optimizers_of(trainer: RadianceTrainer) -> tuple[list, list]:
    """Two optimizers whose rates change from step to step, and their schedules."""
    grids = [p for p in (trainer.field.features, trainer.field.hash_table) if p is not None]
    others = [p for p in trainer.field.parameters() if all(p is not grid for grid in grids)]
    made = [torch.optim.Adam(others, lr=1e-2, eps=1e-8), torch.optim.Adam(grids, lr=2e-2, eps=1e-8, fused=True)]
    return made, [torch.optim.lr_scheduler.ExponentialLR(one, 0.97) for one in made]


def train(trainer: RadianceTrainer, first: int, last: int, optimizers: list, schedules: list) -> list[dict[str, float]]:
    """Losses of each step; before step 9 rays see nothing."""
    origins, directions, colors = rays()
    found = []
    for step in range(first, last):
        trainer.begin(step, optimizers)
        chosen = torch.randint(len(origins), (12,))
        ahead = -directions[chosen] if step == 9 else directions[chosen]
        losses = trainer.losses(trainer.render(origins[chosen], ahead), colors[chosen])
        for one in optimizers:
            one.zero_grad()
        sum(losses.values()).backward()
        for one in (*optimizers, *schedules):
            one.step()
        found.append({name: float(loss.detach()) for name, loss in losses.items()})
    return found


def told(trainer: RadianceTrainer, optimizers: list) -> dict[str, torch.Tensor]:
    """All numbers that training goes on from, as a checkpoint has them."""
    found = {name: v for name, v in trainer.field.state_dict().items() if torch.is_tensor(v)}
    found |= {name: getattr(trainer.field, name) for name in ("thickness", "seen")}
    for number, one in enumerate(optimizers):
        for index, state in one.state_dict()["state"].items():
            found |= {f"{number} {index} {key}": torch.as_tensor(value) for key, value in state.items()}
    return {name: value.detach().clone() for name, value in found.items()}


@pytest.mark.parametrize(
    ("contraction", "where", "options"),
    [(False, "host", PLAIN), (True, "disk", {"hash_levels": 0})],
    ids=["bounded-host", "contracted-disk"],
)
def test_rows_elsewhere_are_rows_here(tmp_path, contraction, where, options, monkeypatch):
    """Over a split, occupancy updates, prunings, a step without samples, and rows that miss many steps."""
    monkeypatch.setattr("lg_field.stored.late.BLOCK_BYTES", 20_000)
    late: list[int] = []
    step = LateRows.step

    def watched(self, *args):
        step(self, *args)
        late.append(int(len(self.history) - self.done.min()))

    monkeypatch.setattr(LateRows, "step", watched)
    options = dict(options)
    if "hash_levels" in options:
        monkeypatch.setitem(fresh.__globals__, "SIZES", {**fresh.__globals__["SIZES"], "hash_levels": 0})
        options.pop("hash_levels")
    results = []
    for make in (lambda f, s: RadianceTrainer(f, s), lambda f, s: StoredTrainer(f, s, where=where, folder=tmp_path)):
        trainer = make(*fresh(contraction, **options))
        made = optimizers_of(trainer)
        torch.manual_seed(5)
        losses = train(trainer, 0, STEPS, *made)
        results.append((losses, told(trainer, made[0]), trainer.field))
    (ours, state, field), (theirs, other, away) = results
    assert field.grid.counts == (4, 4, 4) and 1 < field.num_rows < 64, "no split, or no pruning"
    assert max(late) >= 2, "no row missed steps"
    assert isinstance(away, TrainingField) and away.local.shape[0] == 0 and len(away.cells) == field.num_rows
    assert away.num_parameters() == field.num_parameters()
    for a, b in zip(ours, theirs, strict=True):
        assert a == pytest.approx(b, abs=1e-10)
    assert state.keys() == other.keys()
    for name, value in state.items():
        close(name, other[name], value)
    assert list(tmp_path.iterdir()) == []


def test_in_single_precision_it_is_the_same_to_the_bit():
    """With whatever kernels there are: what is asked in one go is gathered in one go."""
    torch.set_default_dtype(torch.float32)
    origins, directions, colors = (values.float() for values in rays())
    results = []
    for make in (RadianceTrainer, StoredTrainer):
        torch.manual_seed(0)
        sizes = RadianceSizes(grid_nodes=5, hash_levels=2, hash_base_res=4, occupancy_voxels=4, **PLAIN)
        settings = TrainingSettings(**{**SETTINGS, "split_steps": (4,), "prune_from": 8, "prune_interval": 4})
        trainer = make(RadianceField(PartitionGrid((2, 2, 2), (-1.2,) * 3, (1.2,) * 3), sizes), settings)
        made = [torch.optim.Adam(trainer.field.parameters(), lr=1e-2, eps=1e-15, fused=True)]
        torch.manual_seed(5)
        for step in range(12):
            trainer.begin(step, made)
            chosen = torch.randint(len(origins), (48,))
            losses = trainer.losses(trainer.render(origins[chosen], directions[chosen]), colors[chosen])
            made[0].zero_grad()
            sum(losses.values()).backward()
            made[0].step()
        results.append({k: v for k, v in trainer.field.state_dict().items() if torch.is_tensor(v)})
    assert results[0].keys() == results[1].keys() and len(results[0]["cells"]) > 8
    for name, value in results[0].items():
        assert torch.equal(value, results[1][name]), name


def test_a_checkpoint_goes_on_with_rows_anywhere(tmp_path):
    """Saved with rows on disk, loaded with rows on the host and in the field: they all go on alike."""
    first = stored("disk", tmp_path)
    made = optimizers_of(first)
    torch.manual_seed(5)
    train(first, 0, CUT, *made)
    file = io.BytesIO()
    parts = [one.state_dict() for many in made for one in many]
    torch.save({"field": first.field.state_dict(), "training": first.state(), "parts": parts}, file)
    answers = []
    for trainer in (first, stored("host", tmp_path), RadianceTrainer(*fresh(False, **PLAIN))):
        file.seek(0)
        saved = torch.load(file, weights_only=True)
        if trainer is not first:
            made = optimizers_of(trainer)
            if isinstance(trainer, StoredTrainer):
                trainer.follow(made[0])
            trainer.field.load_state_dict(saved["field"])
            for one, part in zip((one for many in made for one in many), saved["parts"]):
                one.load_state_dict(part)
        trainer.load_state(saved["training"])
        train(trainer, CUT, CUT + 5, *made)
        answers.append(told(trainer, made[0]))
    for other in answers[1:]:
        assert answers[0].keys() == other.keys()
        for name, value in answers[0].items():
            close(name, other[name], value)


def test_rows_are_asked_some_at_a_time_and_pictures_are_the_same(tmp_path):
    field, settings = fresh(False)
    trainer = StoredTrainer(fresh(False)[0], settings, where="disk", folder=tmp_path)
    plain = RadianceTrainer(field, settings)
    origins, directions, _ = rays()
    near, far = torch.full((len(origins),), 0.05), torch.full((len(origins),), 10.0)
    wanted = plain.look((origins, directions, near, far), torch.zeros(3), None, 0.0)[1]
    for most in (1, 3, 100):
        trainer.field.source.most = most
        seen = trainer.look((origins, directions, near, far), torch.zeros(3), None, 0.0)[1]
        assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(wanted, seen))


def test_a_full_disk_is_a_line_and_what_was_saved_is_whole(tmp_path):
    trainer = stored("disk", tmp_path)
    made = optimizers_of(trainer)
    train(trainer, 0, 8, *made)
    before = told(trainer, made[0])
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    largest = max(trainer.field.source.late[name].values.nbytes for name in ROWS)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * largest, limit[1]))
    try:
        with pytest.raises(OSError, match=r"cannot hold .* GB of rows, .* GB are free there") as caught:
            trainer.begin(8, made[0])  # a split makes them 8 times as large
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == [], "no file is left"
    other = RadianceTrainer(*fresh(False, **PLAIN))
    other.field.load_state_dict(
        {
            **{k: v for k, v in before.items() if k in other.field.state_dict()},
            "_extra_state": other.field.get_extra_state(),
        }
    )
    assert torch.equal(other.field.local, before["local"])


def test_what_cannot_be_is_refused(tmp_path):
    field, settings = fresh(False)
    field.freeze_(torch.tensor([True, *[False] * 7]))
    with pytest.raises(ValueError, match="frozen cells"):
        StoredTrainer(field, settings)
    trainer = stored("host", tmp_path)
    with pytest.raises(ValueError, match="pack its checkpoint"):
        trainer.field.selected(torch.arange(2))
    state = trainer.field.state_dict()
    for name, value, match in (
        ("local", state["local"][:3], "has shape"),
        ("features", state["features"] * torch.nan, "features in the checkpoint holds NaN"),
    ):
        with pytest.raises(CheckpointError, match=match):
            trainer.field.load_state_dict({**state, name: value})
