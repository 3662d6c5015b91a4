"""Laws of the frame: there and back, one owner for each point, and bounds that hold what they should."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lg_field.radiance.frame import HORIZON, Frame
from lg_field.space.contraction import contract, contraction_rate, uncontract
from lg_field.space.partition import PartitionGrid

COUNTS = st.tuples(*[st.integers(1, 5)] * 3)


@st.composite
def frames(draw) -> Frame:
    """Bounded, contracted, and grown by whole cells."""
    counts, kind = draw(COUNTS), draw(st.sampled_from(["bounded", "contracted", "grown"]))
    if kind == "contracted":
        return Frame(PartitionGrid(counts, (-2.0,) * 3, (2.0,) * 3), contraction=True)
    low = draw(st.tuples(*[st.floats(-3.0, 3.0)] * 3))
    size = draw(st.tuples(*[st.floats(0.2, 2.0)] * 3))
    inner = PartitionGrid(counts, low, tuple(a + c * s for a, c, s in zip(low, counts, size)))
    if kind == "bounded":
        return Frame(inner)
    before, after = draw(st.tuples(*[st.integers(0, 3)] * 3)), draw(st.tuples(*[st.integers(0, 3)] * 3))
    outer = PartitionGrid(
        tuple(b + c + a for b, c, a in zip(before, counts, after)),
        tuple(lo - b * s for lo, b, s in zip(inner.lower, before, size)),
        tuple(up + a * s for up, a, s in zip(inner.upper, after, size)),
    )
    return Frame(outer, box=(*inner.lower, *inner.upper))


def places_in(frame: Frame, count: int = 200, seed: int = 0, margin: float = 0.02) -> torch.Tensor:
    """(count, 3) places within the domain, this part of a cell away from borders at least."""
    generator = torch.Generator().manual_seed(seed)
    index = torch.stack([torch.randint(c, (count,), generator=generator) for c in frame.grid.counts], dim=1)
    return index + margin + (1 - 2 * margin) * torch.rand(count, 3, generator=generator)


@settings(max_examples=40)
@given(frames(), st.integers(0, 99))
def test_every_way_there_leads_back(frame: Frame, seed: int):
    places = places_in(frame, seed=seed)
    unit = frame.places_to_unit(places)
    torch.testing.assert_close(frame.unit_to_places(unit), places, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(frame.to_places(frame.from_places(places)), places, rtol=1e-3, atol=2e-3)
    torch.testing.assert_close(frame.to_unit(frame.from_unit(unit)), unit, rtol=1e-3, atol=2e-3)


@settings(max_examples=40)
@given(frames(), st.integers(0, 99))
def test_the_owner_of_a_point_is_the_grids_and_local_coordinates_are_within_it(frame: Frame, seed: int):
    places, grid = places_in(frame, seed=seed), frame.grid
    unit = frame.places_to_unit(places)
    owners = grid.ravel(places.long())
    assert torch.equal(frame.locate(unit), owners)
    domain = contract(frame.from_unit(unit)) if frame.contraction else frame.from_unit(unit)
    assert torch.equal(grid.locate(domain), owners)
    cells = torch.arange(grid.num_cells)
    local = frame.local(unit, frame.corners(cells), owners)
    torch.testing.assert_close(local, places - places.floor(), rtol=0, atol=1e-4)


@settings(max_examples=40)
@given(frames())
def test_the_whole_closed_domain_has_owners_and_nothing_outside_does(frame: Frame):
    ends = torch.cartesian_prod(*[torch.tensor([0.0, float(c)]) for c in frame.grid.counts])
    inner = frame.origin
    corners = (ends == 0).all(0).any()  # of the domain: its own corners are owned where rounding cannot move them
    if corners and frame.grid == inner:
        assert (frame.locate(frame.places_to_unit(ends)) >= 0).all()
    for axis in range(3):
        for beyond in (-0.1, frame.grid.counts[axis] + 0.1):
            place = places_in(frame, 5)
            place[:, axis] = beyond
            assert (frame.locate(frame.places_to_unit(place)) == -1).all()
    nothing = torch.full((1, 3), torch.nan)
    assert frame.locate(nothing).tolist() == [-1]


@settings(max_examples=40)
@given(frames())
def test_what_networks_see_of_a_point_does_not_change_when_the_domain_grows(frame: Frame):
    before = Frame(frame.origin, frame.contraction)
    points = before.from_unit(torch.rand(50, 3, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(frame.to_unit(points), before.to_unit(points))
    ours, theirs = frame.locate(frame.to_unit(points)), before.locate(before.to_unit(points))
    moved = frame.grid.ravel(before.grid.unravel(theirs.clamp_min(0)) + torch.tensor(frame.shift))
    assert torch.equal(ours[theirs >= 0], moved[theirs >= 0])


@settings(max_examples=60)
@given(frames(), st.integers(0, 99), st.integers(1, 6))
def test_bounds_hold_every_point_of_the_boxes_that_is_nearer_than_the_horizon(frame: Frame, seed: int, count: int):
    generator = torch.Generator().manual_seed(seed)
    size = torch.tensor(frame.grid.counts)
    first = (torch.rand(count, 3, generator=generator) * size).floor()
    last = first + 1 + ((size - first - 1) * torch.rand(count, 3, generator=generator)).floor()
    bounds = frame.bounds(torch.stack([first, last], dim=1))
    part = torch.rand(count, 400, 3, generator=generator)
    part[:, :27] = torch.cartesian_prod(*[torch.tensor([0.0, 0.5, 1.0])] * 3)
    places = (first[:, None] + part * (last - first)[:, None]).flatten(0, 1)
    lower = torch.tensor(frame.grid.lower)
    domain = lower + places * torch.tensor(frame.grid.cell_size)
    points = uncontract(domain, HORIZON) if frame.contraction else domain
    assert (
        bool(bounds.isfinite().all()) and bool((bounds[0] < bounds[1]).all()) and float(bounds.abs().max()) <= HORIZON
    )
    slack = 1e-4 * (1.0 + points.abs())
    assert ((points >= bounds[0] - slack) & (points <= bounds[1] + slack)).all()


def test_steps_grow_far_out_in_unbounded_scenes_only():
    grid, points = PartitionGrid((2, 2, 2), (-2.0,) * 3, (2.0,) * 3), torch.tensor([[0.0, 0, 1], [0, 0, 2], [0, 0, 8]])
    assert Frame(grid).step_lengths(points, 0.1).tolist() == pytest.approx([0.1] * 3)
    assert Frame(grid, contraction=True).step_lengths(points, 0.1).tolist() == pytest.approx([0.1, 0.1, 1.6])
    assert Frame(grid).step_length(100) * 100 == pytest.approx(48**0.5)


def test_a_box_that_is_not_made_of_cells_is_refused():
    grid = PartitionGrid((4, 4, 4), (-1.0,) * 3, (1.0,) * 3)
    assert Frame(grid, box=(-0.5, -1.0, -1.0, 1.0, 1.0, 1.0)).shift == (1, 0, 0)
    with pytest.raises(ValueError, match="does not consist of cells"):
        Frame(grid, box=(-0.6, -1.0, -1.0, 1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="three axes"):
        Frame(PartitionGrid((4, 4), (0.0, 0.0), (1.0, 1.0)))


def test_the_contraction_rate_is_the_derivative_outwards():
    points = (torch.randn(200, 3, generator=torch.Generator().manual_seed(0)) * 4).double()
    outwards, step = torch.nn.functional.normalize(points, dim=1), 1e-6
    passed = (contract(points + step * outwards) - contract(points)).norm(dim=1) / step
    expected = contraction_rate(contract(points))
    torch.testing.assert_close(passed, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("contracted", [True, False])
def test_density_by_contracted_length_is_as_thick_wherever_it_is(contracted: bool):
    """A marching step straight outwards absorbs what it would at the origin, times its length in contracted space."""
    frame = Frame(PartitionGrid((2, 2, 2), (-2.0,) * 3, (2.0,) * 3), True, (), contracted)
    points = torch.tensor([[0.5, 0.0, 0.0], [2.0, 0.1, 0.0], [0.3, -9.0, 4.0], [50.0, 2.0, 1.0]])
    said = frame.per_length(torch.full((4,), 3.0), frame.to_unit(points))
    rate = points.abs().amax(1).clamp_min(1.0) ** -2.0 if contracted else torch.ones(4)
    assert said.tolist() == pytest.approx((3.0 * rate).tolist(), rel=1e-4)
