"""How a photo's file goes together with the camera written for it, size and which way up, and with its mask."""

from __future__ import annotations

from pathlib import Path

from lg_field.captures.capture import CaptureError, Lens
from lg_field.captures.photo_file import Header

ROUNDING = 1.0
"""Pixels that a scaled size may be off by."""


def fitted(lens: Lens, facts: Header, image: Path) -> tuple[Lens, bool, list[str]]:
    """The camera for the pixels of a file, whether the file is turned upright for it, and notes.

    Intrinsics written for another size are scaled if the ratio is one number. A photo with an EXIF orientation is
    turned where that is what its camera's size asks for, or says nothing against.

    Raises:
        CaptureError: a size of another shape than the camera's.
    """
    turned = facts.orientation != 1
    ways = [facts.upright, (facts.width, facts.height)] if turned else [(facts.width, facts.height)]
    for number, (width, height) in enumerate(ways):
        if not _same_shape(lens, width, height):
            continue
        upright, notes = turned and number == 0, []
        if upright:
            notes.append("photos with an EXIF orientation are turned upright, as their cameras' sizes say")
        elif turned:
            notes.append("an EXIF orientation is ignored: the cameras' sizes are those of the pixels as stored")
        if (width, height) == (lens.width, lens.height):
            return lens, upright, notes
        ratio = width / lens.width
        notes.append(
            f"cameras are written for {lens.width} x {lens.height} pixels, images have {width} x {height}: "
            f"intrinsics are scaled by {ratio:.4g}"
        )
        return lens.resized(width, height), upright, notes
    raise CaptureError(
        f"{image} has {facts.upright[0]} x {facts.upright[1]} pixels, its camera is for {lens.width} x {lens.height}, "
        "which is another shape: correct w and h, or use the images the cameras were found with"
    )


def mask_of(folder: Path, name: str) -> Path | None:
    """The mask of a photo in a scene's folder: masks/NAME, masks/NAME.png or masks/STEM.png; None = it has none.

    Args:
        folder: of the scene.
        name: of the photo, below the folder of photos.
    """
    for path in (Path(name), Path(name + ".png"), Path(name).with_suffix(".png")):
        if (folder / "masks" / path).is_file():
            return folder / "masks" / path
    return None


def _same_shape(lens: Lens, width: int, height: int) -> bool:
    """Whether one is the other scaled, up to the rounding of whole pixels."""
    ratio = width / lens.width
    return abs(lens.height * ratio - height) <= ROUNDING * max(1.0, ratio)
