"""Compositing of runs by owner is compositing of whole rays; who owns what; a checkpoint of any number of ranks."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from on_ranks import on_ranks

from lg_field import PartitionGrid
from lg_field.distributed.owners import MOST_CELLS, Owners, morton
from lg_field.distributed.ranks import Ranks
from lg_field.distributed.runs import OwnRuns, Runs
from lg_field.distributed.shards import Shards, at, replaced, save_shards
from lg_field.radiance.compositing import Samples, composite, render_weights, spread

RAYS = 4


def by_owner(density: torch.Tensor, colors: torch.Tensor, samples: Samples, owners: torch.Tensor, size: int):
    """Colour, accumulation, mean depth and spread of rays, put together of what `size` owners say of their runs."""
    runs, told = Runs.of(samples.rays, owners), []
    for rank in range(size):
        mine, own = (owners == rank).nonzero()[:, 0], runs.owners == rank
        number = own.cumsum(0) - 1
        ours = Samples(number[runs.of_sample[mine]], samples.starts[mine], samples.ends[mine])
        part = OwnRuns(ours, int(own.sum()))
        values = torch.cat([colors[mine], ours.middles[:, None]], dim=1)
        sums = [part.thickness(density[mine])[:, None], part.sums(density[mine], values)]
        told.append(torch.cat([*sums, part.spreads(density[mine], ours.middles, ours.lengths)], dim=1))
    every = runs.in_order(torch.cat(told))
    thickness = every[:, 0]
    sums = torch.cat([every[:, 1:5], -torch.expm1(-thickness)[:, None]], dim=1)
    rgb, depth, accumulation = runs.composite(thickness, sums, RAYS).split([3, 1, 1], dim=1)
    depth = torch.where(accumulation > 1e-3, depth / accumulation.clamp_min(1e-6), 9.0)
    return rgb, accumulation, depth, runs.spread(thickness, every[:, 5:7], RAYS)


def some_samples(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, Samples]:
    generator = torch.Generator().manual_seed(seed)
    rays = torch.randint(RAYS, (count,), generator=generator).sort().values
    starts = torch.rand(count, generator=generator, dtype=torch.float64).cumsum(0)
    lengths = torch.rand(count, generator=generator, dtype=torch.float64)
    density = torch.rand(count, generator=generator, dtype=torch.float64) * 2.0
    colors = torch.rand(count, 3, generator=generator, dtype=torch.float64)
    return density, colors, Samples(rays, starts, starts + lengths)


@given(st.integers(0, 12), st.integers(1, 4), st.integers(0, 2**20))
def test_runs_by_owner_are_the_whole_ray(count: int, size: int, seed: int):
    """Whatever the partition: owners without a run, rays without a sample, rays that come back to an owner."""
    density, colors, samples = some_samples(count, seed)
    owners = torch.randint(size, (count,), generator=torch.Generator().manual_seed(seed + 1))
    *found, apart = by_owner(density, colors, samples, owners, size)
    for ours, theirs in zip(found, composite(density, colors, samples, RAYS, 9.0), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-12, atol=1e-14)
    weights = render_weights(density, samples, RAYS)
    assert torch.allclose(apart, spread(weights, samples.middles, samples.lengths, samples, RAYS), rtol=1e-12)


def test_the_gradients_are_the_whole_rays():
    density, colors, samples = some_samples(9, 3)
    owners = torch.tensor([0, 1, 1, 0, 2, 0, 0, 2, 1])
    inputs = (density.requires_grad_(), colors.requires_grad_())
    assert torch.autograd.gradcheck(lambda d, c: by_owner(d, c, samples, owners, 4), inputs)
    weights = [torch.randn_like(v) for v in composite(density, colors, samples, RAYS, 9.0)]
    ways = (by_owner(*inputs, samples, owners, 4), composite(*inputs, samples, RAYS, 9.0))
    ours, theirs = (torch.autograd.grad(sum((a * b).sum() for a, b in zip(way, weights)), inputs) for way in ways)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-14)


# -- owners

GRID = PartitionGrid((4, 3, 5), (0.0,) * 3, (1.0,) * 3)


def test_cells_are_spread_evenly_and_stay_together():
    cells = torch.arange(GRID.num_cells)
    owners = Owners.balanced(GRID, cells, 7)
    assert min(owners.counts) >= 8 and max(owners.counts) <= 9
    load = torch.rand(GRID.num_cells, generator=torch.Generator().manual_seed(0)).double()
    uneven, even = owners.unevenness(load), Owners.balanced(GRID, cells, 7, load).unevenness(load)
    assert even < uneven and even < 1.2
    along = owners.rank[morton(GRID.unravel(cells)).argsort()]
    assert bool((along.diff() >= 0).all()), "a rank's cells are not one piece of the curve"


@given(st.integers(1, 9), st.integers(0, 2**20), st.floats(0.0, 12.0))
def test_no_rank_has_many_more_cells_than_others_however_uneven_the_load_is(size: int, seed: int, sharp: float):
    cells = torch.arange(GRID.num_cells)
    load = torch.rand(len(cells), generator=torch.Generator().manual_seed(seed)).double() ** sharp
    owners = Owners.balanced(GRID, cells, size, load * (cells > seed % 40))
    assert max(owners.counts) <= -(-MOST_CELLS * len(cells) // size)
    alone = Owners.balanced(GRID, cells, size, (cells == seed % 60).double())
    assert max(alone.counts) <= -(-MOST_CELLS * len(cells) // size)


def test_mortons_curve_visits_every_cell_once():
    index = torch.cartesian_prod(*(torch.arange(8),) * 3)
    assert torch.equal(morton(index).sort().values, torch.arange(512))


def test_children_stay_with_their_parents_owner():
    owners = Owners.balanced(GRID, torch.arange(0, GRID.num_cells, 3), 3)
    children, parents = owners.split()
    assert torch.equal(children.cells, owners.grid.children(owners.cells).flatten().sort().values)
    assert torch.equal(owners.rank[parents], children.rank) and children.grid.counts == (8, 6, 10)
    kept = children.kept(children.rank == 1)
    assert kept.counts == [0, children.counts[1], 0] and kept.of(0).numel() == 0
    assert kept.number_of_cell[kept.cells].tolist() == list(range(len(kept.cells)))


def test_more_ranks_than_cells_are_refused():
    with pytest.raises(ValueError, match="61 ranks are more than the 60 cells"):
        Owners.balanced(GRID, torch.arange(60), 61)


# -- checkpoints

CELLS, ROWS = ("table", "cells"), [("table", "cells"), ("table", "rows"), ("adam", 0, "exp_avg")]


def whole(cells: torch.Tensor) -> dict:
    rows = torch.arange(len(cells) * 3.0).view(-1, 3)
    table = {"cells": cells, "rows": rows, "shared": torch.ones(2, 2), "none": None}
    return {"step": 7, "table": table, "adam": {0: {"exp_avg": rows + 0.5, "step": torch.tensor(7.0)}}}


def save_part(folder: str, parts: list[list[int]], block: int) -> dict[str, int]:
    """Save the rows of this rank."""
    from lg_field.distributed import shards

    shards.BLOCK_BYTES = block
    ranks = Ranks()
    mine = torch.tensor(parts[ranks.rank], dtype=torch.int64)
    checkpoint = whole(torch.arange(5, 15))
    own = replaced(checkpoint, {path: at(checkpoint, path)[mine] for path in ROWS})
    save_shards(Path(folder, "models", "step-7.shards"), own, CELLS, ROWS, ranks)
    return {"rank": ranks.rank}


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """Ten rows, of three ranks of which one has none, in blocks of two rows."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "models").mkdir()
    on_ranks(3, save_part, str(folder), [[0, 2, 9, 5, 1], [], [3, 4, 6, 7, 8]], 64)
    return folder / "models" / "step-7.shards"


def same(ours, theirs) -> bool:
    if isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(same(ours[k], v) for k, v in theirs.items())
    return torch.equal(ours, theirs) if torch.is_tensor(theirs) else ours == theirs


def test_one_process_reads_what_three_wrote(saved):
    assert same(Shards(saved).checkpoint(), whole(torch.arange(5, 15)))
    assert len(Shards(saved).blocks) == 6 and [p.name for p in saved.parent.iterdir()] == [saved.name]


def test_any_rows_are_read_alone(saved):
    shards = Shards(saved)
    wanted = torch.isin(shards.cells, torch.tensor([5, 9, 14]))
    part = shards.checkpoint(wanted)
    assert part["table"]["cells"].tolist() == [5, 9, 14]
    assert part["adam"][0]["exp_avg"][:, 0].tolist() == [0.5, 12.5, 27.5]


def test_a_missing_shard_is_one_line(saved, tmp_path):
    copy = tmp_path / "step-7.shards"
    shutil.copytree(saved, copy)
    lost = sorted(copy.glob("__2_*"))[0]
    data = lost.read_bytes()
    lost.write_bytes(data[:-20])
    with pytest.raises(ValueError, match="truncated"):
        Shards(copy).checkpoint()
    lost.unlink()
    with pytest.raises(ValueError, match=f"lacks {lost.name}"):
        Shards(copy).checkpoint()
    (copy / ".metadata").unlink()
    with pytest.raises(ValueError, match="is no checkpoint of ranks"):
        Shards(copy).checkpoint()


def disagree() -> str:
    ranks = Ranks()
    ranks.agree({"data": 1}, "the data")
    try:
        ranks.agree(ranks.rank, "the options")
    except ValueError as error:
        return str(error)
    return ""


def test_ranks_that_disagree_say_so():
    assert on_ranks(2, disagree) == ["the ranks disagree about the options: rank 1 has another than rank 0"] * 2


def test_ranks_are_overfull_where_pruning_left_one_with_too_many_cells():
    owners = Owners.balanced(GRID, torch.arange(60), 3)
    keep = (owners.rank == 0) | (torch.arange(60) % 10 == 0)
    left = owners.kept(keep)
    assert not owners.overfull and left.overfull and left.unevenness(torch.zeros(len(left.cells))) == 1.0
    again = Owners.balanced(GRID, left.cells, 3, torch.zeros(len(left.cells)))
    assert not again.overfull and max(again.counts) < max(left.counts)
    assert not owners.kept(torch.arange(60) < 2).overfull, "two cells are not enough for three"
