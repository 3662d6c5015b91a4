"""Captures as strangers have them: phones' files, masks that no file names, letters of another case, odd numbers."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_captures import HEIGHT, LENS, WIDTH, pixels, transforms
from test_placing import capture as ball
from test_placing import manager

from lg_field.captures import CaptureError, Lens, Photo, read_capture
from lg_field.captures.photo_file import read_mask, read_photo
from lg_field.training.masks import masked_ones, only_masked


def edited(folder: Path, edit) -> Path:
    """The folder with its transforms.json changed by a function."""
    path = folder / "transforms.json"
    data = json.loads(path.read_text())
    edit(data)
    path.write_text(json.dumps(data))
    return folder


def test_heic_photos_of_a_capture_are_read_or_their_package_is_named(tmp_path, monkeypatch):
    heif = pytest.importorskip("pillow_heif", reason="needs pillow-heif: pip install lg-field[photos]")
    transforms(tmp_path, 4)
    for k in range(4):
        heif.from_pillow(Image.fromarray(pixels(k))).save(tmp_path / f"images/{k}.heic", quality=95)

    def rename(data):
        for frame in data["frames"]:
            frame["file_path"] = frame["file_path"].replace(".png", ".heic")

    capture = read_capture(edited(tmp_path, rename))
    for k, photo in enumerate(capture.photos):
        assert photo.image.suffix == ".heic" and photo.lens.width == WIDTH
        assert np.abs(read_photo(photo, False).astype(int) - pixels(k)).mean() < 8
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(CaptureError, match=r"0.heic is HEIC: pip install pillow-heif \(lg-field\[photos\] has it\)$"):
        read_capture(tmp_path)


@pytest.mark.parametrize("channels", [3, 4])
def test_deep_colours_are_shown_as_they_are(tmp_path, channels):
    cv2 = pytest.importorskip("cv2")
    shown = np.dstack([pixels(2), np.full((HEIGHT, WIDTH), 200, np.uint8)])[..., :channels]
    order = [2, 1, 0, 3][:channels]
    assert cv2.imwrite(str(tmp_path / "a.png"), shown[..., order].astype(np.uint16) * 257)
    photo = Photo(tmp_path / "a.png", np.eye(4), Lens(WIDTH, HEIGHT, 20, 20, 12, 8))
    assert np.abs(read_photo(photo, channels == 4).astype(int) - shown).max() <= 1


@pytest.mark.parametrize("color", [(200, 120, 30), (40, 30, 20), (255, 255, 255), (3, 3, 3)])
@pytest.mark.parametrize("straight", [True, False])
def test_alpha_that_is_multiplied_into_colours_is_said(tmp_path, color, straight):
    """Of bright, dark, white and black things with soft edges."""
    transforms(tmp_path, 3, w=64, h=64, cx=32.0, cy=32.0)
    rows, columns = np.mgrid[:64, :64]
    share = np.clip((20.0 - np.hypot(rows - 31.5, columns - 31.5)) / 4.0, 0.0, 1.0)[..., None]
    shown = np.broadcast_to(color, (64, 64, 3)) * (1.0 if straight else share)
    for k in range(3):
        Image.fromarray(np.dstack([shown, 255 * share]).round().astype(np.uint8)).save(tmp_path / f"images/{k}.png")
    said = any("multiplied with their alpha" in note for note in read_capture(tmp_path).notes)
    assert said == (not straight)


@pytest.mark.parametrize("name", ["{stem}.png", "{stem}.jpg.png"])
def test_masks_beside_the_photos_are_taken_unless_others_are_named(tmp_path, name):
    transforms(tmp_path, 12, ending=".jpg")
    (tmp_path / "masks").mkdir()
    half = np.zeros((HEIGHT, WIDTH), np.uint8)
    half[:, : WIDTH // 2] = 255
    for k in range(8):
        Image.fromarray(half).save(tmp_path / "masks" / name.format(stem=k))
    capture = read_capture(tmp_path)
    assert sum(photo.mask is not None for photo in capture.photos) == 8
    assert all(photo.mask.name.startswith(photo.image.stem) for photo in capture.photos if photo.mask)
    assert read_mask(capture.photos[0], WIDTH, HEIGHT).mean() == 0.5
    assert any("masks are taken from" in note and "8 of 12" in note for note in capture.notes)
    shutil.copy(tmp_path / "masks" / name.format(stem=1), tmp_path / "one.png")
    named = read_capture(edited(tmp_path, lambda data: data["frames"][11].update(mask_path="one.png")))
    assert [photo.mask for photo in named.photos if photo.mask is not None] == [tmp_path / "one.png"]


def test_names_in_other_letters_are_found(tmp_path):
    transforms(tmp_path, 4)
    (tmp_path / "images/0.png").rename(tmp_path / "images/0.PNG")
    edited(tmp_path, lambda data: data["frames"][1].update(file_path="/home/a/images/1.Png"))
    capture = read_capture(tmp_path)
    assert sorted(photo.image.name for photo in capture.photos) == ["0.PNG", "1.png", "2.png", "3.png"]
    assert not any("missing" in note for note in capture.notes)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"aabb_scale": -4}, "aabb_scale must be above 0"),
        ({"aabb_scale": 4, "scale": 0}, "scale must be above 0"),
        ({"aabb_scale": "wide"}, "aabb_scale must be a number"),
        ({"applied_scale": -1}, "applied_scale must be above 0"),
        ({"applied_transform": [[1, 0], [0, 1]]}, "applied_transform must be 4 x 4"),
        ({"applied_transform": [[0, 0, 0, 0]] * 3}, "applied_transform must be at right angles"),
        ({"applied_transform": "up"}, "applied_transform must be a 4 x 4 matrix of numbers"),
    ],
)
def test_numbers_of_the_whole_scene_make_sense_or_are_named(tmp_path, change, word):
    transforms(tmp_path, 3, **change)
    with pytest.raises(CaptureError, match=word) as caught:
        read_capture(tmp_path)
    assert "\n" not in str(caught.value) and str(tmp_path / "transforms.json") in str(caught.value)


def test_sizes_and_ways_up_may_be_mixed(tmp_path):
    """Portrait and landscape of one phone, some turned by EXIF, each with a camera of its own."""
    transforms(tmp_path, 6)
    exif = Image.Exif()
    exif[0x0112] = 6
    tall = {"w": HEIGHT, "h": WIDTH, "cx": HEIGHT / 2, "cy": WIDTH / 2}
    Image.fromarray(pixels(1)).save(tmp_path / "images/1.png", exif=exif)  # stored lying
    Image.fromarray(np.rot90(pixels(2)).copy()).save(tmp_path / "images/2.png")  # stored standing

    def own(data):
        for k in (1, 2):
            data["frames"][k].update(tall)

    capture = read_capture(edited(tmp_path, own))
    shapes = [read_photo(photo, False).shape[:2] for photo in capture.photos]
    assert shapes == [(HEIGHT, WIDTH), (WIDTH, HEIGHT), (WIDTH, HEIGHT), *[(HEIGHT, WIDTH)] * 3]
    assert [photo.upright for photo in capture.photos] == [False, True, False, False, False, False]
    for photo, shape in zip(capture.photos, shapes, strict=True):
        assert (photo.lens.height, photo.lens.width) == shape and photo.lens.fx == LENS["fl_x"]


def test_a_photo_without_a_mask_is_left_out_where_masks_cut_out_an_object(tmp_path, capsys):
    folder = ball(tmp_path, masks="grey")

    def forget(data):
        for frame in data["frames"][3:5]:
            del frame["mask_path"]

    shutil.move(tmp_path / "masks", tmp_path / "m")
    edited(folder, lambda data: [f.update(mask_path=f["mask_path"].replace("masks", "m")) for f in data["frames"]])
    capture = read_capture(edited(folder, forget))
    some, notes = only_masked(capture)
    gone = {k for k, photo in enumerate(capture.photos) if photo.mask is None}
    assert gone == {3, 4} and not gone & {k for part in some.splits.values() for k in part}
    assert len(notes) == 1 and "2 of 24 photos have no mask and are left out" in notes[0]
    assert only_masked(some) == (some, []) and masked_ones([None, None]) == [0, 1]
    here = manager(folder)
    count = len(some.part("train"))
    assert here.masks == "empty" and len(here.train_dataset) == len(here.train_dataset.cameras) == count
    names = [photo.image.name for photo in some.part("train")]
    assert [path.name for path in here.train_dataset.image_filenames] == names
    assert [photo.image.name for photo in here.train_dataset.metadata["photos"]] == names
    assert all(int((here.train_dataset[k]["image"][..., 3] > 0).sum()) < 1000 for k in range(len(names)))
    assert "have no mask and are left out" in " ".join(capsys.readouterr().out.split())
    assert len(manager(folder, masks="ignore").train_dataset) == len(capture.part("train"))
