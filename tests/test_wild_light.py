"""Linear float pictures, OpenEXR and Radiance HDR: fitted as logarithms, written as the numbers that they were."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from commands import lg

from lg_field.signals import read_signal
from lg_field.signals.pictures import hdr
from lg_field.signals.writing import write_samples

QUICK = ("--steps", 2, "--local-width", 4, "--global-width", 4)


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
