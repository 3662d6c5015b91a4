"""Which format a folder is in, and what holds for captures of every format."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from lg_field.captures.capture import Capture, CaptureError
from lg_field.captures.colmap import find_model, read_colmap
from lg_field.captures.photo_file import HEIF, looks_premultiplied, read_photo
from lg_field.captures.splits import never_empty
from lg_field.captures.transforms import read_blender, read_instant_ngp, read_json, read_nerfstudio

PHOTOS = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", *HEIF)


def read_capture(data: str | os.PathLike[str]) -> Capture:
    """Read the capture in a folder, or of a transforms.json.

    Args:
        data: the folder of a scene, or its transforms.json. Known by their files: blender (transforms_train.json),
            instant-ngp (transforms.json with aabb_scale), nerfstudio (transforms.json), COLMAP (sparse/0).

    Returns:
        The capture; every image exists and has the size of its camera, every pose is rigid.

    Raises:
        CaptureError: what is wrong, in one line.
    """
    data = Path(data)
    if not data.exists():
        raise CaptureError(f"{data} does not exist; --data takes the folder of a scene")
    capture = _read(data)
    splits, notes = never_empty(capture.splits)
    _check_places(capture, data)
    notes += _premultiplied(capture)
    return replace(capture, splits=splits, notes=(*capture.notes, *notes))


def _read(data: Path) -> Capture:
    if data.is_file():
        return _of_transforms(data)
    if not any(data.iterdir()):
        raise CaptureError(f"{data} is empty; --data takes the folder of a scene")
    if (data / "transforms_train.json").exists():
        return read_blender(data)
    if (data / "transforms.json").exists():
        return _of_transforms(data / "transforms.json")
    model = find_model(data)
    if model is not None:
        return read_colmap(data, model)
    photos = sum(path.suffix.lower() in PHOTOS for path in [*data.iterdir(), *data.glob("images/*")])
    if photos:
        raise CaptureError(
            f"{data} holds {photos} photos but no cameras: find them first, `lg-field photos {data} -o SCENE`"
        )
    raise CaptureError(
        f"{data} holds no scene: expected transforms_train.json (blender), transforms.json (instant-ngp or nerfstudio) "
        "or colmap/sparse/0; or name the data parser, e.g. `ns-train lg-field --data DIR scannet-data`"
    )


def _of_transforms(path: Path) -> Capture:
    return read_instant_ngp(path) if "aabb_scale" in read_json(path) else read_nerfstudio(path)


def _premultiplied(capture: Capture) -> list[str]:
    """A note if most of the first photos with alpha seem to be premultiplied."""
    first = [photo for photo in capture.photos[:3] if capture.alpha]
    odd = [photo for photo in first if looks_premultiplied(read_photo(photo, True))]
    if len(odd) * 2 <= len(first):
        return []
    return [
        f"colours of {odd[0].image.name} seem to be multiplied with their alpha: straight alpha is read, so that edges "
        "would be dark; write the photos with straight (unassociated) alpha"
    ]


def _check_places(capture: Capture, data: Path) -> None:
    """Raise CaptureError if all cameras stand at one point: nothing can be seen in depth."""
    places = np.stack([photo.pose[:3, 3] for photo in capture.photos])
    reach = np.abs(places).max() + 1e-12
    if len(places) > 1 and np.ptp(places, axis=0).max() <= 1e-9 * reach:
        raise CaptureError(
            f"{data}: all {len(places)} cameras stand at {places[0].round(4).tolist()}: a scene cannot be "
            "found from one point of view; check the last column of transform_matrix"
        )
