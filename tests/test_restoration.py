"""Restoration as a user does it, and the laws of its measurements: averaging, sensor noise, the Radon transform."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from commands import lg, picture
from forked import forked
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import lg_field
from lg_field.ops import local_global_chain
from lg_field.restoration import denoising, pictures, super_resolution, tomography
from lg_field.signals import SignalData
from lg_field.signals.encode import build_network, modulated_weights
from lg_field.signals.presets import read_preset
from lg_field.signals.settings import FitConfig, NetworkConfig, resolve_network
from lg_field.signals.signal import Signal

SMALL = ("--counts", 2, 2, "--local-width", 12, "--global-width", 12)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Image.fromarray(picture(64, 80)).save(tmp_path / "true.png")
    y, x = np.mgrid[:32, :32] - 16
    disc = (200 * (x**2 + y**2 < 140) - 90 * (np.abs(x - 3) + np.abs(y) < 6)).astype(np.uint8)
    Image.fromarray(disc).save(tmp_path / "slice.png")
    return tmp_path


def psnr_between(folder: Path, a: str, b: str) -> float:
    one, two = (np.asarray(Image.open(folder / n), dtype=np.float64) for n in (a, b))
    return float(-10 * np.log10(max(((one - two) ** 2).mean() / 255**2, 1e-12)))


def test_super_resolution_from_simulation_and_from_its_file(folder: Path):
    common = (*SMALL, "--steps", 400, "--scale", 4)
    text = lg(
        "super-resolve", "true.png", "-o", "one.png", "--simulate", "--save-input", "low.png", *common, cwd=folder
    )
    assert "bicubic" in text and "network" in text
    assert Image.open(folder / "low.png").size == (20, 16) and Image.open(folder / "one.png").size == (80, 64)
    assert psnr_between(folder, "one.png", "true.png") > 20
    words = ("super-resolve", "low.png", "--reference", "true.png")
    text = forked("lg-field", *words, "-o", "two.png", *common, cwd=folder)
    assert psnr_between(folder, "two.png", "true.png") > 20 and "bicubic" in text
    text = forked("lg-field", *words, "-o", "by-default.png", "--steps", 400, cwd=folder)
    assert psnr_between(folder, "by-default.png", "true.png") > 20 and "all samples a step" in text
    assert lg_field.load(folder / "by-default.safetensors").num_parameters()["total"] < 5.1 * 20 * 16

    lg("decode", "one.safetensors", "-o", "again.png", cwd=folder)
    assert (folder / "again.png").read_bytes() == (folder / "one.png").read_bytes()
    lg("decode", "one.safetensors", "-o", "low-again.png", "--scale", 0.25, cwd=folder)
    assert psnr_between(folder, "low-again.png", "low.png") > 20
    lg("crop", "one.safetensors", "--box", 0, 0, 40, 32, "-o", "part", cwd=folder)
    lg("decode", "part", "-o", "part.png", "--box", 0, 0, 40, 32, cwd=folder)
    whole, part = (np.asarray(Image.open(folder / n)) for n in ("one.png", "part.png"))
    assert np.array_equal(whole[:32, :40], part) and lg_field.load(folder / "part").num_rows == 1


@pytest.mark.parametrize(
    ("activation", "network"),
    [("incode", "local-global"), ("incode", "global"), ("sine", "local-global"), ("sine", "per-partition")],
)
def test_denoising_beats_the_noise(folder: Path, network: str, activation: str):
    kind = ("--network", network, "--activation", activation, "--counts", 2, 2, "--local-width", 20)
    kind += ("--global-width", 40, "--steps", 130, "--lr", 1e-3, "--first-w0", 5, "--save-input", "noisy.png")
    lg("denoise", "true.png", "-o", "clean.png", "--simulate", *kind, cwd=folder)
    assert psnr_between(folder, "clean.png", "true.png") > psnr_between(folder, "noisy.png", "true.png") + 1
    assert lg_field.load(folder / "clean.safetensors").history["psnr"] > 19


def test_noise_beyond_the_range_survives_in_an_array(folder: Path):
    common = (*SMALL, "--steps", 5)
    lg("denoise", "true.png", "-o", "a.png", "--simulate", "--save-input", "noisy.npy", *common, cwd=folder)
    noisy = np.load(folder / "noisy.npy")
    assert noisy.shape == (64, 80, 3) and noisy.max() > 1.1 and noisy.min() < 0
    lg("denoise", "noisy.npy", "-o", "b.png", *common, cwd=folder)
    assert psnr_between(folder, "a.png", "b.png") > 45  # float rounding only


def test_ct_from_simulation_and_from_its_sinogram(folder: Path):
    common = ("--angles", 24, "--counts", 1, 2, "--local-width", 24, "--global-width", 24, "--steps", 120, "--lr", 2e-3)
    text = lg(
        "reconstruct-ct", "slice.png", "-o", "one.png", "--simulate", "--save-input", "s.npy", *common, cwd=folder
    )
    assert np.load(folder / "s.npy").shape == (24, 32) and "filtered back-projection" in text
    assert psnr_between(folder, "one.png", "slice.png") > 20
    lg("reconstruct-ct", "s.npy", "-o", "two.npy", "--reference", "slice.png", *common, cwd=folder)
    values = np.load(folder / "two.npy")[..., 0]
    truth = np.asarray(Image.open(folder / "slice.png")) / 255.0
    assert values.shape == (32, 32) and np.sqrt(((values - truth) ** 2).mean()) < 0.1
    lg("decode", "one.safetensors", "-o", "again.png", cwd=folder)
    assert (folder / "again.png").read_bytes() == (folder / "one.png").read_bytes()


BAD = [
    (("super-resolve", "true.png", "--scale", 1), "--scale must be more than 1"),
    (("super-resolve", "true.png", "--scale", 2.5, "--simulate"), "whole number"),
    (("super-resolve", "true.png", "--simulate", "--counts", 90, 2), "no more cells than samples"),
    (("super-resolve", "true.png", "--reference", "true.png"), "the reference has (64, 80, 3)"),
    (("super-resolve", "nan.npy"), "NaN or infinite"),
    (("super-resolve", "none.png"), "does not exist"),
    (("super-resolve", "true.png", "--save-input", "x.png"), "--save-input is for"),
    (("denoise", "true.png", "--simulate", "--tau", 0), "--tau must be positive"),
    (("denoise", "true.png", "--simulate", "--readout-noise", -1), "not negative"),
    (("denoise", "flat.npy"), "has shape (4, 4, 9)"),
    (("denoise", "true.png", "--simulate", "--reference", "true.png"), "leave out --reference"),
    (("reconstruct-ct", "turned.npy", "--angles", 24), "it looks transposed"),
    (("reconstruct-ct", "turned.npy", "--angles", 7), "32 angles x 24 detectors, --angles says 7"),
    (("reconstruct-ct", "nan.npy"), "NaN or infinite"),
    (("reconstruct-ct", "zero.npy", "--angles", 4), "shows nothing"),
    (("reconstruct-ct", "true.png", "--simulate"), "a square slice is needed"),
    (("reconstruct-ct", "true.png"), "a sinogram is an array"),
    (("reconstruct-ct", "turned.npy", "--angles", 0), "at least one angle"),
    (("reconstruct-ct", "slice.png", "--simulate", "--sample-fraction", 0.5), "--sample-fraction must be 1"),
    (("reconstruct-ct", "slice.png", "--simulate", "--overlap", 1), "--overlap 0"),
    (("reconstruct-ct", "turned.npy", "--angle-range", 90, 10), "rising range"),
]


def test_bad_input_is_one_line_and_nothing_is_written(folder: Path):
    np.save(folder / "nan.npy", np.full((8, 8), np.nan, np.float32))
    np.save(folder / "flat.npy", np.zeros((4, 4, 9), np.float32))
    np.save(folder / "zero.npy", np.zeros((4, 8), np.float32))
    np.save(folder / "turned.npy", np.ones((32, 24), np.float32))
    files = sorted(folder.iterdir())
    for arguments, match in BAD:
        text = lg(*arguments, "-o", "never.png", "--steps", 1, cwd=folder, fails=True)
        assert match in text and text.count("\n") == 1, (arguments, text)
    assert "write a decoded image to" in lg("denoise", "true.png", "-o", "x.wav", cwd=folder, fails=True)
    assert "exists" in lg("denoise", "true.png", "-o", "slice.png", cwd=folder, fails=True)
    assert sorted(folder.iterdir()) == files


# -- measurements


@given(height=st.integers(2, 9), width=st.integers(2, 9), step=st.integers(2, 4))
@settings(max_examples=30)
def test_averaging_keeps_the_mean_and_bicubic_keeps_constants(height: int, width: int, step: int):
    values = torch.rand(height * step + 1, width * step, 3)
    coarse, fine = super_resolution.downsample(values, step)
    assert coarse.shape == (height, width, 3) and fine.shape == (height * step, width * step, 3)
    torch.testing.assert_close(coarse.mean((0, 1)), fine.mean((0, 1)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(coarse[0, 0], values[:step, :step].mean((0, 1)))
    large = super_resolution.bicubic(torch.full_like(coarse, 0.3), (7, 8))
    torch.testing.assert_close(large, torch.full((7, 8, 3), 0.3))


@pytest.mark.parametrize(("level", "tau", "readout"), [(0.5, 40.0, 2.0), (0.0, 40.0, 2.0), (0.9, 200.0, 0.0)])
def test_sensor_noise_has_the_mean_and_variance_it_should(level: float, tau: float, readout: float):
    values = torch.full((200, 200, 3), level)
    noisy = denoising.add_sensor_noise(values, tau, readout, torch.Generator().manual_seed(0))
    variance = (level * tau + readout**2) / tau**2
    assert abs(float(noisy.mean()) - level) < 5 * (variance / noisy.numel()) ** 0.5 + 1e-7
    assert float(noisy.var()) == pytest.approx(variance, rel=0.03, abs=1e-9)
    if variance > 1e-4:
        assert denoising.noise_level(noisy) == pytest.approx(variance**0.5, rel=0.05)


def disc(size: int) -> torch.Tensor:
    """Random values inside the detectors' circle."""
    at = torch.arange(size) - size // 2
    inside = at[:, None] ** 2 + at[None, :] ** 2 < (size // 2 - 1) ** 2
    return torch.rand(size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(size)) * inside


@given(size=st.integers(6, 40), first=st.floats(-180, 180), span=st.floats(1, 360), count=st.integers(1, 40))
@settings(max_examples=25)
def test_the_radon_transform_is_scikit_images(size: int, first: float, span: float, count: int):
    from skimage.transform import radon

    angles, slice_ = tomography.projection_angles(count, first, first + span), disc(size)
    ours = tomography.Radon(angles, size).double()(slice_)
    theirs = torch.from_numpy(radon(slice_.numpy(), theta=angles.numpy(), circle=True).T.copy())
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)


def test_the_radon_transform_is_linear_and_its_gradient_the_adjoint():
    transform = tomography.Radon(tomography.projection_angles(7), 9).double()
    a, b = disc(9), disc(9).flip(0) + 0.1
    torch.testing.assert_close(transform(2 * a - 3 * b), 2 * transform(a) - 3 * transform(b))
    assert torch.autograd.gradcheck(transform, disc(9).requires_grad_())
    whole = torch.full((25,), float(disc(31).sum()), dtype=torch.float64)
    torch.testing.assert_close(
        tomography.Radon(tomography.projection_angles(25), 31).double()(disc(31)).sum(1), whole, rtol=0.02, atol=0.0
    )


def test_back_projection_finds_the_slice():
    size, angles = 64, tomography.projection_angles(120)
    at = (torch.arange(size) - size // 2).float()
    smooth = torch.exp(-((at[:, None] - 5) ** 2 + at[None, :] ** 2) / 80)
    sinogram, _ = tomography.project(smooth, angles)
    found = tomography.filtered_back_projection(sinogram, angles)
    assert float((found - smooth).square().mean().sqrt()) < 0.02


@pytest.mark.parametrize("network", ["local-global", "global"])
def test_the_gradient_of_the_projections_reaches_the_weights(network: str):
    """The chunked gradient is that of the loss written out over the whole slice."""
    angles = tomography.projection_angles(9)
    sinogram, signal = tomography.project(disc(12).float(), angles)
    config = NetworkConfig(network=network, counts=(1, 2), local_width=6, global_width=7, hidden_layers=1)  # type: ignore[arg-type]
    fit, _ = tomography.build_fit(sinogram, angles, config, FitConfig(steps=1), signal=signal)
    table, shared = fit.table.detach().requires_grad_(), {k: v.detach().requires_grad_() for k, v in fit.shared.items()}
    error = fit.gradients(table, shared)

    x, offsets, _ = fit.batch()
    values = local_global_chain(x, offsets, table, shared, fit.field.sizes)
    slice_ = torch.empty_like(values).index_copy(0, fit.order, values).view(12, 12) * 0.5 + 0.5
    loss = (2 * (tomography.Radon(angles, 12)(slice_) - sinogram)).square().mean()
    assert error == pytest.approx(float(loss.detach()) / 144, rel=1e-4)
    used = {k: v for k, v in (shared | {"table": table}).items() if v.numel()}
    for name, wanted in zip(used, torch.autograd.grad(loss, list(used.values()))):
        torch.testing.assert_close(used[name].grad, wanted, rtol=2e-3, atol=2e-4 * float(wanted.abs().max()))


def test_presets_have_the_published_counts():
    expected = {"super-resolution": 205_714, "denoising": 196_176, "ct": 328_068}
    for name, channels in (("super-resolution", 3), ("denoising", 3), ("ct", 1)):
        signal = Signal("image", (24, 32), channels)
        for end in ("", "-incode", "-lg-siren", "-siren"):
            config = resolve_network("image", read_preset(f"{name}{end}").network)
            field = build_network(signal, config)
            weights = modulated_weights(field, config, SignalData(torch.zeros(24, 32, channels), signal), 0)
            total = (weights or field).num_parameters()["total"]
            if not end:
                assert total == expected[name]
            if end == "-siren":
                width, layers = config.global_width, config.hidden_layers
                assert total == 3 * width + layers * (width * width + width) + width * channels + channels


def test_metrics_refuse_other_shapes():
    with pytest.raises(ValueError, match="the reference"):
        pictures.compare(torch.zeros(4, 4, 3), torch.zeros(4, 5, 3))
