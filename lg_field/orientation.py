"""Which way up a picture is: EXIF's orientation, 1 (as stored) to 8."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

ORIENTATION = 274
"""The tag, of EXIF and of TIFF."""
SIDEWAYS = (5, 6, 7, 8)
"""Orientations that exchange width and height."""


def orientation_of(image: Image.Image, path: Path) -> int:
    """The orientation that an opened image file states, 1 where it states none that makes sense.

    Args:
        image: as Pillow opened it, not decoded yet.
        path: of its file.
    """
    seen = image.format != "PNG" or "exif" in image.info or has_chunk(path, b"eXIf")
    value = image.getexif().get(ORIENTATION, 1) if seen else 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def has_chunk(path: Path, name: bytes) -> bool:
    """Whether a PNG file has a chunk, found without decoding it."""
    with open(path, "rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            if head[4:] == name:
                return True
            file.seek(int.from_bytes(head[:4], "big") + 4, 1)
    return False


def upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """(height, width, ...) pixels as stored, turned and mirrored as an orientation asks (EXIF 2.3, section 4.6.4)."""
    if orientation in SIDEWAYS:
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return array
