"""Networks: the paper's parameter counts, and the editing laws on every kind and dimension."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lg_field import PartitionGrid, Region, crop, prune
from lg_field.network_parts import PARTS, parts_of
from lg_field.networks import LocalGlobalNetwork, local_global_siren, siren, siren_per_partition
from lg_field.networks.budget import sizes_for_budget
from lg_field.radiance.sizes import RadianceSizes
from lg_field.table.cell_table import CheckpointError


def grid_of(counts: tuple[int, ...]) -> PartitionGrid:
    return PartitionGrid(counts, (-1.0,) * len(counts), (1.0,) * len(counts))


def test_counts_of_the_paper():
    lucy = local_global_siren(grid_of((8, 8, 8)), 1, 17, 76, cells=torch.arange(179))
    assert lucy.num_parameters() == {"local": 179_716, "shared": 19_458, "total": 199_174}
    d, o, w, layers = 2, 3, 256, 3
    expected = d * w + w + layers * (w * w + w) + w * o + o
    assert siren(grid_of((1, 1)), 3).num_parameters()["total"] == expected
    per_partition = 256 * (d * 15 + 15 + layers * (15 * 15 + 15) + 15 * o + o)
    assert siren_per_partition(grid_of((16, 16)), 3, 15).num_parameters()["total"] == per_partition
    parts = local_global_siren(grid_of((16, 16)), 3, 14, 84).num_parameters()
    assert 0.05 < parts["shared"] / parts["total"] < 0.15


@pytest.mark.parametrize("name", PARTS)
def test_a_network_has_the_parts_it_says(name: str):
    """Of signals and of scenes: rows where it has rows, a shared part where it has one."""
    parts, scene = parts_of(name), RadianceSizes(network=name, hash_levels=2)
    for sizes in (sizes_for_budget(name, 4, 2, 3, 4000), scene.chain()):
        assert (sizes.local_width > 0, sizes.global_width > 0) == tuple(parts)
    assert (scene.hash_grid() is not None) == parts.shared and any(parts)


def test_networks_are_known_by_name():
    with pytest.raises(ValueError, match="network must be one of local-global, per-partition, global, got 'mlp'"):
        parts_of("mlp")


def test_siren_initialisation():
    field = local_global_siren(grid_of((3, 3)), 1, 8, 32)
    first, hidden = field.sizes.views(field.local)[0][0], field.sizes.views(field.local)[1][0]
    assert first.abs().max() <= 1 / 2 and first.abs().max() > 0.4
    assert hidden.abs().max() <= (6 / 8) ** 0.5 / 30 and hidden.abs().max() > 0.9 * (6 / 8) ** 0.5 / 30
    assert field.shared["merge_weight"].abs().max() <= (6 / 40) ** 0.5 / 30


kinds = st.sampled_from(["local-global", "add", "per-partition"])


def make(kind: str, counts: tuple[int, ...]):
    torch.manual_seed(0)
    if kind == "per-partition":
        return siren_per_partition(grid_of(counts), 2, 6, 1)
    return local_global_siren(grid_of(counts), 2, 6, 7, 1, merge="add" if kind == "add" else "concat")


boxes = st.lists(
    st.tuples(st.floats(-1, 0.25, width=32, allow_subnormal=False), st.floats(0.375, 1, width=32)),
    min_size=3,
    max_size=3,
)


@settings(max_examples=40, deadline=None)
@given(kind=kinds, dim=st.integers(1, 3), box=boxes)
def test_a_crop_keeps_values_and_empties_the_rest(kind, dim, box):
    field = make(kind, (5, 4, 3)[:dim])
    field.fill = -7.0
    region = Region.box([b[0] for b in box[:dim]], [b[1] for b in box[:dim]])
    before = {k: v.clone() for k, v in field.state_dict().items() if torch.is_tensor(v)}
    small = crop(field, region)
    points = torch.rand(500, dim) * 2 - 1
    inside = region.contains(points)
    torch.testing.assert_close(small(points)[inside], field(points)[inside], rtol=1e-4, atol=1e-4)
    assert (small(points)[~inside] == -7.0).all()
    rows = torch.isin(field.cells, small.cells)
    assert torch.equal(small.local, field.local[rows])
    assert small.num_parameters()["local"] == small.num_rows * field.sizes.row_size
    assert all(torch.equal(v, before[k]) for k, v in field.state_dict().items() if torch.is_tensor(v))


@settings(max_examples=25, deadline=None)
@given(kind=kinds, dim=st.integers(1, 3), a=boxes, b=boxes)
def test_crop_of_a_crop_is_the_crop_of_both(kind, dim, a, b):
    field = make(kind, (5, 4, 3)[:dim])
    first, second = (Region.box([x[0] for x in box[:dim]], [x[1] for x in box[:dim]]) for box in (a, b))
    twice, once = crop(crop(field, first), second), crop(field, first & second)
    points = torch.rand(400, dim) * 2 - 1
    torch.testing.assert_close(twice(points), once(points), rtol=1e-4, atol=1e-5)
    assert twice.region == once.region
    assert torch.isin(once.cells, twice.cells).all()


def test_keeping_all_changes_nothing_and_keeping_none_is_refused():
    field = make("local-global", (4, 3))
    points = torch.rand(100, 2) * 2 - 1
    assert torch.equal(crop(field, cells=range(12))(points), field(points))
    with pytest.raises(ValueError, match="nothing would be kept"):
        crop(field, cells=[])
    with pytest.raises(ValueError, match="no cell"):
        crop(field, cells=[12])
    assert crop(field, cells=[1, 2], invert=True).num_rows == 10
    assert prune(field, field.cells < 9).cells.tolist() == [9, 10, 11]


def test_a_checkpoint_with_fewer_rows_loads_and_damage_is_named():
    field, other = make("local-global", (4, 3)), make("local-global", (4, 3))
    small = crop(field, Region.box((-1, -1), (0, 0)))
    other.load_state_dict(small.state_dict())
    points = torch.rand(100, 2) * 2 - 1
    assert torch.equal(other(points), small(points)) and other.region == small.region
    for key, value, match in [
        ("local", small.local[:-1], "rows are missing"),
        ("local", small.local * torch.nan, "NaN"),
        ("cells", small.cells.flip(0), "sorted"),
        ("cells", small.cells + 100, "0..11"),
    ]:
        with pytest.raises(CheckpointError, match=match):
            make("local-global", (4, 3)).load_state_dict(small.state_dict() | {key: value.detach()})
    broken = dict(small.state_dict())
    del broken["local"]
    with pytest.raises(CheckpointError, match="lacks local"):
        make("local-global", (4, 3)).load_state_dict(broken, strict=False)


@pytest.mark.parametrize(
    ("entry", "value", "match"),
    [
        ("local_width", -1, "local_width must be a whole number of at least 0, got -1"),
        ("global_width", 2.5, "global_width must be a whole number of at least 0, got 2.5"),
        ("out_features", True, "out_features must be a whole number of at least 1, got True"),
        ("hidden_layers", 65, "hidden_layers must be at most 64"),
        ("w0", float("nan"), "w0 must be a positive number"),
        ("w0", "30", "w0 must be a positive number"),
        ("residual", 1, "residual must be true or false, got 1"),
        ("merge", "multiply", "unknown merge 'multiply': use concat or add"),
        ("fill", float("inf"), "fill must be a finite number, got inf"),
        ("fill", None, "fill must be a finite number, got None"),
        ("depth", 3, "unknown depth"),
    ],
)
def test_a_configuration_is_checked_entry_by_entry(entry, value, match):
    field = make("local-global", (4, 3))
    with pytest.raises(ValueError, match=match):
        LocalGlobalNetwork.from_config(field.grid, field.config() | {entry: value}, field.cells)
    without = {k: v for k, v in field.config().items() if k != "fill"}
    with pytest.raises(ValueError, match="missing fill"):
        LocalGlobalNetwork.from_config(field.grid, without, field.cells)


@given(kind=kinds, fill=st.integers(-3, 3) | st.floats(-2, 2))
@settings(max_examples=15)
def test_from_config_is_the_inverse_of_config_and_fill_is_a_float(kind, fill):
    field = make(kind, (4, 3))
    field.fill = fill
    again = LocalGlobalNetwork.from_config(field.grid, field.config(), field.cells)
    assert again.config() == field.config() and type(again.config()["fill"]) is float


def test_optimizer_state_follows_the_rows():
    field = make("local-global", (4, 3))
    optimizer = torch.optim.Adam(field.parameters(), lr=1e-3)
    points = torch.rand(200, 2) * 2 - 1
    field(points).square().sum().backward()
    optimizer.step()
    moments = optimizer.state[field.local]["exp_avg"].clone()
    field.select_(torch.tensor([1, 5, 7]), [optimizer])
    assert torch.equal(optimizer.state[field.local]["exp_avg"], moments[[1, 5, 7]])
    loss = field(points).square().sum()
    optimizer.zero_grad()
    loss.backward()
    before = field.local.detach().clone()
    optimizer.step()
    assert not torch.equal(field.local, before)
