"""Arrays as they are in the world: their type, byte order and names are honoured, or a line says what is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from commands import lg, picture
from hypothesis import given
from hypothesis import strategies as st

import lg_field
from lg_field.restoration.pictures import from_values, read_picture, values_of
from lg_field.signals import read_signal
from lg_field.signals.arrays import load_array
from lg_field.signals.encode import build_fit, fitting
from lg_field.signals.kinds import kind_of_file
from lg_field.signals.parts import split_part
from lg_field.signals.settings import CompleteFit, FitConfig, NetworkConfig, resolve_fit
from lg_field.signals.signal import LIMITS, Signal

QUICK = ("--steps", 2, "--local-width", 4, "--global-width", 4)
PLAIN = (*QUICK, "--activation", "sine")
RAMP = np.arange(7 * 6 * 5).reshape(7, 6, 5)


@pytest.mark.parametrize("dtype", sorted(set(LIMITS) - {"bool"}))
@pytest.mark.parametrize("layout", ["plain", "fortran", "big-endian", "strided"])
def test_a_volume_comes_back_with_its_type_whatever_its_layout(dtype: str, layout: str, tmp_path: Path) -> None:
    array = (RAMP % 120).astype(dtype)
    stored = {
        "fortran": np.asfortranarray(array),
        "big-endian": array.astype(array.dtype.newbyteorder(">")),
        "strided": np.repeat(array, 2, 1)[:, ::2],
    }.get(layout, array)
    np.save(tmp_path / "a.npy", stored)
    data = read_signal(tmp_path / "a.npy")
    assert data.signal.dtype == dtype and np.array_equal(data.samples[..., 0].numpy().astype(dtype), array)
    lg("encode", "a.npy", "-o", "f", *QUICK, cwd=tmp_path)
    lg("decode", "f", "-o", "b.npy", cwd=tmp_path)
    back = np.load(tmp_path / "b.npy")
    assert back.dtype == dtype and back.shape == (*array.shape, 1)
    again = read_signal(tmp_path / "b.npy").signal  # what is decoded can be encoded
    assert (again.shape, again.dtype) == (data.signal.shape, dtype)


@pytest.mark.parametrize("dtype", ["float16", "float64", "uint32", "int64", "uint64"])
def test_types_without_a_place_are_kept_as_float32_and_said(
    dtype: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    array = RAMP.astype(dtype) + np.array(2**24 + 1 if dtype[-2:] == "64" else 0, dtype)
    np.save(tmp_path / "a.npy", array)
    assert read_signal(tmp_path / "a.npy").signal.dtype == "float32"
    said = capsys.readouterr().err
    assert f"a.npy holds {dtype}: kept as float32" in said and said.count("\n") == 1
    assert ("numbers are rounded" in said) == (dtype[-2:] == "64")


REFUSED = {
    "complex": (np.ones((4, 4, 4), np.complex64), "complex64: take its .real, .imag or np.abs"),
    "objects": (np.array([{}, 1], dtype=object), "holds objects"),
    "structured": (np.zeros((4, 4, 4), dtype=[("x", "f4")]), "save one of its fields"),
    "dates": (np.zeros((4, 4, 4), dtype="M8[s]"), "datetime64"),
    "words": (np.full((4, 4, 4), "a"), "<U1"),
    "nothing": (np.zeros((0, 4, 4)), "has shape (0, 4, 4)"),
    "one": (np.array(3.0), "has shape ()"),
    "flat": (np.zeros((4, 5)), "has shape (4, 5); a volume (x, y, z) is needed (a picture:"),
    "nan": (np.full((2, 2, 2), np.nan, np.float32), "8 samples are NaN or infinite"),
    "huge": (np.full((2, 2, 2), 1e300), "8 samples are NaN or infinite"),
    "constant": (np.ones((2, 2, 2), np.float32), "constant"),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_what_is_no_volume_is_refused_in_a_line_that_names_it(name: str, tmp_path: Path) -> None:
    array, words = REFUSED[name]
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    text = lg("encode", "a.npy", "-o", "x", *QUICK, cwd=tmp_path, fails=True)
    assert "a.npy" in text and words in text and text.count("\n") == 1, text


@pytest.mark.parametrize("command", ["denoise", "super-resolve", "reconstruct-ct"])
def test_complex_pictures_and_sinograms_are_refused(command: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((12, 12), np.complex128))
    text = lg(command, "a.npy", "-o", "x.png", *PLAIN, cwd=tmp_path, fails=True)
    assert "a.npy" in text and "complex128" in text and text.count("\n") == 1


# -- archives


def test_an_array_of_an_archive_is_chosen_by_name(tmp_path: Path) -> None:
    solid = np.linalg.norm(np.indices((9, 9, 9)) - 4, axis=0) < 3
    np.savez_compressed(
        tmp_path / "a.npz", **{"labels": solid, "image": RAMP, "in/side": RAMP + 1, "grey": RAMP[0] * 1.0}
    )
    np.savez(tmp_path / "one.npz", RAMP)
    text = lg("encode", "a.npz", "-o", "x", *QUICK, cwd=tmp_path, fails=True)
    assert "a.npz holds 4 arrays, labels, image, in/side, grey: name one, a.npz:labels" in text
    text = lg("encode", "a.npz:nothing", "-o", "x", *QUICK, cwd=tmp_path, fails=True)
    assert "holds no array 'nothing', but labels, image" in text and text.count("\n") == 1
    assert kind_of_file(tmp_path / "a.npz:labels").name == "occupancy"
    assert read_signal(tmp_path / "a.npz:labels").signal.kind == "occupancy"
    assert np.array_equal(read_signal(tmp_path / "a.npz:image").samples[..., 0], RAMP)
    assert np.array_equal(load_array(tmp_path / "a.npz:in/side"), RAMP + 1)
    assert np.array_equal(load_array(tmp_path / "one.npz"), RAMP)
    lg("encode", "a.npz:image", "-o", "f", *QUICK, cwd=tmp_path)
    lg("denoise", "a.npz:grey", "-o", "x.png", *PLAIN, cwd=tmp_path)
    text = lg("encode", "none.npz:image", "-o", "x", *QUICK, cwd=tmp_path, fails=True)
    assert "does not exist" in text and text.count("\n") == 1


def test_a_broken_archive_is_one_line(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "whole.npz", RAMP)
    data = (tmp_path / "whole.npz").read_bytes()
    for cut in (0, 10, len(data) // 2, len(data) - 30):
        (tmp_path / "a.npz").write_bytes(data[:cut])
        text = lg("encode", "a.npz", "-o", "x", *QUICK, cwd=tmp_path, fails=True)
        assert "a.npz is not an array of numbers" in text and text.count("\n") == 1
    np.savez(tmp_path / "a.npz")
    assert "holds no array" in lg("encode", "a.npz", "-o", "x", *QUICK, cwd=tmp_path, fails=True)


@given(
    name=st.sampled_from(["a.npz", "b.tif", "c:d.npz", "e.TIFF", "f.png"]),
    part=st.sampled_from(["", "1", "x:y", "p/q"]),
)
def test_a_part_follows_its_file(name: str, part: str) -> None:
    whole = Path("folder") / (f"{name}:{part}" if part else name)
    file, found = split_part(whole)
    assert (file, found) == (Path("folder") / name, part)
    assert split_part(Path("scan.npy:x")) == (Path("scan.npy:x"), "")


def test_a_file_of_that_very_name_is_meant_first(tmp_path: Path) -> None:
    (tmp_path / "a.npz:b.npy").write_bytes(b"")
    assert split_part(tmp_path / "a.npz:b.npy") == (tmp_path / "a.npz:b.npy", "")


# -- pictures in arrays


GREY = picture(24, 32, 1)[..., 0]


@pytest.mark.parametrize(
    ("array", "dtype", "white", "said"),
    [
        (GREY, "uint8", 255.0, False),
        (GREY.astype(np.uint16) * 257, "uint16", 65535.0, False),
        (GREY.astype(np.float32), "float32", 255.0, True),
        (GREY.astype(np.float32) * 257, "float32", 65535.0, True),
        (GREY.astype(np.int16), "int16", 255.0, True),
        (GREY.astype(np.int32) * 200, "int32", 65535.0, True),
        (GREY / np.float32(255), "float32", 1.0, False),
        (GREY / np.float32(255) * 5 - 2, "float32", 1.0, True),
        (GREY > 128, "uint8", 1.0, True),
    ],
)
@pytest.mark.parametrize("command", ["denoise", "super-resolve"])
def test_pictures_in_arrays_do_not_come_out_white(
    array: np.ndarray, dtype: str, white: float, said: bool, command: str, tmp_path: Path
) -> None:
    np.save(tmp_path / "a.npy", array)
    text = lg(command, "a.npy", "-o", "b.npy", *PLAIN, "--steps", 60, "--lr", 0.003, cwd=tmp_path)
    assert ("a.npy holds" in text) == said
    data, back = read_picture(tmp_path / "a.npy"), np.load(tmp_path / "b.npy")
    assert data.signal.dtype == dtype == back.dtype and data.signal.value_range == (0.0, white)
    assert abs(float(back.mean()) - float(array.mean())) < 0.3 * white
    values = values_of(data)[..., 0].numpy()
    np.testing.assert_allclose(values, array.astype(np.float64) / white, atol=2e-6)


def test_hot_pixels_and_noise_do_not_make_a_picture_dark(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hot = (picture(80, 90, 1)[..., 0] / 255.0).astype(np.float32)
    hot[3, 4] = 200.0
    np.save(tmp_path / "a.npy", hot)
    assert read_picture(tmp_path / "a.npy").signal.value_range == (0.0, 1.0)
    assert "noise beyond" in capsys.readouterr().err


def test_simulated_measurements_keep_type_and_range() -> None:
    for dtype, high in (("uint8", 255.0), ("uint16", 65535.0), ("float32", 3.0)):
        like, values = Signal("image", (2, 2), 3, dtype, (0.0, high)), torch.rand(5, 7, 3)
        data = from_values(values, like)
        assert (data.signal.dtype, data.signal.value_range, data.signal.shape) == (dtype, (0.0, high), (5, 7))
        torch.testing.assert_close(values_of(data), values)


# -- overlaps


@given(n=st.integers(1, 9), overlap=st.integers(0, 6))
def test_a_default_overlap_shrinks_and_a_given_one_does_not(n: int, overlap: int) -> None:
    signal = Signal("volume", (n, 20, 20), 1, "float32", (0.0, 1.0))
    shrunk = fitting(CompleteFit(overlap=overlap), signal, FitConfig())
    assert shrunk.overlap == min(overlap, (n - 1) // 2)
    assert fitting(CompleteFit(overlap=overlap), signal, FitConfig(overlap=overlap)).overlap == overlap
    assert fitting(resolve_fit("volume"), signal, FitConfig()).overlap == min(1, (n - 1) // 2)


def test_one_slice_is_a_volume(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.random.default_rng(0).random((1, 20, 20)).astype(np.float32))
    text = lg("encode", "a.npy", "-o", "f", *QUICK, cwd=tmp_path)
    assert "the signal (1, 20, 20) is narrow: the overlap is 0 samples instead of 1" in text
    assert lg_field.load(tmp_path / "f").description.shape == (1, 20, 20)
    text = lg("encode", "a.npy", "-o", "x", *QUICK, "--overlap", 1, cwd=tmp_path, fails=True)
    assert "an overlap of 1 samples is wider than the signal" in text and text.count("\n") == 1
    data = read_signal(tmp_path / "a.npy")
    small = NetworkConfig(local_width=4, global_width=4)
    assert build_fit(data, small, FitConfig(steps=1)).config.overlap == 0
    with pytest.raises(ValueError, match="wider"):
        build_fit(data, small, FitConfig(steps=1, overlap=1))
