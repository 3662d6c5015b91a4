"""What a WebP file may claim."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

LONGEST = 16383
"""Pixels that a WebP picture has at most along a side (its bitstream counts them with 14 bits)."""


def check_canvas(image: Image.Image, path: Path) -> None:
    """Refuse a WebP picture larger than any can be, before anything is decoded: that would take minutes.

    Raises:
        ValueError: one that is.
    """
    if image.format == "WEBP" and max(image.size) > LONGEST:
        raise ValueError(
            f"{path} is broken: it claims {image.width} x {image.height} pixels, a WebP picture has at most "
            f"{LONGEST} along a side"
        )
