"""Laws of the table: rows, sets of cells without a row, optimizers, and checkpoints that must fit."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lg_field import PartitionGrid, Region, crop, extend, merge, prune
from lg_field.networks.local_global import LocalGlobalNetwork, local_global_siren
from lg_field.ops import ChainSizes
from lg_field.radiance.field import RadianceField, RadianceSizes
from lg_field.table.cell_table import CellTable, CheckpointError
from lg_field.table.editing import regrow

SETS = ("rock", "water")


class Ground(CellTable):
    """A table of its own kind: rows that are their cell's number at birth, and two sets of cells without a row."""

    def __init__(self, grid: PartitionGrid, width: int = 2, cells: torch.Tensor | None = None) -> None:
        super().__init__(grid, cells)
        self.width = width
        self.add_rows("weights", self.cells[:, None].repeat(1, width).float())
        self.add_rows("flags", self.cells[:, None] % 2 == 0, trainable=False)
        self.add_rows("scratch", torch.ones(self.num_rows, 1), trainable=False, saved=False)
        self.shared = nn.Parameter(torch.zeros(3))
        for name in SETS:
            self.add_cell_set(name)

    def config(self) -> dict[str, Any]:
        return {"width": self.width}

    @classmethod
    def from_config(cls, grid: PartitionGrid, config: dict[str, Any], cells: torch.Tensor) -> Ground:
        return cls(grid, config["width"], cells)


def ground(seed: int, counts: tuple[int, ...] = (3, 4)) -> Ground:
    """Every cell is a row, rock, water or empty, at random."""
    grid = PartitionGrid(counts, (-1.0,) * len(counts), (1.0,) * len(counts))
    kinds = torch.randint(4, (grid.num_cells,), generator=torch.Generator().manual_seed(seed))
    kinds[seed % grid.num_cells] = 0
    field = Ground(grid, cells=(kinds == 0).nonzero()[:, 0])
    field.set_cell_sets({name: (kinds == k + 1).nonzero()[:, 0] for k, name in enumerate(SETS)})
    return field


def states(field: CellTable) -> dict[int, str]:
    """What each cell is: "row", the name of its set, or "empty"; an error if it is two things."""
    found = dict.fromkeys(range(field.grid.num_cells), "empty")
    for name, cells in ({"row": field.cells} | field.cell_sets()).items():
        for cell in cells.tolist():
            assert found[cell] == "empty", f"{cell} is {found[cell]} and {name}"
            found[cell] = name
    return found


seeds = st.integers(0, 10_000)


@settings(max_examples=60)
@given(seed=seeds, invert=st.booleans(), box=st.booleans())
def test_a_crop_keeps_what_every_kept_cell_is(seed: int, invert: bool, box: bool) -> None:
    field = ground(seed)
    before, cells, region = states(field), [seed % 12, (seed * 7) % 12, (seed * 5) % 12], None
    if box:
        region = Region.box((-1.0, -1.0), (0.2 + seed % 3 * 0.3, 0.1))
        wanted = set((~region if invert else region).touched(field.grid).tolist())
    else:
        wanted = set(range(12)) - set(cells) if invert else set(cells)
    if not any(before[cell] == "row" for cell in wanted):
        with pytest.raises(ValueError, match="nothing would be kept"):
            crop(field, region, cells=None if box else cells, invert=invert)
        return
    part = crop(field, region, cells=None if box else cells, invert=invert)
    assert states(part) == {cell: state if cell in wanted else "empty" for cell, state in before.items()}
    assert torch.equal(part.weights[:, 0], part.cells.float()) and states(field) == before


@settings(max_examples=40)
@given(seed=seeds)
def test_parts_merge_back_into_what_every_cell_was(seed: int) -> None:
    field = ground(seed)
    cells = torch.randperm(12, generator=torch.Generator().manual_seed(seed))[:6].tolist()
    rows = set(field.cells.tolist())
    if not rows & set(cells) or not rows - set(cells):
        return
    joined = merge(crop(field, cells=cells), crop(field, cells=cells, invert=True))
    assert states(joined) == states(field)
    left, right = field.state_dict(), joined.state_dict()
    assert left.keys() == right.keys()
    assert all(torch.equal(left[k], right[k]) for k in left if torch.is_tensor(left[k]))


def test_cells_that_are_two_things_do_not_merge() -> None:
    grid = PartitionGrid((4,), (0.0,), (1.0,))
    one, other = Ground(grid, cells=torch.tensor([0, 1])), Ground(grid, cells=torch.tensor([2, 3]))
    one.rock = torch.tensor([3])
    with pytest.raises(ValueError, match="a cell that is rock in one has a row in the other"):
        merge(one, other)
    with pytest.raises(ValueError, match="no set of cells called sand"):
        one.set_cell_sets({"sand": torch.tensor([3])})


@settings(max_examples=40)
@given(seed=seeds, before=st.integers(0, 2), after=st.integers(0, 2))
def test_an_extension_moves_every_cell_as_it_is(seed: int, before: int, after: int) -> None:
    field = ground(seed)
    size = field.grid.cell_size
    larger = extend(field, (-1.0 - before * size[0], -1.0), (1.0, 1.0 + after * size[1]))
    assert larger.grid.counts == (3 + before, 4 + after)
    old, new = states(field), states(larger)
    for cell, state in new.items():
        x, y = divmod(cell, 4 + after)
        inside = x >= before and y < 4
        assert state == (old[(x - before) * 4 + y] if inside else "row")
    regrown = regrow(field, [cell for cell, state in old.items() if state != "row"][:2])
    assert sum(state == "row" for state in states(regrown).values()) == regrown.num_rows


# -- what edits are given


@pytest.mark.parametrize(
    "cells",
    [
        [0.5],
        torch.tensor([1.0]),
        torch.ones(12, dtype=torch.bool),
        [[0, 1]],
        [10**30],
        [2**63],
        ["a"],
        [-1],
        [12],
        "12",
    ],
)
def test_cells_that_are_no_list_of_cells_are_refused(cells: Any) -> None:
    field = ground(1)
    for edit in (lambda: crop(field, cells=cells), lambda: regrow(field, cells)):
        with pytest.raises((ValueError, TypeError)) as refusal:
            edit()
        assert "cell" in str(refusal.value)


def test_cells_may_come_in_any_sequence() -> None:
    field = ground(1)
    wanted = sorted(field.cells[:2].tolist())
    for cells in (tuple(wanted), range(wanted[0], wanted[1] + 1)):
        assert set(crop(field, cells=cells).cells.tolist()) >= set(wanted)


@pytest.mark.parametrize("numbers", [torch.int32, torch.uint8, torch.int64])
def test_cells_of_any_whole_type_will_do(numbers: torch.dtype) -> None:
    field = ground(1)
    cells = field.cells[:2]
    assert torch.equal(crop(field, cells=cells.to(numbers)).cells, cells)
    assert torch.equal(crop(field, cells=range(12)).cells, field.cells)


def test_pruning_takes_one_boolean_a_row() -> None:
    field = ground(3)
    empty = torch.zeros(field.num_rows, dtype=torch.bool)
    empty[0] = True
    assert torch.equal(prune(field, empty).cells, field.cells[1:]) and states(prune(field, empty))
    for wrong in (empty[1:], empty.long(), torch.zeros(field.num_rows + 1, dtype=torch.bool)):
        with pytest.raises((ValueError, TypeError)):
            prune(field, wrong)
    with pytest.raises(ValueError, match="nothing would be kept"):
        prune(field, torch.ones(field.num_rows, dtype=torch.bool))


def test_a_domain_without_end_is_refused() -> None:
    for corner in (float("inf"), float("nan"), 1e12):
        with pytest.raises(ValueError, match=r"finite corners|at most"):
            extend(ground(0), (-1.0, -1.0), (1.0, corner))


# -- optimizers


@settings(max_examples=20)
@given(seed=seeds, once=st.booleans())
def test_moments_follow_their_rows_whatever_holds_the_optimizers(seed: int, once: bool) -> None:
    """A generator of optimizers is as good as a list: every parameter of every one is replaced."""
    torch.manual_seed(seed)
    field = local_global_siren(PartitionGrid((6,), (-1.0,), (1.0,)), 1, 3, 3, 0)
    field.add_rows("extra", torch.randn(6, 2))
    optimizers = [torch.optim.Adam([field.local, *field.shared.values()]), torch.optim.Adam([field.extra])]
    (field(torch.rand(50, 1) * 2 - 1).square().sum() + field.extra.square().sum()).backward()
    for optimizer in optimizers:
        optimizer.step()
    names = {"local": (optimizers[0], field.local), "extra": (optimizers[1], field.extra)}
    moments = {name: (o, o.state[p]["exp_avg"].clone()) for name, (o, p) in names.items()}
    rows = torch.randperm(6, generator=torch.Generator().manual_seed(seed))[: 1 + seed % 5].sort().values
    field.select_(rows, (o for o in optimizers) if once else optimizers)
    for name, (optimizer, before) in moments.items():
        parameter = getattr(field, name)
        assert any(p is parameter for group in optimizer.param_groups for p in group["params"]), name
        assert torch.equal(optimizer.state[parameter]["exp_avg"], before[rows])
        assert all(p.shape[0] == len(rows) for p in optimizer.state if p is parameter)


# -- checkpoints


DEFAULTS: dict[str, Any] = {
    "in_features": 2,
    "out_features": 1,
    "local_width": 4,
    "global_width": 4,
    "hidden_layers": 1,
}


def network(**changes: Any) -> LocalGlobalNetwork:
    grid = PartitionGrid((2, 2), (-1.0, -1.0), (1.0, 1.0))
    fill = changes.pop("fill", 0.0)
    return LocalGlobalNetwork(grid, ChainSizes(**{**DEFAULTS, **changes}), fill=fill)


def snapshot(field: CellTable) -> dict[str, Any]:
    return copy.deepcopy(dict(field.state_dict()))


def unchanged(field: CellTable, before: dict[str, Any]) -> bool:
    after = field.state_dict()
    return after.keys() == before.keys() and all(
        torch.equal(v, before[k]) if torch.is_tensor(v) else v == before[k] for k, v in after.items()
    )


@pytest.mark.parametrize(
    "changes", [{"activation": "relu"}, {"w0": 10.0}, {"fill": -1.0}, {"residual": True}, {"local_width": 5}]
)
def test_a_checkpoint_of_another_network_is_refused_by_name(changes: dict[str, Any]) -> None:
    """Also where every tensor would fit: a relu network is no sine network."""
    field, other = network(), network(**changes)
    before, (name,) = snapshot(field), changes
    with pytest.raises(CheckpointError, match=rf"of another network than the field: .*{name} is") as refusal:
        field.load_state_dict(other.state_dict())
    assert "\n" not in str(refusal.value) and unchanged(field, before)
    older = other.state_dict() | {"_extra_state": {k: v for k, v in field.get_extra_state().items() if k != "config"}}
    if changes.keys() & {"w0", "fill", "activation"}:
        field.load_state_dict(older)  # checkpoints from before they held their configuration
        assert torch.equal(field.local, other.local)


def test_a_scene_of_other_sizes_is_not_loaded() -> None:
    def scene(**sizes: Any) -> RadianceField:
        reach = 2.0 if sizes.get("contraction") else 1.0
        grid = PartitionGrid((2, 2, 2), (-reach,) * 3, (reach,) * 3)
        return RadianceField(grid, RadianceSizes(grid_nodes=2, local_width=4, global_width=4, **sizes))

    field = scene()
    for sizes in ({"activation": "sine"}, {"contraction": True}, {"density_bias": 1.0}):
        with pytest.raises(CheckpointError):
            field.load_state_dict(scene(**sizes).state_dict())
    field.load_state_dict(scene().state_dict())


def damaged(state: dict[str, Any], how: str) -> dict[str, Any]:
    state = dict(state)
    if how == "a shared tensor is missing":
        del state["shared.global_weight_0"]
    elif how == "rows are missing":
        state["local"] = state["local"][:-1]
    elif how == "a shared tensor is cut":
        state["shared.global_weight_0"] = state["shared.global_weight_0"][:1]
    elif how == "no geometry":
        state["_extra_state"] = {"region": None}
    elif how == "not finite":
        state["local"] = state["local"] * torch.nan
    elif how == "cells twice":
        state["cells"] = torch.zeros_like(state["cells"])
    elif how == "full cells with rows":
        state["full"] = state["cells"][:1]
    return state


@pytest.mark.parametrize(
    "how",
    [
        "a shared tensor is missing",
        "rows are missing",
        "a shared tensor is cut",
        "no geometry",
        "not finite",
        "cells twice",
        "full cells with rows",
    ],
)
@pytest.mark.parametrize("strict", [True, False])
def test_a_damaged_checkpoint_changes_nothing(how: str, strict: bool) -> None:
    """Also without `strict`, with which nerfstudio tries again: no weight is left at random."""
    field, source = network(), crop(network(), cells=[0, 2])
    before = snapshot(field)
    with pytest.raises(CheckpointError) as refusal:
        field.load_state_dict(damaged(source.state_dict(), how), strict=strict)
    assert "\n" not in str(refusal.value) and unchanged(field, before)
    assert field.local.shape[0] == 4


@settings(max_examples=20)
@given(seed=seeds)
def test_a_table_takes_over_the_rows_and_sets_of_a_checkpoint(seed: int) -> None:
    source, field = ground(seed), Ground(ground(0).grid)
    kept = field.weights
    field.load_state_dict(source.state_dict())
    assert states(field) == states(source) and unchanged(field, snapshot(source))
    assert field.weights is kept and bool((field.scratch == 0).all()), "what is not saved is zero"
    assert torch.equal(field.row_of_cell()[field.cells], torch.arange(field.num_rows))
