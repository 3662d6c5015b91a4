"""Sound: WAV, FLAC and OGG, any rate, sample format and number of channels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from jaxtyping import Float, Float32, Shaped
from torch import Tensor

from lg_field.errors import notice
from lg_field.quality import psnr
from lg_field.signals.data import SignalData
from lg_field.signals.features import sound_features
from lg_field.signals.kinds.base import Kind
from lg_field.signals.own_places import KEPT, AudioPlaces
from lg_field.signals.settings import ShapeConfig, Weights
from lg_field.signals.signal import Signal

UNBOUNDED = ("FLOAT", "DOUBLE")
"""Sample formats with values beyond full scale."""
LONGEST = 20_000
"""Samples of a cell, about, of a sound that has more than 32 such cells."""
LIMITS = {".wav": (1024, 2**31 - 1, "WAV"), ".flac": (8, 655_350, "FLAC"), ".ogg": (255, 200_000, "Vorbis")}
"""Most channels and highest rate in Hz that files hold, and what they are called."""
BLOCK = 1 << 13
"""Frames written at a time: Vorbis takes as much of the stack as it is given frames."""


class Audio(AudioPlaces, Kind):
    """A sound, of any number of channels. Users give seconds."""

    reads = (".wav", ".flac", ".ogg")
    writes = reads
    fill = 0.0  # silence
    reach = 100.0  # paper, audio
    fit = {"lr": 1e-3, "lr_factor": 0.1, "stratified": True, "center_cells": True}
    network = {**Kind.network, "per_sample": 0.5, "global_share": 0.0, "coordinate_step": 0.002}
    unit_values_in_incode = False
    playable = True

    def counts(self, shape: Sequence[int]) -> tuple[int, ...]:
        """32 cells (paper, audio), of very short sounds one a sample, of long ones more."""
        return (max(min(32, shape[0]), round(shape[0] / LONGEST)),)

    def read(self, path: Path, options: ShapeConfig) -> SignalData:
        return read_audio(path)

    def check_write(self, path: Path, signal: Signal) -> None:
        check_sound(path, signal)

    def write(self, slabs: Iterable[Shaped[Tensor, "_ *rest channels"]], path: Path, signal: Signal) -> None:
        write_audio(slabs, path, signal)

    def unit_values(self, values: Float[Tensor, "*values"]) -> Float[Tensor, "*values"]:
        """Amplitudes, as they are."""
        return values

    def step_psnr(self, error: float) -> float:
        return psnr(error)

    def features(
        self, samples: Shaped[Tensor, "*shape channels"], signal: Signal, weights: Weights = "random"
    ) -> Float32[Tensor, " features"]:
        return sound_features(signal.normalize(samples), signal.rate)


def read_audio(path: Path) -> SignalData:
    """Read a sound; its largest amplitude becomes 1 for the network (SIREN's convention).

    16-bit samples are int16; all others float32, full scale 1, and the description's `extra` names what they were
    (`KEPT`) so that they are written so.

    Raises:
        ValueError: not a sound, broken, empty, with NaN or infinite samples, or silent throughout.
    """
    import soundfile

    try:
        array, rate = soundfile.read(path, dtype="float32", always_2d=True)
        subtype = soundfile.info(path).subtype
    except (RuntimeError, OSError, TypeError) as error:
        raise ValueError(f"{path} is not a sound or is broken: {error}") from error
    if len(array) == 0:
        raise ValueError(f"{path} has no samples: there is nothing to encode")
    samples = torch.from_numpy(array)
    bad = int((~samples.isfinite()).sum())
    if bad:
        raise ValueError(f"{path}: {bad:,} of {samples.numel():,} samples are NaN or infinite; replace them first")
    peak = float(samples.abs().max())
    if peak == 0.0:
        raise ValueError(f"{path} is silent throughout: there is nothing to encode")
    integer = subtype == "PCM_16"
    if integer:
        samples = (samples * 32768.0).round().to(torch.int16)
        peak *= 32768.0
    dtype, extra = "int16" if integer else "float32", {"subtype": subtype} if subtype in KEPT else {}
    shape, reach = (len(samples),), (-peak, peak)
    return SignalData(samples, Signal("audio", shape, samples.shape[1], dtype, reach, float(rate), extra=extra))


def check_sound(path: Path, signal: Signal) -> None:
    """Raise ValueError if sounds of this suffix have no such rate or number of channels: libsndfile says so late, for
    Vorbis by a segmentation fault."""
    suffix, rate = path.suffix.lower(), file_rate(signal)
    most, highest, name = LIMITS[suffix]
    cure = "decode to .wav" if suffix != ".wav" else "decode to .npy"
    if signal.channels > most:
        raise ValueError(f"{path}: {name} has at most {most} channels, this sound has {signal.channels}; {cure}")
    if rate > highest:
        raise ValueError(
            f"{path}: {name} goes up to {highest:,} Hz, this sound has {rate:,}; {cure}, or at a smaller --scale"
        )
    if suffix == ".flac" and rate > 65_535 and rate % 10:
        raise ValueError(f"{path}: FLAC has rates above 65,535 Hz in tens only, this sound has {rate:,}; {cure}")


def file_rate(signal: Signal) -> int:
    """Samples a second as files hold it, in whole Hz."""
    return max(1, round(signal.rate))


def subtype_for(path: Path, signal: Signal) -> str:
    """How a file of this suffix holds the samples: as they came where it can."""
    suffix, was = path.suffix.lower(), signal.extra.get("subtype")
    if suffix == ".ogg":
        return "VORBIS"
    if signal.dtype == "int16":
        return "PCM_16"
    if suffix == ".wav":
        return "PCM_U8" if was == "PCM_S8" else was or "FLOAT"
    return {"PCM_U8": "PCM_S8", "PCM_S8": "PCM_S8", "ULAW": "PCM_16", "ALAW": "PCM_16"}.get(was or "", "PCM_24")


def write_audio(slabs: Iterable[Shaped[Tensor, "_ channels"]], path: Path, signal: Signal) -> None:
    """Write (n, channels) slabs one after the other, at the signal's rate rounded to whole Hz.

    Raises:
        ValueError: a rate or number of channels that such files have not.
    """
    import soundfile

    check_sound(path, signal)
    subtype, clipped, peak = subtype_for(path, signal), 0, 0.0
    if path.suffix.lower() == ".flac" and signal.extra.get("subtype") in ("PCM_32", "DOUBLE"):
        notice(f"FLAC has 24 bits at most: the {signal.extra['subtype']} samples are rounded to them; .wav keeps them")
    with soundfile.SoundFile(path, "w", file_rate(signal), signal.channels, subtype) as file:
        for slab in slabs:
            if slab.is_floating_point() and subtype not in UNBOUNDED:
                beyond = slab.abs()
                clipped, peak = clipped + int((beyond > 1.0).sum()), max(peak, float(beyond.max()))
                slab = slab.clamp(-1.0, 1.0)
            for part in slab.split(BLOCK):
                file.write(part.numpy())
    if clipped:
        notice(
            f"{clipped:,} samples lie above full scale (up to {peak:.3g}) and are clipped at 1, as {path.suffix} holds "
            f"no more; a .wav of floats keeps them"
            if subtype_for(path.with_suffix(".wav"), signal) in UNBOUNDED
            else f"{clipped:,} samples lie above full scale (up to {peak:.3g}) and are clipped at 1"
        )
