"""Video through PyAV: frames are kept as 8-bit RGB."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lg_field.signals.data import SignalData
from lg_field.signals.signal import Signal


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


def write_video(slabs: Iterable[Tensor], path: Path, rate: float) -> None:
    """Write (n, height, width, 3) uint8 slabs as H.264 of high quality (crf 12)."""
    import av

    with av.open(str(path), "w") as container:
        stream = None
        for slab in slabs:
            for frame in slab.numpy():
                if stream is None:
                    stream = container.add_stream("libx264", Fraction(rate).limit_denominator(100_000))
                    stream.height, stream.width = frame.shape[:2]
                    stream.pix_fmt = "yuv444p" if frame.shape[0] % 2 or frame.shape[1] % 2 else "yuv420p"
                    stream.options = {"crf": "12", "preset": "fast"}
                picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
                container.mux(stream.encode(picture))
        if stream is not None:
            container.mux(stream.encode())
