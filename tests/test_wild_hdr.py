"""Pictures beyond 8 bits and of phones: Radiance, OpenEXR, HEIC come in right and go back as they were."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from commands import lg, picture
from PIL import Image

from lg_field.signals import SignalData, read_signal
from lg_field.signals.pictures import hdr
from lg_field.signals.writing import write_samples

RGB = picture(11, 17)
QUICK = ("--steps", 2, "--local-width", 4, "--global-width", 4)


def pixels(path: Path) -> np.ndarray:
    data = read_signal(path)
    assert isinstance(data, SignalData)
    return data.samples.numpy()


def test_the_logarithm_is_undone(tmp_path: Path) -> None:
    light = (np.random.default_rng(1).lognormal(0, 3, (7, 9, 3)) - 0.2).astype(np.float32)
    raster = hdr.as_logs(light, [])
    back = hdr.linear(torch.from_numpy(raster.array), raster.extra).numpy()
    np.testing.assert_allclose(back, light, rtol=2e-5, atol=1e-7)
    assert np.ptp(raster.array) < 20 < np.ptp(light)
    plain = torch.rand(3, 4)
    assert hdr.linear(plain, {}) is plain


def test_radiance_files_come_back_as_linear_light(tmp_path: Path) -> None:
    light = np.random.default_rng(2).lognormal(0, 2, (12, 16, 3)).astype(np.float32)
    cv2.imwrite(str(tmp_path / "a.hdr"), light[..., ::-1])
    data = read_signal(tmp_path / "a.hdr")
    assert data.signal.dtype == "float32" and hdr.KNEE in data.signal.extra
    write_samples([data.samples], tmp_path / "b.hdr", data.signal)
    write_samples([data.samples], tmp_path / "c.npy", data.signal)
    brightest = light.max(-1, keepdims=True)
    for back in (cv2.imread(str(tmp_path / "b.hdr"), -1)[..., ::-1], np.load(tmp_path / "c.npy")):
        assert (np.abs(back - light) / brightest).max() < 0.02  # 8 bits beside a shared exponent
    lg("encode", "a.hdr", "-o", "f", *QUICK, cwd=tmp_path)
    for name in ("d.hdr", "d.png", "d.tif"):
        text = lg("decode", "f", "-o", name, cwd=tmp_path)
        assert ("logarithms" in text) == (name == "d.png")


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("channels", ["Y", "RGB", "RGBA"])
def test_openexr_files_come_back(channels: str, half: bool, tmp_path: Path) -> None:
    openexr = pytest.importorskip("OpenEXR", reason="needs the extra hdr")
    light = np.random.default_rng(3).lognormal(0, 2, (6, 8, len(channels))).astype(np.float16 if half else np.float32)
    stored = light[..., 0] if channels == "Y" else light
    openexr.File({"compression": openexr.ZIP_COMPRESSION}, {channels: stored}).write(str(tmp_path / "a.exr"))
    data = read_signal(tmp_path / "a.exr")
    write_samples([data.samples], tmp_path / "b.exr", data.signal)
    with openexr.File(str(tmp_path / "b.exr")) as file:
        back = file.channels()[channels].pixels
        assert back.dtype == light.dtype
        np.testing.assert_allclose(back.astype(float), stored.astype(float), rtol=2e-3 if half else 1e-5)


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
