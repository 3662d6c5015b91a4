"""What a video file says about its frames besides their pixels: which way up, when each is shown, what is left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from lg_field.errors import notice

EVEN = 0.25
"""Frames are evenly timed if none lies further than this part of a frame from where it would then be."""
MOST_REPEATS = 8
"""Frames at an even rate are at most so many times as many as there were."""
FASTEST = 240.0
"""Frames a second that an uneven video is brought to at most."""


BT709 = 1
HDR = {16: "HDR with PQ", 18: "HDR with HLG"}
"""FFmpeg's numbers of curves that reach beyond white."""
WIDE = {9: "BT.2020", 11: "DCI-P3", 12: "Display P3"}
"""FFmpeg's numbers of primaries far from BT.709's."""


@dataclass(frozen=True)
class Timing:
    """When frames are shown: evenly, some of them repeatedly where their times were uneven."""

    rate: float
    """Frames a second."""
    picks: tuple[int, ...]
    """Which frame is shown at each even time."""
    even: bool = True
    """Whether the frames were evenly timed already."""


ROUNDING = Fraction(1, 1000)
"""Seconds that the time of a frame may be off by: some files count milliseconds."""


def even_timing(
    times: Sequence[Fraction], last: Fraction, named: Fraction | None, base: Fraction | None, exact: bool = False
) -> Timing:
    """An even rate for frames shown at these times.

    Args:
        times: seconds at which each frame is shown, rising.
        last: seconds that the last one is shown for, 0 if unknown.
        named: the rate that the file gives; None if it gives none.
        base: the lowest rate at which all times fall on a frame; None if unknown.
        exact: the last one's time counts like the others', too: as animations say it, not as video files do.

    Returns:
        Evenly timed frames at their own rate, each once. Others repeated at the base rate where that is a modest
        number, else at the rate of the median step: the duration is the file's.
    """
    count = len(times)
    if count == 1:
        return Timing(float(named or base or 25), (0,))
    step = (times[-1] - times[0]) / (count - 1)
    ends = not exact or abs(last - step) <= EVEN * step
    if step > 0 and ends and max(abs(t - times[0] - i * step) for i, t in enumerate(times)) <= EVEN * step:
        off = Fraction(1) if named is None else abs(step - 1 / named)
        close = off < step / 100 or off * (count - 1) <= ROUNDING
        return Timing(float(named if close and named is not None else 1 / step), tuple(range(count)))
    steps = sorted(b - a for a, b in pairwise(times) if b > a) or [Fraction(1, 25)]
    median = steps[len(steps) // 2]
    duration = times[-1] - times[0] + (last or median)
    rate = base if base is not None and base <= FASTEST else 1 / median
    if duration * rate > MOST_REPEATS * count:
        rate = min(1 / median, MOST_REPEATS * count / duration)
    total = max(1, round(duration * rate))
    rate = total / duration
    at = [(k + Fraction(1, 2)) / rate + times[0] for k in range(total)]  # the middle of each even frame
    picks = np.searchsorted([float(t) for t in times], [float(t) for t in at], side="right") - 1
    return Timing(float(rate), tuple(int(p) for p in picks.clip(0, count - 1)), even=False)


def upright(
    pixels: Shaped[np.ndarray, "height width channels"], matrix: Shaped[np.ndarray, "3 3"] | None
) -> Shaped[np.ndarray, "rows columns channels"]:
    """A decoded frame as it is to be shown.

    Args:
        pixels: as decoded.
        matrix: the file's display matrix, None if it has none: (x, y) are shown at (a x + c y, b x + d y), where the
            first two rows begin with a, b and c, d.

    Raises:
        ValueError: a matrix that turns by other than quarter turns.
    """
    if matrix is None:
        return pixels
    (a, b), (c, d) = np.sign(matrix[:2, :2]).tolist()
    if a and d and not b and not c:
        return pixels[:: int(d), :: int(a)]
    if b and c and not a and not d:
        return pixels.swapaxes(0, 1)[:: int(b), :: int(c)]
    raise ValueError("is turned by an angle that is no quarter turn; turn it upright with a video editor first")


def display_matrix(frame: Any) -> np.ndarray | None:
    """(3, 3) int32 display matrix of a PyAV frame, None if it has none."""
    found = [bytes(part) for part in frame.side_data if part.type.name == "DISPLAYMATRIX"]
    return np.frombuffer(found[0], dtype="<i4").reshape(3, 3) if found else None


def standard_colours(frame: Any) -> Any:
    """A PyAV frame with the light and the primaries of BT.709; one of about these as it is. FFmpeg takes its matrix and
    its range, full or limited, from the frame."""
    if int(frame.color_trc) not in HDR and int(frame.color_primaries) not in WIDE:
        return frame
    return frame.reformat(format="rgb24", dst_color_trc=BT709, dst_color_primaries=BT709)


def say_left_out(path: Path, container: Any, frame: Any) -> None:
    """A `notice` of what a file holds that is not encoded: sound, other streams, alpha, more than 8 bits."""
    streams, parts = container.streams, frame.format.components
    video = streams.video[0]
    left = []
    if streams.audio:
        left.append("its sound")
    if len(streams.video) > 1:
        left.append(f"{len(streams.video) - 1} more video streams")
    if any(part.is_alpha for part in parts) or video.metadata.get("alpha_mode") == "1":
        left.append("its transparency")
    if left:
        notice(f"{path}: left out: {', '.join(left)}; a video is encoded as frames of red, green and blue")
    bits = max(part.bits for part in parts)
    curve, gamut = HDR.get(int(frame.color_trc), ""), WIDE.get(int(frame.color_primaries), "")
    if curve or gamut:
        clipped = ", light beyond its white is clipped" if curve else ""
        notice(f"{path}: its colours ({' '.join(filter(None, (curve, gamut)))}) become BT.709{clipped}")
    if bits > 8:
        notice(f"{path}: its {bits} bits a colour are rounded to 8")
