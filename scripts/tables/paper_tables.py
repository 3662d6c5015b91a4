"""The tables of `signals.py`: of which presets and files each is, of which part of these, and how they are trained."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, replace

from lg_field.signals import SignalData
from lg_field.signals.settings import CompleteSettings

WHOLE = 0
"""An extent: all samples of an axis."""


@dataclass(frozen=True)
class Table:
    """A table of the paper."""

    presets: tuple[str, ...]
    """Its rows; the first is what the others are compared with."""
    data: tuple[str, ...]
    """Files, or folders of files, below the folder of all data."""
    files: int = 0
    """Files taken from a folder; 0 = all."""
    seeds: int = 1
    """Runs of every file."""
    quick: bool = False
    """Always of the smaller signals of --quick."""
    frames: int = WHOLE
    """First frames of a video that it is of."""
    parameters: int = 0
    """Budget of its networks; 0 = the presets'."""
    sample_fraction: float = 0.0
    """Part of the samples drawn each step; 0 = the presets'."""

    def settings(self, preset: CompleteSettings) -> CompleteSettings:
        """What a preset says in this table."""
        network = replace(preset.network, parameters=self.parameters or preset.network.parameters)
        fit = replace(preset.fit, sample_fraction=self.sample_fraction or preset.fit.sample_fraction)
        return replace(preset, network=network, fit=fit)

    def part(self, data: SignalData, quick: bool) -> SignalData:
        """What a run is trained on of a signal; `quick`: what --quick trains on."""
        return smaller(data) if quick else beginning(data, self.frames)


def smaller(data: SignalData) -> SignalData:
    """The part of a signal that --quick trains on: the first quarter of a sound, the middle of a picture, of a video
    the middle of the first frames."""
    axes = len(data.signal.shape)
    extents = {1: (data.signal.shape[0] // 4,), 2: (128, 128), 3: (64, 144, 192)}[axes]
    return narrowed(data, extents, range(0 if axes == 2 else 1, axes))


def beginning(data: SignalData, frames: int) -> SignalData:
    """The first frames of a video, `WHOLE` = all of them; another signal as it is."""
    return narrowed(data, (frames,), ()) if frames and len(data.signal.shape) == 3 else data


def narrowed(data: SignalData, extents: Sequence[int], middle: Container[int]) -> SignalData:
    """At most so many samples of the first axes: of those in `middle` from the middle, else from the beginning."""
    samples = data.samples
    for axis, extent in enumerate(extents):
        has = samples.shape[axis]
        length = min(extent, has)
        samples = samples.narrow(axis, (has - length) // 2 if axis in middle else 0, length)
    return SignalData(samples.contiguous(), replace(data.signal, shape=tuple(samples.shape[:-1])))


IMAGE = "image-div2k"
VIDEO_SMALL = tuple("video-small" + end for end in ("", "-per-partition", "-global"))
BIKES, CARPHONE = ("video/bikes.mp4",), ("video/carphone_pristine.mp4",)
TABLES = {
    "images": Table(
        (*(IMAGE + end for end in ("", "-auto", "-per-partition", "-auto-per-partition", "-global")), "image-best"),
        ("images/div2k_512",),
    ),
    "partitions": Table(
        (*(f"image-partitions-{n:02d}" for n in (16, 2, 4, 8, 32)), f"{IMAGE}-global"), ("images/div2k_512",), files=1
    ),
    "images-small": Table(
        tuple("image-small" + end for end in ("", "-per-partition", "-global")),
        ("images/div2k_512", "images/kodak"),
        seeds=3,
        quick=True,
    ),
    "partitions-small": Table(
        tuple("image-small" + end for end in ("", "-01", "-02", "-08", "-global")),
        ("images/div2k_512",),
        files=4,
        quick=True,
    ),
    "audio": Table(
        ("audio", "audio-per-partition", "audio-global"), ("audio/gt_bach.wav", "audio/gt_counting.wav"), seeds=5
    ),
    "audio-small": Table(
        tuple("audio-small" + end for end in ("", "-per-partition", "-global")),
        ("audio/gt_bach.wav", "audio/gt_counting.wav"),
        seeds=3,
        quick=True,
    ),
    "video-small": Table(VIDEO_SMALL, BIKES + CARPHONE, seeds=3, quick=True),
    "video-bikes": Table(VIDEO_SMALL, BIKES, seeds=3, frames=64, parameters=400_000),
    "video-carphone": Table(VIDEO_SMALL, CARPHONE, seeds=3, parameters=120_000),
    "video-bikes-2-percent": Table(
        VIDEO_SMALL,
        BIKES,
        seeds=3,
        frames=64,
        parameters=400_000,
        sample_fraction=0.02,
    ),
    "video-carphone-2-percent": Table(VIDEO_SMALL, CARPHONE, seeds=3, parameters=120_000, sample_fraction=0.02),
    "video": Table(("video", "video-per-partition", "video-global"), BIKES, seeds=3),
}
