"""Photos as they are in the world: found, turned upright, made what every reader knows, with their masks."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lg_field.photos.exif import read_exif, turned
from lg_field.photos.gather import find_masks, find_photos, scene_names
from lg_field.photos.prepare import prepare_folder, prepare_photo, read_mask
from lg_field.photos.video import Stretches, prepare_video, sharpness


def nothing(*_: object) -> None:
    """Told, and not said."""


def photo(path: Path, size: tuple[int, int] = (32, 24), mode: str = "RGB", **save: object) -> np.ndarray:
    """Write a picture with a different grey at each side; returns its array."""
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = size
    grey = (np.arange(width)[None] * 160 // width + np.arange(height)[:, None] * 90 // height).astype(np.uint8)
    Image.fromarray(grey).convert(mode).save(path, **save)
    return grey


def test_photos_are_found_in_counting_order_without_masks_copies_and_hidden_files(tmp_path):
    for name in ("10.jpg", "9.JPG", "a/1.png", "masks/9.png", "images_2/9.jpg", ".cache/9.jpg", ".x.jpg", "n.txt"):
        photo(tmp_path / name, format="PNG")
    assert [p.relative_to(tmp_path).as_posix() for p in find_photos(tmp_path)] == ["9.JPG", "10.jpg", "a/1.png"]


@given(names=st.lists(st.text("aA 1.", min_size=1, max_size=4), max_size=8))
@settings(max_examples=60)
def test_names_in_the_scene_differ_on_every_file_system(names):
    folder = Path("/photos")
    found = scene_names(folder, [folder / f"{name}.jpg" for name in names])
    assert len({name.lower() for name in found}) == len(names)
    assert not any(blank in name for name in found for blank in " \t")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_ends_as_pillow_turns_it_and_the_mask_follows(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    source = tmp_path / "p" / "1.jpg"
    grey = photo(source, exif=exif, quality=95)
    Image.fromarray(np.where(grey > 100, 255, 0).astype(np.uint8)).save(tmp_path / "m.png", exif=exif)
    found = prepare_photo(source, "1", tmp_path / "w", tmp_path / "m.png", 0)
    picture = np.asarray(Image.open(tmp_path / "w" / "images" / found.name).convert("L"), float)
    wanted = np.asarray(turned(Image.fromarray(grey), orientation))
    assert picture.shape == wanted.shape == (found.height, found.width)
    assert np.abs(picture - wanted).max() < 12
    mask = np.asarray(Image.open(tmp_path / "w" / "masks" / found.mask_name))
    assert ((mask > 0) == (wanted > 100)).all()
    assert found.was_turned == (orientation != 1)


def test_a_mask_that_lies_as_the_photo_is_stored_is_turned_with_it(tmp_path):
    mask = np.zeros((24, 32), np.uint8)
    mask[:, :16] = 1  # 0 and 1 are as good as 0 and 255
    Image.fromarray(mask).save(tmp_path / "m.png")
    upright = read_mask(tmp_path / "m.png", (24, 32), orientation=6)
    assert upright.shape == (32, 24) and upright[:16].all() and not upright[16:].any()
    with pytest.raises(ValueError, match="not the same picture"):
        read_mask(tmp_path / "m.png", (32, 32))


@pytest.mark.parametrize(
    ("mode", "suffix"), [("L", ".tif"), ("CMYK", ".jpg"), ("P", ".png"), ("RGB", ".webp"), ("1", ".bmp")]
)
def test_common_kinds_become_pictures_that_every_reader_knows(tmp_path, mode, suffix):
    grey = photo(tmp_path / f"1{suffix}", mode=mode)
    found = prepare_photo(tmp_path / f"1{suffix}", "1", tmp_path / "w", None, 0)
    with Image.open(tmp_path / "w" / "images" / found.name) as image:
        assert image.format in ("JPEG", "PNG") and image.mode in ("L", "RGB")
        assert mode == "1" or np.abs(np.asarray(image.convert("L"), float) - grey).mean() < 12


def test_sixteen_bits_keep_their_brightness(tmp_path):
    deep = (np.linspace(0, 65535, 32 * 24).reshape(24, 32)).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "1.png")
    found = prepare_photo(tmp_path / "1.png", "1", tmp_path / "w", None, 0)
    picture = np.asarray(Image.open(tmp_path / "w" / "images" / found.name).convert("L"), float)
    assert np.abs(picture - deep / 257.0).max() < 3


def test_alpha_stays_in_the_picture_and_is_where_features_may_lie(tmp_path):
    pixels = np.full((24, 32, 4), 200, np.uint8)
    pixels[:, :8, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "1.png")
    found = prepare_photo(tmp_path / "1.png", "1", tmp_path / "w", None, 0)
    assert (tmp_path / "w" / "images" / found.name).read_bytes() == (tmp_path / "1.png").read_bytes()
    mask = np.asarray(Image.open(tmp_path / "w" / "masks" / found.mask_name))
    assert found.masked and not found.has_mask_file and ((mask > 0) == (pixels[..., 3] > 127)).all()


def test_a_transparent_colour_becomes_alpha_that_every_reader_sees(tmp_path):
    pixels = np.full((24, 32, 3), 200, np.uint8)
    pixels[:, :8] = (0, 0, 255)
    Image.fromarray(pixels).save(tmp_path / "1.png", transparency=(0, 0, 255))
    found = prepare_photo(tmp_path / "1.png", "1", tmp_path / "w", None, 0)
    written = np.asarray(Image.open(tmp_path / "w" / "images" / found.name))
    assert written.shape == (24, 32, 4) and ((written[..., 3] == 0) == (pixels[..., 0] == 0)).all()


def test_large_photos_are_made_smaller_and_their_focal_length_with_them(tmp_path):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 35
    photo(tmp_path / "1.jpg", (400, 300), exif=exif)
    whole, half = (prepare_photo(tmp_path / "1.jpg", "1", tmp_path / str(n), None, n) for n in (0, 200))
    assert (whole.width, half.width, half.height) == (400, 200, 150) and half.was_shrunk and not whole.was_shrunk
    assert whole.focal == pytest.approx(35 / 43.2666 * 500, rel=1e-4) and half.focal == pytest.approx(whole.focal / 2)


@given(value=st.one_of(st.floats(), st.integers(-(2**31), 2**31 - 1), st.text(max_size=5)))
@settings(max_examples=50)
def test_no_exif_makes_a_focal_length_that_cannot_be(value):
    image = Image.new("RGB", (40, 30))
    exif = image.getexif()
    exif.get_ifd(0x8769)[0xA405] = value
    exif[0x0112] = value
    facts = read_exif(image)
    assert 1 <= facts.orientation <= 8 and (facts.focal is None or 0.3 * 40 < facts.focal < 15 * 40)


def test_bad_files_are_named_a_line_each_and_the_rest_is_read(tmp_path):
    for index in range(3):
        photo(tmp_path / "p" / f"{index}.png")
    (tmp_path / "p" / "empty.jpg").write_bytes(b"")
    (tmp_path / "p" / "text.png").write_text("no picture")
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "p" / "deep.tif")
    said: list[str] = []
    found = prepare_folder(tmp_path / "p", tmp_path / "w", None, 0, said.append, nothing)
    assert [p.name for p in found] == ["0.png", "1.png", "2.png"]
    assert sorted(Path(line.split()[2]).name for line in said) == ["deep.tif", "empty.jpg", "text.png"]
    assert not any("\n" in line for line in said)


def test_heic_is_read_or_its_package_is_named(tmp_path, monkeypatch):
    heif = pytest.importorskip("pillow_heif", reason="needs pillow-heif: pip install lg-field[photos]")
    for index in range(3):
        grey = photo(tmp_path / "p" / f"{index}.png")
        heif.from_pillow(Image.fromarray(grey).convert("RGB")).save(tmp_path / "p" / f"{index}.heic", quality=95)
    found = prepare_folder(tmp_path / "p", tmp_path / "w", None, 0, nothing, nothing)
    assert len({p.name for p in found}) == 6 and sum(p.name.endswith(".jpg") for p in found) == 3
    said: list[str] = []
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert len(prepare_folder(tmp_path / "p", tmp_path / "v", None, 0, said.append, nothing)) == 3
    assert any("3 HEIC photos" in line and "pillow-heif" in line for line in said)


def test_masks_are_found_by_name_beside_the_photos_or_where_one_says(tmp_path):
    photos = [tmp_path / "images" / name for name in ("1.jpg", "2.jpg")]
    for path in (*photos, tmp_path / "masks" / "1.png", tmp_path / "other" / "2.jpg.png"):
        photo(path)
    assert find_masks(tmp_path / "images", photos, None) == {photos[0]: tmp_path / "masks" / "1.png"}
    assert find_masks(tmp_path / "images", photos, tmp_path / "other") == {photos[1]: tmp_path / "other" / "2.jpg.png"}
    photo(tmp_path / "wrong" / "x.png")
    with pytest.raises(ValueError, match="none of its files"):
        find_masks(tmp_path / "images", photos, tmp_path / "wrong")


# -- cameras, pairs, frame


def write_video(path: Path, count: int = 24, rotation: int = 0) -> None:
    """A video whose frame i has brightness 4 i, with a pattern that is blurred but in every fourth frame; the left
    half is darker."""
    av = pytest.importorskip("av", reason="needs PyAV: pip install lg-field[photos]")
    rng = np.random.default_rng(0)
    sharp = np.kron(rng.integers(0, 80, (24, 32)), np.ones((4, 4)))
    sharp[:, :64] /= 4
    blurred = np.full_like(sharp, 40.0)
    blurred[:, :64] /= 4
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", Fraction(24))
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        stream.options = {"crf": "10"}
        if rotation:
            stream.set_display_rotation(rotation)
        for index in range(count):
            grey = (sharp if index % 4 == 2 else blurred) + 4 * index
            frame = np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def test_of_each_stretch_of_a_video_the_sharpest_frame_is_taken(tmp_path):
    write_video(tmp_path / "v.mp4")
    found = prepare_video(tmp_path / "v.mp4", tmp_path / "w", 6, 0, nothing)
    assert [p.name for p in found] == [f"{i:05d}.jpg" for i in range(1, 7)]
    for index, one in enumerate(found):
        grey = np.asarray(Image.open(tmp_path / "w" / "images" / one.name).convert("L"), float)
        assert sharpness(grey.astype(np.uint8)) > 100
        assert abs(grey[:, 64:].mean() - (40 + 4 * (4 * index + 2))) < 6


def test_stretches_of_a_video_are_of_equal_time_not_of_equal_frames(tmp_path):
    av = pytest.importorskip("av", reason="needs PyAV: pip install lg-field[photos]")
    stretches, found = Stretches(100, 199, 4), []
    for time in (100, 101, 102, 103, 104, 105, 130, 160, 190, 199):
        frame = av.VideoFrame.from_ndarray(np.zeros((24, 32, 3), np.uint8), format="rgb24")
        frame.pts = time
        if (best := stretches.add(frame)) is not None:
            found.append(best.pts)
    assert [*found, stretches.best.pts] == [100, 130, 160, 190]


@pytest.mark.parametrize("rotation", [90, -90, 180])
def test_the_rotation_of_a_video_is_honoured(tmp_path, rotation):
    write_video(tmp_path / "v.mp4", rotation=rotation)
    found = prepare_video(tmp_path / "v.mp4", tmp_path / "w", 3, 64, nothing)
    grey = np.asarray(Image.open(tmp_path / "w" / "images" / found[0].name).convert("L"), float)
    assert grey.shape == ((48, 64) if rotation == 180 else (64, 48)) and found[0].was_turned
    dark = {90: grey[32:], -90: grey[:32], 180: grey[:, 32:]}[rotation]  # counter-clockwise: left goes down
    assert dark.mean() + 10 < grey.mean()


# -- what names the command
