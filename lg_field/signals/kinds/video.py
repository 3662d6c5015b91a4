"""Video through PyAV: frames are kept as 8-bit RGB."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Shaped, UInt8
from torch import Tensor

from lg_field.quality import SSIM_WINDOW, ssim
from lg_field.signals.data import SignalData
from lg_field.signals.features import volume_features
from lg_field.signals.kinds.base import Bounds, Figures, Kind
from lg_field.signals.settings import ShapeConfig, Weights
from lg_field.signals.signal import Signal

H264 = ("libx264", {"crf": "12", "preset": "fast"})
CODECS: dict[str, tuple[str, dict[str, str]]] = {".webm": ("libvpx-vp9", {"crf": "15", "b": "0", "cpu-used": "4"})}
"""Codecs of files that hold no H.264."""


class Video(Kind):
    """Frames of 8-bit RGB. Users give the number of a frame, then x and y."""

    name = "video"
    axes = ("time", "y", "x")
    order = (0, 2, 1)
    units = "frame, x, y"
    round = False
    frozen = ("time",)
    sample = "pixel"
    reads = (".mp4", ".avi", ".mov", ".mkv", ".webm")
    writes = reads
    cell_size = (60, 64, 64)
    fit = {"lr": 1e-4, "steps": 5000, "sample_fraction": 0.002, "overlap": 2}
    flat = True

    def read(self, path: Path, options: ShapeConfig) -> SignalData:
        return read_video(path)

    def write(self, slabs: Iterable[Shaped[Tensor, "_ *rest channels"]], path: Path, signal: Signal) -> None:
        write_video(slabs, path, signal.rate)

    def features(
        self, samples: Shaped[Tensor, "*shape channels"], signal: Signal, weights: Weights = "random"
    ) -> Float32[Tensor, " features"]:
        return volume_features(signal.normalize(samples), weights)

    def figures(self, signal: Signal) -> Figures:
        return FrameSimilarity() if min(signal.shape[1:]) >= SSIM_WINDOW else Figures()

    def still(self, signal: Signal) -> Bounds | None:
        frame = float(signal.shape[0] // 2)
        return (frame, 0.0, 0.0), (frame + 1.0, float(signal.shape[1]), float(signal.shape[2]))

    def picture(
        self, samples: Shaped[Tensor, "*shape channels"], signal: Signal
    ) -> Shaped[Tensor, "height width channels"]:
        return samples[0]


class FrameSimilarity(Figures):
    """Mean SSIM of the frames."""

    def __init__(self) -> None:
        self.frames: list[float] = []

    def add(self, decoded: Float[Tensor, "*values"], true: Float[Tensor, "*values"]) -> None:
        self.frames += [ssim(a, b) for a, b in zip(decoded, true)]

    def result(self) -> dict[str, float]:
        return {"ssim": sum(self.frames) / len(self.frames)}


def read_video(path: Path) -> SignalData:
    """Read all frames of the first video stream.

    Raises:
        ValueError: not a video, broken, or without frames.
    """
    import av

    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ValueError(f"{path} has no video stream")
            stream = container.streams.video[0]
            rate = float(stream.average_rate or stream.base_rate or 25)
            frames = [torch.from_numpy(frame.to_ndarray(format="rgb24")) for frame in container.decode(stream)]
    except (av.FFmpegError, OSError) as error:
        raise ValueError(f"{path} is not a video or is broken: {error}") from error
    if not frames:
        raise ValueError(f"{path} has no frames: there is nothing to encode")
    samples = torch.stack(frames)
    shape = (samples.shape[0], samples.shape[1], samples.shape[2])
    return SignalData(samples, Signal("video", shape, 3, "uint8", (0.0, 255.0), rate))


def write_video(slabs: Iterable[UInt8[Tensor, "_ height width 3"]], path: Path, rate: float) -> None:
    """Write (n, height, width, 3) uint8 slabs as H.264 of high quality (crf 12), to .webm as VP9."""
    import av

    codec, options = CODECS.get(path.suffix.lower(), H264)

    with av.open(str(path), "w") as container:
        stream: Any = None
        for slab in slabs:
            for frame in slab.numpy():
                if stream is None:
                    stream = container.add_stream(codec, Fraction(rate).limit_denominator(100_000))
                    stream.height, stream.width = frame.shape[:2]
                    stream.pix_fmt = "yuv444p" if frame.shape[0] % 2 or frame.shape[1] % 2 else "yuv420p"
                    stream.options = options
                picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
                container.mux(stream.encode(picture))
        if stream is not None:
            container.mux(stream.encode())
