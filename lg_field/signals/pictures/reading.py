"""Image files in: by Pillow, 16-bit PNG by imagecodecs, TIFF by tifffile, and float pictures."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lg_field.orientation import orientation_of, upright
from lg_field.signals.data import SignalData
from lg_field.signals.parts import chosen_page, split_part
from lg_field.signals.pictures.colours import eight_bits
from lg_field.signals.pictures.hdr import read_exr, read_radiance
from lg_field.signals.pictures.raster import Raster, as_image
from lg_field.signals.pictures.tiff import SIGNATURES, read_tiff
from lg_field.signals.pictures.webp import check_canvas

if TYPE_CHECKING:
    from PIL import Image

HEIC = (".heic", ".heif")
"""Suffixes that Pillow reads with pillow-heif."""
FLOAT: dict[str, Callable[[Path], Raster]] = {".exr": read_exr, ".hdr": read_radiance}
"""Readers of linear float pictures by suffix."""


def read_image(path: Path) -> SignalData:
    """Read an image: upright, with its own depth and range, and straight alpha; what cannot be kept is said.

    Palettes become RGB or RGBA, 1 bit becomes 8, colours become sRGB.

    Args:
        path: the file; `stack.tif:3` is its third page, `film.webp:3` its third frame.

    Raises:
        ValueError: not an image, a broken one, one of several pages of which none was chosen, or no real numbers.
        ImportError: a library is missing that reads it.
    """
    file, part = split_part(path)
    with open(file, "rb") as opened:
        head = opened.read(4)
    if file.suffix.lower() in FLOAT:
        raster = FLOAT[file.suffix.lower()](file)
    elif head in SIGNATURES:
        raster = read_tiff(file, part)
    else:
        raster = read_plain(file, part)
    return as_image(raster, path)


def read_plain(path: Path, part: str = "") -> Raster:
    """Read what Pillow opens.

    Raises:
        ValueError: see `read_image`.
    """
    import PIL.Image

    _register_heic(path)
    try:
        with PIL.Image.open(path) as image:
            check_canvas(image, path)
            if image.format == "TIFF":
                return read_tiff(path, part)
            deep = any(";16" in str(tile) for tile in getattr(image, "tile", []))  # known only before loading
            orientation, raster = orientation_of(image, path), Raster(np.zeros((0, 0, 1)))
            _choose_frame(image, path, part, raster)
            if deep and image.format == "PNG":
                _read_deep_png(path, image, raster)
            else:
                image.load()
                if image.mode.startswith(("I", "F")):
                    raster.array = np.array(image)[..., None]
                else:
                    raster.array = eight_bits(image, raster.notes)
            _say_aspect(image, raster)
    except (OSError, SyntaxError, EOFError, struct.error, PIL.Image.DecompressionBombError) as error:
        raise ValueError(f"{path} is not an image or is broken: {error}") from error
    raster.array = upright(raster.array, orientation)
    return raster


def _choose_frame(image: Image.Image, path: Path, part: str, raster: Raster) -> None:
    """Go to the frame that was asked for."""
    count = int(getattr(image, "n_frames", 1))
    if image.format in ("MPO", "HEIF", "AVIF") and not part and count > 1:  # phones add previews and depth
        raster.note(f"the first of its {count} pictures is read")
        return
    index = chosen_page(part, count, path, "frames")
    if index:
        image.seek(index)


def _read_deep_png(path: Path, image: Image.Image, raster: Raster) -> None:
    """16 bits a channel, which Pillow reads in grey only."""
    import imagecodecs

    if int(getattr(image, "n_frames", 1)) > 1:
        raise ValueError(f"{path} is an animation of 16 bits, which is not read: convert it to 8 bits or to a video")
    try:
        array = imagecodecs.png_decode(path.read_bytes())
    except RuntimeError as error:  # imagecodecs' own errors are
        raise OSError(str(error)) from error
    raster.array = array[..., None] if array.ndim == 2 else array
    if raster.array.shape[-1] == 2:
        raster.spread_grey()
    if "icc_profile" in image.info:
        raster.note("its colour profile is left out (16 bits): pixels are taken as sRGB")


def _say_aspect(image: Image.Image, raster: Raster) -> None:
    """Pixels that are not square are kept as they are, and said."""
    density = image.info.get("dpi") or image.info.get("aspect") or image.info.get("jfif_density")
    if density and len(density) == 2 and min(density) > 0 and not 0.99 < density[0] / density[1] < 1.01:
        x, y = (float(value) for value in density)
        raster.note(f"its pixels are not square ({x:g} x {y:g} per unit of length): that is left out")


def _register_heic(path: Path) -> None:
    """Let Pillow read HEIC.

    Raises:
        ImportError: the library is missing.
    """
    if path.suffix.lower() not in HEIC:
        return
    try:
        from pillow_heif import register_heif_opener
    except ImportError as error:
        raise ImportError(f"{path}: HEIC needs pillow-heif: pip install 'lg-field[heic]'") from error
    register_heif_opener()
