"""Laws of the occupancy grid: what is kept of it is never stale, bounds hold it, training marks what it finds."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from lg_field import PartitionGrid, Region, crop
from lg_field.radiance import occupancy
from lg_field.radiance.cameras import orbit
from lg_field.radiance.field import RadianceField
from lg_field.radiance.frame import HORIZON
from lg_field.radiance.occupancy_grid import OccupancyGrid
from lg_field.radiance.scene import Scene
from lg_field.radiance.sizes import RadianceSizes
from lg_field.radiance.surface import radiance_mesh
from lg_field.space.contraction import uncontract

SIZES = RadianceSizes(local_width=2, global_width=2, hidden_layers=0, grid_nodes=2, grid_features=1, occupancy_voxels=4)


def field_of(contraction: bool = False, counts: tuple[int, int, int] = (2, 2, 1), bias: float = 3.0) -> RadianceField:
    torch.manual_seed(0)
    sizes = RadianceSizes(**vars(SIZES) | {"contraction": contraction, "density_bias": bias})
    reach = 2.0 if contraction else 1.0
    return RadianceField(PartitionGrid(counts, (-reach,) * 3, (reach,) * 3), sizes)


def recomputed(field: RadianceField) -> OccupancyGrid:
    """The same bits in a grid that was never asked anything."""
    fresh = OccupancyGrid(field.frame, field.cells.clone(), field.sizes.occupancy_voxels)
    fresh.occupied.copy_(field.occupied)
    return fresh


class Occupancy(RuleBasedStateMachine):
    """A field whose rows are selected, split, updated, written to, loaded and copied in any order."""

    @initialize(contraction=st.booleans())
    def begin(self, contraction: bool) -> None:
        self.field, self.saved = field_of(contraction), None
        self.points = (torch.rand(64, 3) * 2 - 1) * (4.0 if contraction else 1.1)

    @rule(seed=st.integers(0, 9))
    def select(self, seed: int) -> None:
        torch.manual_seed(seed)
        keep = (torch.rand(self.field.num_rows) < 0.7).nonzero()[:, 0]
        if len(keep):
            self.field.select_(keep)

    @rule()
    def split(self) -> None:
        if self.field.num_rows <= 8:
            self.field.split_()

    @rule(seed=st.integers(0, 9), count=st.sampled_from([20, 10**6]), seen=st.booleans())
    def update(self, seed: int, count: int, seen: bool) -> None:
        torch.manual_seed(seed)
        grid = self.field.occupancy
        grid.update(lambda p: (p[:, 0] * 9).sin().clamp_min(0), 0.3, count, self.field.frozen, only_seen=seen)

    @rule(row=st.integers(0, 99), value=st.booleans())
    def write(self, row: int, value: bool) -> None:
        self.field.occupied[row % self.field.num_rows] = value

    @rule()
    def save(self) -> None:
        self.saved = (self.field.grid, {k: copy.deepcopy(v) for k, v in self.field.state_dict().items()})

    @rule()
    def load(self) -> None:
        if self.saved is not None:
            self.field.load_state_dict(self.saved[1])
            assert self.field.grid == self.saved[0] and torch.equal(self.field.occupied, self.saved[1]["occupied"])

    @rule()
    def copy(self) -> None:
        self.field = copy.deepcopy(self.field)

    @rule(seed=st.integers(0, 9))
    def crop(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.field = self.field.selected(torch.arange(0, self.field.num_rows, 1 + seed % 2))

    @invariant()
    def never_stale(self) -> None:
        if not hasattr(self, "field"):
            return
        ours, fresh = self.field.occupancy, recomputed(self.field)
        assert torch.equal(ours.dense(), fresh.dense()) and torch.equal(ours.bounds(), fresh.bounds())
        assert torch.equal(ours.is_occupied(self.points), fresh.is_occupied(self.points))
        assert torch.equal(ours.is_near_occupied(self.points), fresh.is_near_occupied(self.points))
        assert torch.equal(ours.empty_rows(), fresh.empty_rows())
        assert not (ours.is_occupied(self.points) & ~ours.is_near_occupied(self.points)).any()


Occupancy.TestCase.settings = settings(max_examples=15, stateful_step_count=12)
test_nothing_kept_of_the_voxels_is_ever_stale = Occupancy.TestCase


@pytest.mark.parametrize("contraction", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_bounds_hold_all_that_is_occupied(contraction: bool, seed: int):
    field = field_of(contraction, (4, 3, 2))
    torch.manual_seed(seed)
    field.occupied.copy_(torch.rand(field.occupied.shape) < 0.01)
    field.occupied[0, 0] = True
    row, voxel = field.occupied.nonzero().T
    places = torch.cat([occupancy.points_in_voxels(field.cells[row], voxel, field.grid, 4) for _ in range(20)])
    domain = torch.tensor(field.grid.lower) + places * torch.tensor(field.grid.cell_size)
    points = uncontract(domain, HORIZON) if contraction else domain
    lower, upper = field.occupancy.bounds()
    slack = 1e-4 * (1 + points.abs())
    assert bool(torch.isfinite(lower).all() & (lower < upper).all())
    assert ((points >= lower - slack) & (points <= upper + slack)).all()


def test_a_contracted_slab_that_reaches_far_out_is_meshed_and_orbited():
    """Occupied y in [-1, -0.5] out to x = 2 of contracted space: its corners alone, uncontracted, bound nothing."""
    field = field_of(contraction=True, counts=(4, 4, 4), bias=6.0)
    r, index = 4, field.grid.unravel(field.cells)
    voxel = torch.cartesian_prod(*[torch.arange(r)] * 3)
    y = (index[:, None, 1] * r + voxel[None, :, 1] + 0.5) / r - 2.0
    field.occupied.copy_((y > -1.0) & (y < -0.5))
    lower, upper = field.occupancy.near_bounds()
    assert bool((lower < upper).all())
    torch.testing.assert_close(torch.stack([lower, upper])[:, 1], torch.tensor([-1.0, -0.5]))
    mesh = radiance_mesh(field, 12, threshold=1e-3, colors=False)
    assert len(mesh.faces) and float(mesh.vertices[:, 1].max()) < -0.4
    scene = Scene(tuple(tuple(row) for row in torch.eye(4).tolist()))
    for camera in orbit(field, scene, 2, 8, 8):
        assert bool(camera.to_scene.isfinite().all()) and float(camera.to_scene[:3, 3].norm()) < 20


def test_what_lies_only_far_out_is_bounded_there():
    field = field_of(contraction=True, counts=(4, 1, 1))
    field.occupied.zero_()
    field.occupied[3] = True  # x in [1, 2] of contracted space: scene x from 1 to infinity
    lower, upper = field.occupancy.near_bounds()
    assert bool((lower < upper).all()) and float(lower[0]) == pytest.approx(1.0) and float(upper[0]) <= HORIZON
    field.occupied.zero_()
    assert field.occupancy.bounds().tolist() == [[0.0] * 3, [0.0] * 3]


def test_an_update_marks_what_is_there_and_leaves_fixed_rows_and_unseen_space_alone():
    field = field_of(counts=(3, 1, 1))
    grid = field.occupancy
    fixed = torch.tensor([True, False, False])
    grid.occupied[0] = torch.rand(64) < 0.5
    before = grid.occupied[0].clone()
    unit = torch.tensor([[0.9, 0.1, 0.1], [2.0, 0.5, 0.5]])
    grid.mark_seen(unit, field.rows_of_unit(unit))
    assert grid.seen.sum() == 1 and grid.seen[2].any()
    grid.update(lambda p: torch.ones(len(p)), 0.01, 10**6, fixed, only_seen=True)
    assert torch.equal(grid.occupied[0], before)
    assert torch.equal(grid.occupied[1:], grid.seen[1:])
    for _ in range(60):  # what a voxel held fades by a tenth each time
        grid.update(lambda p: torch.zeros(len(p)), 0.01, 10**6, fixed)
    assert not grid.occupied[1:].any() and torch.equal(grid.occupied[0], before)


def test_a_split_is_the_same_space_and_empty_rows_are_those_far_from_anything():
    field = field_of(counts=(4, 1, 1))
    field.occupied.zero_()
    field.occupied[0, 0] = True
    assert field.occupancy.empty_rows().tolist() == [False, True, True, True]
    points = torch.rand(2000, 3) * 2.2 - 1.1
    inside, bounds = field.occupancy.is_occupied(points), field.occupancy.bounds()
    field.split_()
    assert torch.equal(field.occupancy.is_occupied(points), inside) and inside.any()
    torch.testing.assert_close(field.occupancy.bounds(), bounds)


def test_a_crop_masks_occupancy_exactly_and_its_bits_are_the_rows():
    field = field_of(counts=(4, 2, 2))
    region = Region.box((-0.9, -0.9, -0.9), (0.1, 0.3, 0.9))
    small, points = crop(field, region), torch.rand(500, 3) * 2 - 1
    assert torch.equal(small.is_occupied(points), field.is_occupied(points) & region.contains(points))
    assert torch.equal(small.occupied, field.occupied[torch.isin(field.cells, small.cells)])


def test_voxels_are_saved_as_rows_of_the_table():
    field = field_of()
    field.occupied.copy_(torch.rand(field.occupied.shape) < 0.5)
    state = field.state_dict()
    assert torch.equal(state["occupied"], field.occupied)
    assert not {"thickness", "seen", "occupancy.occupied", "occupancy.cells"} & state.keys()
    again = field_of()
    again.load_state_dict(state)
    assert torch.equal(again.occupied, field.occupied) and torch.equal(again.seen, field.occupied)
