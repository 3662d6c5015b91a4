"""Laws of half spaces and sets of voxels: sets of points, their boxes, moving, JSON from anyone, whole voxels apart."""

from __future__ import annotations

import base64
import json
import math
import zlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lg_field.space.contraction import contract, uncontract, uncontract_boxes
from lg_field.space.partition import PartitionGrid
from lg_field.space.regions import HalfSpace, Region, VoxelSet, region_from_dict, transformed

LATTICE = PartitionGrid((6, 8, 4), (-1.5, -2.0, -1.0), (1.5, 2.0, 1.0))
CURVED = PartitionGrid((8, 8, 8), (-2.0,) * 3, (2.0,) * 3)
BOX, BALL = Region.box((-1.0, -1.0, -0.7), (0.6, 1.2, 0.9)), Region.sphere((0.1, 0.2, 0.0), 0.9)


def voxels(seed: int, lattice: PartitionGrid = LATTICE, share: float = 0.3) -> VoxelSet:
    generator = torch.Generator().manual_seed(seed)
    dense = torch.rand(lattice.counts, generator=generator) < share
    dense[tuple(c // 2 for c in lattice.counts)] = True
    return VoxelSet.of(dense, lattice, lattice == CURVED)


def points(count: int = 500, reach: float = 2.5, seed: int = 1) -> torch.Tensor:
    return (torch.rand(count, 3, generator=torch.Generator().manual_seed(seed)) * 2 - 1) * reach


def boxes(count: int = 300, reach: float = 2.5) -> torch.Tensor:
    ends = torch.stack([points(count, reach, 2), points(count, reach, 3)], dim=1).double()
    return torch.stack([ends.amin(1), ends.amax(1)], dim=1)


@settings(max_examples=20)
@given(seed=st.integers(0, 999), curved=st.booleans())
def test_a_set_of_voxels_holds_the_points_in_them(seed: int, curved: bool) -> None:
    lattice = CURVED if curved else LATTICE
    region, x = voxels(seed, lattice), points(reach=6.0 if curved else 2.5)
    inner = contract(x) if curved else x
    number = lattice.locate(inner)
    expected = torch.tensor([n >= 0 and bool(region.dense.view(-1)[n]) for n in number.tolist()])
    assert torch.equal(region.contains(x), expected)
    assert torch.equal((~region).contains(x), ~expected)


REGIONS = {
    "voxels": voxels(3),
    "curved voxels": voxels(4, CURVED, 0.5),
    "half space": HalfSpace((0.3, -0.2, 1.0), 0.1),
    "voxels above a plane": voxels(3) & HalfSpace((0.0, 0.0, 1.0), 0.3),
    "a difference": BOX - voxels(3),
}


@pytest.mark.parametrize("name", REGIONS)
def test_boxes_are_touched_and_covered_as_their_points_say(name: str) -> None:
    region = REGIONS[name]
    asked = boxes(reach=4.0 if "curved" in name else 2.5)
    inner = points(64, 1.0, 5).double() / 2 + 0.5
    inside = asked[:, None, 0] + inner * (asked[:, None, 1] - asked[:, None, 0])
    held = region.contains(inside.flatten(0, 1)).view(len(asked), -1)
    touched, covered = region.touches(asked), region.covers(asked)
    assert not bool((held.any(1) & ~touched).any()), "a box that it holds a point of is touched"
    assert not bool((covered & ~held.all(1)).any()), "a covered box is held whole"
    low, high = region.bounds()
    found = points(5000, 6.0, 7)
    found = found[region.contains(found)].double()
    assert bool(((found >= low - 1e-6) & (found <= high + 1e-6)).all())


def test_boxes_of_whole_voxels_are_told_apart_exactly() -> None:
    region = voxels(5)
    every = LATTICE.boxes(torch.arange(LATTICE.num_cells))
    assert torch.equal(region.touches(every), region.dense.view(-1))
    assert torch.equal(region.covers(every), region.dense.view(-1))


@pytest.mark.parametrize("curved", [False, True])
def test_the_cells_that_voxels_touch_are_exactly_theirs(curved: bool) -> None:
    lattice = CURVED if curved else LATTICE
    region = voxels(6, lattice, 0.02)
    grid = PartitionGrid(tuple(c // 2 for c in lattice.counts), lattice.lower, lattice.upper)
    found = region.touched(grid, uncontract_boxes if curved else None)
    cells = grid.locate(lattice.boxes(region.dense.view(-1).nonzero()[:, 0]).mean(1)).unique()
    assert torch.equal(found, cells)


def test_far_points_of_curved_voxels_are_found() -> None:
    region = voxels(7, CURVED, 1.0)
    assert bool(region.contains(uncontract(points(reach=1.99))).all()) and bool(region.bounds().abs().max() > 100)


@settings(max_examples=30)
@given(
    normal=st.lists(st.floats(-2, 2, width=32), min_size=3, max_size=3).filter(lambda n: sum(map(abs, n)) > 0.1),
    offset=st.floats(-1, 1, width=32),
    seed=st.integers(0, 99),
)
def test_a_moved_half_space_holds_the_moved_points(normal: list[float], offset: float, seed: int) -> None:
    turn, _ = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(seed)).double())
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, :3], matrix[:3, 3] = turn * 1.7, torch.tensor([0.3, -0.2, 0.9])
    region, x = HalfSpace(tuple(normal), offset), points().double()
    there = transformed(region, matrix).contains(x @ matrix[:3, :3].T + matrix[:3, 3])
    clear = (x @ torch.tensor(normal, dtype=torch.float64) + offset).abs() > 1e-6
    assert torch.equal(there[clear], region.contains(x)[clear])


def test_half_spaces_along_an_axis_end_there() -> None:
    low, high = (HalfSpace((0.0, 0.0, -2.0), 1.0) & BOX).bounds()
    assert (float(low[2]), float(high[2])) == (-0.7, 0.5)
    assert bool(HalfSpace((1.0, 1.0, 0.0), 0.0).bounds().isinf().all())


@pytest.mark.parametrize("name", REGIONS)
def test_they_survive_json(name: str) -> None:
    region = REGIONS[name]
    assert region_from_dict(json.loads(json.dumps(region.to_dict(), allow_nan=False))) == region


def test_whole_voxels_are_split_off() -> None:
    one, two, x = voxels(1), voxels(2), points()
    for region, mask in ((one & two, one.dense & two.dense), (one | two, one.dense | two.dense)):
        found, rest = region.split_voxels(LATTICE, False)
        assert rest is None and torch.equal(found, mask)
    assert torch.equal((~one).split_voxels(LATTICE, False)[0], ~one.dense)
    for region in (one & BALL & ~two & BOX, BALL & (BOX - one)):
        found, rest = region.split_voxels(LATTICE, False)
        assert found is not None and rest is not None
        held = torch.where(found.any(), VoxelSet.of(found, LATTICE, False).contains(x), False)
        inside = LATTICE.locate(x) >= 0
        assert torch.equal((held & rest.contains(x))[inside], region.contains(x)[inside])
    for region in (BALL, one | BALL, one & BALL):
        assert region.split_voxels(CURVED, True) == (None, region), "voxels of another lattice are a region as any"
    assert (one | BALL).split_voxels(LATTICE, False) == (None, one | BALL)


def test_a_difference_is_what_is_left() -> None:
    x = points()
    assert torch.equal((BOX - BALL).contains(x), BOX.contains(x) & ~BALL.contains(x))
    with pytest.raises(ValueError, match="cannot be moved"):
        transformed(voxels(1), torch.eye(4))


GOOD = voxels(1).to_dict()
PLANE = {"type": "half_space", "normal": [0.0, 0.0, 1.0], "offset": 0.0}
HOSTILE = {
    "no bits": {k: v for k, v in GOOD.items() if k != "bits"},
    "bits that are no base64": GOOD | {"bits": "!"},
    "bits that are not compressed": GOOD | {"bits": base64.b64encode(b"12345").decode()},
    "too few bits": GOOD | {"counts": [6, 8, 8]},
    "too many bits": GOOD | {"counts": [6, 4, 4]},
    "a bomb": GOOD | {"bits": base64.b64encode(zlib.compress(bytes(1 << 24), 9)).decode()},
    "bits cut off": GOOD | {"bits": base64.b64encode(voxels(1).bits[:-6]).decode()},
    "no voxel": GOOD | {"bits": base64.b64encode(zlib.compress(bytes(24))).decode()},
    "a lattice of billions": GOOD | {"counts": [100_000, 100_000, 100_000]},
    "two axes": GOOD | {"counts": [6, 8], "lower": [0, 0], "upper": [1, 1]},
    "no voxels along an axis": GOOD | {"counts": [0, 8, 4]},
    "a count that is true": GOOD | {"counts": [True, 8, 4]},
    "upside down": GOOD | {"upper": [-3, 2, 1]},
    "contracted in words": GOOD | {"contracted": "yes"},
    "no normal": PLANE | {"normal": []},
    "a normal of zeros": PLANE | {"normal": [0, 0, 0]},
    "a normal that is infinite": PLANE | {"normal": [0, 0, math.inf]},
    "no offset": {"type": "half_space", "normal": [0, 0, 1]},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_region_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(ValueError) as refusal:
        region_from_dict(HOSTILE[name])
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 400
