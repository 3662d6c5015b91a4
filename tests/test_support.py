"""Laws of what objects stand on: surfaces are found through objects, pits and strays, and heights are above them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lg_field.radiance.support import (
    FINE,
    LEAST,
    STEEP,
    Support,
    find_supports,
    half_way,
    height_map,
    terms,
    upright,
)

SIDE = 0.06
FOCUS = torch.zeros(3, dtype=torch.float64)
UP = (0.0, 0.0, 1.0)

bends = st.floats(-0.25, 0.25)
slopes = st.floats(-0.3, 0.3)


def scattered(coefficients: list[float], count: int = 20000, seed: int = 0) -> torch.Tensor:
    """(n, 3) float64 points of a surface over [-1, 1]^2."""
    places = torch.rand(count, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 - 1
    height = terms(places) @ torch.tensor(coefficients, dtype=torch.float64)
    return torch.cat([places, height[:, None]], dim=-1)


def with_thing(points: torch.Tensor, radius: float = 0.25, pit: bool = False, strays: int = 200) -> torch.Tensor:
    """The same with a thing that stands in the middle, perhaps a pit in a quarter of the surface, and some strays."""
    points = points.clone()
    thing = points[:, :2].norm(dim=-1) < radius
    points[thing, 2] += 0.3
    if pit:
        points[(points[:, 0] < -0.1) & (points[:, 1] > 0.1), 2] -= 0.25
    generator = torch.Generator().manual_seed(1)
    random = torch.rand(strays, 3, generator=generator, dtype=torch.float64) * 2 - 1
    return torch.cat([points, random])


@settings(max_examples=25)
@given(
    level=st.floats(-0.4, 0.3), slope=st.tuples(slopes, slopes), bend=st.tuples(bends, bends, bends), pit=st.booleans()
)
def test_a_bowl_is_found_below_a_thing_and_beside_a_pit(
    level: float, slope: tuple[float, float], bend: tuple[float, float, float], pit: bool
) -> None:
    true = [level, *slope, *bend]
    found = next(find_supports(with_thing(scattered(true), pit=pit), UP, FOCUS, SIDE))
    around = scattered(true, 500, seed=2)
    seen = ~((around[:, 0] < 0.0) & (around[:, 1] > 0.0)) if pit else torch.ones(500, dtype=torch.bool)
    around = around[(around[:, :2].norm(dim=-1) < 0.45) & seen]
    assert float(found.height(around).abs().max()) < 0.4 * SIDE
    assert found.spread <= 0.6 * SIDE and len(found.places) >= LEAST
    raised = around + torch.tensor([0.0, 0.0, 0.2], dtype=torch.float64)
    assert torch.allclose(found.height(raised), found.height(around) + 0.2)


@pytest.mark.parametrize("up", [(0.0, 0.0, 1.0), (0.0, -2.0, 0.0), (1.0, 0.0, 0.0), (0.6, 0.0, 0.8)])
def test_up_may_point_anywhere(up: tuple[float, float, float]) -> None:
    axes = upright(up)
    assert torch.allclose(axes @ axes.T, torch.eye(3, dtype=torch.float64)) and float(torch.linalg.det(axes)) > 0.99
    assert torch.allclose(axes[2] * torch.tensor(up).double().norm(), torch.tensor(up).double())
    local = with_thing(scattered([-0.2, 0.0, 0.1, 0.1, 0.0, 0.0]))
    found = next(find_supports(local @ axes, up, FOCUS, SIDE))
    above = torch.tensor([[0.3, 0.3, 0.5], [0.3, 0.3, -0.5]], dtype=torch.float64) @ axes
    assert (found.height(above) > 0).tolist() == [True, False]


def test_a_second_surface_comes_after_the_one_with_more_of_it() -> None:
    floor, table = scattered([-0.5, 0, 0, 0, 0, 0]), scattered([-0.1, 0, 0, 0, 0, 0], 20000, 3)
    table = table[table[:, :2].norm(dim=-1) < 0.6]
    floor = floor[floor[:, :2].norm(dim=-1) >= 0.6]
    heights = [float(s.coefficients[0]) for s in find_supports(torch.cat([floor, table]), UP, FOCUS, SIDE)]
    assert heights[:2] == pytest.approx([-0.1, -0.5], abs=0.02)


def test_walls_ceilings_and_few_points_are_no_support() -> None:
    wall = scattered([0, 0, 0, 0, 0, 0])[:, [2, 0, 1]]
    ceiling = scattered([0.8, 0, 0, 0, 0, 0])
    few = scattered([-0.2, 0, 0, 0, 0, 0], LEAST // 2)
    for points in (ceiling, few, torch.zeros(0, 3, dtype=torch.float64)):
        assert list(find_supports(points, UP, FOCUS, SIDE)) == []
    for found in find_supports(wall, UP, FOCUS, SIDE):
        assert float(found.coefficients[1:3].norm()) <= STEEP and len(found.places) < 300, "bits of a wall at most"


def test_beyond_its_reach_a_surface_goes_on_level() -> None:
    coefficients = torch.tensor([0.0, 0.0, 0.0, 0.5, 0.0, 0.5], dtype=torch.float64)
    bowl = Support(upright(UP), FOCUS, coefficients, torch.tensor([[0.6, 0.8]], dtype=torch.float64), 0.0)
    axes, points = upright(UP), torch.tensor([[1.0, 0.0, 0.5], [3.0, 0.0, 0.5], [0.0, 0.5, 0.0]], dtype=torch.float64)
    assert bowl.reach == pytest.approx(1.0)
    assert bowl.height(points @ axes).tolist() == pytest.approx([0.0, 0.0, -0.125])


@given(st.integers(0, 5), st.integers(0, 40), st.integers(0, 1000))
def test_the_half_way_sample_is_the_first_that_reaches_half(count: int, samples: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    rays = (
        torch.randint(max(1, count), (samples,), generator=generator).sort().values if count else torch.zeros(0).long()
    )
    weights = torch.rand(len(rays), generator=generator) * 0.3
    expected = []
    for ray in range(count):
        own = (rays == ray).nonzero()[:, 0]
        total = float(weights[own].double().sum())
        if total > 0.5:
            sums = weights[own].double().cumsum(0)
            expected.append(int(own[(sums >= 0.5 * sums[-1] - 1e-12).nonzero()[0, 0]]))
    assert half_way(weights, rays, count).tolist() == expected


def test_low_heights_are_kept_of_places() -> None:
    flat = scattered([-0.3, 0, 0, 0, 0, 0], 40000)
    over = flat[::3] + torch.tensor([0.0, 0.0, 0.5], dtype=torch.float64)
    places = height_map(torch.cat([flat, over]), upright(UP), FOCUS, FINE * SIDE)
    assert torch.allclose(places[:, 2], torch.full_like(places[:, 2], -0.3))
    assert len(places) == pytest.approx((2.0 / (FINE * SIDE)) ** 2, rel=0.1)
    assert len(height_map(over[:0], upright(UP), FOCUS, SIDE)) == 0
