"""Frames of a video: evenly spaced, and of each stretch the sharpest one."""

from __future__ import annotations

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
            total = sum(packet.size > 0 for packet in container.demux(container.streams.video[0]))
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            pixel_aspect = float(stream.sample_aspect_ratio or 1)
            return _sharpest(container.decode(stream), total, pixel_aspect, work, count, limit, watch)
    except (av.FFmpegError, OSError) as error:
        raise ValueError(f"{path} is not a video or is broken: {error}") from error


def _sharpest(
    frames: Any, total: int, pixel_aspect: float, work: Path, count: int, limit: int, watch: Watch
) -> list[Photo]:
    """Write the sharpest frame of each stretch of `frames` (`total` of them)."""
    count = min(count, total)
    if count < 3:
        raise ValueError(f"the video has {total} frames and --frames is {count}; at least 3 are needed, better 50")
    photos: list[Photo] = []
    best, best_sharpness, stretch = None, -1.0, 0
    for index, frame in enumerate(frames):
        watch(index, total)
        here = min(index * count // total, count - 1)
        if here != stretch:
            photos.append(_write_frame(best, len(photos), pixel_aspect, work, limit))
            best, best_sharpness, stretch = None, -1.0, here
        height = max(1, round(JUDGED_WIDTH * frame.height / frame.width))
        found = sharpness(frame.reformat(JUDGED_WIDTH, height, "gray").to_ndarray())
        if found > best_sharpness:
            best, best_sharpness = frame, found
    if best is not None:
        photos.append(_write_frame(best, len(photos), pixel_aspect, work, limit))
    if len(photos) < 3:
        raise ValueError(f"the video has {len(photos)} frames that can be read; at least 3 are needed, better 50")
    watch(total, total)
    return photos


def sharpness(grey: UInt8[np.ndarray, "height width"]) -> float:
    """Variance of the Laplacian: larger for a sharper picture of the same thing."""
    values = grey.astype(np.float32)
    middle = values[1:-1, 1:-1]
    around = values[:-2, 1:-1] + values[2:, 1:-1] + values[1:-1, :-2] + values[1:-1, 2:]
    return float((around - 4.0 * middle).var()) if middle.size else 0.0


def _write_frame(frame: Any, number: int, pixel_aspect: float, work: Path, limit: int) -> Photo:
    picture = upright(frame.to_image(), round(frame.rotation), pixel_aspect)
    size = limited(picture.size, limit)
    small = picture if size == picture.size else picture.resize(size)
    name = f"{number + 1:05d}.jpg"
    write_whole(work / IMAGES / name, lambda temporary: save_picture(small, temporary))
    return Photo(name, *size, "video", was_turned=frame.rotation != 0, was_shrunk=size != picture.size)


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
