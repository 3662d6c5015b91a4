"""Sound: WAV, FLAC and OGG, any rate, sample format and number of channels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from jaxtyping import Float, Float32, Shaped
from torch import Tensor

from lg_field.quality import psnr
from lg_field.signals.data import SignalData
from lg_field.signals.features import sound_features
from lg_field.signals.kinds.base import Kind
from lg_field.signals.settings import ShapeConfig, Weights
from lg_field.signals.signal import Signal


class Audio(Kind):
    """A sound, of any number of channels. Users give seconds."""

    name = "audio"
    axes = ("time",)
    units = "seconds"
    round = False
    reads = (".wav", ".flac", ".ogg")
    writes = reads
    fill = 0.0  # silence
    reach = 100.0  # paper, audio
    fit = {"lr": 1e-4}
    unit_values_in_incode = False
    flat = True
    playable = True

    def counts(self, shape: Sequence[int]) -> tuple[int, ...]:
        """32 cells (paper, audio), of very short sounds one a sample."""
        return (min(32, shape[0]),)

    def read(self, path: Path, options: ShapeConfig) -> SignalData:
        return read_audio(path)

    def write(self, slabs: Iterable[Shaped[Tensor, "_ *rest channels"]], path: Path, signal: Signal) -> None:
        write_audio(slabs, path, signal)

    def to_samples(self, signal: Signal, point: Sequence[float]) -> tuple[float, ...]:
        self.check_axes(point)
        return (point[0] * signal.rate,)

    def from_samples(self, signal: Signal, point: Sequence[float]) -> tuple[float, ...]:
        self.check_axes(point)
        return (point[0] / signal.rate,)

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


def write_audio(slabs: Iterable[Shaped[Tensor, "_ channels"]], path: Path, signal: Signal) -> None:
    """Write (n, channels) slabs one after the other, at the signal's rate rounded to whole Hz."""
    import soundfile

    subtype = "PCM_16" if signal.dtype == "int16" else "PCM_24" if path.suffix.lower() == ".flac" else "FLOAT"
    subtype = "VORBIS" if path.suffix.lower() == ".ogg" else subtype
    with soundfile.SoundFile(path, "w", max(1, round(signal.rate)), signal.channels, subtype) as file:
        for slab in slabs:
            file.write(slab.numpy())
