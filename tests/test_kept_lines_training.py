"""After a crop the shared part's grid is trained whole; old values stay in an extension; others are given it whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_shared_grid import TABLE, entries, make, occupied_points, said, same

from lg_field import crop, extend, load, merge, save
from lg_field.radiance import tcnn
from lg_field.radiance.field import RadianceField
from lg_field.radiance.hash_grid import MANY
from lg_field.radiance.training import RadianceTrainer, TrainingSettings
from lg_field.table.editing import regrow
from lg_field.table.kept_lines import KeptLines


def rays(count: int = 200) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    origins = torch.nn.functional.normalize(torch.randn(count, 3), dim=-1) * 3
    return origins, torch.nn.functional.normalize(torch.rand(count, 3) - 0.5 - origins, dim=-1), torch.rand(count, 3)


def train(field: RadianceField, steps: int = 3) -> torch.optim.Optimizer:
    torch.manual_seed(3)
    settings = TrainingSettings(split_steps=(), steps_per_scene=32, prune_interval=0, background_color="white")
    trainer = RadianceTrainer(field.train(), settings)
    optimizer = torch.optim.Adam(field.parameters(), lr=1e-2, eps=1e-15)
    for step in range(steps):
        trainer.begin(step, [optimizer])
        origins, directions, colors = rays()
        losses = trainer.losses(trainer.render(origins, directions), colors)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    return optimizer


def test_training_goes_on_with_the_whole_table_and_no_value_changes_by_that() -> None:
    small = crop(make(filled=0.5), cells=[0, 13, 26])
    points = torch.rand(2000, 3) * 2.6 - 1.3
    before, kept = said(small, points), small.kept_lines[TABLE].mask()
    optimizer = torch.optim.Adam(small.parameters())
    small(points)[0].sum().backward()
    optimizer.step()
    moments = optimizer.state[small.hash_table]["exp_avg"].clone()
    small = crop(make(filled=0.5), cells=[0, 13, 26])
    optimizer = torch.optim.Adam(small.parameters())
    small(points)[0].sum().backward()
    optimizer.step()
    changed = said(small, points)
    small.complete_lines_([optimizer])
    assert entries(small) == len(kept) and small.kept_lines[TABLE].whole
    assert torch.equal(said(small, points), changed) and not torch.equal(changed, before)
    spread = optimizer.state[small.hash_table]["exp_avg"]
    assert torch.equal(spread[kept], moments) and not bool(spread[~kept].any())
    small.occupied[:] = True
    train(small)
    assert bool(small.hash_table[~kept].any()), "fresh entries are trained"


@pytest.mark.parametrize("domain", [False, True])
def test_an_extension_trains_fresh_entries_and_no_old_value_changes(domain: bool) -> None:
    small = crop(make(filled=0.5), cells=range(12))
    points = occupied_points(small)
    before, kept = said(small, points), small.kept_lines[TABLE].mask()
    larger = extend(small, [-1.3, -1.0, -1.0], [1.3, 1.6, 1.1]) if domain else regrow(small, range(12, 27))
    larger.freeze_(torch.isin(larger.cells, larger.grid.locate(small.grid.boxes(small.cells).mean(1))))
    assert int(larger.frozen.sum()) == 12
    train(larger)
    rows = larger.rows_of_unit(larger.frame.to_unit(points))
    owned = (rows >= 0) & larger.frozen[rows]  # the old domain's upper border is the new cells'
    assert torch.equal(said(larger.eval(), points)[owned], before[owned]) and owned.float().mean() > 0.9
    table = larger.hash_table.detach()
    assert torch.equal(table[kept], small.hash_table) and bool(table[~kept].any())
    state = larger.state_dict()
    again = RadianceField(larger.grid, larger.sizes, larger.cells)
    again.load_state_dict(state)
    assert torch.equal(again.lines_of_frozen()[TABLE], kept) and again.hash_table.requires_grad


def test_few_points_and_many_are_said_the_same_of() -> None:
    """Many look their entries up in a table that was made whole for them."""
    field = crop(make(), cells=[0, 13])
    grid, table, kept = field.hash_grid, field.hash_table, field.kept_lines[TABLE]
    unit = torch.rand(600, 3)
    assert 8 * grid.levels * len(unit) > MANY * kept.total > 8 * grid.levels * 100
    many, few = grid.encode(table, unit, kept), [grid.encode(table, part, kept) for part in unit.split(100)]
    assert torch.equal(many, torch.cat(few)) and torch.equal(many, grid.encode(kept.spread(table), unit))


def ways_to_write() -> dict[str, Callable[[torch.nn.Parameter], object]]:
    """Ways in which a parameter is written, those that its version counts and those that it does not."""

    def stepped(**options: bool) -> Callable[[torch.nn.Parameter], object]:
        def step(table: torch.nn.Parameter) -> None:
            table.grad = torch.ones_like(table)
            torch.optim.Adam([table], lr=0.1, **options).step()

        return step

    def through_memory(table: torch.nn.Parameter) -> None:
        table.detach().numpy()[:] += 1.0

    def below_autograd(table: torch.nn.Parameter) -> None:
        with torch.inference_mode():
            table.add_(1.0)

    def held(table: torch.nn.Parameter) -> None:
        with torch.autograd._unsafe_preserve_version_counter(table), torch.no_grad():
            table.add_(1.0)

    return {
        "fused": stepped(fused=True),
        "foreach": stepped(foreach=True),
        "loop": stepped(foreach=False),
        "data": lambda table: table.data.add_(1.0),
        "numpy": through_memory,
        "inference mode": below_autograd,
        "version kept": held,
        "another storage": lambda table: torch.nn.utils.vector_to_parameters(torch.ones(table.numel()), [table]),
    }


@pytest.mark.parametrize("way", ways_to_write())
def test_a_picture_shows_what_was_written_into_a_crop_however_it_was_written(way: str) -> None:
    field = crop(make(filled=0.5), cells=[0, 13, 26]).eval()
    points = occupied_points(field)
    with torch.no_grad():
        before = said(field, points)
        ways_to_write()[way](field.hash_table)
        now = said(field, points)
        fresh = make(filled=0.5).eval()
        fresh.load_state_dict(field.state_dict())
        assert torch.equal(now, said(fresh, points)) and not torch.equal(now, before)


def test_what_did_not_change_is_spread_once() -> None:
    lines, kept = KeptLines(40), torch.randn(20, 2)
    lines.set_(torch.arange(40) % 2 == 0)
    first = lines.spread_once(kept)
    assert lines.spread_once(kept) is first and lines.spread_once(kept.clone()) is first
    kept[3, 1] = float("nan")
    second = lines.spread_once(kept)
    assert second is not first and lines.spread_once(kept) is second, "a NaN is no change"
    kept[3, 1] = 0.0
    assert lines.spread_once(kept) is not lines.spread_once(torch.where(kept == 0, -kept, kept))
    for other in (kept.double(), kept.half(), kept[:, :1].contiguous()):
        found = lines.spread_once(other)
        assert found.dtype == other.dtype and torch.equal(found, lines.spread(other))


def test_another_implementation_is_given_the_whole_table() -> None:
    field = crop(make(), cells=[2, 3])
    grid, given_tables = field.hash_grid, []

    class Other(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.params = torch.nn.Parameter(torch.zeros(grid.num_entries * grid.features))

        def forward(self, unit: torch.Tensor) -> torch.Tensor:
            given_tables.append(self.params)
            return grid.encode(self.params.view(-1, grid.features), unit)

    encode = tcnn.checked(grid, Other(), torch.device("cpu"))
    unit = torch.rand(500, 3)
    kept = field.kept_lines[TABLE]
    assert torch.equal(encode(field.hash_table, unit, kept), grid.encode(field.hash_table, unit, kept))
    assert given_tables[-1].numel() == grid.num_entries * grid.features


def test_cells_that_hold_nothing_read_nothing(tmp_path: Path) -> None:
    """A table without a line is edited, saved and trained like any other."""
    field = make()
    field.occupied[3] = False
    empty = crop(field, cells=[3])
    assert entries(empty) == 0 and not bool(said(empty, torch.zeros(4, 3)).isnan().any())
    save(empty, tmp_path / "empty")
    assert same(load(tmp_path / "empty"), empty)
    assert same(merge(empty, crop(field, cells=[4])), crop(field, cells=[3, 4]))
    empty.occupied[:] = True
    train(empty)
    assert bool(empty.hash_table.any())
