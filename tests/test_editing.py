"""Editing laws (design.md) beyond cropping: inverse crops, merging, extending, regrowing, on every kind of field."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lg_field
from lg_field import PartitionGrid, Region
from lg_field.networks.local_global import local_global_siren, siren_per_partition
from lg_field.radiance.field import RadianceField, RadianceSizes
from lg_field.space.regions import region_from_dict
from lg_field.table.cell_table import CellTable
from lg_field.table.editing import extend, merge, regrow

KINDS = ["signal-1", "signal-2", "signal-3", "per-partition", "radiance", "contracted"]


def make(kind: str) -> CellTable:
    torch.manual_seed(0)
    if kind.startswith("signal"):
        dim = int(kind[-1])
        return local_global_siren(PartitionGrid((4,) * dim, (-1.0,) * dim, (1.0,) * dim), 2, 5, 7, 1)
    if kind == "per-partition":
        return siren_per_partition(PartitionGrid((4, 3), (-1.0, -1.0), (1.0, 1.0)), 1, 5)
    shape = RadianceSizes(local_width=5, global_width=7, grid_nodes=3, contraction=kind == "contracted")
    low = 2.0 if kind == "contracted" else 1.0
    field = RadianceField(PartitionGrid((3, 3, 3), (-low,) * 3, (low,) * 3), shape)
    with torch.no_grad():
        field.local.add_(torch.randn_like(field.local) * 0.1)
    return field


def values(field: CellTable, points: torch.Tensor) -> torch.Tensor:
    """What the field says at points; (n, k)."""
    with torch.no_grad():
        if isinstance(field, RadianceField):
            density, features = field(points)
            return torch.cat([density[:, None], features], 1)
        return field(points)


def points_of(field: CellTable, count: int = 400) -> torch.Tensor:
    reach = 3.0 if field.unwarp_boxes else 1.0
    low, up = torch.tensor(field.grid.lower) * reach, torch.tensor(field.grid.upper) * reach
    return low + torch.rand(count, field.grid.dim) * (up - low)


def nothing(field: CellTable) -> float:
    return 0.0 if isinstance(field, RadianceField) else field.fill


def some_region(dim: int, numbers: list[float]) -> Region:
    a, b = numbers[:dim], numbers[dim : 2 * dim]
    box = Region.box([min(x, y) - 0.05 for x, y in zip(a, b)], [max(x, y) + 0.05 for x, y in zip(a, b)])
    return box | Region.sphere(b, 0.1 + abs(numbers[-1]) / 2)


floats = st.lists(st.floats(-0.9, 0.9), min_size=7, max_size=7)


@pytest.mark.parametrize("kind", KINDS)
@given(numbers=floats)
@settings(max_examples=10)
def test_a_crop_and_its_inverse_part_the_field(kind: str, numbers: list[float]) -> None:
    field = make(kind)
    region = some_region(field.grid.dim, numbers)
    before = {k: v.clone() for k, v in field.state_dict().items() if torch.is_tensor(v)}
    x = points_of(field)
    whole, inside = values(field, x), region.contains(x)
    for invert in (False, True):
        part = lg_field.crop(field, region, invert=invert)
        shown = ~inside if invert else inside
        got = values(part, x)
        assert torch.allclose(got[shown], whole[shown], atol=1e-5)
        assert bool((got[~shown] == nothing(field)).all())
        rows = torch.isin(field.cells, part.cells)
        assert torch.equal(part.local, field.local[rows])
    assert all(torch.equal(v, before[k]) for k, v in field.state_dict().items() if k in before)


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 1000))
@settings(max_examples=10)
def test_two_crops_merge_back_into_the_field(kind: str, seed: int) -> None:
    field = make(kind)
    generator = torch.Generator().manual_seed(seed)
    first = torch.randperm(field.grid.num_cells, generator=generator)[: 1 + seed % (field.grid.num_cells - 1)]
    a = lg_field.crop(field, cells=first.tolist())
    b = lg_field.crop(field, cells=first.tolist()[:-1] or first.tolist(), invert=True)
    joined, state = merge(a, b).state_dict(), field.state_dict()
    assert joined.keys() == state.keys()
    assert all(torch.equal(joined[k], state[k]) for k in state if torch.is_tensor(state[k]))


def test_a_region_and_all_but_it_are_everything() -> None:
    field = make(KINDS[0])
    half = lg_field.Region.box((-9.0,) * field.grid.dim, (0.1,) * field.grid.dim)
    parts = [lg_field.crop(field, half), lg_field.crop(field, half, invert=True)]
    assert merge(*parts).region is None and merge(*parts[::-1]).region is None
    less = lg_field.crop(field, lg_field.Region.box((0.2,) * field.grid.dim, (9.0,) * field.grid.dim))
    assert merge(parts[0], less).region == parts[0].region | less.region


def test_strangers_do_not_merge() -> None:
    field, other = make("signal-2"), make("signal-2")
    with torch.no_grad():
        next(iter(other.shared.values())).add_(1e-3)
    with pytest.raises(ValueError, match=r"not crops of one field: .* of the shared part differs"):
        merge(lg_field.crop(field, cells=[0]), lg_field.crop(other, cells=[1]))
    with pytest.raises(ValueError, match="grids differ"):
        merge(field, make("per-partition"))


@pytest.mark.parametrize("kind", KINDS[:5])
@given(lead=st.lists(st.floats(0.0, 2.5), min_size=3, max_size=3), tail=st.lists(st.floats(0.0, 2.5), min_size=3))
@settings(max_examples=10)
def test_an_extension_holds_the_new_domain_and_keeps_the_old_values(kind, lead, tail) -> None:
    field = make(kind)
    dim = field.grid.dim
    lower = [low - a for low, a in zip(field.grid.lower, lead)]
    upper = [up + b for up, b in zip(field.grid.upper, tail[:dim])]
    larger = extend(field, lower, upper)
    size = torch.tensor(field.grid.cell_size)
    assert torch.allclose(torch.tensor(larger.grid.cell_size), size)
    low, up = torch.tensor(larger.grid.lower), torch.tensor(larger.grid.upper)
    assert bool((low <= torch.tensor(lower) + 1e-5).all()) and bool((up >= torch.tensor(upper) - 1e-5).all())
    assert bool((low > torch.tensor(lower) - size - 1e-5).all()) and larger.num_rows == larger.grid.num_cells
    x = points_of(field)
    assert torch.allclose(values(larger, x), values(field, x), atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_regrown_cells_change_no_old_value_even_when_trained(kind: str) -> None:
    """Law 5: only new rows are trained; what old cells say does not change by a bit."""
    field = make(kind)
    kept = list(range(0, field.grid.num_cells, 2))
    crop = lg_field.crop(field, cells=kept)
    whole = regrow(crop, sorted(set(range(field.grid.num_cells)) - set(kept)))
    new = (~torch.isin(whole.cells, crop.cells)).nonzero()[:, 0]
    with torch.no_grad():
        whole.local[new] += torch.randn_like(whole.local[new])
    x = points_of(field)
    old = (
        crop.locate_rows(x) >= 0
        if not isinstance(field, RadianceField)
        else crop.rows_of_unit(crop.frame.to_unit(x)) >= 0
    )
    assert 0 < old.sum() < len(old)
    assert torch.allclose(values(whole, x)[old], values(crop, x)[old], atol=1e-6)
    assert bool((values(whole, x)[~old] != nothing(field)).any())
    with pytest.raises(ValueError, match="have a row already"):
        regrow(crop, kept[:1])


@given(lead=st.lists(st.integers(0, 2), min_size=3, max_size=3), tail=st.lists(st.integers(0, 2), min_size=3))
@settings(max_examples=8)
def test_training_a_grown_scene_changes_no_old_value_by_a_bit(lead, tail) -> None:
    """Law 5 for scenes, through a real optimizer: domains that grow, twice, and cells cut smaller in between."""
    torch.manual_seed(1)
    field = make("radiance")
    size = field.grid.cell_size
    lower = [low - n * s for low, n, s in zip(field.grid.lower, lead, size)]
    upper = [up + (n + 0.5) * s for up, n, s in zip(field.grid.upper, tail, size)]
    x = points_of(field)
    larger = extend(field, lower, upper)
    assert larger.num_rows > field.num_rows and torch.equal(larger.frame.to_unit(x), field.frame.to_unit(x))
    assert torch.allclose(larger.is_occupied(x).float(), torch.ones(len(x)))
    larger.freeze_(torch.isin(larger.cells, larger.grid.locate(field.grid.boxes(field.cells).mean(1))))
    before, old = values(larger, x), larger.local[larger.frozen].clone()
    assert torch.equal(before, values(field, x))
    shared = {k: v.clone() for k, v in larger.shared.items()}
    optimizer = torch.optim.Adam([p for p in larger.parameters() if p.numel()], lr=1e-2, fused=True)
    for _ in range(2):
        optimizer.zero_grad()
        density, features = larger(points_of(larger))
        (density.sum() + larger.rgb(features, torch.eye(3)[[0]].expand(len(features), 3)).sum()).backward()
        optimizer.step()
    new = larger.local[~larger.frozen]
    assert not torch.equal(new, extend(field, lower, upper).local[~larger.frozen]) and bool(new.isfinite().all())
    assert torch.equal(larger.local[larger.frozen], old) and torch.equal(values(larger, x), before)
    assert all(torch.equal(v, shared[k]) for k, v in larger.shared.items())
    again = RadianceField.from_config(larger.grid, larger.config(), larger.cells)
    again.load_state_dict(larger.state_dict())
    assert torch.equal(again.frozen, larger.frozen) and again.extending
    again.split_()
    assert again.frozen.sum() == 8 * larger.frozen.sum() and torch.allclose(values(again, x), before, atol=1e-4)
    twice = extend(again, [v - 0.1 for v in again.grid.lower], again.grid.upper)
    assert torch.equal(values(twice, x), values(again, x)) and twice.sizes.frame == larger.sizes.frame


def test_a_domain_that_does_not_hold_the_old_one_is_refused() -> None:
    with pytest.raises(ValueError, match="must hold the old one"):
        extend(make("signal-1"), [-0.5], [2.0])
    with pytest.raises(ValueError, match="has 1 axes"):
        extend(make("signal-1"), [-2, 0], [2.0, 1])
    with pytest.raises(ValueError, match="reaches everywhere already"):
        extend(make("contracted"), [-3.0] * 3, [3.0] * 3)


@given(numbers=floats)
@settings(max_examples=50)
def test_hulls_hold_every_point_and_json_keeps_regions(numbers: list[float]) -> None:
    grid = PartitionGrid((5, 4, 3), (-1.0,) * 3, (1.0,) * 3)
    region = ~some_region(3, numbers) | (some_region(3, numbers[::-1]) & Region.sphere((0, 0, 0), 0.7))
    x = torch.rand(300, 3) * 2 - 1
    inside = region.contains(x)
    assert bool(torch.isin(grid.locate(x)[inside], region.touched(grid)).all())
    assert torch.equal(region_from_dict(region.to_dict()).contains(x), inside)
    boxes = grid.boxes(torch.arange(grid.num_cells))
    covered = region.covers(boxes).nonzero()[:, 0]
    assert bool(inside[torch.isin(grid.locate(x), covered)].all())
