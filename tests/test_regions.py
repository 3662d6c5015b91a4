"""Laws of regions: set algebra, their dimension, moving them, and JSON from anyone."""

from __future__ import annotations

import functools
import json
import math
import operator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lg_field
from lg_field.networks.local_global import local_global_siren
from lg_field.space.partition import PartitionGrid
from lg_field.space.regions import (
    Box,
    Complement,
    Intersection,
    OrientedBox,
    Region,
    Scaled,
    Sphere,
    Union,
    region_from_dict,
    transformed,
)

numbers = st.floats(-2.0, 2.0, width=32)
extents = st.floats(0.125, 2.0, width=32)
QUARTER = ((0.0, -1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0))


def turn(seed: int) -> torch.Tensor:
    """(3, 3) float64 rotation."""
    matrix, _ = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(seed)).double())
    return matrix * torch.linalg.det(matrix).sign()


@st.composite
def leaves(draw: st.DrawFn, dim: int) -> Region:
    center = draw(st.lists(numbers, min_size=dim, max_size=dim))
    kind = draw(st.sampled_from(["box", "sphere", "turned"] if dim == 3 else ["box", "sphere"]))
    if kind == "sphere":
        return Region.sphere(center, draw(extents))
    sizes = draw(st.lists(extents, min_size=dim, max_size=dim))
    if kind == "box":
        return Region.box(center, [c + s for c, s in zip(center, sizes)])
    rotation = tuple(tuple(row) for row in turn(draw(st.integers(0, 99))).tolist())
    return OrientedBox(tuple(center), rotation, tuple(sizes))  # type: ignore[arg-type]


def regions(dim: int, scaled: bool = True) -> st.SearchStrategy[Region]:
    def made_of(parts: st.SearchStrategy[Region]) -> st.SearchStrategy[Region]:
        pairs = st.tuples(parts, parts)
        both = pairs.filter(lambda p: not all(isinstance(q, Box) for q in p)).map(lambda p: p[0] & p[1])
        kinds = [parts.map(operator.invert), pairs.map(lambda p: p[0] | p[1]), both]
        if scaled:
            kinds.append(parts.map(lambda p: Scaled(p, (2.0,) * dim, (0.25,) * dim)))
        return st.one_of(kinds)

    return st.recursive(leaves(dim), made_of, max_leaves=6)


def points(dim: int, count: int = 200) -> torch.Tensor:
    return torch.rand(count, dim, generator=torch.Generator().manual_seed(dim)) * 6 - 3


dims = st.integers(1, 4)


@settings(max_examples=60)
@given(data=st.data(), dim=dims)
def test_regions_are_sets(data: st.DataObject, dim: int) -> None:
    a, b, x = data.draw(regions(dim)), data.draw(regions(dim)), points(dim)
    in_a, in_b = a.contains(x), b.contains(x)
    assert torch.equal((a | b).contains(x), in_a | in_b) and torch.equal((~a).contains(x), ~in_a)
    if not (isinstance(a, Box) and isinstance(b, Box)):
        assert torch.equal((a & b).contains(x), in_a & in_b)
    assert torch.equal((~(a | b)).contains(x), (~a & ~b).contains(x)) if not isinstance(a, Complement) else True
    assert ~~a == a or isinstance(a, Complement)


@settings(max_examples=60)
@given(data=st.data(), dim=dims)
def test_regions_survive_json(data: st.DataObject, dim: int) -> None:
    region = data.draw(regions(dim))
    again = region_from_dict(json.loads(json.dumps(region.to_dict(), allow_nan=False)))
    assert again == region and again.dim == dim and again.nesting == region.nesting


@settings(max_examples=40)
@given(data=st.data(), dim=dims, other=dims)
def test_a_region_of_another_dimension_is_refused_by_name(data: st.DataObject, dim: int, other: int) -> None:
    """Of every kind, on points, boxes and grids; never an error about tensor sizes."""
    region = data.draw(regions(dim))
    grid = PartitionGrid((2,) * other, (-1.0,) * other, (1.0,) * other)
    uses = {
        "the points have": lambda: region.contains(torch.zeros(5, other)),
        "the boxes have": lambda: (
            region.touches(grid.boxes(torch.arange(1))),
            region.covers(grid.boxes(torch.arange(1))),
        ),
        "the field has": lambda: region.touched(grid),
    }
    for owner, use in uses.items():
        if dim == other:
            use()
            continue
        axes = "1 axis" if dim == 1 else f"{dim} axes"
        with pytest.raises(ValueError, match=f"^(an?|the) .* of {axes}, {owner} {other}$"):
            use()


def test_regions_of_two_dimensions_are_not_joined() -> None:
    flat, solid = Region.sphere((0, 0), 1), Region.box((0, 0, 0), (1, 1, 1))
    for join in (operator.and_, operator.or_):
        for a, b in ((flat, solid), (solid, flat)):
            with pytest.raises(ValueError, match="axes"):
                join(a, b)
    with pytest.raises(ValueError, match="a box of 1 axis, the other box has 2"):
        Region.box((0, 0), (1, 1)) & Region.box((0,), (1,))
    with pytest.raises(ValueError, match="a sphere of 2 axes, its scale has 3"):
        Scaled(flat, (1.0,) * 3, (0.0,) * 3)


def test_a_field_is_not_cropped_by_a_region_of_another_space() -> None:
    field = local_global_siren(PartitionGrid((2, 2, 2), (-1.0,) * 3, (1.0,) * 3), 1, 3, 3, 0)
    for region in (
        Region.sphere((0, 0), 1),
        ~Region.sphere((0, 0), 1),
        Region.box((0,), (1,)) | Region.sphere((0,), 1),
    ):
        with pytest.raises(ValueError, match="the field has 3"):
            lg_field.crop(field, region)


def test_cropping_again_and_again_nests_no_deeper() -> None:
    spheres = [Region.sphere((0.0, 0.0), 1.0 + k) for k in range(200)]
    for join, kind in ((operator.and_, Intersection), (operator.or_, Union)):
        joined = functools.reduce(join, spheres)
        assert isinstance(joined, kind) and joined.nesting == 2 and len(joined.parts) == 200
        assert region_from_dict(joined.to_dict()) == joined
    region: Region = spheres[0]
    with pytest.raises(ValueError, match="at most 64 levels"):
        for sphere in spheres:
            region = (region & sphere) | sphere


@settings(max_examples=60)
@given(data=st.data(), seed=st.integers(0, 99), scale=extents, shift=st.lists(numbers, min_size=3, max_size=3))
def test_a_moved_region_holds_the_moved_points(data: st.DataObject, seed, scale, shift) -> None:
    region, x = data.draw(regions(3, scaled=False)), points(3).double()
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, :3], matrix[:3, 3] = turn(seed) * scale, torch.tensor(shift, dtype=torch.float64)
    moved = transformed(region, matrix)
    there = x @ matrix[:3, :3].T + matrix[:3, 3]
    assert (moved.contains(there) == region.contains(x)).float().mean() > 0.98, "but for points on a border"
    still = transformed(region, torch.eye(4))
    assert torch.equal(still.contains(x), region.contains(x)) or still != region


def test_what_is_no_similarity_or_not_of_3d_space_moves_nothing() -> None:
    ball = Region.sphere((0, 0, 0), 1)
    stretched, flat = torch.diag(torch.tensor([2.0, 1.0, 1.0, 1.0])), torch.diag(torch.tensor([1.0, 1.0, 0.0, 1.0]))
    for matrix in (stretched, flat):
        with pytest.raises(ValueError, match="similarity"):
            transformed(ball, matrix)
    for region in (Region.box((0, 0), (1, 1)), Scaled(ball, (2.0,) * 3, (0.0,) * 3), ~Region.sphere((0,), 1)):
        with pytest.raises(ValueError, match="only regions of 3D space"):
            transformed(region, torch.eye(4))


# -- JSON from anyone


def nested(levels: int) -> dict:
    data: dict = {"type": "sphere", "center": [0.0], "radius": 1.0}
    for _ in range(levels):
        data = {"type": "complement", "part": data}
    return data


SPHERE = {"type": "sphere", "center": [0.0, 0.0, 0.0], "radius": 1.0}
TURNED = {"type": "oriented_box", "center": [0, 0, 0], "rotation": QUARTER, "size": [1, 2, 3]}
SCALED = {"type": "scaled", "part": SPHERE, "scale": [1.0, 1.0, 1.0], "offset": [0.0, 0.0, 0.0]}
HOSTILE = {
    "no object": [1, 2],
    "nothing": None,
    "a kind that is a list": {"type": ["box"]},
    "an unknown kind": {"type": "banana"},
    "missing": {"type": "sphere", "radius": 1.0},
    "a huge integer": SPHERE | {"radius": 10**400},
    "a huge center": SPHERE | {"center": [10**400, 0, 0]},
    "not a number": SPHERE | {"radius": math.nan},
    "infinite": {"type": "box", "lower": [0.0], "upper": [math.inf]},
    "text": SPHERE | {"center": "123"},
    "numbers as text": SPHERE | {"center": ["1", "2", "3"]},
    "booleans": SPHERE | {"radius": True},
    "no axes": SPHERE | {"center": []},
    "no corners": {"type": "box", "lower": [], "upper": []},
    "corners of other lengths": {"type": "box", "lower": [0, 0], "upper": [1]},
    "upside down": {"type": "box", "lower": [1], "upper": [0]},
    "a flat turned box": TURNED | {"size": [1, 2]},
    "a ragged rotation": TURNED | {"rotation": [[1, 0, 0], [0, 1], [0, 0, 1]]},
    "a rotation that is a number": TURNED | {"rotation": 1},
    "no rotation": TURNED | {"rotation": [[2, 0, 0], [0, 1, 0], [0, 0, 1]]},
    "an infinite size": TURNED | {"size": [1, 2, math.inf]},
    "parts of two spaces": {"type": "union", "parts": [SPHERE, SPHERE | {"center": [0.0]}]},
    "no parts": {"type": "union", "parts": []},
    "parts that are an object": {"type": "union", "parts": SPHERE},
    "parts that are none": {"type": "intersection", "parts": [None]},
    "a scale of another dimension": SCALED | {"scale": [1.0], "offset": [0.0]},
    "offsets of another dimension": SCALED | {"offset": [0.0]},
    "a negative scale": SCALED | {"scale": [1.0, 1.0, -1.0]},
    "nested deep": nested(70),
    "nested very deep": nested(400),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_region_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(ValueError) as refusal:
        region_from_dict(HOSTILE[name])
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 400


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["type", "part", "parts"]), inner),
    max_leaves=8,
)
keys = ["lower", "upper", "center", "radius", "size", "rotation", "scale", "offset", "part", "parts"]
kinds = st.sampled_from(["box", "sphere", "oriented_box", "complement", "scaled", "union", "intersection"])


@settings(max_examples=150)
@given(kind=kinds, entries=st.dictionaries(st.sampled_from(keys), values | st.lists(numbers, min_size=3, max_size=3)))
def test_any_json_is_a_region_or_refused(kind: str, entries: dict) -> None:
    try:
        region = region_from_dict({"type": kind, **entries})
    except ValueError as error:
        assert "\n" not in str(error)
    else:
        assert region_from_dict(region.to_dict()) == region
        assert region.contains(torch.zeros(2, region.dim)).shape == (2,)


def test_a_sphere_of_a_million_axes_costs_nothing_to_refuse() -> None:
    grid = PartitionGrid((1,), (0.0,), (1.0,))
    with pytest.raises(ValueError, match="the field has 1"):
        Sphere((0.0,) * 1_000_000, 1.0).touched(grid)
