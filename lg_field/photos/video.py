"""Frames of a video: evenly spaced, and of each stretch the sharpest one."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from lg_field.photos.prepare import IMAGES, Photo, Watch, limited, save_picture, write_whole

if TYPE_CHECKING:
    from PIL.Image import Image

JUDGED_WIDTH = 480
"""Frames are judged at this width: noise and blocks of the codec count less."""


def prepare_video(path: Path, work: Path, count: int, limit: int, watch: Watch) -> list[Photo]:
    """Write frames of a video into the work folder, upright as its rotation says.

    Args:
        path: the video.
        work: gets images/00001.jpg, ...
        count: stretches of equal length that the video is cut into; of each the sharpest frame is taken.
        limit: pixels of the longer side at most, 0 = any.
        watch: is told how many frames were looked at, of how many.

    Raises:
        ImportError: PyAV is missing.
        ValueError: not a video, broken, or with fewer than 3 frames.
    """
    try:
        import av
    except ImportError as error:
        raise ImportError("videos are read by PyAV: pip install lg-field[photos]") from error
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ValueError(f"{path} has no video stream")
            times = [packet.pts for packet in container.demux(container.streams.video[0]) if packet.pts is not None]
        if len(times) < 3:
            raise ValueError(f"{path} has {len(times)} frames; at least 3 are needed, better 50")
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            stretches = Stretches(min(times), max(times), count)
            photos: list[Photo] = []
            for done, frame in enumerate(container.decode(stream)):
                watch(done, len(times))
                if (best := stretches.add(frame)) is not None:
                    photos.append(_write_frame(best, len(photos), stream.sample_aspect_ratio, work, limit))
            if stretches.best is not None:
                photos.append(_write_frame(stretches.best, len(photos), stream.sample_aspect_ratio, work, limit))
    except (av.FFmpegError, OSError) as error:
        raise ValueError(f"{path} is not a video or is broken: {error}") from error
    watch(len(times), len(times))
    if len(photos) < 3:
        raise ValueError(f"{path} gave {len(photos)} frames; at least 3 are needed, better 50")
    return photos


@dataclass
class Stretches:
    """The sharpest frame of each stretch of time."""

    first: int
    last: int
    """Times of the first and the last frame, in the stream's own unit."""
    count: int
    """Stretches of equal length."""
    best: Any = None
    """Sharpest frame of the stretch so far."""
    best_sharpness: float = -1.0
    current: int = 0

    def add(self, frame: Any) -> Any | None:
        """Look at the next frame; returns the sharpest of the stretch before, when this one begins another."""
        time = self.first if frame.pts is None else min(max(frame.pts, self.first), self.last)
        here, finished = (time - self.first) * self.count // (self.last - self.first + 1), None
        if here != self.current:
            finished, self.best, self.best_sharpness, self.current = self.best, None, -1.0, here
        height = max(3, round(JUDGED_WIDTH * frame.height / frame.width))
        found = sharpness(frame.reformat(JUDGED_WIDTH, height, "gray").to_ndarray())
        if found > self.best_sharpness:
            self.best, self.best_sharpness = frame, found
        return finished


def sharpness(grey: UInt8[np.ndarray, "height width"]) -> float:
    """Variance of the Laplacian: larger for a sharper picture of the same thing."""
    values = grey.astype(np.float32)
    middle = values[1:-1, 1:-1]
    around = values[:-2, 1:-1] + values[2:, 1:-1] + values[1:-1, :-2] + values[1:-1, 2:]
    return float((around - 4.0 * middle).var()) if middle.size else 0.0


def _write_frame(frame: Any, number: int, pixel_aspect: Fraction | None, work: Path, limit: int) -> Photo:
    picture = upright(frame.to_image(), round(frame.rotation), float(pixel_aspect or 1))
    size = limited(picture.size, limit)
    small = picture if size == picture.size else picture.resize(size)
    name = f"{number + 1:05d}.jpg"
    write_whole(work / IMAGES / name, lambda temporary: save_picture(small, temporary))
    camera = f"video/{size[0]}x{size[1]}"
    return Photo(name, *size, camera, was_turned=frame.rotation != 0, was_shrunk=size != picture.size)


def upright(picture: Image, rotation: int, pixel_aspect: float = 1.0) -> Image:
    """A frame as a player shows it.

    Args:
        picture: as stored.
        rotation: degrees counter-clockwise, a multiple of 90.
        pixel_aspect: width of a stored pixel over its height.
    """
    from PIL.Image import Transpose

    if abs(pixel_aspect - 1.0) > 1e-3 and pixel_aspect > 0:
        picture = picture.resize((max(1, round(picture.width * pixel_aspect)), picture.height))
    steps = {90: Transpose.ROTATE_90, 180: Transpose.ROTATE_180, 270: Transpose.ROTATE_270}
    quarter = round(rotation / 90) * 90 % 360
    return picture.transpose(steps[quarter]) if quarter else picture
