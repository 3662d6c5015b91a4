"""Animated pictures as videos, through Pillow: GIF, WebP and APNG, with their times, loop and alpha."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from lg_field.errors import notice
from lg_field.memory import check_memory
from lg_field.orientation import orientation_of, upright
from lg_field.signals.data import SignalData
from lg_field.signals.kinds.frames import Timing, even_timing
from lg_field.signals.own_places import PLAYS as PLAYS
from lg_field.signals.parts import split_part
from lg_field.signals.pictures.webp import check_canvas
from lg_field.signals.signal import Signal

READS = (".gif", ".webp", ".png", ".apng")
WRITES = {".gif": 65_535, ".webp": 16_383, ".apng": 2**31 - 1}
"""Suffixes that are written, and their most pixels a side."""
NO_TIME = Fraction(1, 10)
"""Seconds that a frame without a duration is shown, as browsers do."""
TICK = {".gif": 10}
"""Milliseconds that durations are whole multiples of, where it is not 1."""


def is_animation(path: Path) -> bool:
    """Whether a file holds several pictures that are shown one after the other, and none of them is asked for."""
    file, part = split_part(path)
    if part or file.suffix.lower() not in READS or not file.is_file():
        return False
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as image:
            return int(getattr(image, "n_frames", 1)) > 1
    except (OSError, ValueError, SyntaxError, EOFError, UnidentifiedImageError, Image.DecompressionBombError):
        return False  # the reader of images says why


def read_animation(path: Path) -> SignalData:
    """Read all frames as RGB, or as RGBA where some pixel is transparent, evenly timed (see `even_timing`); `extra` has
    how often they are played.

    Raises:
        ValueError: broken, larger than memory, or no animation.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            check_canvas(image, path)
            count, plays = int(getattr(image, "n_frames", 1)), _plays(image)
            what = f"{path}: {count} frames of {image.width} x {image.height}"
            check_memory(4 * count * image.width * image.height, what, "cut it, or make its frames smaller")
            turn = orientation_of(image, path)
            frames, durations = [], []
            first = 1 if image.info.get("default_image") and count > 1 else 0  # an APNG's still is no frame
            for index in range(first, count):
                image.seek(index)
                frames.append(upright(np.array(image.convert("RGBA")), turn))  # of WebP, times come with the pixels
                durations.append(Fraction(image.info.get("duration") or 0).limit_denominator(1000) / 1000)
    except (OSError, SyntaxError, EOFError, IndexError, ValueError, Image.DecompressionBombError) as error:
        words = str(error)
        raise ValueError(words if str(path) in words else f"{path} is no animation or is broken: {words}") from error
    picks = _timing(path, durations)
    alpha = any(bool((frame[..., 3] != 255).any()) for frame in frames)
    samples = torch.from_numpy(np.stack([frames[k] for k in picks.picks])[..., : 4 if alpha else 3].copy())
    n, height, width, channels = samples.shape
    extra = {PLAYS: plays}
    return SignalData(
        samples, Signal("video", (n, height, width), channels, "uint8", (0.0, 255.0), picks.rate, extra=extra)
    )


def _timing(path: Path, durations: list[Fraction]) -> Timing:
    """An even rate for frames of these durations; what it changes is said."""
    if missing := sum(not d for d in durations):
        notice(f"{path}: {missing} of its {len(durations)} frames have no duration: taken as {float(NO_TIME):g} s")
    durations = [d or NO_TIME for d in durations]
    times = [sum(durations[:k], Fraction(0)) for k in range(len(durations))]
    step = Fraction(*_common([d.as_integer_ratio() for d in durations]))
    timing = even_timing(times, durations[-1], 1 / durations[0], 1 / step, exact=True)
    if not timing.even:
        notice(
            f"{path}: its {len(durations)} frames come unevenly in time; {len(timing.picks)} at {timing.rate:.4g} a "
            f"second stand for them, {len(timing.picks) / timing.rate:.4g} s in all"
        )
    return timing


def _common(ratios: list[tuple[int, int]]) -> tuple[int, int]:
    """The greatest fraction that all of these are whole multiples of."""
    import math

    bottom = math.lcm(*(b for _, b in ratios))
    return math.gcd(*(a * (bottom // b) for a, b in ratios)), bottom


def _plays(image: Any) -> int:
    """How often a file is played: GIF counts repetitions, and says nothing where it is played once."""
    loop = image.info.get("loop")
    if image.format == "GIF":
        return 1 if loop is None else int(loop) + 1 if loop else 0
    return 1 if loop is None else int(loop)


def write_animation(slabs: Iterable[Shaped[Tensor, "_ height width channels"]], path: Path, signal: Signal) -> None:
    """Write (n, height, width, 3 or 4) uint8 slabs; played as often as the signal says, else for ever. What the format
    cannot hold (colours of GIF, partial alpha, its times) is said.

    Args:
        slabs: frames.
        path: of one of the suffixes `WRITES`.
        signal: what they are.
    """
    from PIL import Image

    suffix, frames = path.suffix.lower(), [Image.fromarray(frame) for slab in slabs for frame in slab.numpy()]
    plays, count = int(signal.extra.get(PLAYS, 0)), signal.shape[0]
    options: dict[str, Any] = {"save_all": True, "duration": durations(count, signal.rate, TICK.get(suffix, 1))}
    if "pixel_aspect" in signal.extra:
        notice(f"{suffix} has square pixels: the shape of this video's is left out; .mp4 keeps it")
    if suffix == ".gif":
        clear = " and no half transparent pixels" if signal.channels == 4 else ""
        notice(f".gif has 256 colours a frame{clear}: they are reduced; .apng keeps them, .webp nearly")
        loop = {} if plays == 1 else {"loop": plays and plays - 1}
        options |= loop | {"disposal": 2 if signal.channels == 4 else 1}
    elif suffix == ".webp":
        options |= {"loop": plays, "quality": 95}
    else:
        options |= {"loop": plays, "format": "PNG"}
    frames[0].save(path, append_images=frames[1:], **options)


def durations(count: int, rate: float, tick: int) -> list[int]:
    """Milliseconds that each of so many frames is shown: multiples of a tick, at least one, true in their sum."""
    ends: Iterator[int] = (round(1000.0 * k / rate / tick) * tick for k in range(1, count + 1))
    result, last = [], 0
    for end in ends:
        result.append(max(tick, end - last))
        last += result[-1]
    if rate * tick > 1000.0:
        notice(f"frames are shown for at least {tick} ms: {rate:g} a second become {1000 // tick}")
    return result
