"""Image files as they are in the world: what a file says is honoured, or said in a line, or refused in one."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from commands import lg, picture
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps

from lg_field.orientation import orientation_of, upright
from lg_field.signals import SignalData, read_signal
from lg_field.signals.kinds import KINDS
from lg_field.signals.signal import Signal
from lg_field.signals.writing import write_samples

RGB = picture(11, 17)
QUICK = ("--steps", 2, "--local-width", 4, "--global-width", 4)


def pixels(path: Path) -> np.ndarray:
    data = read_signal(path)
    assert isinstance(data, SignalData)
    return data.samples.numpy()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(path: Path, array: np.ndarray, *extra: bytes) -> None:
    """A PNG of 8 or 16 bits, grey or RGB, with more chunks before its pixels."""
    colour, bits = {2: 0, 3: 2}[array.ndim], 8 * array.dtype.itemsize
    lines = b"".join(b"\0" + row.astype(array.dtype.newbyteorder(">")).tobytes() for row in array)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", array.shape[1], array.shape[0], bits, colour, 0, 0, 0))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + head + b"".join(extra) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    )


# -- orientation


@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_come_in_the_way_up_they_are_seen(suffix: str, orientation: int, tmp_path: Path) -> None:
    path, exif = tmp_path / f"a{suffix}", Image.Exif()
    exif[274] = orientation
    if suffix == ".tif":
        tifffile.imwrite(path, RGB, photometric="rgb", extratags=[(274, "H", 1, orientation, True)])
    else:
        more = {".webp": {"lossless": True}, ".jpg": {"quality": 95, "subsampling": 0}}.get(suffix, {})
        Image.fromarray(RGB).save(path, exif=exif.tobytes(), **more)
    with Image.open(path) as image:
        assert orientation_of(image, path) == orientation
        seen = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(pixels(path), seen)


def test_a_16_bit_png_is_turned_too(tmp_path: Path) -> None:
    deep, exif = picture(5, 8, 3, 65535), Image.Exif()
    exif[274] = 6
    png(tmp_path / "a.png", deep, chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")))
    assert np.array_equal(pixels(tmp_path / "a.png"), np.rot90(deep, -1).astype(np.int32))


@given(n=st.integers(1, 8), m=st.integers(1, 8))
def test_orientations_are_the_symmetries_of_a_rectangle(n: int, m: int) -> None:
    array = np.arange(6).reshape(2, 3)
    both = upright(upright(array, n), m)
    assert any(np.array_equal(both, upright(array, k)) for k in range(1, 9))
    assert sum(np.array_equal(upright(array, n), upright(array, k)) for k in range(1, 9)) == 1


def test_what_is_decoded_and_restored_is_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 8
    Image.fromarray(RGB).save(tmp_path / "a.jpg", exif=exif.tobytes())
    lg("encode", "a.jpg", "-o", "f", *QUICK, cwd=tmp_path)
    lg("decode", "f", "-o", "b.jpg", cwd=tmp_path)
    lg("super-resolve", "a.jpg", "-o", "c.png", "--scale", 2, *QUICK, "--activation", "sine", cwd=tmp_path)
    assert Image.open(tmp_path / "b.jpg").size == (11, 17) and Image.open(tmp_path / "c.png").size == (22, 34)


# -- TIFF


ARRAYS = [
    (RGB, "uint8"),
    (picture(5, 8, 3, 65535), "uint16"),
    (picture(5, 8, 4), "uint8"),
    (picture(5, 8, 6), "uint8"),
    (picture(5, 8, 7, 65535), "uint16"),
    ((picture(5, 8, 1)[..., 0].astype(np.int16) - 128).astype(np.int8), "int8"),
    (picture(5, 8, 1)[..., 0].astype(np.int16) * -90, "int16"),
    (picture(5, 8, 1)[..., 0].astype(np.int32) * 1_000_000, "int32"),
    (picture(5, 8, 3).astype(np.float32) / 255, "float32"),
    (picture(5, 8, 1)[..., 0].astype(np.float32) * 7 - 300, "float32"),
]


@pytest.mark.parametrize(("array", "dtype"), ARRAYS)
@pytest.mark.parametrize("stored", ["contig", "separate", "big-endian", "lzw", "tiled"])
def test_a_tiff_gives_its_numbers_and_gets_them_back(
    array: np.ndarray, dtype: str, stored: str, tmp_path: Path
) -> None:
    path, planes = tmp_path / "a.tif", array if array.ndim == 3 else array[..., None]
    colour = {"photometric": "rgb" if planes.shape[-1] in (3, 4) else "minisblack"}
    source, more = array, {"planarconfig": "contig"} if array.ndim == 3 else {}
    if stored == "separate" and array.ndim == 3:
        source, more = np.moveaxis(array, -1, 0), {"planarconfig": "separate"}
    more |= {"big-endian": {"byteorder": ">"}, "lzw": {"compression": "lzw"}, "tiled": {"tile": (16, 16)}}.get(
        stored, {}
    )
    more |= {"extrasamples": ["unassalpha"]} if planes.shape[-1] == 4 else {}
    tifffile.imwrite(path, source, **colour, **more, metadata=None)
    data = read_signal(path)
    held = np.int32 if dtype == "uint16" else dtype
    assert data.signal.dtype == dtype and np.array_equal(data.samples.numpy(), planes.astype(held))
    write_samples([data.samples], tmp_path / "b.tif", data.signal)
    again = tifffile.imread(tmp_path / "b.tif")
    assert again.dtype == dtype and np.array_equal(again, array)
    back = data.signal.denormalize(data.signal.normalize(data.samples))
    assert torch.allclose(back.double(), data.samples.double(), rtol=1e-5, atol=1e-5)


def test_real_numbers_keep_their_range(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unit, wide = picture(5, 8, 1)[..., 0] / 300.0, picture(5, 8, 1)[..., 0] * 3.0 - 7
    for array in (unit, wide):
        tifffile.imwrite(tmp_path / "a.tif", array.astype(np.float64))
        signal = read_signal(tmp_path / "a.tif").signal
        assert signal.dtype == "float32" and "float64: kept as float32" in capsys.readouterr().err
        wanted = (0.0, 1.0) if array is unit else (array.min(), array.max())
        assert signal.value_range == pytest.approx(wanted)


def test_white_is_zero_is_black_at_zero(tmp_path: Path) -> None:
    for array in (picture(5, 8, 1)[..., 0], picture(5, 8, 1, 65535)[..., 0]):
        tifffile.imwrite(tmp_path / "a.tif", np.iinfo(array.dtype).max - array, photometric="miniswhite")
        assert np.array_equal(pixels(tmp_path / "a.tif")[..., 0], array.astype(np.int32))
    bits = np.random.default_rng(0).random((9, 13)) > 0.5
    Image.fromarray(bits).save(tmp_path / "b.tif")
    tifffile.imwrite(tmp_path / "c.tif", ~bits, photometric="miniswhite")
    for name in ("b.tif", "c.tif"):
        assert np.array_equal(pixels(tmp_path / name)[..., 0], bits * 255)
    tifffile.imwrite(tmp_path / "d.tif", np.ones((4, 4), np.float32), photometric="miniswhite")
    with pytest.raises(ValueError, match=r"d\.tif says that white is 0 for float32"):
        read_signal(tmp_path / "d.tif")


def test_premultiplied_colours_are_undone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    straight = np.full((4, 4, 4), 200, np.uint8)
    straight[..., 3] = np.arange(16).reshape(4, 4) * 17
    times = straight.copy()
    times[..., :3] = np.rint(straight[..., :3] * (straight[..., 3:] / 255.0))
    tifffile.imwrite(tmp_path / "a.tif", times, photometric="rgb", extrasamples=["assocalpha"])
    read = pixels(tmp_path / "a.tif").astype(int)
    assert np.abs(read - straight)[straight[..., 3] > 100].max() <= 2 and "alpha" in capsys.readouterr().err
    assert np.array_equal(read[..., 3], straight[..., 3])


def test_of_several_pages_one_is_chosen(tmp_path: Path) -> None:
    stack = np.stack([picture(5, 8, 1)[..., 0] + k for k in range(3)])
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack", metadata=None)
    frames = [Image.fromarray(np.roll(RGB, k * 5, 1)) for k in range(3)]
    for suffix in (".gif", ".webp", ".png"):
        more = {"lossless": True} if suffix == ".webp" else {}
        frames[0].save(tmp_path / f"a{suffix}", save_all=True, append_images=frames[1:], duration=100, **more)
    for suffix, what in {".tif": "3 pages", ".gif": "3 frames", ".webp": "3 frames", ".png": "3 frames"}.items():
        text = lg("encode", f"a{suffix}", "-o", "x", *QUICK, "--kind", "image", cwd=tmp_path, fails=True)
        assert what in text and f"a{suffix}:1 to a{suffix}:3" in text and text.count("\n") == 1
        text = lg("encode", f"a{suffix}:4", "-o", "x", *QUICK, cwd=tmp_path, fails=True)
        assert "numbered from 1 to 3" in text and text.count("\n") == 1
    assert all(np.array_equal(pixels(tmp_path / f"a.tif:{k + 1}")[..., 0], stack[k]) for k in range(3))
    for suffix in (".webp", ".png"):
        assert np.array_equal(pixels(tmp_path / f"a{suffix}:3")[..., :3], np.asarray(frames[2]))
    lg("encode", "a.tif:2", "-o", "second", *QUICK, cwd=tmp_path)


def test_thumbnails_are_no_pages(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(RGB, photometric="rgb", metadata=None)
        file.write(RGB[::2, ::2], photometric="rgb", subfiletype=1, metadata=None)
    assert np.array_equal(pixels(tmp_path / "a.tif"), RGB)


@pytest.mark.parametrize(
    ("array", "words"),
    [(np.full((4, 4), np.nan, np.float32), "16 samples are NaN"), (np.ones((4, 4), np.complex64), "complex64")],
)
def test_what_is_no_picture_is_refused_by_name(array: np.ndarray, words: str, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", array)
    (tmp_path / "b.tif").write_bytes((tmp_path / "a.tif").read_bytes()[:90])
    text = lg("encode", "a.tif", "-o", "x", *QUICK, cwd=tmp_path, fails=True)
    assert "a.tif" in text and words in text and text.count("\n") == 1
    text = lg("encode", "b.tif", "-o", "x", *QUICK, cwd=tmp_path, fails=True)
    assert "b.tif is not a TIFF image or is broken" in text and text.count("\n") == 1


# -- colours


def test_modes_of_pillow_are_grey_rgb_or_rgba(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grey, alpha = Image.fromarray(RGB[..., 0]), Image.fromarray(RGB[..., 1])
    palette = Image.fromarray(RGB).quantize(16)
    cases = {
        "grey.png": (grey, grey, ""),
        "bit.png": (grey.convert("1"), grey.convert("1").convert("L"), ""),
        "palette.png": (palette, palette.convert("RGB"), ""),
        "la.png": (Image.merge("LA", (grey, alpha)), Image.merge("RGBA", (grey, grey, grey, alpha)), "grey with alpha"),
    }
    for name, (stored, seen, words) in cases.items():
        stored.save(tmp_path / name)
        wanted = np.asarray(seen)
        assert np.array_equal(pixels(tmp_path / name), wanted.reshape(*wanted.shape[:2], -1)), name
        said = capsys.readouterr().err
        assert words in said and bool(said) == bool(words)
    Image.fromarray(RGB).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    assert pixels(tmp_path / "cmyk.jpg").shape == RGB.shape and "CMYK" in capsys.readouterr().err
    wanted = np.asarray(Image.open(tmp_path / "cmyk.jpg").convert("RGB"))
    assert np.array_equal(pixels(tmp_path / "cmyk.jpg"), wanted)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_colour_key_is_alpha(dtype: type, tmp_path: Path) -> None:
    array = picture(6, 7, 3, np.iinfo(dtype).max)
    array[2, 3] = array[4, 5] = array[0, 0]
    png(tmp_path / "a.png", array, chunk(b"tRNS", struct.pack(">HHH", *map(int, array[0, 0]))))
    read = pixels(tmp_path / "a.png")
    clear = (array == array[0, 0]).all(-1)
    assert np.array_equal(read[..., :3], array.astype(np.int32))
    assert np.array_equal(read[..., 3], np.where(clear, 0, np.iinfo(dtype).max))


def profile(gamma: float) -> bytes:
    """sRGB's profile with another gamma on all channels: its three curves are replaced."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    at = data.index(b"para")
    data[at : at + 12] = b"curv" + struct.pack(">II", 0, 1)
    data[at + 12 : at + 14] = struct.pack(">H", round(gamma * 256))
    return bytes(data)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_colours_of_another_profile_become_srgb(
    suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = {"lossless": True} if suffix == ".webp" else {}
    for icc, changes in ((ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), 0), (profile(1.0), 1)):
        Image.fromarray(RGB).save(tmp_path / f"a{suffix}", icc_profile=icc, **more)
        with Image.open(tmp_path / f"a{suffix}") as image:
            plain = np.asarray(image).astype(int)
        read = pixels(tmp_path / f"a{suffix}").astype(int)
        said = capsys.readouterr().err
        assert said.count("converted to sRGB") == changes and said.count("\n") == changes
        assert (np.abs(read - plain).max() > 20) == bool(changes)
    Image.fromarray(RGB).save(tmp_path / f"a{suffix}", icc_profile=b"nonsense" * 30, **more)
    assert read_signal(tmp_path / f"a{suffix}").signal.channels == 3
    assert "cannot be read" in capsys.readouterr().err


def test_gamma_and_odd_pixels_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    png(
        tmp_path / "a.png",
        RGB,
        chunk(b"gAMA", struct.pack(">I", 100_000)),
        chunk(b"pHYs", struct.pack(">IIB", 2, 1, 0)),
    )
    assert np.array_equal(pixels(tmp_path / "a.png"), RGB)
    said = capsys.readouterr().err
    assert "gamma of 1" in said and "not square" in said and said.count("\n") == 2


# -- files out


def signal_of(dtype: str, channels: int) -> SignalData:
    """A picture of a type with as many channels."""
    unit = torch.from_numpy(picture(11, 17, channels)).float() / 255
    low, high = {"uint8": (0.0, 255.0), "uint16": (0.0, 65535.0)}.get(dtype, (-90.0, 110.0))
    values = unit * (high - low) + low
    signal = Signal("image", (11, 17), channels, dtype, (low, high))
    return SignalData(values if dtype == "float32" else values.round().to(signal.tensor_type), signal)


@pytest.mark.parametrize("suffix", KINDS["image"].writes)
@given(dtype=st.sampled_from(["uint8", "uint16", "int16", "float32"]), channels=st.integers(1, 5))
@settings(max_examples=20)
def test_what_comes_back_is_what_went_in_or_the_difference_was_said(
    suffix: str, dtype: str, channels: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    import contextlib

    path, data, said = tmp_path_factory.mktemp("a") / f"a{suffix}", signal_of(dtype, channels), io.StringIO()
    with contextlib.redirect_stderr(said):
        try:
            write_samples([data.samples], path, data.signal)
            back = read_signal(path)
        except ValueError as error:
            assert ("do not fit" in str(error) and channels not in (1, 3, 4)) or suffix == ".hdr"
            return
    assert back.signal.shape == data.signal.shape
    same = back.signal.dtype == dtype and back.signal.channels == channels
    same = same and (suffix not in (".png", ".bmp", ".tif", ".tiff") or torch.equal(back.samples, data.samples))
    assert same or said.getvalue().strip(), (suffix, dtype, channels)
    assert not (same and said.getvalue() and dtype == "uint8" and suffix not in (".exr", ".hdr")), said.getvalue()


def test_what_is_mapped_to_8_bits_and_clipped_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = torch.linspace(-1.0, 2.0, 31).reshape(1, 31, 1)
    write_samples([values], tmp_path / "a.png", Signal("image", (1, 31), 1, "float32", (0.0, 1.0)))
    assert (
        capsys.readouterr().err
        == ".png holds 8 bits: float32 from 0 to 1 became 0 to 255; 20 values beyond that were clipped\n"
    )
    assert np.array_equal(pixels(tmp_path / "a.png")[0, :, 0], (values.clamp(0, 1) * 255).round().numpy()[0, :, 0])


# -- formats of other libraries


@pytest.mark.parametrize(("suffix", "library", "extra"), [("exr", "OpenEXR", "hdr"), ("heic", "pillow_heif", "heic")])
def test_a_missing_library_is_named(
    suffix: str, library: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, library, None)
    (tmp_path / f"a.{suffix}").write_bytes(b"something")
    text = lg("encode", f"a.{suffix}", "-o", "x", cwd=tmp_path, fails=True)
    assert f"a.{suffix}" in text and f"lg-field[{extra}]" in text and text.count("\n") == 1


def test_heic_is_read_upright(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif", reason="needs the extra heic")
    heif.register_heif_opener()
    exif, image = Image.Exif(), Image.fromarray(picture(64, 96))
    exif[274] = 6
    image.save(tmp_path / "a.heic", quality=95, exif=exif.tobytes())
    read = pixels(tmp_path / "a.heic").astype(int)
    assert read.shape == (96, 64, 3) and np.abs(read - np.rot90(picture(64, 96), -1).astype(int)).mean() < 6


# -- small pictures


@pytest.mark.parametrize("shape", [(1, 1), (1, 23), (3, 2)])
def test_tiny_pictures_are_encoded_and_restored(shape: tuple[int, int], tmp_path: Path) -> None:
    Image.fromarray(picture(*shape)).save(tmp_path / "a.png")
    lg("encode", "a.png", "-o", "f", "--steps", 2, "--parameters", 2000, cwd=tmp_path)
    lg("decode", "f", "-o", "b.png", cwd=tmp_path)
    text = lg("super-resolve", "a.png", "-o", "c.png", "--scale", 2, "--steps", 2, cwd=tmp_path)
    assert ("the overlap is 0 samples instead of 2" in text) == (min(shape) < 3)
    lg("denoise", "a.png", "-o", "d.png", "--steps", 2, "--parameters", 4000, cwd=tmp_path)
    assert [Image.open(tmp_path / n).size for n in ("b.png", "c.png", "d.png")] == [
        shape[::-1],
        (2 * shape[1], 2 * shape[0]),
        shape[::-1],
    ]
    text = lg("super-resolve", "a.png", "-o", "e.png", "--overlap", 2, "--steps", 2, cwd=tmp_path, fails=True)
    assert "an overlap of 2 samples is wider than the signal" in text and text.count("\n") == 1
