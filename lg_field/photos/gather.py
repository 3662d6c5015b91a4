"""What a folder holds: which photos in which order, which masks go with them, and what must be said about the rest."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from lg_field.captures.photo_file import HEIF

PHOTOS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", *HEIF)
RAW = (".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2")
VIDEOS = (".mp4", ".mov", ".m4v", ".mkv", ".avi", ".webm", ".mpg", ".mts", ".3gp")
_COPIES = re.compile(r"(images|masks|depths)_\d+")
"""Folders of smaller copies, as nerfstudio makes them beside `images`."""


def is_video(path: Path) -> bool:
    """Whether a path is named as a video."""
    return path.suffix.lower() in VIDEOS


def photo_folder(folder: Path) -> Path:
    """The folder itself, or its `images` where that holds the photos.

    Raises:
        ValueError: no photo in either.
    """
    for place in (folder, folder / "images"):
        if place.is_dir() and any(p.suffix.lower() in PHOTOS for p in place.iterdir() if p.is_file()):
            return place
    if find_photos(folder):
        return folder
    raw = sum(p.suffix.lower() in RAW for p in folder.iterdir())
    why = f"its {raw} raw photos must be developed to .jpg or .tif first" if raw else f"looked for {' '.join(PHOTOS)}"
    raise ValueError(f"{folder} holds no photo: {why}; a video is given by its file")


def find_photos(folder: Path) -> list[Path]:
    """Photos of a folder and of those below it, in the order people count (2 before 10).

    Left out are hidden files, folders called `masks` or `depth`, and smaller copies (`images_2`, ...).
    """

    def wanted(path: Path) -> bool:
        parts = path.relative_to(folder).parts
        folders = parts[:-1]
        if any(part.startswith(".") for part in parts):
            return False
        if any(part.lower() in ("masks", "depth", "depths") or _COPIES.fullmatch(part) for part in folders):
            return False
        return path.suffix.lower() in PHOTOS and path.is_file()

    return sorted((p for p in folder.rglob("*") if wanted(p)), key=lambda p: natural(p.relative_to(folder)))


def natural(path: Path) -> list[tuple[int, int, str]]:
    """A key that sorts numbers in names by value."""
    pieces = re.split(r"(\d+)", path.as_posix().lower())
    return [(1, int(piece), "") if piece.isdecimal() else (0, 0, piece) for piece in pieces]


def scene_names(folder: Path, photos: Sequence[Path]) -> list[str]:
    """Names below `images/` without their suffix: the path below the folder, made different where two photos share it.

    Returns:
        one POSIX path for each photo, without blanks; no two are equal, in upper or lower case.
    """
    names: list[str] = []
    taken: set[str] = set()
    for photo in photos:
        stem = re.sub(r"\s", "_", photo.relative_to(folder).with_suffix("").as_posix())
        name, number = stem, 2
        while name.lower() in taken:
            name, number = f"{stem}_{number}", number + 1
        taken.add(name.lower())
        names.append(name)
    return names


def find_masks(folder: Path, photos: Sequence[Path], given: Path | None) -> dict[Path, Path]:
    """The mask of each photo that has one.

    Args:
        folder: of the photos.
        photos: in it.
        given: folder of masks; None = `masks` in the folder, or beside it.

    Returns:
        photo -> mask. A mask is called as its photo (STEM.png, or NAME.SUFFIX.png as COLMAP has it).

    Raises:
        ValueError: `given` is no folder, or none of its files is called as a photo.
    """
    if given is not None and not given.is_dir():
        raise ValueError(f"--masks {given} is no folder")
    for place in [given] if given is not None else [folder / "masks", folder.parent / "masks"]:
        if not place.is_dir():
            continue
        named = {
            p.relative_to(place).with_suffix("").as_posix().lower(): p
            for p in sorted(place.rglob("*"))
            if p.suffix.lower() in PHOTOS and p.is_file()
        }
        found = {photo: mask for photo in photos if (mask := _mask_of(photo.relative_to(folder), named))}
        if found:
            return found
        if given is not None:
            example = next(iter(named.values())).name if named else "no picture"
            raise ValueError(
                f"--masks {given}: none of its files ({example}) is called as a photo ({photos[0].name}); a mask "
                f"has its photo's name: {photos[0].stem}.png"
            )
    return {}


def _mask_of(photo: Path, named: dict[str, Path]) -> Path | None:
    for key in (photo.with_suffix("").as_posix(), photo.as_posix()):
        if key.lower() in named:
            return named[key.lower()]
    return None


def check_places(source: Path, target: Path) -> None:
    """Raise ValueError or FileNotFoundError where the source is missing, or lies in the target or around it."""
    if not source.exists():
        raise FileNotFoundError(f"{source} does not exist; give a folder of photos or a video")
    if source.is_file() and not is_video(source):
        raise ValueError(f"{source} is no video ({' '.join(VIDEOS)}); several photos are given by their folder")
    inner, outer = source.resolve(), target.resolve()
    if inner == outer or outer in inner.parents or inner in outer.parents:
        raise ValueError(f"-o {target} must lie outside of {source}: the photos are left as they are")
