"""The procedural city is what it says it is."""

from __future__ import annotations

import torch
from city import EYES, HIGH, STREET, City

CITY = City(8)


def test_rays_end_on_surfaces_and_nowhere_before():
    origins, directions = CITY.rays(500, seed=1)
    rgba, distance = CITY.look(origins, directions)
    seen = distance.isfinite()
    assert 0.3 < seen.float().mean() < 1.0 and torch.equal(rgba[:, 3] > 0, seen)
    hit = origins.double() + directions.double() * distance.where(seen, torch.zeros(()).double())[:, None]
    assert CITY.distance(hit[seen]).abs().max() < 1e-6
    for part in (0.2, 0.5, 0.8, 0.95):
        between = (origins.double() + part * (hit - origins.double()))[seen]
        lower, upper = CITY.houses(between[:, :2].floor().clamp(0, 7).long())
        assert not ((between > lower) & (between < upper)).all(1).any() and bool((between[:, 2] > 0).all())


def test_the_city_is_the_same_everywhere_and_at_every_size():
    block = torch.cartesian_prod(torch.arange(8), torch.arange(8))
    heights = CITY.heights(block)
    assert torch.equal(heights, City(64).heights(block)) and len(heights.unique()) == 64
    assert heights.min() >= 0.3 and heights.max() <= HIGH
    assert abs(float(heights.mean()) - 0.95) < 0.15


def test_cameras_stand_in_streets():
    origins, directions = CITY.rays(200, seed=0)
    beside = (origins[:, :2] - origins[:, :2].round()).abs().amin(1)
    assert beside.max() < STREET and bool((origins[:, 2] == EYES).all())
    assert torch.allclose(directions.norm(dim=1), torch.ones(200), atol=1e-5)


def test_the_shell_holds_what_rays_hit():
    counts = (64, 64, 16)
    shell = CITY.shell(counts)
    origins, directions = CITY.rays(500, seed=2)
    _, distance = CITY.look(origins, directions)
    hit = (origins.double() + directions.double() * distance[:, None])[distance.isfinite()]
    lower, upper = (torch.tensor(corner, dtype=torch.float64) for corner in CITY.box)
    index = ((hit - lower) / (upper - lower) * torch.tensor(counts)).long()
    index = torch.minimum(index.clamp_min(0), torch.tensor(counts) - 1)
    assert shell[tuple(index.unbind(1))].float().mean() > 0.995
    assert 0.05 < shell.float().mean() < 0.7
