"""Photos of a thing before a plain backdrop (white, black, a coloured cloth): the backdrop is no part of the scene.

Rays that see it would be explained by fog of its colour. Where nearly all of the borders of nearly all photos have one
colour, whatever has that colour and touches a border is empty: alpha 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from lg_field.captures.capture import Backdrop, Capture
from lg_field.captures.cut_out import SAME, frame_of, shaded, unit_places
from lg_field.captures.photo_file import few_pixels
from lg_field.captures.see_through import holes_of

BackgroundMode = Literal["auto", "keep"]
"""auto: a plain backdrop is empty; keep: it is part of the scene."""
LOOKED_AT = 16
"""Photos that are looked at."""
SIDE = 192
"""Pixels of the longer side of what is looked at."""
BORDER = 0.03
"""Width of the border, in shorter sides."""
PLAIN = 0.85
"""Part of a border that has one colour."""
MOST = 0.9
"""Part of the photos that have such a border, all of the same colour."""
BRIGHT = 40
"""Darker backdrops are not graded: their light is that of noise."""
EVEN = 5
"""Up to so much noise a backdrop is taken to be evenly lit."""
NOISE_MOST = 24
"""Noisier borders are not plain."""
FRAME, CELLS = 0.97, 64
"""Overlap of the things of all photos, on so many cells per axis, from which on they are one window, if they fill a
rectangle to that part, or are round: there is black around a lens's circle or a video, white around prints."""
ROUND, LARGE = 0.02, 0.3
"""Most by which a circle differs from pi / 4 of its box, and the least part of a photo that it covers."""
THING = (0.003, 0.85)
"""Part of a photo that has another colour: a thing before the backdrop."""


def before_backdrop(capture: Capture, mode: BackgroundMode, flag: str) -> tuple[Capture, list[str]]:
    """A capture whose photos are transparent where they show a plain backdrop, if they do; and notes.

    Args:
        capture: photos with alpha or masks of their own, and fisheye photos (black around their circle), stay as they
            are.
        mode: what was asked for.
        flag: by which option that is, for the note.

    Raises:
        CaptureError: a broken photo.
    """
    photos = capture.photos
    if mode == "keep" or capture.alpha or any(photo.mask is not None or photo.lens.fisheye for photo in photos):
        return capture, []
    found = find_backdrop([photo.image for photo in photos])
    if found is None:
        return capture, []
    holes = holes_of(photos, found)
    count = sum(hole is not None for hole in holes)
    through = f"; {count} of {len(photos)} show it through the thing, too" if count else ""
    line = (
        f"The photos show a thing before a plain backdrop ({', '.join(map(str, found.color))} of 255"
        f"{', unevenly lit' if found.graded else ''}): where they show that, the scene is empty ({flag} keep: "
        f"otherwise){through}."
    )
    cut = tuple(replace(photo, backdrop=replace(found, holes=hole)) for photo, hole in zip(photos, holes))
    return replace(capture, photos=cut, alpha=True), [line]


def find_backdrop(images: Sequence[Path]) -> Backdrop | None:
    """The plain backdrop that photos show around what is in them; None if they show none.

    Raises:
        CaptureError: a broken photo.
    """
    numbers = np.unique(np.linspace(0, len(images) - 1, min(LOOKED_AT, len(images))).round().astype(int))
    looks = [few_pixels(images[number], SIDE) for number in numbers]
    flat, graded = (_common(looks, graded) for graded in (False, True))
    if flat is None or (graded is not None and flat.noise > EVEN and graded.noise < 0.5 * flat.noise):
        return None if graded is None else graded.backdrop(True)
    return flat.backdrop(False)


class _Common(NamedTuple):
    """What the borders of photos have in common."""

    color: np.ndarray
    noise: float

    def backdrop(self, graded: bool) -> Backdrop:
        red, green, blue = self.color.round().astype(int).tolist()
        return Backdrop((red, green, blue), int(max(SAME, np.ceil(2.0 * self.noise))), graded)


def _common(looks: Sequence[np.ndarray], graded: bool) -> _Common | None:
    """The colour of nearly all borders; None if they have none, or there is nothing before it, or a window."""
    seen = [one for pixels in looks if (one := _plain_border(pixels, graded)) is not None]
    if len(looks) - len(seen) > (1.0 - MOST) * len(looks) or not seen:
        return None
    colors = np.array([one[0] for one in seen])
    color = np.median(colors, axis=0)
    if (np.abs(colors - color).max(1) <= SAME).mean() < MOST or _is_frame(np.array([one[2] for one in seen])):
        return None
    return _Common(color, float(np.median([one[1] for one in seen])))


def _is_frame(things: np.ndarray) -> bool:
    """Whether what lies within borders, (n, CELLS, CELLS) bool, is one rectangle or circle in all photos: a window."""
    all_of, any_of = things.all(0), things.any(0)
    if all_of.sum() < FRAME * any_of.sum():
        return False
    rows, columns = (any_of.any(axis).sum() for axis in (1, 0))
    filled = float(any_of.sum() / (rows * columns))
    return filled > FRAME or (abs(filled - np.pi / 4) < ROUND and float(any_of.mean()) > LARGE)


def _plain_border(pixels: np.ndarray, graded: bool) -> tuple[np.ndarray, float, np.ndarray] | None:
    """Colour and noise of a border that is plain, and where the thing of other colours is that it goes around, (CELLS,
    CELLS) bool; None: it is not."""
    width = max(1, round(BORDER * min(pixels.shape[:2])))
    border, values = frame_of(pixels.shape[:2], width), pixels.astype(np.float32)
    color: np.ndarray = np.median(values[border], axis=0)
    if graded and color.max() < BRIGHT:
        return None
    here = shaded(values, color, unit_places(*pixels.shape[:2]), border) if graded else color
    away = np.abs(values - here).max(2)
    plain = np.sort(away[border])[: max(1, round(PLAIN * border.sum()))]
    noise = float(plain[round(0.9 * (len(plain) - 1))])
    if plain[-1] > max(SAME, 2.0 * noise) or noise > NOISE_MOST:
        return None
    thing = away > max(SAME, 2.0 * noise)
    at = [((np.arange(CELLS) + 0.5) * n / CELLS).astype(int) for n in thing.shape]
    return (color, noise, thing[np.ix_(*at)]) if THING[0] <= thing.mean() <= THING[1] else None
