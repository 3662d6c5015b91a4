"""Laws of the partition grid and of regions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lg_field.space.contraction import contract, uncontract, uncontract_boxes
from lg_field.space.partition import PartitionGrid, automatic_counts
from lg_field.space.regions import Box, OrientedBox, Region, region_from_dict

sizes = st.lists(st.integers(1, 7), min_size=1, max_size=3)
numbers = st.floats(-1.25, 1.25, width=32, allow_subnormal=False)


def make_grid(counts: list[int]) -> PartitionGrid:
    d = len(counts)
    return PartitionGrid(tuple(counts), (-1.0, -0.7, 0.1)[:d], (1.0, 0.9, 0.77)[:d])


@given(counts=sizes, seed=st.integers(0, 9))
def test_every_point_of_the_closed_domain_lies_in_exactly_one_cell(counts, seed):
    grid = make_grid(counts)
    lower, upper = torch.tensor(grid.lower), torch.tensor(grid.upper)
    points = lower + torch.rand(200, grid.dim, generator=torch.Generator().manual_seed(seed)) * (upper - lower)
    points = torch.cat([points.clamp(lower, upper), lower[None], upper[None]])
    cells = grid.locate(points)
    assert ((cells >= 0) & (cells < grid.num_cells)).all()
    boxes = grid.boxes(cells)
    assert ((points >= boxes[:, 0] - 1e-5) & (points <= boxes[:, 1] + 1e-5)).all()


@given(counts=sizes)
def test_cells_fill_the_domain_and_numbers_go_both_ways(counts):
    grid = make_grid(counts)
    cells = torch.arange(grid.num_cells)
    boxes = grid.boxes(cells)
    whole = torch.tensor(grid.upper, dtype=torch.float64) - torch.tensor(grid.lower, dtype=torch.float64)
    assert torch.allclose((boxes[:, 1] - boxes[:, 0]).prod(1).sum(), whole.prod())
    assert torch.equal(grid.locate(boxes.mean(1)), cells)
    assert torch.equal(grid.ravel(grid.unravel(cells)), cells)


@given(counts=sizes)
def test_children_fill_their_parents(counts):
    grid = make_grid(counts)
    cells = torch.arange(grid.num_cells)
    children = grid.children(cells)
    assert torch.equal(children.flatten().sort()[0], torch.arange(grid.refined().num_cells))
    middles = grid.refined().boxes(children.flatten()).mean(1)
    assert torch.equal(grid.locate(middles), cells.repeat_interleave(2**grid.dim))


def test_outside_and_not_numbers_are_in_no_cell():
    grid = make_grid([2, 3])
    points = torch.tensor([[-1.01, 0.0], [0.0, 0.91], [torch.nan, 0.0], [torch.inf, 0.0]])
    assert (grid.locate(points) == -1).all()


@settings(max_examples=200)
@given(counts=sizes, a=st.lists(numbers, min_size=3, max_size=3), b=st.lists(numbers, min_size=3, max_size=3))
def test_a_box_touches_the_cell_of_every_point_in_it(counts, a, b):
    grid = make_grid(counts)
    lower, upper = [min(x, y) for x, y in zip(a, b)][: grid.dim], [max(x, y) for x, y in zip(a, b)][: grid.dim]
    if any(x >= y for x, y in zip(lower, upper)):
        with pytest.raises(ValueError, match="lower corner"):
            Region.box(lower, upper)
        return
    region = Region.box(lower, upper)
    touched = region.touched(grid)
    points = torch.tensor(lower) + torch.rand(300, grid.dim) * (torch.tensor(upper) - torch.tensor(lower))
    points = points[region.contains(points)]
    cells = grid.locate(points)
    # `touched_by_box` leaves out what is within a millionth of a cell of a face.
    margin = 1e-6 * torch.tensor(grid.cell_size)
    inside = ((points > torch.tensor(lower) + margin) & (points < torch.tensor(upper) - margin)).all(-1)
    assert torch.isin(cells[inside & (cells >= 0)], touched).all()
    grown = grid.touched_by_box(*((torch.tensor(v) + s * 2 * margin).tolist() for v, s in ((lower, -1), (upper, 1))))
    assert torch.isin(cells[cells >= 0], grown).all(), "and nothing farther from a face"
    general = torch.from_numpy(super(Box, region)._touched(grid, None))  # type: ignore[misc]
    assert torch.isin(touched, general).all()


def test_a_box_along_cell_borders_touches_only_those_cells():
    grid = PartitionGrid((4, 4), (0.0, 0.0), (1.0, 1.0))
    assert Region.box((0.25, 0.5), (0.5, 1.0)).touched(grid).tolist() == [6, 7]
    for counts in (8, 10, 13):  # borders that rounding moves, and one at 0
        grid = PartitionGrid((counts,), (-1.5,), (1.5,))
        for first, last in ((0, counts // 2), (counts // 2, counts), (3, 4)):
            box = Region.box((-1.5 + first * 3 / counts,), (-1.5 + last * 3 / counts,))
            assert box.touched(grid).tolist() == list(range(first, last))


@given(seed=st.integers(0, 50))
def test_contraction_has_an_inverse_and_boxes_hold_their_points(seed):
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(100, 3, generator=generator) * 5
    assert contract(points).abs().max() < 2
    torch.testing.assert_close(uncontract(contract(points)), points, rtol=1e-3, atol=1e-4)
    corners = torch.rand(40, 2, 3, generator=generator).double() * 3.9 - 1.95
    boxes = torch.stack([corners.amin(1), corners.amax(1)], 1)
    inside = boxes[:, 0] + torch.rand(40, 3, generator=generator) * (boxes[:, 1] - boxes[:, 0])
    around = uncontract_boxes(boxes)
    scene = uncontract(inside)
    assert ((scene >= around[:, 0] - 1e-6) & (scene <= around[:, 1] + 1e-6)).all()


@given(seed=st.integers(0, 50))
def test_a_region_of_contracted_space_touches_the_cells_of_its_points(seed):
    generator = torch.Generator().manual_seed(seed)
    grid = PartitionGrid((6, 6, 6), (-2.0,) * 3, (2.0,) * 3)
    turn, _ = torch.linalg.qr(torch.randn(3, 3, generator=generator).double())
    center = torch.randn(3, generator=generator).double()
    box = OrientedBox(tuple(center.tolist()), tuple(map(tuple, turn.tolist())), (0.4, 1.0, 3.0))
    points = (torch.rand(2000, 3, generator=generator).double() - 0.5) * torch.tensor([0.4, 1.0, 3.0]) @ turn.T + center
    assert box.contains(points).float().mean() > 0.99
    assert torch.isin(grid.locate(contract(points)), box.touched(grid, uncontract_boxes)).all()


def test_regions_survive_json_and_intersect():
    turned = OrientedBox((0, 0, 0), ((0, -1, 0), (1, 0, 0), (0, 0, 1)), (1, 2, 3))
    both = Region.box((0, 0, 0), (1, 1, 1)) & turned
    assert region_from_dict(both.to_dict()).to_dict() == both.to_dict()
    assert (Region.box((0,), (2,)) & Region.box((1,), (3,))) == Region.box((1,), (2,))
    with pytest.raises(ValueError, match="do not overlap"):
        Region.box((0,), (1,)) & Region.box((1,), (2,))
    with pytest.raises(ValueError, match="orthonormal"):
        OrientedBox((0, 0, 0), ((2, 0, 0), (0, 1, 0), (0, 0, 1)), (1, 1, 1))
    with pytest.raises(ValueError, match="not a region"):
        region_from_dict({"type": "banana"})


def test_bad_grids_are_named():
    with pytest.raises(ValueError, match="at least 1"):
        PartitionGrid((0,), (0.0,), (1.0,))
    with pytest.raises(ValueError, match="below upper"):
        PartitionGrid((2,), (1.0,), (0.0,))
    assert automatic_counts((100, 33), (32, 32)) == (4, 2)
