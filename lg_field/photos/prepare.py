"""Photos as the scene will hold them: upright, 8 bits, JPEG or PNG; copied byte for byte where they are so already."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lg_field.captures.photo_file import HEIF
from lg_field.photos.exif import Exif, read_exif, turned
from lg_field.photos.gather import find_masks, find_photos, photo_folder, scene_names

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGES, MASKS = "images", "masks"
QUALITY = 95
"""Of JPEGs that are written anew."""
Tell = Callable[[str], None]
Watch = Callable[[int, int], None]


@dataclass(frozen=True)
class Photo:
    """One photo, prepared."""

    name: str
    """Path below `images/`."""
    width: int
    height: int
    """Pixels as prepared."""
    camera: str
    """Photos with the same words were taken with the same camera at the same zoom."""
    focal: float | None = None
    """Pixels, from EXIF; None = not known."""
    masked: bool = False
    """Whether `masks/` holds where features may lie."""
    has_mask_file: bool = False
    """Whether that came from a mask, which the scene gets, and not from the photo's own alpha."""
    was_turned: bool = False
    was_shrunk: bool = False

    @property
    def mask_name(self) -> str:
        """Path of its mask below `masks/`, as COLMAP looks for it."""
        return f"{self.name}.png"


def prepare_folder(source: Path, work: Path, masks: Path | None, limit: int, tell: Tell, watch: Watch) -> list[Photo]:
    """Prepare all photos of a folder; what cannot be read is named, a line each, and left out.

    Args:
        source: the folder; only read.
        work: gets `images/` and `masks/`.
        masks: folder of masks, None = looked for beside the photos.
        limit: pixels of the longer side at most, 0 = any.
        tell: gets the lines that a user should read.
        watch: is told how many are done, of how many.

    Raises:
        ValueError: no photo, masks of other photos, or fewer than 3 photos that can be read.
    """
    folder = photo_folder(source)
    paths = find_photos(folder)
    mask_of = find_masks(folder, paths, masks)
    paths = _without_heif(paths, tell)
    photos = []
    for done, (path, name) in enumerate(zip(paths, scene_names(folder, paths), strict=True)):
        watch(done, len(paths))
        try:
            photos.append(prepare_photo(path, name, work, mask_of.get(path), limit))
        except ValueError as error:
            tell(f"left out: {error}")
    watch(len(paths), len(paths))
    if len(photos) < 3:
        raise ValueError(f"{folder} holds {len(photos)} photos that can be read; at least 3 are needed, better 30")
    _say_what_was_done(photos, tell)
    return _with_all_masks(photos, work, tell)


def prepare_photo(path: Path, name: str, work: Path, mask: Path | None, limit: int) -> Photo:
    """Write one photo, and its mask, into the work folder.

    Args:
        path: of the photo.
        name: below `images/`, without suffix.
        work: gets images/NAME.jpg or .png, and masks/NAME.jpg.png if the photo has a mask or alpha.
        mask: its mask: inside where it is brighter than half of its brightest.
        limit: pixels of the longer side at most, 0 = any.

    Raises:
        ValueError: not a picture, a broken one, or a mask of another aspect.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            image.load()
            facts, alpha = read_exif(image), _alpha(image)
            known = image.format in ("JPEG", "MPO", "PNG") and image.mode in ("L", "RGB", "RGBA")
            keep = known and (alpha is None or image.mode == "RGBA") and limited(image.size, limit) == image.size
            picture = image if keep and facts.orientation == 1 else _plain(image, alpha is not None, path)
            kind = ".png" if image.format == "PNG" or alpha is not None else ".jpg"
            upright = turned(picture, facts.orientation)
            size = limited(upright.size, limit)
            target = work / IMAGES / f"{name}{kind}"
            if picture is image:
                write_whole(target, lambda temporary: shutil.copyfile(path, temporary))
            else:
                final = upright if size == upright.size else upright.resize(size, Image.Resampling.LANCZOS)
                write_whole(target, lambda temporary: save_picture(final, temporary))
            shrunk = size != upright.size
            focal = facts.focal and facts.focal * max(size) / max(image.size)
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} is not a picture or is broken ({str(error).splitlines()[0]})") from error
    camera = "/".join([Path(name).parent.as_posix(), f"{size[0]}x{size[1]}", facts.camera])
    photo = Photo(f"{name}{kind}", *size, camera, focal, was_turned=facts.orientation != 1, was_shrunk=shrunk)
    return _write_mask(photo, work, mask, alpha, facts)


def _write_mask(photo: Photo, work: Path, mask: Path | None, alpha: Image | None, facts: Exif) -> Photo:
    """Where the photo is to be looked at: inside its mask and its alpha. `alpha` is as stored, not upright."""
    from PIL import Image

    size = (photo.width, photo.height)
    inside = np.ones(size[::-1], bool)
    if alpha is not None:
        upright = turned(alpha, facts.orientation).resize(size, Image.Resampling.NEAREST)
        inside &= np.asarray(upright) > 127
    if mask is not None:
        inside &= read_mask(mask, size, facts.orientation)
    if alpha is None and mask is None:
        return photo
    picture = Image.fromarray(inside.astype(np.uint8) * 255)
    write_whole(work / MASKS / photo.mask_name, lambda temporary: picture.save(temporary, "PNG"))
    return replace(photo, masked=True, has_mask_file=mask is not None)


def read_mask(path: Path, size: tuple[int, int], orientation: int = 1) -> np.ndarray:
    """A mask as (height, width) bool of an upright photo.

    Args:
        path: grey, RGB or RGBA picture; an alpha that says something wins over the colours.
        size: (width, height) of the upright photo.
        orientation: EXIF's of the photo. A mask with an EXIF of its own, or lying as the photo is stored, is turned.

    Raises:
        ValueError: not a picture, or of another aspect than the photo.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            image.load()
            alpha, own = _alpha(image), read_exif(image).orientation
            grey = alpha if alpha is not None else image.convert("L")
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"mask {path} is not a picture or is broken ({str(error).splitlines()[0]})") from error
    if own == 1 and orientation >= 5 and not _same_aspect(grey.size, size):
        own = orientation
    grey = turned(grey, own)
    if not _same_aspect(grey.size, size):
        raise ValueError(
            f"mask {path} is {grey.width}x{grey.height}, its photo {size[0]}x{size[1]}: not the same picture"
        )
    values = np.asarray(grey.resize(size, Image.Resampling.NEAREST))
    return values > values.max(initial=0) / 2


def _same_aspect(first: tuple[int, int], second: tuple[int, int]) -> bool:
    return abs(first[0] * second[1] - first[1] * second[0]) <= 0.02 * first[0] * second[1]


def _alpha(image: Image) -> Image | None:
    """Its alpha channel, if any pixel of it is not opaque."""
    if image.mode not in ("RGBA", "LA", "PA", "RGBa", "La") and "transparency" not in image.info:
        return None
    alpha = image.convert("RGBA").getchannel("A")
    return alpha if alpha.getextrema()[0] < 255 else None  # type: ignore[operator]


def _plain(image: Image, has_alpha: bool, path: Path) -> Image:
    """8-bit RGB, or RGBA.

    Raises:
        ValueError: samples without a known range.
    """
    from PIL import Image as Pillow

    if image.mode == "F":
        raise ValueError(f"{path} has floating-point samples; write it with 8 or 16 bits first")
    if image.mode.startswith("I"):  # 16-bit grey
        image = Pillow.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    return image.convert("RGBA" if has_alpha else "RGB")


def limited(size: tuple[int, int], limit: int) -> tuple[int, int]:
    """(width, height) with the longer side at most `limit` (0 = any)."""
    longer = max(size)
    if not limit or longer <= limit:
        return size
    return max(1, round(size[0] * limit / longer)), max(1, round(size[1] * limit / longer))


def save_picture(picture: Image, path: Path) -> None:
    """As JPEG or PNG by the suffix, without EXIF: the picture is upright."""
    if path.suffix == ".png":
        picture.save(path, "PNG", exif=b"")
    else:
        picture.save(path, "JPEG", quality=QUALITY, subsampling=0, exif=b"")


def write_whole(target: Path, write: Callable[[Path], object]) -> None:
    """Write a file of the work folder whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".part{target.suffix}")
    try:
        write(temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _without_heif(paths: list[Path], tell: Tell) -> list[Path]:
    """All paths where pillow-heif can be used, else those of other kinds.

    Raises:
        ImportError: nothing but HEIC.
    """
    heif = [p for p in paths if p.suffix.lower() in HEIF]
    if not heif:
        return paths
    cure = "pip install pillow-heif (lg-field[photos] has it), or save them as .jpg"
    try:
        import pillow_heif
    except ImportError as error:
        if len(heif) == len(paths):
            raise ImportError(f"the {len(heif)} photos are HEIC: {cure}") from error
        tell(f"left out: {len(heif)} HEIC photos ({heif[0].name}, ...): {cure}")
        return [p for p in paths if p not in set(heif)]
    pillow_heif.register_heif_opener()
    return paths


def _say_what_was_done(photos: list[Photo], tell: Tell) -> None:
    turned_count, shrunk = sum(p.was_turned for p in photos), sum(p.was_shrunk for p in photos)
    if turned_count:
        tell(f"{turned_count} photos were turned upright, as their EXIF says")
    if shrunk:
        largest = max(max(p.width, p.height) for p in photos)
        tell(f"{shrunk} photos were made smaller, longer side {largest} pixels (--image-size)")


def _with_all_masks(photos: list[Photo], work: Path, tell: Tell) -> list[Photo]:
    """nerfstudio reads masks of all frames or of none: where some photos have one, the others get one that is open."""
    from PIL import Image

    with_mask = sum(p.has_mask_file for p in photos)
    if with_mask:
        tell(
            f"{with_mask} of {len(photos)} photos have a mask"
            + (", the others count whole" if with_mask < len(photos) else "")
        )
    elif any(p.masked for p in photos):
        tell(f"{sum(p.masked for p in photos)} of {len(photos)} photos have alpha: outside of it no features are taken")
    if not 0 < with_mask < len(photos):
        return photos
    complete = []
    for photo in photos:
        if not photo.masked:
            whole = Image.new("L", (photo.width, photo.height), 255)
            write_whole(work / MASKS / photo.mask_name, lambda temporary, whole=whole: whole.save(temporary, "PNG"))  # type: ignore[misc]
        complete.append(replace(photo, masked=True, has_mask_file=True))
    return complete
