"""What every command does: errors in one line, inputs that stay, paths with ~, terminals of every kind, interrupts."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import lg, picture
from PIL import Image

import lg_field
import lg_field.cli.encode
from lg_field.cli import commands
from lg_field.networks import local_global_siren
from lg_field.signals.signal import Signal
from lg_field.space.partition import PartitionGrid
from lg_field.space.regions import Region

SMALL = ("--counts", 2, 2, "--parameters", 2000, "--steps", 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A picture, and a field of a picture of its size."""
    Image.fromarray(picture(24, 32)).save(tmp_path / "photo.png")
    field = local_global_siren(PartitionGrid((2, 3), (-1.0, -1.0), (1.0, 1.0)), 3, 4, 4, 1)
    field.description = Signal("image", (24, 32), 3)
    lg_field.save(field, tmp_path / "field")
    half = lg_field.crop(field, Region.box((-1.0, -1.0), (1.0, -0.1)))
    lg_field.save(half, tmp_path / "left")
    lg_field.save(lg_field.crop(field, cells=[1, 2, 4, 5]), tmp_path / "right")
    return tmp_path


# -- errors


@pytest.mark.parametrize(
    "error", [ValueError, OSError, ImportError, RuntimeError, OverflowError, MemoryError, RecursionError]
)
def test_failures_while_encoding_end_in_one_line(error: type[Exception], folder: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object, **__: object) -> None:
        raise error("over\nthere")

    monkeypatch.setattr("lg_field.signals.encode.build_fit", fail)
    text = lg("encode", "photo.png", "-o", "x", *SMALL, cwd=folder, fails=True)
    assert text.startswith("lg-field: ") and text.count("\n") == 1 and "over there" in text
    if issubclass(error, (RuntimeError, OverflowError, MemoryError)):
        assert "encoding photo.png" in text
    monkeypatch.setenv("LG_FIELD_TRACEBACK", "1")
    text = lg("encode", "photo.png", "-o", "x", *SMALL, cwd=folder, fails=True)
    assert "Traceback" in text and text.count("lg-field: ") == 1


def test_bugs_keep_their_traceback(folder: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object, **__: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr("lg_field.signals.encode.build_fit", fail)
    with pytest.raises(KeyError):
        lg("encode", "photo.png", "-o", "x", *SMALL, cwd=folder)


def test_an_interrupt_before_the_training_exits_with_130(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lg_field.signals.encode.build_fit", interrupt)
    monkeypatch.setattr("sys.argv", ["lg-field", "encode", str(folder / "photo.png"), "-o", str(folder / "x")])
    with pytest.raises(SystemExit) as stop:
        lg_field.cli.main()
    assert stop.value.code == 130 and "interrupted" in capsys.readouterr().err


# -- inputs stay


IN_PLACE = [
    ("encode", "photo.png", "-o", "photo.png", *SMALL),
    ("encode", "photo.png", "-o", "./photo.png", "--resume", *SMALL),
    ("decode", "field", "-o", "field"),
    ("crop", "field", "--cells", 0, "-o", "field"),
    ("prune", "field", "-o", "field"),
    ("merge", "left", "right", "-o", "left"),
    ("merge", "left", "right", "-o", "right"),
    ("extend", "left", "--with", "photo.png", "-o", "photo.png"),
    ("extend", "left", "--with", "photo.png", "-o", "left"),
    ("denoise", "photo.png", "-o", "photo.png"),
    ("denoise", "photo.png", "-o", "b.png", "--field", "photo.png"),
    ("denoise", "photo.png", "-o", "b.png", "--field", "b.png"),
    ("denoise", "photo.png", "-o", "b.png", "--simulate", "--save-input", "photo.png"),
    ("super-resolve", "left.png", "-o", "photo.png", "--reference", "photo.png"),
    ("reconstruct-ct", "photo.png", "-o", "photo.png", "--simulate"),
]


@pytest.mark.parametrize("arguments", IN_PLACE, ids=lambda a: " ".join(map(str, a[:5])))
def test_no_command_replaces_what_it_reads(arguments: tuple[object, ...], folder: Path):
    before = {p: p.read_bytes() for p in folder.iterdir()}
    text = lg(*arguments, "--overwrite", cwd=folder, fails=True)
    assert "another path" in text and text.count("\n") == 1
    assert {p: p.read_bytes() for p in folder.iterdir()} == before


def test_existing_outputs_stay_unless_said_otherwise(folder: Path):
    (folder / "out.npy").write_bytes(b"mine")
    assert "--overwrite" in lg("decode", "field", "-o", "out.npy", cwd=folder, fails=True)
    assert (folder / "out.npy").read_bytes() == b"mine"
    lg("decode", "field", "-o", "out.npy", "--overwrite", cwd=folder)
    assert np.load(folder / "out.npy").shape == (24, 32, 3)


# -- words on the command line


def test_home_is_expanded_where_the_shell_did_not(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(folder))
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    lg("decode", "~/field", "--output", "~/a.npy", cwd=elsewhere)
    lg("crop", "~/field", "-o=~/b", "--cells", "0-1,5", cwd=elsewhere)
    assert (folder / "a.npy").exists() and lg_field.load(folder / "b").cells.tolist() == [0, 1, 5]
    assert not list(elsewhere.iterdir())


@pytest.mark.parametrize("cells", [("0", "1", "5"), ("0,1,5",), ("0-1,5",), ("5", "0-1"), ("0-1", "5")])
def test_cells_are_given_in_words_of_every_form(cells: tuple[str, ...], folder: Path):
    lg("crop", "field", "--cells", *cells, "-o", "part", cwd=folder)
    assert lg_field.load(folder / "part").cells.tolist() == [0, 1, 5]
    assert "no cell 0-99999999999" in lg(
        "crop", "field", "--cells", "0-99999999999", "-o", "no", cwd=folder, fails=True
    )


def test_file_names_are_printed_as_they_are(folder: Path):
    (folder / "field").rename(folder / "[red]a :smile:")
    (folder / "[").mkdir()
    text = lg("crop", "[red]a :smile:", "--cells", 0, "-o", "[/x].out", cwd=folder)
    assert "[/x].out: " in text
    assert "[red]a :smile:" in lg("info", "[red]a :smile:", cwd=folder)
    assert "[/x].out" in lg("validate", "[/x].out", cwd=folder)


@pytest.mark.parametrize("name", list(commands()))
def test_every_command_has_help_that_points_nowhere_else(name: str, tmp_path: Path):
    text = lg(name, "--help", cwd=tmp_path)
    assert "--help" in text and "shared/" not in text and "design" not in text


# -- terminals


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_terminals_without_unicode_are_shown_what_they_have(encoding: str, folder: Path, monkeypatch):
    (folder / "field").rename(folder / "f\u00e9\u4e2d")
    printed = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", printed)
    monkeypatch.setattr(sys, "argv", ["lg-field", "info", str(folder / "f\u00e9\u4e2d")])
    monkeypatch.setenv("COLUMNS", "200")
    lg_field.cli.main()
    printed.flush()
    text = printed.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]
    assert ("\u2588" in text) == (encoding == "utf-8") and "kept cells" in text
    assert ("\u4e2d" if encoding == "utf-8" else "\\u4e2d") in text


def test_previews_are_of_signals_that_are_pictures(folder: Path):
    lg("encode", "photo.png", "-o", "x", *SMALL[:-1], 4, "--preview", "seen", "--preview-every", 2, cwd=folder)
    assert sorted(p.name for p in (folder / "seen").iterdir()) == ["step-000002.png", "step-000004.png"]
    assert Image.open(folder / "seen/step-000004.png").size == (32, 24)
    lg("decode", "x", "-o", "x.png", cwd=folder)
    assert (folder / "x.png").read_bytes() == (folder / "seen/step-000004.png").read_bytes()
    text = lg("encode", "photo.png", "-o", "y", *SMALL, "--preview", "z", "--preview-every", 0, cwd=folder, fails=True)
    assert "--preview-every must be at least 1" in text


# -- places


def test_the_old_signal_begins_where_at_says(tmp_path: Path):
    """In the units of --box: seconds of sounds, x before y of images."""
    import soundfile

    wave = (0.4 * np.sin(np.arange(800) / 9)).astype(np.float32)
    soundfile.write(tmp_path / "all.wav", wave, 100, subtype="PCM_16")
    soundfile.write(tmp_path / "end.wav", wave[400:], 100, subtype="PCM_16")
    image = picture(32, 48)
    Image.fromarray(image).save(tmp_path / "all.png")
    Image.fromarray(image[16:, 32:]).save(tmp_path / "end.png")
    small = ("--parameters", 1500, "--steps", 1)
    for suffix, at, counts in (("wav", (4,), (4,)), ("png", (32, 16), (1, 1))):
        lg("encode", f"end.{suffix}", "-o", "end", "--counts", *counts, *small, "--overwrite", cwd=tmp_path)
        common = ("extend", "end", "--with", f"all.{suffix}", "-o", "all", "--steps", 1, "--overwrite")
        lg(*common, "--at", *at, cwd=tmp_path)
        decoded = [torch.cat(list(lg_field.signals.decode(lg_field.load(tmp_path / n)))) for n in ("end", "all")]
        last = decoded[1][400:] if suffix == "wav" else decoded[1][16:, 32:]
        assert torch.equal(last, decoded[0])
        assert "numbers, got" in lg(*common, "--at", *at, 0, cwd=tmp_path, fails=True)
        assert "between samples" in lg(
            *common, "--at", *(a + 0.0051 if suffix == "wav" else a + 0.5 for a in at), cwd=tmp_path, fails=True
        )
        assert "does not lie within" in lg(*common, "--at", *(a * 2 for a in at), cwd=tmp_path, fails=True)
