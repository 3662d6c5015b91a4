"""TIFF through tifffile: planes, pages, any number of channels, integers and real numbers, either photometric."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from lg_field.orientation import ORIENTATION, upright
from lg_field.signals.parts import chosen_page
from lg_field.signals.pictures.colours import eight_bits
from lg_field.signals.pictures.raster import Raster

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""How TIFF and BigTIFF files begin."""
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB = 0, 1, 2
"""Values of PhotometricInterpretation that hold samples as they are; Pillow converts the others."""
PREMULTIPLIED, STRAIGHT = 1, 2
"""Values of ExtraSamples that are alpha."""
PROFILE = 34675
"""The tag of an ICC profile."""


def read_tiff(path: Path, part: str = "") -> Raster:
    """Read a page of a TIFF file.

    Args:
        path: the file.
        part: number of the page from 1, "" = the only one. Thumbnails and masks do not count as pages.

    Raises:
        ValueError: broken, several pages of which none was chosen, or samples that are no picture.
    """
    import tifffile

    try:
        with quiet_tifffile(), tifffile.TiffFile(path) as file:
            every = pages_of(file, path)
            pages = [page for page in every if not (page.is_reduced or page.is_mask)] or every
            stacked = int((file.imagej_metadata or {}).get("images", 1)) if len(pages) == 1 else 1
            if stacked > 1:
                raise ValueError(f"{path} holds {stacked} pages in one (ImageJ): encode a volume (--kind volume)")
            index = chosen_page(part, len(pages), path, "pages")
            page = pages[index]
            raster = Raster(np.zeros((0, 0, 1)))
            check_page(page, path)
            if page.imagedepth > 1:
                raise ValueError(f"{path} holds a volume of {page.imagedepth} planes: encode it as one (--kind volume)")
            if int(page.photometric) in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB):
                _read_page(page, raster, path)
            else:
                _read_colours(path, page.index, raster)
    except ValueError as error:  # tifffile's errors and those of its codecs are
        if str(error).startswith(str(path)):
            raise
        raise ValueError(f"{path} is not a TIFF image or is broken: {error}") from error
    except Exception as error:  # whatever a broken file makes tifffile, struct, zlib and numpy raise
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise ValueError(f"{path} is not a TIFF image or is broken: {reason}") from error
    return raster


@contextmanager
def quiet_tifffile() -> Iterator[None]:
    """Context: tifffile logs nothing; what matters it raises."""
    log = logging.getLogger("tifffile")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(before)


def pages_of(file: Any, path: Path) -> list[Any]:
    """All pages of an opened TIFF.

    Raises:
        ValueError: one names an earlier one as its next.
    """
    pages, offsets = [], set()
    for page in file.pages:
        if page.offset in offsets:
            raise ValueError(f"{path} is broken: its pages follow one another in a circle")
        offsets.add(page.offset)
        pages.append(page)
    return pages


def check_page(page: Any, path: Path) -> None:
    """Raise ValueError for pages that hold no numbers, or not all of them."""
    if page.dtype is None or page.dtype.kind not in "iufb":
        held = "numbers of an unknown type" if page.dtype is None else str(page.dtype)
        raise ValueError(f"{path} holds {held}: real numbers are needed; convert it first")
    if (named := len(page.dataoffsets)) < (needed := math.prod(page.chunked)):
        raise ValueError(f"{path} is broken: it names {named:,} of its {needed:,} strips or tiles")


def _read_page(page: Any, raster: Raster, path: Path) -> None:
    """Samples as they are stored, black below white."""
    array, bits = page.asarray(), page.bitspersample
    array = {"YX": lambda a: a[..., None], "SYX": lambda a: np.moveaxis(a, 0, -1)}.get(page.axes, lambda a: a)(array)
    if array.ndim != 3:
        raise ValueError(f"{path} has axes {page.axes}, a picture has rows, columns and channels")
    if int(page.photometric) == WHITE_IS_ZERO:
        array = _inverted(array, bits, path)
    raster.array = upright(array, _tag(page, ORIENTATION, 1))
    if array.dtype.kind == "u" and isinstance(bits, int) and bits < 8 * array.dtype.itemsize:
        _fewer_bits(raster, bits)
    if page.tags.get(PROFILE) is not None:
        _apply_profile(page.tags[PROFILE].value, raster)
    extra = tuple(int(v) for v in page.extrasamples or ())
    channels = raster.array.shape[-1]
    if PREMULTIPLIED in extra[:1] and channels in (2, 4):
        raster.drop_premultiplication()
    if extra[:1] in ((PREMULTIPLIED,), (STRAIGHT,)) and channels == 2:
        raster.spread_grey()
    if channels == 4 and extra[:1] == (0,):
        raster.note("the file does not say whether its fourth channel is alpha: kept as it is")
    resolution = [_ratio(page, tag) for tag in (282, 283)]
    if all(resolution) and not 0.99 < resolution[0] / resolution[1] < 1.01:
        raster.note("its pixels are not square: that is left out")


def _inverted(array: np.ndarray, bits: Any, path: Path) -> np.ndarray:
    """White-is-zero samples with black at zero."""
    if array.dtype == bool:
        return ~array
    if array.dtype.kind != "u" or not isinstance(bits, int):
        raise ValueError(f"{path} says that white is 0 for {array.dtype} samples, whose black is unknown: convert it")
    inverted: np.ndarray = ((1 << bits) - 1) - array
    return inverted.astype(array.dtype)


def _fewer_bits(raster: Raster, bits: int) -> None:
    """2 and 4 bits are stretched to 8; 9 to 15 keep their numbers, with white where the file has it."""
    top = (1 << bits) - 1
    if bits < 8:
        raster.array = (raster.array.astype(np.uint16) * 255 // top).astype(np.uint8)
    elif raster.array.dtype == np.uint16 and int(raster.array.max(initial=0)) <= top:
        raster.top = float(top)
        raster.note(f"{bits} bits: kept as 16 with white at {top}")


def _apply_profile(profile: bytes, raster: Raster) -> None:
    """Convert 8-bit colours to sRGB; the profile of others is left out."""
    from PIL import Image

    channels = raster.array.shape[-1]
    if raster.array.dtype != np.uint8 or channels not in (1, 3, 4):
        raster.note("its colour profile is left out: pixels are taken as they are")
        return
    image = Image.fromarray(np.ascontiguousarray(raster.array[..., 0] if channels == 1 else raster.array))
    image.info["icc_profile"] = profile
    raster.array = eight_bits(image, raster.notes)


def _read_colours(path: Path, index: int, raster: Raster) -> None:
    """Palettes, CMYK, YCbCr and Lab by Pillow, which turns TIFF upright itself."""
    from PIL import Image

    with Image.open(path) as image:
        if index:
            image.seek(index)
        deep = ";16" in str(getattr(image, "tile", ""))
        image.load()
        raster.array = eight_bits(image, raster.notes)
        if deep:
            raster.note("16-bit colours: taken as 8 bits")


def _tag(page: Any, code: int, otherwise: int) -> int:
    """A tag's number, if it has one."""
    tag = page.tags.get(code)
    return int(tag.value) if tag is not None and isinstance(tag.value, (int, np.integer)) else otherwise


def _ratio(page: Any, code: int) -> float:
    """A tag's quotient, 0 without one."""
    tag = page.tags.get(code)
    value = (0, 1) if tag is None else tag.value
    return float(value[0]) / float(value[1]) if isinstance(value, tuple) and len(value) == 2 and value[1] else 0.0
