"""Sparse points, and which photos show them, of a COLMAP reconstruction that lies beside a transforms.json.

`ns-process-data` leaves one there, and `lg-field photos` does: the file gives the cameras, the reconstruction tracks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lg_field.captures.capture import CaptureError, Photo
from lg_field.captures.colmap import FLIP, Registered, find_model, read_model, seen_by

TURNED = 0.01
"""Radians, about, that a camera may be turned against the reconstruction's."""
MOVED = 0.01
"""How far it may be from it, as part of the cameras' spread."""


class Tracks(NamedTuple):
    """What a reconstruction adds to photos."""

    photos: list[Photo]
    """The same, with what they show."""
    points: np.ndarray
    """(n, 3) float64, in the photos' coordinates."""
    colors: np.ndarray
    """(n, 3) uint8."""


def find_tracks(folder: Path, photos: Sequence[Photo], from_world: np.ndarray) -> tuple[Tracks | None, list[str]]:
    """The tracks of the reconstruction in a scene's folder, for the photos that are where it has them.

    Args:
        folder: of the scene.
        photos: of its transforms.json.
        from_world: (4, 4) similarity from the reconstruction's coordinates to the photos'.

    Returns:
        the tracks; None = there is no reconstruction, or it is of other cameras. And notes.
    """
    model = find_model(folder)
    if model is None:
        return None, []
    try:
        lenses, images, points = read_model(model)
    except CaptureError as error:
        return None, [f"the sparse points of {model} are not used: {error}"]
    if points is None or not len(points[0]):
        return None, []
    places, colors, numbers = points
    order, named = np.argsort(numbers), {base / image.name: image for image in images for base in _bases(folder)}
    reach = float(np.linalg.norm(np.ptp([photo.pose[:3, 3] for photo in photos], axis=0)))
    found, elsewhere = [], 0
    for photo in photos:
        image = named.get(photo.image)
        if image is not None and not _agree(photo.pose, image, from_world, reach):
            image, elsewhere = None, elsewhere + 1
        usable = image is not None and image.camera in lenses and not photo.upright and not photo.lens.rational
        seen = seen_by(image, lenses[image.camera], numbers, order) if image is not None and usable else None
        found.append(replace(photo, seen=seen))
    notes = []
    if elsewhere:
        notes.append(f"{elsewhere} of {len(photos)} photos are not where {model} has them: no depth is known of them")
    if all(photo.seen is None for photo in found):
        return None, notes
    return Tracks(found, places @ from_world[:3, :3].T + from_world[:3, 3], colors), notes


def _bases(folder: Path) -> tuple[Path, ...]:
    """Where the names of a reconstruction may begin."""
    return folder / "images", folder


def _agree(pose: np.ndarray, image: Registered, from_world: np.ndarray, reach: float) -> bool:
    """Whether a photo's camera is the reconstruction's."""
    theirs = from_world @ np.linalg.inv(image.pose) @ FLIP
    turn = theirs[:3, :3] / np.linalg.norm(theirs[:3, 0])
    apart = np.linalg.norm(theirs[:3, 3] - pose[:3, 3])
    return bool(np.abs(turn - pose[:3, :3]).max() <= TURNED and apart <= MOVED * reach)
