"""Sounds as they are in the world: sample formats come back, what does not fit is said or refused in a line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from commands import lg, tone
from hypothesis import given, settings
from hypothesis import strategies as st
from wild import field_file

from lg_field.errors import Notice
from lg_field.signals import read_signal
from lg_field.signals.kinds.audio import BLOCK, KEPT, LIMITS, check_sound, write_audio
from lg_field.signals.signal import Signal
from lg_field.signals.writing import write_samples

STEPS = {"PCM_S8": 2.0**-7, "PCM_U8": 2.0**-7, "PCM_16": 2.0**-15, "PCM_24": 2.0**-23, "PCM_32": 2.0**-24}


def sound(rate: float = 8000, channels: int = 1, dtype: str = "float32", count: int = 400, **more: object) -> Signal:
    return Signal("audio", (count,), channels, dtype, (-1.0, 1.0), float(rate), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_every_sample_format_comes_back_as_it_was(tmp_path: Path, suffix: str):
    for subtype in soundfile.available_subtypes(suffix[1:].upper()):
        if subtype not in (*KEPT, "PCM_16", "FLOAT"):
            continue
        path, out = tmp_path / f"{subtype}{suffix}", tmp_path / f"{subtype}-out{suffix}"
        soundfile.write(path, tone(500), 11025, subtype)
        data = read_signal(path)
        write_samples([data.slab(0, 500)], out, data.signal)
        first, second = soundfile.info(path), soundfile.info(out)
        assert (first.subtype, first.samplerate, first.frames) == (second.subtype, second.samplerate, second.frames)
        a, b = soundfile.read(path)[0], soundfile.read(out)[0]
        np.testing.assert_allclose(a, b, atol=STEPS.get(subtype, 1e-7))


@pytest.mark.parametrize(("subtype", "flac"), [("PCM_U8", "PCM_S8"), ("PCM_24", "PCM_24"), ("FLOAT", "PCM_24")])
def test_flac_takes_the_nearest_sample_format(tmp_path: Path, subtype: str, flac: str):
    soundfile.write(tmp_path / "a.wav", tone(300), 8000, subtype)
    data = read_signal(tmp_path / "a.wav")
    write_samples([data.slab(0, 300)], tmp_path / "a.flac", data.signal)
    assert soundfile.info(tmp_path / "a.flac").subtype == flac


def test_a_description_says_sample_formats_only():
    for extra in ({"subtype": "PCM_16"}, {"subtype": 3}, {"other": "PCM_24"}, {"subtype": "PCM_24", "b": 1}):
        with pytest.raises(ValueError, match="subtype"):
            sound(extra=extra)
    kept = sound(extra={"subtype": "PCM_24"})
    assert Signal.from_dict(kept.to_dict()) == kept and kept.resampled([(5, 50)], (90,)).extra == kept.extra


@given(st.floats(1.01, 9.0), st.integers(1, 30))
@settings(max_examples=10)
def test_clipping_is_counted(tmp_path_factory: pytest.TempPathFactory, peak: float, count: int):
    folder = tmp_path_factory.mktemp("loud")
    samples = torch.zeros(100, 1)
    samples[:count] = -peak
    with pytest.warns(Notice, match=rf"^{count} samples lie above full scale \(up to {peak:.3g}\)"):
        write_audio([samples], folder / "a.flac", sound(count=100))
    assert soundfile.read(folder / "a.flac")[0].min() == pytest.approx(-1.0, abs=1e-6)
    write_audio([samples], folder / "a.wav", sound(count=100))
    assert soundfile.read(folder / "a.wav")[0].min() == pytest.approx(-peak)


def test_what_fits_is_not_warned_of(tmp_path: Path, recwarn: pytest.WarningsRecorder):
    for suffix in LIMITS:
        write_audio([torch.ones(50, 1)], tmp_path / f"a{suffix}", sound(count=50))
    assert not [w for w in recwarn if issubclass(w.category, Notice)]


def test_nan_is_named(tmp_path: Path):
    samples = tone(100)
    samples[[3, 9]] = np.nan, np.inf
    soundfile.write(tmp_path / "bad.wav", samples, 8000, "FLOAT")
    with pytest.raises(ValueError, match=r"bad\.wav: 2 of 100 samples are NaN or infinite; replace them"):
        read_signal(tmp_path / "bad.wav")


@pytest.mark.parametrize(
    ("name", "rate", "channels", "match"),
    [
        ("a.flac", 8000, 9, "at most 8 channels, this sound has 9"),
        ("a.flac", 655_360, 1, "up to 655,350 Hz, this sound has 655,360"),
        ("a.flac", 70_001, 1, "in tens only, this sound has 70,001"),
        ("a.ogg", 200_001, 1, "up to 200,000 Hz"),
        ("a.ogg", 8000, 256, "at most 255 channels"),
        ("a.wav", 8000, 1025, "at most 1024 channels"),
        ("a.wav", 2.0**31, 1, "up to 2,147,483,647 Hz"),
    ],
)
def test_what_a_format_does_not_hold_is_refused_before_anything_is_written(tmp_path, name, rate, channels, match):
    field_file(sound(rate, channels), tmp_path / "a.st")
    text = lg("decode", "a.st", "-o", name, cwd=tmp_path, fails=True)
    assert match in text and name in text and "decode to" in text and text.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["a.st"]


@pytest.mark.parametrize(
    ("name", "rate", "channels"),
    [("a.flac", 655_350, 1), ("a.flac", 65_535, 8), ("a.ogg", 200_000, 1), ("a.ogg", 1, 255), ("a.wav", 48_000, 1024)],
)
def test_the_limits_themselves_are_written(tmp_path: Path, name: str, rate: int, channels: int):
    signal = sound(rate, channels)
    check_sound(tmp_path / name, signal)
    write_audio([torch.zeros(400, channels)], tmp_path / name, signal)
    written = soundfile.info(tmp_path / name)
    assert (written.samplerate, written.channels, written.frames) == (rate, channels, 400)


def test_long_vorbis_needs_no_large_stack(tmp_path: Path):
    code = (
        "import resource, sys, threading, torch\n"
        "from pathlib import Path\n"
        "from lg_field.signals.kinds.audio import write_audio\n"
        "from lg_field.signals.signal import Signal\n"
        "signal = Signal('audio', (1 << 19,), 1, 'float32', (-1.0, 1.0), 8000.0)\n"
        "threading.stack_size(1 << 20)\n"
        "work = threading.Thread(target=write_audio, args=([torch.zeros(1 << 19, 1)], Path(sys.argv[1]), signal))\n"
        "work.start(); work.join()\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.ogg")], capture_output=True, timeout=100)
    assert done.returncode == 0 and soundfile.info(tmp_path / "a.ogg").frames == 1 << 19
    assert BLOCK < 1 << 19
