"""What has no name of its own: standard input, pipes, files of a wrong suffix; and parts of files as outputs."""

from __future__ import annotations

import io
import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from commands import lg, picture
from fuzz_seeds import seeds
from PIL import Image

import lg_field
from lg_field.cli.restore import read_sinogram
from lg_field.signals import read_signal
from lg_field.signals.inputs import as_file, checked_suffix
from lg_field.signals.reading import naming_file
from lg_field.signals.registry import kind_named, kind_to_read
from lg_field.signals.sniffing import LOOKED_AT, sniffed

QUICK = ("--steps", 2, "--local-width", 4, "--global-width", 4)
UNTOLD = (".obj", ".gltf")
SAME = {".jpeg": ".jpg", ".tiff": ".tif", ".heif": ".heic", ".apng": ".png", ".dicom": ".dcm", ".ima": ".dcm"}
"""Suffixes of one format."""


class Stdin:
    """Standard input that holds some bytes."""

    def __init__(self, data: bytes, terminal: bool = False) -> None:
        self.buffer, self.isatty = io.BytesIO(data), lambda: terminal


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A file of every suffix that is read."""
    return seeds(tmp_path_factory.mktemp("every"))


def test_the_first_bytes_tell_every_format_but_text(every: list[Path]) -> None:
    for path in every:
        suffix = next(s for s in (".nii.gz", path.suffix) if path.name.endswith(s))
        told = sniffed(path.read_bytes()[:LOOKED_AT])
        assert told == ("" if suffix in UNTOLD else SAME.get(suffix, suffix)), path.name
    assert sniffed(b"") == sniffed(b"\x1f\x8b") == sniffed(b"RIFF") == sniffed(b"hello, world") == ""


@pytest.mark.parametrize(
    "name", ["rgb.png", "PCM_24.wav", "film.mkv", "grid.npy", "scan.nii.gz", "box.glb", "moving.gif"]
)
def test_a_stream_gives_the_signal_that_its_file_gives(
    name: str, every: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = next(file for file in every if file.name == name)
    monkeypatch.setattr("sys.stdin", Stdin(path.read_bytes()))
    told, named = read_signal(Path("-")), read_signal(path)
    assert told.signal == named.signal and told.checksum() == named.checksum()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    data = io.BytesIO()
    Image.fromarray(picture(120, 150)).save(data, "PNG")
    assert len(data.getvalue()) > LOOKED_AT
    feed = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(data.getvalue()))
    feed.start()
    lg("encode", "pipe", "-o", "f", *QUICK, cwd=tmp_path)
    feed.join()
    assert lg_field.load(tmp_path / "f").description.shape == (120, 150)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f", "pipe"]


def test_commands_read_standard_input_or_say_why_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "a.npy", picture(9, 8, 1)[..., 0] / 255.0)
    cases = [
        (b"", (), "standard input is empty"),
        (b"what is this?", (), "standard input: its first bytes are of no format that is known"),
        (b"what is this?", ("--format", "png"), "standard input is not an image or is broken"),
        (b"\x89PNG\r\n\x1a\n broken", (), "standard input is not an image or is broken"),
        (b"x", ("--format", "docx"), "--format docx: cannot read .docx"),
    ]
    for data, more, words in cases:
        monkeypatch.setattr("sys.stdin", Stdin(data))
        text = lg("encode", "-", "-o", "x", *more, *QUICK, cwd=tmp_path, fails=True)
        assert words in text and text.count("\n") == 1 and "/tmp" not in text
    monkeypatch.setattr("sys.stdin", Stdin(b"", terminal=True))
    assert "is a terminal" in lg("encode", "-", "-o", "x", *QUICK, cwd=tmp_path, fails=True)
    monkeypatch.setattr("sys.stdin", Stdin((tmp_path / "a.npy").read_bytes()))
    lg("denoise", "-", "-o", "b.npy", *QUICK, "--activation", "sine", cwd=tmp_path)
    assert np.load(tmp_path / "b.npy").shape == (9, 8, 1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npy", "b.npy", "b.safetensors"]
    monkeypatch.setattr("sys.stdin", Stdin((tmp_path / "a.npy").read_bytes()))
    assert np.allclose(read_sinogram(Path("-")), np.load(tmp_path / "a.npy"))
    np.savez(tmp_path / "s.npz", sinogram=np.ones((4, 6)), other=np.zeros(2))
    assert read_sinogram(tmp_path / "s.npz:sinogram").shape == (4, 6)


def test_a_format_that_is_named_goes_before_the_suffix(tmp_path: Path) -> None:
    Image.fromarray(picture(6, 7)).save(tmp_path / "photo.data", "PNG")
    text = lg("encode", "photo.data", "-o", "x", *QUICK, cwd=tmp_path, fails=True)
    assert "cannot encode .data" in text and text.count("\n") == 1
    assert read_signal(tmp_path / "photo.data", format="png").signal.shape == (6, 7)
    with as_file(tmp_path / "photo.data", "PNG") as given:
        assert given.suffix == ".png" and given.read_bytes() == (tmp_path / "photo.data").read_bytes()
    assert not given.exists() and checked_suffix("") == "" and checked_suffix("NII.GZ") == ".nii.gz"


def test_no_input_is_replaced_by_whatever_name(tmp_path: Path) -> None:
    Image.fromarray(picture(6, 7)).save(tmp_path / "p.png")
    np.savez(tmp_path / "a.npz", one=np.arange(24).reshape(2, 3, 4), two=np.zeros(3))
    os.link(tmp_path / "p.png", tmp_path / "same.png")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    for source, output in (("a.npz:one", "a.npz"), ("p.png", "same.png"), ("a.npz:one", "./a.npz")):
        text = lg("encode", source, "-o", output, "--overwrite", *QUICK, cwd=tmp_path, fails=True)
        assert "is what is read; give another path" in text and text.count("\n") == 1
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_kind_reads_its_own_files_only(every: list[Path]) -> None:
    folder = every[0].parent
    for name, kind, words in (("rgb.png", "audio", "--kind audio reads .wav"), ("rgb.png", "none", "kind must be one")):
        with pytest.raises(ValueError, match=words):
            read_signal(folder / name, kind=kind)
    with pytest.raises(ValueError, match="--kind volume reads"):
        read_signal(folder, kind="volume")
    assert read_signal(folder / "grid.npy", kind="volume").signal.kind == "volume"
    assert read_signal(folder / "rgb.png", kind="image").signal == read_signal(folder / "rgb.png").signal


def test_errors_name_the_file_and_those_of_libraries_say_that_it_is_broken() -> None:
    path = Path("ct")
    for does, line in (
        (lambda: json.loads("{"), "ct is broken: Expecting"),
        (lambda: b"\xff".decode(), "ct is broken: 'utf-8' codec"),
        (lambda: kind_named("expected"), "ct: kind must be one of"),  # a name within a word is no name
        (lambda: np.empty(1 << 55, np.uint8), "ct is too large for the memory there is"),
        (lambda: kind_to_read(Path("ct")), "ct: cannot encode"),
    ):
        with pytest.raises(ValueError, match=f"^{line}"), naming_file(path):
            does()
