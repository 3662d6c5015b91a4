"""Files of photos and masks: every mode has the values it shows, masks have the photo's size, lenses are undone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_captures import HEIGHT, WIDTH, pixels

from lg_field.captures import Lens, Photo
from lg_field.captures.capture import CaptureError
from lg_field.captures.masks import read_mask as object_mask
from lg_field.captures.photo_file import header, mask_share, read_mask, read_photo

MODES = {
    "1": lambda rgb: rgb.convert("1"),
    "L": lambda rgb: rgb.convert("L"),
    "P": lambda rgb: rgb.quantize(64),
    "LA": lambda rgb: rgb.convert("LA"),
    "RGBA": lambda rgb: rgb.convert("RGBA"),
    "I;16": lambda rgb: Image.fromarray(np.asarray(rgb.convert("L")).astype(np.uint16) * 257),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_of_picture_has_the_values_it_shows(tmp_path, mode):
    shown = MODES[mode](Image.fromarray(pixels(3)))
    shown.save(tmp_path / "a.png")
    grey = "I" in mode
    wanted = np.asarray(Image.fromarray(pixels(3)).convert("L").convert("RGB") if grey else shown.convert("RGB"))
    photo = Photo(tmp_path / "a.png", np.eye(4), Lens(WIDTH, HEIGHT, 20, 20, 12, 8))
    found = read_photo(photo, alpha=True)
    assert found.shape == (HEIGHT, WIDTH, 4) and found.dtype == np.uint8
    assert np.abs(found[..., :3].astype(int) - wanted).max() <= 0
    assert header(tmp_path / "a.png").alpha == (mode in ("LA", "RGBA"))


def test_cmyk_and_a_transparent_colour(tmp_path):
    Image.fromarray(pixels(1)).convert("CMYK").save(tmp_path / "a.jpg", quality=100)
    photo = Photo(tmp_path / "a.jpg", np.eye(4), Lens(WIDTH, HEIGHT, 20, 20, 12, 8))
    assert np.abs(read_photo(photo, False).astype(int) - pixels(1)).mean() < 12
    Image.fromarray(pixels(0)).save(tmp_path / "b.png", transparency=(0, 0, 0))
    found = read_photo(Photo(tmp_path / "b.png", np.eye(4), photo.lens), True)
    assert found[0, 0, 3] == 0 and found[..., 3].sum() == 255 * (WIDTH * HEIGHT - 1)


@given(size=st.sampled_from([(24, 16), (12, 8), (48, 32)]), coloured=st.booleans(), scale=st.sampled_from([1.0, 0.5]))
def test_masks_of_other_sizes_and_colours(tmp_path_factory, size, coloured, scale):
    folder = tmp_path_factory.mktemp("masks")
    half = np.zeros((size[1], size[0]), np.uint8)
    half[:, size[0] // 2 :] = 255
    Image.fromarray(np.dstack([half * 0, half, half * 0]) if coloured else half).save(folder / "m.png")
    photo = Photo(folder / "x.png", np.eye(4), Lens(WIDTH, HEIGHT, 20, 20, 12, 8), mask=folder / "m.png")
    width, height = int(WIDTH * scale), int(HEIGHT * scale)
    mask = read_mask(photo, width, height)
    assert mask.shape == (height, width) and mask.dtype == bool
    assert not mask[:, : width // 2 - 1].any() and mask[:, width // 2 + 1 :].all()


@given(kind=st.sampled_from(["png", "jpg", "webp", "tif", "bmp"]), part=st.floats(0.0, 0.5))
def test_what_is_left_of_a_file_is_named_where_it_cannot_be_read(tmp_path_factory, kind, part):
    path = tmp_path_factory.mktemp("cut") / f"m.{kind}"
    Image.fromarray(pixels(2)).save(path)
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    photo = Photo(path, np.eye(4), Lens(WIDTH, HEIGHT, 20, 20, 12, 8), mask=path)
    for read in (lambda: read_photo(photo, True), lambda: read_mask(photo, WIDTH, HEIGHT), lambda: object_mask(path)):
        with pytest.raises(CaptureError, match=rf"{path} is (not an image or is )?broken: [^\n]+$"):
            read()


def test_rational_distortion_is_taken_out_when_read(tmp_path):
    """A grid photographed through the lens: what was bent comes straight, the middle stays where it is."""
    cv2 = pytest.importorskip("cv2")
    k = np.array([0.3, 0.05, 0.0, 0.0, 0.0, 0.1, 0.0, 0.0])
    size = 129
    straight = np.zeros((size, size, 3), np.uint8)
    straight[:, 96] = 255
    matrix = np.array([[60.0, 0, 64], [0, 60.0, 64], [0, 0, 1]])
    at = np.stack(np.meshgrid(np.arange(size), np.arange(size)), -1).astype(np.float32).reshape(-1, 1, 2)
    source = cv2.undistortPoints(at, matrix, k, P=matrix).reshape(size, size, 2)
    bent = cv2.remap(straight, source[..., 0], source[..., 1], cv2.INTER_LINEAR)
    Image.fromarray(bent).save(tmp_path / "a.png")
    lens = Lens(size, size, 60, 60, 64.5, 64.5, rational=tuple(k.tolist()))
    found = read_photo(Photo(tmp_path / "a.png", np.eye(4), lens), False)[..., 0].astype(float)
    bent_columns = bent[..., 0].astype(float).argmax(1)
    columns = found[20:110].argmax(1)
    assert np.ptp(bent_columns[20:110]) >= 2 and np.abs(columns - 96).max() <= 1


@given(
    at=st.tuples(st.integers(2, 12), st.integers(2, 8)), factor=st.sampled_from([1, 2]), scale=st.sampled_from([1, 2])
)
@settings(max_examples=12, deadline=None)
def test_what_is_cut_out_keeps_its_area_and_none_of_the_colour_around_it(tmp_path_factory, at, factor, scale):
    """A red thing before green, at any size of mask and picture: its edge is partly there, and red."""
    folder = tmp_path_factory.mktemp("cut")
    thing = np.zeros((HEIGHT, WIDTH), bool)
    thing[3 : 3 + at[1], 5 : 5 + at[0]] = True
    Image.fromarray(np.where(thing[..., None], (200, 0, 0), (0, 200, 0)).astype(np.uint8)).save(folder / "a.png")
    grown = np.kron(thing, np.ones((factor, factor))).astype(np.uint8)
    Image.fromarray(grown * 200).save(folder / "m.png")
    photo = Photo(folder / "a.png", np.eye(4), Lens(WIDTH, HEIGHT, 20, 20, 12, 8), mask=folder / "m.png")
    share = mask_share(photo, WIDTH, HEIGHT)
    found = read_photo(photo, True, 1 / scale, cut=True)
    assert found.shape == (HEIGHT // scale, WIDTH // scale, 4)
    assert abs(float(found[..., 3].mean()) - 255 * thing.mean()) < 255 * thing.mean() * 0.1
    there = found[..., 3] > 8
    if factor == 1:
        assert (share == 255 * thing).all()
        assert (found[there][:, 1] <= 8).all() and (found[there][:, 0] >= 190).all()
    assert (read_photo(photo, True, 1 / scale)[..., 3] == 255).all(), "unless it is cut out it is whole"


def test_a_mask_of_another_size_is_straightened_as_its_photo_is(tmp_path):
    pytest.importorskip("cv2")
    mask = np.zeros((129, 129), np.uint8)
    mask[:, 96:] = 255
    lens = Lens(129, 129, 60, 60, 64.5, 64.5, rational=(0.3, 0.05, 0.0, 0.0, 0.0, 0.1, 0.0, 0.0))
    found = []
    for k, size in enumerate((129, 258)):
        Image.fromarray(mask).resize((size, size)).save(tmp_path / f"{k}.png")
        found.append(read_mask(Photo(tmp_path / "x.png", np.eye(4), lens, mask=tmp_path / f"{k}.png"), 129, 129))
    assert (found[0] != found[1]).mean() < 0.02 < np.abs(found[0].astype(int) - (mask > 127)).mean()
