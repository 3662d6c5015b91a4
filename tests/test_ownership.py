"""Laws of the one rule: which cell owns a point, a place counted in cells, a sample."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lg_field.signals.signal import Signal
from lg_field.space.ownership import index_of_places, nearest_index_of_places, sample_coordinates
from lg_field.space.partition import PartitionGrid

coordinates = st.floats(-50.0, 50.0, width=32, allow_subnormal=False)
axes = st.tuples(st.integers(1, 40), coordinates, st.floats(0.125, 90.0, width=32))


def grid_of(cut: list[tuple[int, float, float]]) -> PartitionGrid:
    return PartitionGrid(tuple(c for c, _, _ in cut), tuple(a for _, a, _ in cut), tuple(a + s for _, a, s in cut))


def line(cut: tuple[int, float, float]) -> PartitionGrid:
    return grid_of([cut])


@settings(max_examples=60)
@given(cut=st.lists(axes, min_size=1, max_size=4), seed=st.integers(0, 999))
def test_every_point_of_the_closed_domain_is_in_exactly_one_cell(cut, seed) -> None:
    """Also the corners, the borders between cells and their neighbours among the floats."""
    grid = grid_of(cut)
    generator = torch.Generator().manual_seed(seed)
    lower, upper = torch.tensor(grid.lower), torch.tensor(grid.upper)
    borders = lower + torch.tensor(grid.cell_size) * torch.randint(0, 41, (60, grid.dim), generator=generator)
    points = torch.cat([lower + torch.rand(60, grid.dim, generator=generator) * (upper - lower), borders])
    points = torch.cat([points, points.nextafter(upper), points.nextafter(lower), lower[None], upper[None]])
    points = points.maximum(lower).minimum(upper)
    cells, index = grid.locate(points), grid.index(points)
    assert bool(((cells >= 0) & (cells < grid.num_cells)).all())
    assert torch.equal(grid.unravel(cells), index)
    boxes, slack = grid.boxes(cells), 1e-6 * torch.maximum(lower.abs(), upper.abs()) + 1e-12
    assert bool(((points >= boxes[:, 0] - 2 * slack) & (points <= boxes[:, 1] + 2 * slack)).all())
    assert int(grid.locate(upper[None])) == grid.num_cells - 1 and int(grid.locate(lower[None])) == 0


@settings(max_examples=100)
@given(cut=axes, points=st.lists(st.floats(-200.0, 200.0, width=32), min_size=2, max_size=60))
def test_a_point_farther_on_is_in_no_cell_before(cut, points) -> None:
    grid, x = line(cut), torch.tensor(sorted(points))[:, None]
    assert bool((grid.index(x)[:, 0].diff() >= 0).all())
    outside = (x < torch.tensor(grid.lower)).any(1)
    assert bool((grid.locate(x)[outside] == -1).all())


@settings(max_examples=100)
@given(cut=axes, samples=st.integers(1, 2000))
def test_samples_belong_to_the_cells_that_own_their_middles(cut, samples) -> None:
    grid, everything = line(cut), torch.arange(samples)
    signal = Signal("audio", (samples,), 1)
    owners = grid.index_of_samples(0, samples)
    x = sample_coordinates(everything, samples, grid.lower[0], grid.upper[0])
    assert torch.equal(x, signal.coordinates(grid, 0, everything))
    assert torch.equal(owners, grid.locate(x[:, None])) and bool((owners >= 0).all())
    assert bool((owners.diff() >= 0).all())
    picked = everything[:: max(1, samples // 7)]
    assert torch.equal(grid.index_of_samples(0, samples, picked), owners[picked])


@settings(max_examples=100)
@given(cut=axes, samples=st.integers(1, 2000))
def test_edges_part_the_samples_among_the_cells(cut, samples) -> None:
    """Every sample is between the edges of its own cell, so windows by edges miss none."""
    grid = line(cut)
    edges, owners = grid.sample_edges(0, samples), grid.index_of_samples(0, samples)
    assert len(edges) == grid.counts[0] + 1 and edges[0] == 0 and edges[-1] == samples
    sizes = edges.diff()
    assert bool((sizes >= 0).all()) and torch.equal(owners, torch.arange(grid.counts[0]).repeat_interleave(sizes))
    assert int(sizes.max() - sizes.min()) <= 2


def test_cells_that_divide_no_axis_evenly_still_own_what_lies_in_them() -> None:
    """9 samples in 5 cells, 3 frames in 2: the middle one is in the second half, not where its number falls."""
    unit = PartitionGrid((5,), (-1.0,), (1.0,))
    assert unit.index_of_samples(0, 9).tolist() == [0, 0, 1, 1, 2, 3, 3, 4, 4]
    assert unit.sample_edges(0, 9).tolist() == [0, 2, 4, 5, 7, 9]
    assert PartitionGrid((2,), (-1.0,), (1.0,)).index_of_samples(0, 3).tolist() == [0, 1, 1]
    by_number = [i * 5 // 9 for i in range(9)]
    assert by_number != unit.index_of_samples(0, 9).tolist(), "the rule by numbers would do, and this test show nothing"


@settings(max_examples=60)
@given(counts=st.lists(st.integers(1, 9), min_size=1, max_size=3), seed=st.integers(0, 999))
def test_places_counted_in_cells_follow_the_same_rule(counts, seed) -> None:
    generator = torch.Generator().manual_seed(seed)
    ends = torch.tensor(counts)
    grid = PartitionGrid(tuple(counts), (0.0,) * len(counts), tuple(map(float, counts)))
    places = (torch.rand(80, len(counts), generator=generator) * 1.4 - 0.2) * ends
    places = torch.cat([places, places.round(), torch.zeros_like(places[:1]), ends[None].float()])
    assert torch.equal(grid.locate_places(places), grid.locate(places))
    inside = grid.locate_places(places) >= 0
    nearest = nearest_index_of_places(places, ends)
    assert torch.equal(nearest[inside], index_of_places(places, counts)[inside])
    assert bool(((nearest >= 0) & (nearest < ends)).all())
    assert bool((grid.locate_places(torch.full_like(places, torch.nan)) == -1).all())


@settings(max_examples=40)
@given(counts=st.lists(st.integers(1, 6), min_size=3, max_size=3), shift=st.lists(st.integers(0, 4), min_size=3))
def test_a_grid_grown_before_its_first_cell_gives_places_the_same_cells(counts, shift) -> None:
    shift = shift[:3]
    small = PartitionGrid(tuple(counts), (0.0,) * 3, (1.0,) * 3)
    larger = PartitionGrid(tuple(c + s for c, s in zip(counts, shift)), (0.0,) * 3, (1.0,) * 3)
    places = torch.rand(200, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor(counts)
    index = small.unravel(small.locate_places(places))
    assert torch.equal(larger.unravel(larger.locate_places(places, shift)), index + torch.tensor(shift))
    assert torch.equal(small.locate_places(places, (0, 0, 0)), small.locate_places(places))
