"""Sound: WAV, FLAC and OGG, any rate, sample format and number of channels."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from lg_field.signals.data import SignalData
from lg_field.signals.signal import Signal


def read_audio(path: Path) -> SignalData:
    """Read a sound; its largest amplitude becomes 1 for the network (SIREN's convention).

    Raises:
        ValueError: not a sound, broken, empty, or silent throughout.
    """
    import soundfile

    try:
        array, rate = soundfile.read(path, dtype="float32", always_2d=True)
        integer = soundfile.info(path).subtype.startswith("PCM_16")
    except (RuntimeError, OSError, TypeError) as error:
        raise ValueError(f"{path} is not a sound or is broken: {error}") from error
    if len(array) == 0:
        raise ValueError(f"{path} has no samples: there is nothing to encode")
    samples = torch.from_numpy(array)
    peak = float(samples.abs().max())
    if peak == 0.0:
        raise ValueError(f"{path} is silent throughout: there is nothing to encode")
    if integer:
        samples = (samples * 32768.0).round().to(torch.int16)
        peak *= 32768.0
    dtype = "int16" if integer else "float32"
    return SignalData(samples, Signal("audio", (len(samples),), samples.shape[1], dtype, (-peak, peak), float(rate)))


def write_audio(slabs: Iterable[Tensor], path: Path, signal: Signal, rate: int) -> None:
    """Write (n, channels) slabs one after the other."""
    import soundfile

    subtype = "PCM_16" if signal.dtype == "int16" else "PCM_24" if path.suffix.lower() == ".flac" else "FLOAT"
    subtype = "VORBIS" if path.suffix.lower() == ".ogg" else subtype
    with soundfile.SoundFile(path, "w", rate, signal.channels, subtype) as file:
        for slab in slabs:
            file.write(slab.numpy())
