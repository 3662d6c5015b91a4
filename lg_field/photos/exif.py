"""What a photo's EXIF says: how it is to be turned, which camera took it, and its focal length."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

ORIENTATION, MAKE, MODEL, EXIF_FOLDER = 0x0112, 0x010F, 0x0110, 0x8769
FOCAL, FOCAL_35, PLANE_X_RESOLUTION, PLANE_UNIT = 0x920A, 0xA405, 0xA20E, 0xA210
UNIT_MM = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}
"""Millimetres of EXIF's units of the focal plane: inch, cm, mm, micrometre."""
DIAGONAL_35 = math.hypot(36.0, 24.0)
PLAUSIBLE = (0.3, 15.0)
"""Focal lengths that are believed, in multiples of the longer side: a view of 118 to 4 degrees."""


@dataclass(frozen=True)
class Exif:
    """Facts of one photo."""

    orientation: int = 1
    """EXIF's number, 1 (upright) to 8."""
    camera: str = ""
    """Make, model and focal length: photos with the same words share a camera."""
    focal: float | None = None
    """Focal length in pixels of the picture as stored; None = not known."""


def read_exif(image: Image) -> Exif:
    """Read the facts; what is missing or damaged is left at its default.

    Args:
        image: an open picture.

    Returns:
        focal length by FocalLengthIn35mmFilm (over the diagonal, as CIPA DCG-001 defines it), else by FocalLength and
        the resolution of the focal plane.
    """
    try:
        exif = image.getexif()
        inner = exif.get_ifd(EXIF_FOLDER)
    except (ValueError, TypeError, OSError, SyntaxError, KeyError):
        return Exif()
    orientation = exif.get(ORIENTATION, 1)
    words = [str(exif.get(tag, "")).strip("\0 ") for tag in (MAKE, MODEL)]
    lens, equivalent = (_number(inner.get(tag)) for tag in (FOCAL, FOCAL_35))
    words += [f"{value:g}" for value in (lens, equivalent) if value]
    focal = None
    if equivalent:
        focal = equivalent / DIAGONAL_35 * math.hypot(*image.size)
    elif lens and (resolution := _number(inner.get(PLANE_X_RESOLUTION))):
        focal = lens * resolution / UNIT_MM.get(inner.get(PLANE_UNIT, 2), 25.4)
    longer = max(image.size)
    if focal is not None and not PLAUSIBLE[0] * longer < focal < PLAUSIBLE[1] * longer:
        focal = None
    valid = isinstance(orientation, int) and 1 <= orientation <= 8
    return Exif(orientation if valid else 1, " ".join(w for w in words if w), focal)


def _number(value: object) -> float:
    """A finite positive number, else 0."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, ZeroDivisionError):
        return 0.0
    return number if math.isfinite(number) and number > 0 else 0.0


def turned(image: Image, orientation: int) -> Image:
    """The picture upright: turned and mirrored as EXIF's orientation says; the same object for 1."""
    from PIL.Image import Transpose

    steps = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return image.transpose(steps[orientation]) if orientation in steps else image
