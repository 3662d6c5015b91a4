"""Every file that is written is read again as what it was: its shape, type, channels, rate, place and values; or what
is not so is said in a line, or refused in one."""

from __future__ import annotations

import itertools
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import picture, tone

from lg_field.errors import Notice
from lg_field.signals import read_signal
from lg_field.signals.kinds import KINDS
from lg_field.signals.signal import LIMITS, Signal
from lg_field.signals.writing import write_samples

SHAPES = {"image": (24, 32), "audio": (600,), "video": (4, 32, 48)}
AFFINE = ((0.0, -2.0, 0.0, 5.0), (1.5, 0.0, 0.0, -6.0), (0.0, 0.0, 3.0, 7.0), (0.0, 0.0, 0.0, 1.0))
LOSSY = {".jpg": 12, ".jpeg": 12, ".webp": 12, ".gif": 25, ".ogg": 25, ".mp4": 8, ".avi": 8, ".mov": 8, ".mkv": 8}
LOSSY |= {".webm": 10, ".hdr": 1}
"""Mean error, of 255, of formats whose losses are what they are for."""
WRITTEN = [(name, suffix) for name, kind in KINDS.items() for suffix in (*kind.writes, ".npy")]
RANGES = {"float32": (0.0, 1.0), "bool": (0.0, 1.0)}


def made(kind: str, dtype: str, channels: int) -> tuple[Signal, torch.Tensor]:
    """A signal with all that one of its kind may say of itself, and smooth samples of it."""
    shape = SHAPES.get(kind, (9, 8, 7))
    low, high = RANGES.get(dtype, LIMITS[dtype])
    more: dict[str, Any] = {"rate": {"audio": 8000.0, "video": 12.5}.get(kind, 0.0)}
    if kind == "audio":
        low, high = (-1.0, 1.0) if dtype == "float32" else (low, high)
        unit = 0.5 + 0.5 * np.stack([tone(shape[0]) / (k + 1) for k in range(channels)], -1)
    elif len(shape) == 2:
        unit = picture(*shape, channels) / 255.0
    elif kind == "video":
        unit = np.stack([np.roll(picture(*shape[1:], channels), 5 * k, 1) for k in range(shape[0])]) / 255.0
    else:
        unit = np.random.default_rng(0).random((*shape, channels))
    if kind in ("nifti", "nrrd", "dicom"):
        more["affine"] = AFFINE
        # NRRD names a space, the others a scale and codes
        scale = {"slope": 1.0, "intercept": 0.0, "qform": 1, "sform": 1, "units": 2}
        more["extra"] = {"space": "right-anterior-superior"} if kind == "nrrd" else scale
    signal = Signal(kind, shape, channels, dtype, (low, high), **more)
    return signal, signal.denormalize(torch.from_numpy(unit * 2.0 - 1.0).float())


def written(samples: torch.Tensor, path: Path, signal: Signal) -> None:
    """Written in two slabs."""
    half = len(samples) // 2
    write_samples([samples[:half], samples[half:]], path, signal)


def read_back(path: Path, signal: Signal) -> Any:
    """As the kind it is of, or as one that reads files of this suffix."""
    return read_signal(path, kind=signal.kind if signal.kind != "dicom" and signal.traits.can_read(path) else "")


def differences(signal: Signal, back: Signal, vorbis: bool) -> list[str]:
    """What is not as it was; Vorbis has no type of samples."""
    names = ["shape", "channels"] + ["dtype"] * (not vorbis)
    found = [name for name in names if getattr(signal, name) != getattr(back, name)]
    found += ["rate"] * (abs(signal.rate - back.rate) > 1e-3 * signal.rate)
    if bool(signal.affine) != bool(back.affine) or not np.allclose(signal.affine, back.affine, atol=1e-5):
        found.append("affine")
    black_and_white = signal.kind == "image" and signal.dtype in ("uint8", "uint16")
    return found + ["range"] * (black_and_white and signal.value_range != back.value_range)


def error_of(signal: Signal, samples: torch.Tensor, back: Any) -> float:
    """Mean error of the values, of 255."""
    low, high = signal.value_range
    rescaled = 32768.0 if signal.dtype == "int16" and back.signal.dtype == "float32" else 1.0
    values, again = signal.traits.stored(samples, signal), back.signal.traits.stored(back.samples, back.signal)
    return float((values.double() - again.double() * rescaled).abs().mean()) * 255.0 / (high - low)


def check(kind: str, suffix: str, dtype: str, channels: int, folder: Path, capsys: Any) -> str:
    """The law for one signal and one format; what became of it."""
    signal, samples = made(kind, dtype, channels)
    path, capsys_before = folder / f"a{suffix}", capsys.readouterr()
    with warnings.catch_warnings(record=True) as notices:
        warnings.simplefilter("always")
        try:
            written(samples, path, signal)
        except ValueError as error:
            assert "\n" not in str(error) and len(str(error)) < 300 and capsys_before is not None
            return "refused"
        said = capsys.readouterr().err + "".join(str(n.message) for n in notices if issubclass(n.category, Notice))
        if suffix == ".npy":
            array = np.load(path)
            assert array.dtype == dtype and np.array_equal(array.astype(np.float64), samples.numpy())
            return "same"
        back = read_back(path, signal)
    changed = differences(signal, back.signal, suffix == ".ogg")
    if not changed and error_of(signal, samples, back) <= LOSSY.get(suffix, 1e-4):
        return "same"
    assert said, f"{kind} {dtype} x {channels} to {suffix}: {changed or 'other values'} without a word"
    return "said"


@pytest.mark.parametrize(("kind", "suffix"), WRITTEN)
def test_what_is_written_is_read_as_it_was_or_the_difference_is_said(
    kind: str, suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    types = (
        ["uint8"] if kind == "video" else ["int16", "float32"] if kind == "audio" else sorted(set(LIMITS) - {"bool"})
    )
    types = ["bool"] if kind == "occupancy" else types
    channels = (1,) if len(SHAPES.get(kind, (1, 1, 1))) == 3 and kind != "video" else (1, 2, 3, 4, 5)
    results = {}
    for dtype, count in itertools.product(types, channels):
        (tmp_path / f"{dtype}{count}").mkdir()
        results[dtype, count] = check(kind, suffix, dtype, count, tmp_path / f"{dtype}{count}", capsys)
    assert "same" in results.values() or suffix in (".hdr", ".exr", ".gif"), results
    plain = {"image": ("uint8", 3), "video": ("uint8", 3), "audio": ("int16", 1)}.get(kind, (types[0], 1))
    assert results[plain] == "same" or suffix in (".hdr", ".exr", ".gif", ".ogg"), results


@pytest.mark.parametrize("suffix", [".exr", ".hdr"])
def test_light_that_was_read_is_written_as_it_was(suffix: str, tmp_path: Path) -> None:
    light = Signal("image", (24, 32), 3, "float32", (0.0, 4.0), extra={"log_knee": 0.1})
    samples = torch.from_numpy(picture(24, 32) / np.float32(255)) * 3 + 0.05
    written(samples, tmp_path / f"a{suffix}", light)
    first: Any = read_signal(tmp_path / f"a{suffix}")
    assert (first.signal.shape, first.signal.channels, first.signal.dtype) == ((24, 32), 3, "float32")
    values = first.signal.traits.stored(first.samples, first.signal)
    wanted = light.traits.stored(samples, light)
    assert ((values - wanted).abs() / wanted).mean() < (0.01 if suffix == ".hdr" else 1e-5)
    written(first.samples, tmp_path / f"b{suffix}", first.signal)
    again: Any = read_signal(tmp_path / f"b{suffix}")
    assert ((again.signal.traits.stored(again.samples, again.signal) - values).abs() / values).mean() < 0.01


@pytest.mark.parametrize("slope", [2.0, -0.5])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".npy"])
def test_scaled_numbers_are_values_in_every_format_or_it_is_said(slope: float, suffix: str, tmp_path: Path) -> None:
    signal, samples = made("nifti", "int16", 1)
    signal = replace(signal, extra={**signal.extra, "slope": slope, "intercept": 3.0})
    values = samples.numpy()[..., 0] * slope + 3.0
    with warnings.catch_warnings(record=True) as notices:
        warnings.simplefilter("always")
        written(samples, tmp_path / f"a{suffix}", signal)
    said = "".join(str(n.message) for n in notices)
    if suffix == ".npy":
        assert f"{slope:g} * number +3" in said and np.array_equal(np.load(tmp_path / "a.npy"), samples.numpy())
        return
    back: Any = read_signal(tmp_path / f"a{suffix}")
    scale = back.signal.extra.get("slope", 1.0), back.signal.extra.get("intercept", 0.0)
    np.testing.assert_allclose(back.samples[..., 0].numpy() * scale[0] + scale[1], values, rtol=1e-6)
    assert ("as float32" in said) == (suffix == ".nrrd")
