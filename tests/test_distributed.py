"""Training with rows on several ranks is training on one: losses, parameters, rows, occupancy, optimizer state."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from on_ranks import on_ranks

from lg_field import PartitionGrid
from lg_field.distributed.ranks import Ranks
from lg_field.distributed.trainer import RankTrainer
from lg_field.radiance.field import RadianceField
from lg_field.radiance.sizes import RadianceSizes
from lg_field.radiance.training import RadianceTrainer, TrainingSettings

SIZES = {"local_width": 4, "global_width": 8, "grid_nodes": 4, "hash_levels": 1, "hash_base_res": 4}
SETTINGS = {
    **{"steps_per_scene": 32, "samples_per_batch": 1024, "occupancy_points": 4096, "occupancy_interval": 4},
    **{"split_steps": (8,), "prune_from": 12, "prune_interval": 6, "unseen_from": 6, "occupancy_threshold": 0.02},
    **{"seam_loss_mult": 0.05, "seam_points": 64, "harmonics_loss_mult": 1e-3, "distortion_loss_mult": 1e-3},
}
STEPS = 30


def rays(count: int = 256) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(n, 3) origins, (n, 3) directions and (n, 4) RGBA of rays at a ball."""
    generator = torch.Generator().manual_seed(1)
    around = torch.randn(count, 3, generator=generator) * torch.tensor([0.1, 0.1, 1.0])
    origins = torch.nn.functional.normalize(around, dim=1) * 3.0
    aims = (torch.rand(count, 3, generator=generator) - 0.5) * 0.6
    directions = torch.nn.functional.normalize(aims - origins, dim=1)
    nearest = (origins - (origins * directions).sum(1, keepdim=True) * directions).norm(dim=1)
    alpha = (nearest < 0.25).float()[:, None]
    return origins.double(), directions.double(), torch.cat([alpha * 0.5 + 0.2 * origins / 3.0, alpha], dim=1).double()


def fresh(contraction: bool, **options: object) -> tuple[RadianceField, TrainingSettings]:
    """In float64, in this process from here on."""
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    reach = 2.0 if contraction else 1.2
    sizes = RadianceSizes(**SIZES, **options, occupancy_voxels=4, contraction=contraction)
    field = RadianceField(PartitionGrid((2, 2, 2), (-reach,) * 3, (reach,) * 3), sizes)
    return field, TrainingSettings(**SETTINGS)


def train(trainer: RadianceTrainer, steps: int = STEPS) -> tuple[list[dict[str, float]], torch.optim.Optimizer]:
    """Losses of each step."""
    origins, directions, colors = rays()
    optimizer = torch.optim.Adam(trainer.field.parameters(), lr=1e-2, eps=1e-8)
    torch.manual_seed(5)
    found = []
    for step in range(steps):
        trainer.begin(step, [optimizer])
        chosen = torch.randint(len(origins), (48,))
        depth = torch.where(chosen % 4 == 0, 2.8, 0.0)  # known for some rays
        losses = trainer.losses(trainer.render(origins[chosen], directions[chosen]), colors[chosen], depth)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        found.append({name: float(loss.detach()) for name, loss in losses.items()})
    return found, optimizer


def told(trainer: RadianceTrainer, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """All numbers that training goes on from: of the table, the trainer and the optimizer."""
    field = trainer.field
    found = {name: getattr(field, name).detach() for name in field.row_names}
    found |= {name: p.detach() for name, p in field.named_parameters()}
    for name, parameter in field.named_parameters():
        found |= {f"{name} {key}": value for key, value in optimizer.state[parameter].items()}
    return found | {"dense": field.occupancy.dense(), "stride": torch.tensor(trainer.stride)}


def many(
    contraction: bool, options: dict[str, object]
) -> tuple[list[dict[str, float]], dict[str, torch.Tensor], dict[str, object]]:
    """Losses, what training goes on from, and facts of this rank; the first rank's facts hold those of one process."""
    facts: dict[str, object] = {}
    if Ranks().rank == 0:
        alone = RadianceTrainer(*fresh(contraction, **options))
        facts["losses"], optimizer = train(alone)
        facts["state"], facts["rows"] = told(alone, optimizer), alone.field.row_names
    trainer = Emptied(*fresh(contraction, **options), Ranks(), balance_interval=5)
    losses, optimizer = train(trainer)
    facts |= {"moves": trainer.moves, "grid": trainer.field.grid.counts, "owned": len(trainer.owners.cells)}
    return losses, told(trainer, optimizer), facts


class Emptied(RankTrainer):
    """Gives all cells to the last rank at step 16, and remembers when cells changed owners."""

    def begin(self, step, optimizers=()):
        self.moves = [] if step == 0 else self.moves
        changed = super().begin(step, optimizers)
        if step == 16:
            last = torch.full_like(self.owners.rank, self.owners.size - 1)
            self._move(self.owners, replace(self.owners, rank=last), optimizers)
            assert self.field.num_rows == (self.ranks.rank == self.ranks.size - 1) * len(last)
        return changed

    def _move(self, *args):
        self.moves.append(self.step)
        super()._move(*args)


@pytest.mark.parametrize(
    ("contraction", "size", "options"),
    [(False, 2, {"color_width": 0, "color_features": 27}), (True, 3, {})],
    ids=["bounded", "contracted"],
)
def test_many_ranks_are_one(contraction: bool, size: int, options: dict[str, object]):
    """Over a split, prunings, occupancy updates, cells that change owners, and ranks that have none for a while."""
    answers = on_ranks(size, many, contraction, options)
    facts = answers[0][2]
    losses, state = facts["losses"], facts["state"]
    assert facts["grid"] == (4, 4, 4) and 1 < facts["owned"] < 64, "no split, or no pruning"
    assert any(step < 16 for step in facts["moves"]) and facts["moves"][-1] > 16, "nothing was balanced"
    cells, order = torch.cat([theirs["cells"] for _, theirs, _ in answers]).sort()
    assert torch.equal(cells, state["cells"])
    for name, value in state.items():
        parts = [theirs[name] for _, theirs, _ in answers]
        rows = name.split()[0] in facts["rows"] and value.dim() > 0
        for part in [torch.cat(parts)[order]] if rows else parts:
            close(name, part, value)
    for theirs, _, _ in answers:
        for ours, step in zip(losses, theirs, strict=True):
            assert step == pytest.approx(ours, abs=1e-10)


def draws(contraction: bool, shared: bool) -> list[torch.Tensor]:
    """Random states after two steps of a table and of one with other weights, whose rays end elsewhere."""
    found = []
    for denser in (0.0, 3.0):
        field, settings = fresh(contraction, **({} if contraction else {"color_width": 0, "color_features": 27}))
        with torch.no_grad():
            field.local.add_(0.3 * torch.randn_like(field.local))
            field.shared["head_bias"][0] += denser
        trainer = RankTrainer(field, settings, Ranks()) if shared else RadianceTrainer(field, settings)
        train(trainer, 2)
        found.append(torch.get_rng_state())
    return found


@pytest.mark.parametrize("contraction", [False, True], ids=["bounded", "contracted"])
@pytest.mark.parametrize("shared", [False, True], ids=["alone", "ranks"])
def test_what_a_step_draws_does_not_depend_on_what_it_computes(contraction: bool, shared: bool):
    """Else sums that are rounded otherwise, as those of other numbers of ranks, end in other random numbers."""
    (first, second), *_ = on_ranks(1, draws, contraction, shared)
    assert torch.equal(first, second)


def in_single_precision(seed: int) -> list[float]:
    """Losses of some steps with Adam's eps of 1e-15."""
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(seed)
    sizes = RadianceSizes(**SIZES, color_width=0, color_features=27, occupancy_voxels=4)
    settings = TrainingSettings(**{**SETTINGS, "split_steps": (), "prune_interval": 0})
    trainer = RankTrainer(RadianceField(PartitionGrid((4, 4, 4), (-1.2,) * 3, (1.2,) * 3), sizes), settings, Ranks())
    optimizer = torch.optim.Adam(trainer.field.parameters(), lr=1e-2, eps=1e-15)
    origins, directions, colors = (values.float() for values in rays())
    found = []
    for step in range(60):
        trainer.begin(step, [optimizer])
        chosen = torch.randint(len(origins), (128,))
        losses = trainer.losses(trainer.render(origins[chosen], directions[chosen]), colors[chosen])
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        found.append(float(losses["rgb_loss"].detach()))
    return found


def test_in_single_precision_ranks_stay_close():
    """Rounding is amplified, but nothing jumps."""
    alone, shared = (on_ranks(size, in_single_precision, 3)[0] for size in (1, 3))
    assert alone != shared
    for ours, theirs in zip(alone, shared, strict=True):
        assert theirs == pytest.approx(ours, rel=2e-3)


def drift() -> str:
    """What a rank says whose random numbers are not the others'."""
    trainer = RankTrainer(*fresh(False), Ranks(), balance_interval=2)
    torch.manual_seed(trainer.ranks.rank)
    try:
        trainer.begin(2)
    except ValueError as error:
        return str(error)
    return ""


def test_ranks_that_drift_apart_say_so():
    assert all("the ranks disagree about random numbers" in line for line in on_ranks(2, drift))


def alone() -> list[str]:
    """What more ranks than cells, and frozen cells, are told."""
    found = []
    for freeze, count in ((False, 1), (True, 2)):
        field, settings = fresh(False)
        field.select_(torch.arange(count))
        field.freeze_(torch.tensor([freeze] * count))
        try:
            RankTrainer(field, settings, Ranks())
        except ValueError as error:
            found.append(str(error))
    return found


def test_what_ranks_cannot_share_is_refused():
    for few, frozen in on_ranks(2, alone):
        assert "2 ranks are more than the 1 cells" in few and "leave out torchrun" in frozen


def close(name: str, ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert ours.shape == theirs.shape, name
    assert torch.equal(ours, theirs) if ours.dtype == torch.bool else (ours - theirs).abs().max() < 1e-10, name
