"""Files as they are in the world: links, pipes, devices, sizes out of all proportion, regions from anywhere."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import lg, picture
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from wild import field_file

from lg_field.cli.scene import check_pixels
from lg_field.errors import Notice, notice, notices_shown
from lg_field.signals.decode import check_size, decoded_bytes, size_words
from lg_field.signals.signal import Signal

SIGNAL = Signal("image", (12, 17), 3)
LINE = 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture and an untrained field of one."""
    folder = tmp_path_factory.mktemp("files")
    Image.fromarray(picture(12, 17)).save(folder / "p.png")
    field_file(SIGNAL, folder / "p.st")
    return folder


def refused(folder: Path, *arguments: object) -> str:
    """The line that a command ends in; nothing is written."""
    before = {p: p.lstat().st_mtime_ns for p in folder.iterdir()}
    text = lg(*arguments, cwd=folder, fails=True)
    assert text.count("\n") == LINE and text.startswith("lg-field: "), text
    assert {p: p.lstat().st_mtime_ns for p in folder.iterdir()} == before
    return text


def size_of(path: Path) -> tuple[int, int]:
    """Width and height of a picture."""
    with Image.open(path) as picture:
        return picture.size


# -- sizes


def test_a_small_file_may_claim_any_size_but_costs_nothing(folder: Path):
    field_file(Signal("image", (200_000, 200_000), 3), folder / "bomb.st")
    assert (folder / "bomb.st").stat().st_size < 20_000
    text = refused(folder, "decode", "bomb.st", "-o", "bomb.png")
    assert "200,000 x 200,000 samples of 3 uint8, 120 GB, more than --max-size 4" in text
    assert "120 GB" in lg("validate", "bomb.st", cwd=folder) and "warning" not in lg("validate", "p.st", cwd=folder)
    text = lg("decode", "bomb.st", "-o", "b.npy", "--box", 0, 0, 4, 3, cwd=folder)
    assert "decoding 3 x 4 samples of 3 uint8, 36 bytes" in text and np.load(folder / "b.npy").shape == (3, 4, 3)


def test_a_larger_limit_still_asks_what_there_is(folder: Path):
    field_file(Signal("image", (2**31 - 1, 2**31 - 1), 3), folder / "huge.st")
    for name in ("huge.png", "huge.npy"):
        assert "free" in refused(folder, "decode", "huge.st", "-o", name, "--max-size", 1e15)


@pytest.mark.parametrize("scale", ["inf", "nan", "-inf", 0, -1])
def test_scales_are_positive_and_finite(folder: Path, scale: object):
    assert "scale must be a positive finite number" in refused(
        folder, "decode", "p.st", "-o", "x.png", "--scale", scale
    )


@given(st.floats(1e-3, 1e9), st.integers(1, 1 << 20), st.integers(1, 1 << 20))
def test_the_size_is_said_before_anything_is_allocated(scale: float, height: int, width: int):
    signal = Signal("image", (height, width), 3, "uint16", (0.0, 65535.0))
    shape, size = decoded_bytes(signal, scale)
    assert size == shape[0] * shape[1] * 3 * 4  # held as int32
    fits = size <= 1e9
    try:
        assert check_size(signal, 1.0, scale).endswith(size_words(size))
        assert fits
    except ValueError as error:
        assert not fits and "--max-size" in str(error)


def test_sizes_in_words():
    assert [size_words(n) for n in (0, 999, 1e3, 1.5e6, 4e9, 1.2e14)] == [
        "0 bytes", "999 bytes", "1 kB", "1.5 MB", "4 GB", "120,000 GB"
    ]  # fmt: skip


# -- what is read and written


def test_standard_input_and_output_are_named(folder: Path):
    for command in (("info", "-"), ("validate", "-"), ("decode", "-", "-o", "x.png"), ("mesh", "-", "-o", "x.ply")):
        assert "standard input cannot be read: field files" in refused(folder, *command)
    assert "never to standard output" in refused(folder, "encode", "p.png", "-o", "-")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_pipes_and_folders_are_named(folder: Path):
    os.mkfifo(folder / "pipe.png")
    (folder / "box.png").mkdir()
    assert "/dev/null, a device, cannot be read" in refused(folder, "encode", "/dev/null", "-o", "x.st")
    assert "pipe.png, a pipe or device, cannot be read" in refused(folder, "info", "pipe.png")
    assert "box.png is a folder" in refused(folder, "encode", "box.png", "-o", "x.st")
    assert "box.png is a folder" in refused(folder, "decode", "p.st", "-o", "box.png", "--overwrite")
    assert "is a device, not a file" in refused(folder, "encode", "p.png", "-o", "pipe.png", "--overwrite")
    assert "/dev/null is a device" in refused(folder, "encode", "p.png", "-o", "/dev/null", "--overwrite")


def test_links_lead_to_what_is_written(folder: Path):
    (folder / "target.png").write_bytes(b"old")
    os.symlink("target.png", folder / "link.png")
    lg("decode", "p.st", "-o", "link.png", "--overwrite", cwd=folder)
    assert (folder / "link.png").is_symlink() and size_of(folder / "target.png") == (17, 12)
    os.symlink("p.png", folder / "same.png")
    for output in ("p.png", "same.png"):
        assert "is what is read" in refused(folder, "encode", "p.png", "-o", output, "--overwrite")
    assert size_of(folder / "p.png") == (17, 12)


def test_home_is_expanded(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(folder))
    lg("decode", "~/p.st", "-o", "~/home.png", cwd=folder)
    assert (folder / "home.png").exists() and not (folder / "~").exists()


# -- regions


@pytest.mark.parametrize(
    ("region", "match"),
    [
        ('{"type": "box", "lower": [0, 0, 0], "upper": [8, 8, 8]}', "has 2 numbers"),
        ('{"type": "box", "lower": [0], "upper": [8]}', "has 2 numbers"),
        ('{"type": "sphere", "center": [0, 0, 0], "radius": 3}', "has 2 numbers"),
        ('{"type": "box", "lower": [0, 0], "upper": [1%s, 8]}' % ("0" * 400), "too large"),
        ('{"type": "box", "lower": [-Infinity, 0], "upper": [8, 8]}', "beyond the edge"),
        ('{"type": "box", "lower": [NaN, 0], "upper": [8, 8]}', "must be finite"),
        ('{"type": "box", "lower": [0, 0], "upper": [1%s, 8], "units": "domain"}' % ("0" * 400), "too large"),
        ('{"type": "union", "parts": [{"type": "box", "lower": [0, 0, 0], "upper": [8, 8, 8]}]}', ""),
        ('{"cells": [1%s]}' % ("0" * 400), ""),
        ("1" + "0" * 5000, ""),
        ("[" * 5000, ""),
    ],
)  # fmt: skip
def test_regions_from_anywhere_are_one_line(folder: Path, region: str, match: str):
    (folder / "r.json").write_text(region)
    text = refused(folder, "crop", "p.st", "-o", "x.st", "--region", "r.json")
    assert match in text and "r.json" in text


def test_regions_beyond_the_edge_are_half_open_boxes(folder: Path):
    (folder / "half.json").write_text(json.dumps({"type": "box", "lower": [-1e9, 0], "upper": [8, 1e9]}))
    lg("crop", "p.st", "-o", "half.st", "--region", "half.json", "--overwrite", cwd=folder)
    lg("crop", "p.st", "-o", "box.st", "--box", 0, 0, 8, 12, "--overwrite", cwd=folder)
    for name in ("half", "box"):
        lg("decode", f"{name}.st", "-o", f"{name}.npy", "--overwrite", cwd=folder)
    np.testing.assert_array_equal(np.load(folder / "half.npy"), np.load(folder / "box.npy"))


# -- notices


def test_notices_are_lines_on_stderr(capsys: pytest.CaptureFixture[str]):
    with notices_shown("prog"):
        for _ in range(2):  # as often as they are said
            notice("two\nlines")
    shown = capsys.readouterr()
    assert shown.err == "prog: two lines\n" * 2 and not shown.out
    with pytest.warns(Notice, match="^alone$"):
        notice("alone")
    assert sys.modules["warnings"].showwarning is not None


def test_boxes_may_be_open_at_an_end(folder: Path):
    for name, box in (("open", ("0", "2", "inf", "inf")), ("shut", (0, 2, 17, 12)), ("left", ("-inf", 2, "inf", 12))):
        lg("crop", "p.st", "-o", f"{name}.st", "--box", *box, "--overwrite", cwd=folder)
        lg("decode", f"{name}.st", "-o", f"{name}.npy", "--box", *box, "--overwrite", cwd=folder)
    shut = np.load(folder / "shut.npy")
    assert shut.shape == (10, 17, 3)
    assert all(np.array_equal(np.load(folder / f"{name}.npy"), shut) for name in ("open", "left"))
    for box in (("0", "0", "nan", "9"), ("inf", "0", "inf", "9")):
        refused(folder, "crop", "p.st", "-o", "x.st", "--box", *box)


# -- how large


def test_meshes_and_pictures_out_of_all_proportion_are_said_and_stopped(folder: Path):
    field_file(Signal("occupancy", (8, 8, 8), 1, "bool", (0.0, 1.0)), folder / "s.st")
    text = refused(folder, "mesh", "s.st", "-o", "x.ply", "--resolution", 100_000)
    assert "at --resolution 100,000 may need 178,667" in text and " GB of memory, more than --max-size 16" in text
    text = lg("mesh", "s.st", "-o", "x.ply", "--resolution", 100_000, "--max-size", 1e9, cwd=folder, fails=True)
    assert "are free" in text and not (folder / "x.ply").exists()  # a larger limit still asks what there is
    assert "must be at least 1" in refused(folder, "mesh", "s.st", "-o", "x.ply", "--resolution", 0)
    text = refused(folder, "render", "s.st", "-o", "many", "--orbit", 100_000)
    assert "100,000 pictures of 512 x 512 have 78.6 GB of pixels, more than --max-size 32" in text
    assert "is no scene file" in refused(folder, "render", "s.st", "-o", "many", "--orbit", 100_000, "--max-size", 99)


@given(st.integers(1, 10_000), st.integers(1, 10_000), st.integers(1, 1000), st.floats(1e-3, 1e3))
def test_pictures_are_refused_exactly_beyond_the_limit(width: int, height: int, count: int, limit: float):
    fits = count * width * height * 3 <= limit * 1e9
    try:
        check_pixels([(width, height)] * count, 3, limit)
        assert fits
    except ValueError as error:
        assert not fits and "--max-size" in str(error)
