"""A plain backdrop behind a thing is found, and only that; without it photos show the thing alone."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from test_placing import SIZE, capture, manager

from lg_field.captures import read_capture
from lg_field.captures.backdrop import before_backdrop, find_backdrop
from lg_field.captures.capture import Backdrop, CaptureError
from lg_field.captures.cut_out import cut_out, parted
from lg_field.training.run import RunSettings, SceneRun

WIDTH, HEIGHT = 240, 160


def noise(seed: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """(height, width, 3) colours 30..220 that vary from place to place."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(30, 220, (12, 18, 3), dtype=np.uint8))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)).astype(np.float64)


def coverage(radius: float, middle: tuple[float, float] = (120.0, 80.0), fine: int = 8) -> np.ndarray:
    """(height, width) part of each pixel inside a disc."""
    at = [(np.arange(n * fine) + 0.5) / fine for n in (HEIGHT, WIDTH)]
    inside = np.hypot(at[1][None] - middle[0], at[0][:, None] - middle[1]) < radius
    return inside.reshape(HEIGHT, fine, WIDTH, fine).mean((1, 3))


def thing_before(
    color: tuple[int, int, int], seed: int, radius: float = 45.0, grain: float = 1.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A disc before a colour, as uint8 with some grain; its coverage and its own colours."""
    rng = np.random.default_rng(seed)
    covered, own = coverage(radius, (120.0 + 20 * rng.standard_normal(), 80.0)), noise(seed)
    seen = covered[..., None] * own + (1 - covered[..., None]) * np.array(color)
    seen = seen + grain * rng.standard_normal(seen.shape)
    return seen.clip(0, 255).round().astype(np.uint8), covered, own


def written(folder: Path, pictures: list[np.ndarray], suffix: str = ".png") -> list[Path]:
    paths = [folder / f"{k:03}{suffix}" for k in range(len(pictures))]
    for path, picture in zip(paths, pictures):
        Image.fromarray(picture).save(path, **({"quality": 90} if suffix == ".jpg" else {}))
    return paths


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("color", [(255, 255, 255), (0, 0, 0), (40, 170, 60), (128, 126, 120)])
def test_a_backdrop_of_any_colour_is_found(color: tuple[int, int, int], suffix: str, tmp_path: Path) -> None:
    paths = written(tmp_path, [thing_before(color, k, grain=2.0)[0] for k in range(12)], suffix)
    found = find_backdrop(paths)
    assert found is not None and np.abs(np.array(found.color) - color).max() <= 4 and found.tolerance <= 24


def shade(corner: float, tilt: float = 0.0) -> np.ndarray:
    """(height, width, 1) light that falls by `corner` toward the corners, and by `tilt` from left to right."""
    x, y = np.meshgrid(np.linspace(-1, 1, WIDTH), np.linspace(-1, 1, HEIGHT))
    return (1.0 - corner * (x * x + y * y) / 2.0 + tilt * x / 2.0)[..., None]


def thing_before_graded(color: tuple[int, int, int], seed: int, light: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    _, covered, own = thing_before(color, seed)
    seen = covered[..., None] * own + (1 - covered[..., None]) * np.array(color) * light
    seen = seen + 2.0 * np.random.default_rng(seed).standard_normal(seen.shape)
    return seen.clip(0, 255).round().astype(np.uint8), covered


LIGHTS = {
    "corners": shade(0.25),
    "side": shade(0.0, 0.3),
    "both": shade(0.15, -0.2),
    "strong": shade(0.0, 0.6),
}


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("light", LIGHTS.values(), ids=LIGHTS)
@pytest.mark.parametrize("color", [(160, 158, 150), (60, 190, 80)])
def test_an_unevenly_lit_backdrop_is_cut_out_to_the_thing(
    color: tuple[int, int, int], light: np.ndarray, suffix: str, tmp_path: Path
) -> None:
    pictures = [thing_before_graded(color, k, light) for k in range(8)]
    paths = written(tmp_path, [picture for picture, _ in pictures], suffix)
    found = find_backdrop(paths)
    assert found is not None and found.graded and found.tolerance <= 16
    for path, (_, covered) in zip(paths, pictures):
        alpha = cut_out(np.asarray(Image.open(path)), found)[..., 3] / 255.0
        assert (alpha[covered == 0] > 0.5).mean() < 0.002 and (alpha[covered == 1] > 0.9).mean() > 0.95


@pytest.mark.parametrize("light", [shade(0.0), shade(0.1, 0.4)], ids=["even", "side"])
def test_a_thing_along_the_border_is_cut_from_a_graded_backdrop(light: np.ndarray) -> None:
    pixels = (200.0 * light).repeat(3, axis=2)
    pixels[100:, 60:200] = (90, 40, 20)
    alpha = cut_out(pixels.clip(0, 255).round().astype(np.uint8), GRADED)[..., 3]
    assert (alpha[104:, 64:196] == 255).all() and not alpha[:96].any() and not alpha[:, :56].any()


GRADED = Backdrop((200, 200, 200), 12, graded=True)


def test_a_thing_along_half_of_the_border_is_no_shade_of_a_graded_backdrop() -> None:
    pixels = np.full((HEIGHT, WIDTH, 3), 200, np.uint8)
    pixels[HEIGHT // 2 :] = 150
    alpha = cut_out(pixels, GRADED)[..., 3]
    assert (alpha[HEIGHT // 2 + 4 :] == 255).all() and not alpha[: HEIGHT // 2 - 4].any()


def test_a_dark_photo_says_nothing_of_how_a_backdrop_is_graded() -> None:
    pixels = np.full((HEIGHT, WIDTH, 3), 30, np.uint8)
    pixels[60:100] = 136
    assert (cut_out(pixels, GRADED)[..., 3] == 255).all()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [0, 90, 255])
def test_a_photo_whose_border_is_not_the_backdrops_stays(value: int) -> None:
    pixels = np.full((HEIGHT, WIDTH, 3), value, np.uint8)
    assert (cut_out(pixels, GRADED)[..., 3] == 255).all()
    assert (cut_out(np.dstack([noise(1), np.full((HEIGHT, WIDTH), 255.0)]).astype(np.uint8), GRADED)[..., 3] > 0).any()


def test_without_scipy_one_line_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = read_capture(capture(tmp_path / "scene", masks="backdrop"))
    monkeypatch.setitem(sys.modules, "scipy", None)
    tries: list[Callable[[], object]] = [
        lambda: before_backdrop(found, "auto", "--background"),
        lambda: cut_out(np.full((9, 9, 3), 255, np.uint8), GRADED),
        lambda: parted(np.full((9, 9, 3), 255, np.uint8), GRADED),
    ]
    for one in tries:
        with pytest.raises(CaptureError, match=r"need SciPy.*lg-field\[mesh\].*--background keep") as said:
            one()
        assert "\n" not in str(said.value)
    assert before_backdrop(found, "keep", "--background") == (found, [])


@pytest.mark.parametrize("color", [(255, 255, 255), (0, 0, 0), (40, 170, 60), (128, 126, 120)])
def test_an_evenly_lit_backdrop_is_not_taken_to_be_graded(color: tuple[int, int, int], tmp_path: Path) -> None:
    found = find_backdrop(written(tmp_path, [thing_before(color, k, grain=3.0)[0] for k in range(8)]))
    assert found is not None and not found.graded


def overcast(seed: int) -> np.ndarray:
    """A bright sky over a ground, which ends at another height in each photo."""
    below = np.arange(HEIGHT)[:, None, None] > 90 + seed % 5
    return np.where(below, noise(seed), 225.0 * shade(0.1)).clip(0, 255).astype(np.uint8)


def night(seed: int) -> np.ndarray:
    """A black sky over a street with lights."""
    below = np.arange(HEIGHT)[:, None, None] > 100
    return np.where(below, noise(seed), 4.0 + np.random.default_rng(seed).random((HEIGHT, WIDTH, 1))).astype(np.uint8)


def wall(seed: int) -> np.ndarray:
    """A white wall, darker to the side, behind furniture that stands on a floor."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    thing = (rows > 120) | ((rows > 60) & (abs(columns - 120 - 9 * (seed % 4)) < 50))
    return np.where(thing[..., None], noise(seed), 235.0 * shade(0.0, 0.25)).clip(0, 255).astype(np.uint8)


def with_horizon(seed: int) -> np.ndarray:
    return np.where(np.arange(HEIGHT)[:, None, None] < 80, 255.0, noise(seed)).astype(np.uint8)


OTHERS: dict[str, Callable[[int], np.ndarray]] = {
    "a room": lambda k: noise(k).astype(np.uint8),
    "a sky over a ground": with_horizon,
    "backdrops of many colours": lambda k: thing_before((40 * (k % 6), 200, 30), k)[0],
    "nothing before it": lambda k: np.full((HEIGHT, WIDTH, 3), 255, np.uint8),
    "a frame around a picture": lambda k: np.pad(noise(k, 230, 150), ((5, 5), (5, 5), (0, 0))).astype(np.uint8),
    "only some photos have one": lambda k: thing_before((255, 255, 255), k)[0] if k % 3 else noise(k).astype(np.uint8),
    "an overcast sky": overcast,
    "a night": night,
    "a wall behind furniture": wall,
    "a gradient": lambda k: (thing_before((0, 0, 0), k)[0] // 2 + np.arange(WIDTH)[None, :, None] // 2).astype(
        np.uint8
    ),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_photos_have_none(kind: str, tmp_path: Path) -> None:
    assert find_backdrop(written(tmp_path, [OTHERS[kind](k) for k in range(12)])) is None


@pytest.mark.parametrize("color", [(255, 255, 255), (0, 0, 0), (40, 170, 60)])
def test_what_is_cut_out_is_as_opaque_as_the_thing_covers_pixels(color: tuple[int, int, int]) -> None:
    """And put before another colour it looks as if it had been there."""
    seen, covered, own = thing_before(color, 3)
    out = cut_out(seen, Backdrop(color, 12)).astype(np.float64)
    alpha, edge = out[..., 3] / 255.0, (covered > 0) & (covered < 1)
    assert not alpha[covered == 0].any() and (alpha[covered == 1] > 0.9).mean() > 0.99
    assert np.abs(alpha - covered)[edge].mean() < 0.15
    other = np.array([200.0, 0.0, 120.0])
    ours = alpha[..., None] * out[..., :3] + (1 - alpha[..., None]) * other
    truth = covered[..., None] * own + (1 - covered[..., None]) * other
    kept = seen + (1 - covered[..., None]) * 0  # what a fringe of the backdrop would leave
    assert np.abs(ours - truth)[edge].mean() < 0.5 * np.abs(kept - truth)[edge].mean()


def test_the_backdrops_colour_inside_a_thing_stays_and_specks_go() -> None:
    seen, covered, _ = thing_before((255, 255, 255), 5)
    picture = Image.fromarray(seen)
    ImageDraw.Draw(picture).ellipse((110, 70, 125, 85), fill=(255, 255, 255))
    pixels = np.array(picture)
    pixels[5:7, 5:8] = 90
    out = cut_out(pixels, Backdrop((255, 255, 255), 12))
    assert (out[72:83, 112:123, 3] == 255).all() and not out[:12, :12, 3].any()
    assert not out[..., 3][covered == 0].any()


def test_photos_before_a_backdrop_end_in_a_box_and_say_so(tmp_path: Path) -> None:
    """By nerfstudio's data manager and by our own loop; `keep` leaves them as they are."""
    data = capture(tmp_path / "scene", masks="backdrop")
    run = SceneRun(read_capture(data), RunSettings("lg-field-tiny"))
    assert "--background keep" in " ".join(run.notes) and not run.contracted and run.photos.images[0].shape[-1] == 4
    kept = SceneRun(read_capture(data), RunSettings("lg-field-tiny", background="keep"))
    assert kept.contracted and kept.photos.images[0].shape == (SIZE, SIZE, 3)
    ours, theirs = manager(data), manager(data, background="keep")
    assert not ours.opaque and bool(ours.train_dataset.metadata["bounded"])
    assert theirs.opaque and theirs.train_dataset[0]["image"].shape[-1] == 3


@pytest.mark.parametrize("masks", ["alpha", "grey"])
def test_photos_that_say_themselves_what_is_empty_stay_as_they_are(masks: str, tmp_path: Path) -> None:
    found = read_capture(capture(tmp_path / "scene", masks=masks))
    assert before_backdrop(found, "auto", "--background") == (found, [])


def test_fisheye_photos_are_black_around_their_circle(tmp_path: Path) -> None:
    found = read_capture(capture(tmp_path / "scene", masks="backdrop"))
    round_ones = tuple(replace(p, lens=replace(p.lens, fisheye=True)) for p in found.photos)
    assert before_backdrop(replace(found, photos=round_ones), "auto", "--background")[1] == []
    assert before_backdrop(found, "auto", "--background")[1] != []


def framed(seed: int, inside: np.ndarray, color: int) -> np.ndarray:
    return np.where(inside[..., None], noise(seed), color).astype(np.uint8)


@pytest.mark.parametrize("color", [0, 255])
@pytest.mark.parametrize("kind", ["a circle", "a window", "prints"])
def test_a_window_in_every_photo_is_no_thing(kind: str, color: int, tmp_path: Path) -> None:
    """What an endoscope or a letterboxed video shows around its picture was not seen, and is not empty."""
    row, column = np.mgrid[:HEIGHT, :WIDTH]
    inside = {
        "a circle": np.hypot(row - HEIGHT / 2, column - WIDTH / 2) < 70,
        "a window": (abs(row - HEIGHT / 2) < 60) & (abs(column - WIDTH / 2) < 80),
        "prints": (abs(row - HEIGHT / 2) < 70) & (abs(column - WIDTH / 2) < 100),
    }[kind]
    assert find_backdrop(written(tmp_path, [framed(k, inside, color) for k in range(8)])) is None


def test_what_lies_beyond_a_lens_is_as_the_backdrop_is() -> None:
    seen, covered, _ = thing_before((255, 255, 255), 3)
    alpha = np.full((HEIGHT, WIDTH, 1), 255, np.uint8)
    alpha[:20, :], alpha[:, -20:] = 0, 0
    seen[alpha[..., 0] == 0] = 0
    out = cut_out(np.dstack([seen, alpha]), Backdrop((255, 255, 255), 12))
    assert not out[..., 3][covered == 0].any() and (out[..., 3][covered == 1] > 230).mean() > 0.98
