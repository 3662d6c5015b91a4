"""Video through PyAV, and animated pictures through Pillow: frames are kept as 8-bit RGB, of animations also RGBA."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Shaped, UInt8
from torch import Tensor

from lg_field.errors import notice
from lg_field.quality import SSIM_WINDOW, ssim
from lg_field.signals.data import SignalData
from lg_field.signals.features import volume_features
from lg_field.signals.kinds.animation import (
    READS,
    WRITES,
    is_animation,
    read_animation,
    write_animation,
)
from lg_field.signals.kinds.base import Bounds, Figures, Kind
from lg_field.signals.kinds.frames import Timing, display_matrix, even_timing, say_left_out, standard_colours, upright
from lg_field.signals.own_places import PLAYS, VideoPlaces, pixel_aspect
from lg_field.signals.settings import ShapeConfig, Weights
from lg_field.signals.signal import Signal

H264 = ("libx264", {"crf": "12", "preset": "fast"})
CODECS: dict[str, tuple[str, dict[str, str]]] = {".webm": ("libvpx-vp9", {"crf": "15", "b": "0", "cpu-used": "4"})}
"""Codecs of files that hold no H.264."""
BT709, LIMITED = 1, 1
"""FFmpeg's numbers of the colours that are written: BT.709, luma from 16 to 235."""
CONTAINERS = (".mp4", ".avi", ".mov", ".mkv", ".webm")
LARGEST = 16_384
"""Pixels of a side that H.264 and VP9 encoders take."""


class Video(VideoPlaces, Kind):
    """Frames of 8-bit RGB. Users give the number of a frame, then x and y."""

    frozen = ("time",)
    reads = (*CONTAINERS, ".apng")
    on_request = (".gif", ".webp", ".png")
    writes = (*CONTAINERS, *WRITES)
    cell_size = (60, 64, 64)
    fit = {
        "lr": 7e-4,
        "lr_factor": 0.03,
        "steps": 5000,
        "sample_fraction": 0.002,
        "stratified": True,
        "overlap": 2,
        "center_cells": True,
    }
    network = {**Kind.network, "per_sample": 0.04, "global_share": 0.0, "coordinate_step": 1 / 128}

    def paces(self, axes: int) -> tuple[float, ...]:
        """A frame counts for two pixels: from one to the next there is more change than from pixel to pixel."""
        return (2.0, 1.0, 1.0)

    def matches(self, path: Path) -> bool:
        """A video, or an animated picture as a whole."""
        return super().matches(path) or is_animation(path)

    def read(self, path: Path, options: ShapeConfig) -> SignalData:
        return read_animation(path) if path.suffix.lower() in READS else read_video(path)

    def write(self, slabs: Iterable[Shaped[Tensor, "_ *rest channels"]], path: Path, signal: Signal) -> None:
        if path.suffix.lower() in WRITES:
            write_animation(slabs, path, signal)
            return
        if signal.extra.get(PLAYS, 1) != 1:
            notice(f"{path.suffix} is played once: that it repeats is left out; .gif, .webp and .apng keep it")
        write_video(slabs, path, signal.rate, pixel_aspect(signal.extra))

    def check_write(self, path: Path, signal: Signal) -> None:
        _, height, width = signal.shape
        suffix = path.suffix.lower()
        largest, channels = WRITES.get(suffix, LARGEST), (3, 4) if suffix in WRITES else (3,)
        if max(height, width) > largest:
            raise ValueError(
                f"{path}: videos have at most {largest:,} pixels a side, these frames are {width:,} x {height:,}; "
                "decode at a smaller --scale, or to .npy"
            )
        if signal.channels not in channels:
            raise ValueError(f"{path}: {suffix} has 3 channels, this video {signal.channels}; decode to .apng or .webp")

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
    """Read all frames of the first video stream, upright, evenly timed.

    Frames whose times are uneven are repeated at an even rate of the same duration; that, and what is left out (sound,
    transparency, more than 8 bits, colours beyond those of BT.709), is said in a `notice`. The description
    keeps pixels that are not square.

    Raises:
        ValueError: not a video, broken, without frames, or with frames of several sizes.
    """
    import av

    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ValueError(f"{path} has no video stream")
            stream = container.streams.video[0]
            frames, times, last = _decoded(path, container, stream)
            aspect = stream.sample_aspect_ratio or Fraction(1)
            named, base = stream.average_rate, stream.base_rate
    except (av.FFmpegError, OSError) as error:
        raise ValueError(f"{path} is not a video or is broken: {error}") from error
    if len(times) == len(frames):
        timing = even_timing(times, last, named, base)
    else:  # a file without times
        timing = Timing(float(named or base or 25), tuple(range(len(frames))))
    turned, pictures = frames[0][1], [pixels for pixels, _ in frames]
    if not timing.even:
        notice(
            f"{path}: its {len(frames)} frames come unevenly in time; {len(timing.picks)} at {timing.rate:.4g} a "
            f"second stand for them, {len(timing.picks) / timing.rate:.4g} s in all"
        )
    samples = torch.from_numpy(np.stack([pictures[i] for i in timing.picks]))
    aspect = 1 / aspect if turned and aspect > 0 else aspect
    extra = {} if aspect <= 0 or aspect == 1 else {"pixel_aspect": [aspect.numerator, aspect.denominator]}
    shape = (samples.shape[0], samples.shape[1], samples.shape[2])
    return SignalData(samples, Signal("video", shape, 3, "uint8", (0.0, 255.0), timing.rate, extra=extra))


def _decoded(path: Path, container: Any, stream: Any) -> tuple[list[tuple[np.ndarray, bool]], list[Fraction], Fraction]:
    """The frames, upright, each with whether it was turned on its side; when they are shown; how long the last is."""
    frames: list[tuple[np.ndarray, bool]] = []
    times: list[Fraction] = []
    last = Fraction(0)
    for frame in container.decode(stream):
        if not frames:
            say_left_out(path, container, frame)
        matrix = display_matrix(frame)
        try:
            pixels = upright(standard_colours(frame).to_ndarray(format="rgb24"), matrix)
        except ValueError as error:
            raise ValueError(f"{path} {error}") from error
        if frames and pixels.shape != frames[0][0].shape:
            (old_height, old_width, _), (height, width, _) = frames[0][0].shape, pixels.shape
            raise ValueError(
                f"{path}: its frames change size, from {old_width} x {old_height} to {width} x {height} at frame "
                f"{len(frames)}; cut it there, or bring it to one size first"
            )
        frames.append((pixels, matrix is not None and not matrix[0, 0]))
        if frame.pts is not None:
            times.append(frame.pts * frame.time_base)
            last = (frame.duration or 0) * frame.time_base
    if not frames:
        raise ValueError(f"{path} has no frames: there is nothing to encode")
    return frames, sorted(times), last  # .avi gives frames the times in which they were stored


def write_video(
    slabs: Iterable[UInt8[Tensor, "_ height width 3"]], path: Path, rate: float, aspect: Fraction | None = None
) -> None:
    """Write (n, height, width, 3) uint8 slabs as H.264 of high quality (crf 12), to .webm as VP9; BT.709, said so.

    Args:
        slabs: frames.
        path: the file.
        rate: frames a second.
        aspect: width of a pixel over its height, None for square ones.
    """
    import av

    codec, options = CODECS.get(path.suffix.lower(), H264)
    if aspect is not None and path.suffix.lower() == ".webm":
        notice(f"pixels of {aspect.numerator}:{aspect.denominator} become square: .webm does not keep them, .mp4 does")
        aspect = None

    with av.open(str(path), "w") as container:
        stream: Any = None
        for slab in slabs:
            for frame in slab.numpy():
                if stream is None:
                    stream = container.add_stream(codec, Fraction(rate).limit_denominator(100_000))
                    stream.height, stream.width = frame.shape[:2]
                    stream.pix_fmt = "yuv444p" if frame.shape[0] % 2 or frame.shape[1] % 2 else "yuv420p"
                    stream.options = options
                    context = stream.codec_context
                    context.colorspace, context.color_primaries, context.color_trc = (BT709,) * 3
                    context.color_range = LIMITED
                    if aspect is not None:
                        context.sample_aspect_ratio = aspect
                picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
                coloured: dict[str, Any] = {"dst_colorspace": "ITU709", "dst_color_range": "MPEG"}
                container.mux(stream.encode(picture.reformat(format=stream.pix_fmt, **coloured)))
        if stream is not None:
            container.mux(stream.encode())
