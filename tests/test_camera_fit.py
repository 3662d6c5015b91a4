"""Cameras are fitted to what is shown: they come back, are held where nothing tells, and nothing is drawn twice."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lg_field.training import camera_fit as fit
from lg_field.training.camera_fit import (
    Seen,
    composed,
    fit_alone,
    fit_step,
    moved,
    rotations,
    seen_by,
    squared_error,
    telling_pixels,
    together,
    turns_of,
)

WHITE = torch.ones(3)


def textured(origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """A waved wall about 4 units down -z, coloured all over."""
    distance = (4.0 + origins[:, 2]) / -directions[:, 2]
    for _ in range(8):
        at = origins + distance[:, None] * directions
        distance = (4.0 + 0.6 * torch.sin(2.0 * at[:, 0]) * torch.cos(1.5 * at[:, 1]) + origins[:, 2]) / -directions[
            :, 2
        ]
    x, y, _ = (origins + distance[:, None] * directions).unbind(1)
    waves = torch.stack([torch.sin(5 * x + 1), torch.sin(6 * y), torch.sin(4 * x + 5 * y)], dim=1)
    return 0.5 + 0.4 * waves, distance


def plain(origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """One colour, and nothing there."""
    return torch.full_like(origins, 0.3), torch.full_like(origins[:, 0], torch.nan)


def looks(cameras: int, rays: int, seed: int, show: fit.Show = textured) -> Seen:
    generator = torch.Generator().manual_seed(seed)
    across = torch.rand(cameras, rays, 2, generator=generator).double() - 0.5
    directions = torch.cat([across, -torch.ones(cameras, rays, 1, dtype=torch.float64)], dim=-1)
    directions = torch.nn.functional.normalize(directions, dim=-1)
    origins = 0.3 * torch.randn(cameras, 1, 3, generator=generator).double().expand(-1, rays, -1)
    colors, _ = show(origins.reshape(-1, 3), directions.reshape(-1, 3))
    counted = torch.ones(cameras, rays, dtype=torch.bool)
    pixel = torch.full((cameras,), 0.005, dtype=torch.float64)
    return Seen(origins, directions, colors.view(cameras, rays, 3), counted, pixel)


def changes(cameras: int, seed: int) -> Tensor:
    drawn = torch.randn(cameras, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn * torch.tensor([0.03] * 3 + [0.008] * 3, dtype=torch.float64)


def off(change: Tensor) -> Tensor:
    """How far, on average, what a camera's ray shows at 4 units is aside."""
    rays = looks(len(change), 64, 0)
    at = rays.origins + 4.0 * rays.directions
    there = moved(rays, change)
    return (there.origins + 4.0 * there.directions - at).norm(dim=-1).mean(1)


@given(seed=st.integers(0, 999))
@settings(max_examples=5)
def test_cameras_come_back(seed: int) -> None:
    change = changes(3, seed)
    before = off(change)
    for _ in range(6):
        seen = moved(looks(3, 400, seed), change)
        change = composed(change, fit_step(textured, seen, torch.zeros(3, 6, dtype=torch.float64)))
    assert bool((off(change) < 0.1 * before).all()), (before, off(change))


def test_a_camera_that_is_right_stays() -> None:
    seen, nothing = looks(2, 200, 1), torch.zeros(2, 6, dtype=torch.float64)
    assert float(fit_step(textured, seen, nothing).abs().max()) < 1e-6
    assert not bool(fit_step(plain, looks(2, 200, 1, plain), nothing).any()), "nothing tells anything"


def test_a_camera_without_anything_to_see_goes_back_to_where_it_is_given() -> None:
    """Only what is known of poses speaks: the change so far is taken back."""
    noise = torch.Generator().manual_seed(0)
    seen = looks(1, 300, 2, plain)
    seen = seen._replace(colors=torch.rand(seen.colors.shape, generator=noise, dtype=torch.float64))
    so_far = changes(1, 3)
    for _ in range(9):
        so_far = so_far + fit_step(plain, seen, so_far)
    torch.testing.assert_close(so_far, torch.zeros(1, 6, dtype=torch.float64), rtol=0, atol=2e-3)


def test_each_camera_is_fitted_as_if_it_were_alone() -> None:
    seen, change = looks(3, 200, 4), changes(3, 5)
    all_three = fit_step(textured, moved(seen, change), change)
    for k in range(3):
        one = Seen(*(part[k : k + 1] for part in seen))
        alone = fit_step(textured, moved(one, change[k : k + 1]), change[k : k + 1])
        torch.testing.assert_close(all_three[k : k + 1], alone, rtol=1e-4, atol=1e-8)


def test_one_camera_is_found_from_its_photo_alone() -> None:
    true = changes(1, 6)
    given = iter(range(99))

    def look() -> Seen:
        seen = looks(1, 600, 7 + next(given))
        shown, _ = textured(*(part.reshape(-1, 3) for part in moved(seen, true)[:2]))
        return seen._replace(colors=shown.view(1, -1, 3))

    found = fit_alone(textured, look)[None]
    turns = turns_of(rotations(true[:, 3:]).mT @ rotations(found[:, 3:]))
    left = torch.cat([found[:, :3] - true[:, :3], turns], dim=1)
    assert float(off(left)[0]) < 0.15 * float(off(true)[0])


@given(seed=st.integers(0, 999), size=st.sampled_from([0.0, 1e-9, 1e-3, 0.5, 1.7]))
@settings(max_examples=30)
def test_turns_are_what_rotations_come_from(seed: int, size: float) -> None:
    turns = torch.nn.functional.normalize(torch.randn(4, 3, generator=torch.Generator().manual_seed(seed)), dim=1)
    turns = size * turns.double()
    found = rotations(turns)
    torch.testing.assert_close(found @ found.mT, torch.eye(3, dtype=torch.float64).expand(4, 3, 3))
    torch.testing.assert_close(turns_of(found), turns, rtol=1e-7, atol=1e-12)


def test_two_changes_are_one() -> None:
    seen, first, then = looks(3, 20, 8), changes(3, 9), changes(3, 10)
    twice, once = moved(moved(seen, first), then), moved(seen, composed(first, then))
    torch.testing.assert_close(twice.directions, once.directions)
    torch.testing.assert_close(twice.origins, once.origins)


@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
def test_pixels_are_drawn_where_colours_change_and_count(kind: torch.dtype) -> None:
    torch.manual_seed(0)
    image = torch.zeros(40, 60, 3, dtype=kind)
    image[:, 30:] = 255 if kind == torch.uint8 else 1.0
    rows, columns = telling_pixels(image, 64, None, WHITE)
    assert float(((columns == 29) | (columns == 30)).float().mean()) > 0.15, "a thirtieth of all"
    assert len({*zip(rows.tolist(), columns.tolist())}) == 64
    counted = torch.zeros(40, 60, dtype=torch.bool)
    counted[10:20, 28:32] = True
    rows, columns = telling_pixels(image, 64, counted, WHITE)
    assert bool(counted[rows, columns].all()) and len({*zip(rows.tolist(), columns.tolist())}) <= 40
    assert len(telling_pixels(image, 64, torch.zeros(40, 60, dtype=torch.bool), WHITE)[0]) == 0


def test_colours_that_nobody_sees_are_not_looked_for() -> None:
    """What a file has where it is transparent changes nothing."""
    noise = torch.Generator().manual_seed(0)
    image = torch.zeros(50, 50, 4)
    image[20:30, 20:30, 3] = 1.0
    image[20:30, 20:30, :3] = torch.rand(10, 10, 3, generator=noise)
    hidden = image.clone()
    hidden[..., :3] += (1.0 - image[..., 3:]) * torch.rand(50, 50, 3, generator=noise)
    plain, noisy = (
        telling_pixels(one, 64, None, torch.zeros(3), torch.Generator().manual_seed(1)) for one in (image, hidden)
    )
    assert all(map(torch.equal, plain, noisy))


def test_a_photo_of_which_little_counts_is_fitted_to_that_alone() -> None:
    """Here what does not count is another scene, and the camera is right."""
    step = 1.0 / 60.0

    def rays(rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        across = torch.stack([(columns + 0.5) * step - 0.5, 0.5 - (rows + 0.5) * step, -torch.ones(len(rows))], dim=1)
        return torch.zeros(len(rows), 3), torch.nn.functional.normalize(across, dim=1)

    every = torch.arange(3600)
    shown, _ = textured(*(part.double() for part in rays(every // 60, every % 60)))
    counted = torch.zeros(60, 60, dtype=torch.bool)
    counted[30, 10:18] = True
    image = torch.where(counted[..., None], shown.view(60, 60, 3).float(), torch.rand(60, 60, 3))
    seen = seen_by(image, counted, rays, step, 64, WHITE)
    assert int(seen.counted.sum()) == 8
    nothing = torch.zeros(1, 6, dtype=torch.float64)
    assert float(fit_step(textured, seen, nothing).abs().max()) < 1e-5 and float(squared_error(textured, seen)) < 1e-10
    none = seen_by(image, torch.zeros_like(counted), rays, step, 64, WHITE)
    assert not bool(fit_step(textured, none, nothing).any()) and float(squared_error(textured, none)) == 0.0
    both = together([seen, none])
    assert both.counted.sum(1).tolist() == [8, 0]


def test_what_does_not_count_says_nothing_of_how_far_things_are() -> None:
    change = changes(2, 3)
    seen = moved(looks(2, 64, 1), change)
    some = seen._replace(counted=torch.arange(64).expand(2, 64) < 24)
    alone = fit_step(textured, seen._replace(**{n: getattr(some, n)[:, :24] for n in FOUR}), change)

    def other(origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        colors, distance = textured(origins, directions)
        return colors, torch.where(torch.arange(len(colors)) % 64 < 24, distance, 400.0)

    torch.testing.assert_close(fit_step(other, some, change), alone, rtol=1e-6, atol=1e-9)


FOUR = ("origins", "directions", "colors", "counted")


def test_what_is_no_number_moves_no_camera() -> None:
    def broken(origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        colors, distance = textured(origins, directions)
        return torch.where((torch.arange(len(colors)) % 50 == 0)[:, None], torch.nan, colors), distance

    change = changes(2, 3)
    assert torch.equal(fit_step(broken, moved(looks(2, 100, 1), change), change), torch.zeros_like(change))


def test_the_same_generator_draws_the_same_pixels() -> None:
    image = torch.rand(30, 40, 3)
    found = [telling_pixels(image, 50, None, WHITE, torch.Generator().manual_seed(5)) for _ in range(2)]
    assert all(map(torch.equal, *found))
