"""Photos and masks from files: whatever Pillow opens, as 8-bit RGB or RGBA, the way up that its camera has it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lg_field.captures.capture import CaptureError, Lens, Photo
from lg_field.captures.cut_out import cut_out
from lg_field.orientation import SIDEWAYS, orientation_of

if TYPE_CHECKING:
    from PIL import Image

HEIF = (".heic", ".heif")
EDGE_PIXELS = 50
"""So many half transparent pixels say how alpha is meant."""


@dataclass(frozen=True)
class Header:
    """What a photo's file says without its pixels."""

    width: int
    """As stored."""
    height: int
    """As stored."""
    orientation: int
    """EXIF's, 1 = as stored."""
    alpha: bool
    """Whether it has transparency."""

    @property
    def upright(self) -> tuple[int, int]:
        """Width and height after turning by the orientation."""
        return (self.height, self.width) if self.orientation in SIDEWAYS else (self.width, self.height)


def opened(path: Path) -> Image.Image:
    """An image file, not decoded yet.

    Raises:
        CaptureError: not an image, or a broken one.
    """
    from PIL import Image, UnidentifiedImageError

    if path.suffix.lower() in HEIF:
        _learn_heif(path)
    try:
        return Image.open(path)
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise CaptureError(f"{path} is not an image or is broken: {error}") from error


def _learn_heif(path: Path) -> None:
    """Let Pillow open the photos of phones that are no JPEG.

    Raises:
        CaptureError: the package for that is missing.
    """
    try:
        import pillow_heif
    except ImportError as error:
        raise CaptureError(f"{path} is HEIC: pip install pillow-heif (lg-field[photos] has it)") from error
    pillow_heif.register_heif_opener()


@contextmanager
def decoding(path: Path) -> Iterator[Image.Image]:
    """An image file, opened, to look at its pixels.

    Raises:
        CaptureError: not an image, or one that turns out to be broken.
    """
    from PIL import Image

    with opened(path) as image:
        try:
            yield image
        except (OSError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError) as error:
            raise CaptureError(f"{path} is broken: {error}") from error


def header(path: Path) -> Header:
    """Size, orientation and transparency of an image file.

    Raises:
        CaptureError: not an image, or a broken one.
    """
    with opened(path) as image:
        orientation = orientation_of(image, path)
        alpha = image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
        return Header(*image.size, orientation, alpha)


def read_photo(photo: Photo, alpha: bool, scale: float = 1.0, cut: bool = False) -> np.ndarray:
    """A photo's pixels, (height, width, 3 or 4) uint8, straight alpha.

    Args:
        photo: which.
        alpha: give four channels (255 where the file has none; 0 where the photo shows its backdrop), else three.
        scale: pixels of the result for each of `photo.lens`, per axis.
        cut: outside of its mask it is transparent, with `alpha`. A pixel of a smaller picture that the mask's edge runs
            through is partly so, and has the colour of what is inside.

    Raises:
        CaptureError: broken, or of a kind whose range of values is not known.
    """
    from PIL import Image, ImageOps

    with decoding(photo.image) as image:
        upright = ImageOps.exif_transpose(image) if photo.upright else image
        array = eight_bits(upright, photo.image)
    array = array if array.shape[2] == 4 or not alpha else np.dstack([array, np.full(array.shape[:2], 255, np.uint8)])
    array = array if alpha else array[..., :3]
    if photo.lens.rational:
        array = undistorted(array, photo.lens)
    if cut and photo.mask is not None:
        inside = mask_share(photo, array.shape[1], array.shape[0])
        share = np.round(array[..., 3] * (inside / 255.0)).astype(np.uint8)
        array = np.dstack([array[..., :3], share])
    if scale != 1.0:
        size = (int(array.shape[1] * scale), int(array.shape[0] * scale))
        array = np.array(Image.fromarray(array).resize(size, resample=Image.Resampling.BILINEAR))
    return cut_out(array, photo.backdrop) if alpha and photo.backdrop is not None else array


def few_pixels(path: Path, side: int) -> np.ndarray:
    """(height, width, 3) uint8: every so many pixels of a photo as stored, less than two `side` along the longer side.

    Raises:
        CaptureError: broken, or of a kind whose range of values is not known.
    """
    with decoding(path) as image:
        image.draft("RGB", (2 * side, 2 * side))  # a JPEG is decoded to a fraction of its size, at once
        step = max(1, max(image.size) // side)
        return eight_bits(image, path)[::step, ::step, :3]


def looks_premultiplied(pixels: np.ndarray) -> bool:
    """Whether colours seem to be multiplied with their alpha already: along edges none is brighter than its alpha, and
    they are darker than where all is solid, as a thing's edge has no reason to be.

    Args:
        pixels: (height, width, 4) uint8.
    """
    bright, alpha = pixels[..., :3].max(2).astype(np.int64), pixels[..., 3].astype(np.int64)
    edge, solid = (alpha > 0) & (alpha < 255), alpha == 255
    if edge.sum() < EDGE_PIXELS or solid.sum() < EDGE_PIXELS:
        return False
    within = (bright[edge] <= alpha[edge] + 1).mean() > 0.999
    return bool(within and bright[edge].mean() < 0.75 * bright[solid].mean())


def eight_bits(image: Image.Image, path: Path) -> np.ndarray:
    """An opened image as (height, width, 3 or 4) uint8: palettes, 1-bit, grey, CMYK and 16-bit pictures included.

    Raises:
        CaptureError: floating-point or 32-bit values beyond what 8 bits can stand for.
    """
    transparent = image.mode in ("LA", "PA", "La", "RGBa") or "transparency" in image.info
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image).astype(np.float64)
        top = 1.0 if image.mode == "F" else 65535.0
        if values.size and not (values.min() >= 0.0 and values.max() <= top):
            raise CaptureError(
                f"{path} holds values from {values.min():g} to {values.max():g}; 0 to {top:g} are read: convert it to "
                "8 or 16 bits"
            )
        grey = np.round(values * (255.0 / top)).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode not in ("RGB", "RGBA"):
        image = image.convert("RGBA" if transparent else "RGB")
    elif transparent:
        image = image.convert("RGBA")
    return np.array(image)


def undistorted(array: np.ndarray, lens: Lens) -> np.ndarray:
    """A photo of a lens with rational distortion as one of the same lens without (OpenCV's undistort).

    Raises:
        CaptureError: OpenCV is missing.
    """
    try:
        import cv2
    except ImportError as error:
        raise CaptureError("lenses of OpenCV's rational model need OpenCV: pip install 'lg-field[signals]'") from error
    matrix = np.array([[lens.fx, 0.0, lens.cx - 0.5], [0.0, lens.fy, lens.cy - 0.5], [0.0, 0.0, 1.0]])
    result: Any = cv2.undistort(array, matrix, np.array(lens.rational))
    return result


def read_mask(photo: Photo, width: int, height: int) -> np.ndarray:
    """Where a photo counts, (height, width) bool: its mask, brighter than half, or all of it without one.

    Args:
        photo: whose. A mask of another size is stretched over the photo; of a colour mask the brightest channel counts.
        width: pixels.
        height: pixels.

    Raises:
        CaptureError: a broken mask, or one of a kind whose range of values is not known.
    """
    if photo.mask is None:
        return np.ones((height, width), dtype=bool)
    return _stretched(_brightness(photo), width, height) > 127


def mask_share(photo: Photo, width: int, height: int) -> np.ndarray:
    """How much of each pixel of a photo counts, (height, width) uint8: 0, 255, or between them along the edge of a mask
    that has more pixels than that.

    Args and errors as of `read_mask`.
    """
    if photo.mask is None:
        return np.full((height, width), 255, dtype=np.uint8)
    bright = _brightness(photo)
    if bright.shape[0] < height or bright.shape[1] < width:
        bright = _stretched(bright, width, height)
    return _stretched(np.where(bright > 127, np.uint8(255), np.uint8(0)), width, height)


def _brightness(photo: Photo) -> np.ndarray:
    """(height, width) uint8 of a photo's mask in its own size, the way up and as straight as the photo is read."""
    from PIL import ImageOps

    assert photo.mask is not None
    with decoding(photo.mask) as image:
        turned = ImageOps.exif_transpose(image) if photo.upright else image
        array = eight_bits(turned, photo.mask)
    bright = array[..., :3].max(2)
    if array.shape[2] == 4 and bool((bright == bright.flat[0]).all()):
        bright = array[..., 3]  # a plain picture whose alpha is the mask
    if photo.lens.rational:
        bright = undistorted(bright, photo.lens.resized(bright.shape[1], bright.shape[0]))
    return bright


def _stretched(grey: np.ndarray, width: int, height: int) -> np.ndarray:
    """A grey picture in another size."""
    from PIL import Image

    return np.array(Image.fromarray(grey).resize((width, height), resample=Image.Resampling.BILINEAR))
