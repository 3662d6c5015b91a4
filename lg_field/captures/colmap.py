"""Captures from COLMAP: cameras, images and points3D, as text or binary (https://colmap.github.io/format.html)."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from lg_field.captures.capture import Capture, CaptureError, Lens, Photo, Seen, check_pose
from lg_field.captures.photo_file import header
from lg_field.captures.placing import fitted, mask_of
from lg_field.captures.splits import by_interval, by_lists

MODELS = {
    "SIMPLE_PINHOLE": 3,
    "PINHOLE": 4,
    "SIMPLE_RADIAL": 4,
    "RADIAL": 5,
    "OPENCV": 8,
    "OPENCV_FISHEYE": 8,
    "FULL_OPENCV": 12,
    "FOV": 5,
    "SIMPLE_RADIAL_FISHEYE": 4,
    "RADIAL_FISHEYE": 5,
    "THIN_PRISM_FISHEYE": 12,
}
"""Camera models by their number in binary files, and how many parameters each has."""
FLIP = np.diag([1.0, -1.0, -1.0, 1.0])
"""OpenCV's camera axes (y down, z ahead) to OpenGL's."""
FEATURE = np.dtype([("place", "<f8", 2), ("point", "<i8")])
"""A feature of a photo in images.bin: pixels from the left upper corner, and its sparse point or -1."""
PLACES = ("colmap/sparse/0", "sparse/0", "sparse", "colmap")
Points = tuple[np.ndarray, np.ndarray, np.ndarray]
"""(n, 3) float64 places, (n, 3) uint8 colours and (n,) int64 numbers of sparse points."""
LARGEST = 1600
"""Longer side of photos, pixels, above which a folder of smaller ones (images_2, images_4, ...) is taken."""


@dataclass(frozen=True)
class Registered:
    """A photo of a reconstruction."""

    number: int
    name: str
    camera: int
    pose: np.ndarray
    """(4, 4) world to camera, OpenCV axes."""
    features: np.ndarray
    """(n, 2) float64 pixels of its features that are sparse points, and"""
    points: np.ndarray
    """(n,) int64 numbers of these points."""


def find_model(folder: Path) -> Path | None:
    """The folder of a reconstruction in a scene's folder; None if there is none."""
    for place in PLACES:
        if any((folder / place / f"cameras{end}").exists() for end in (".bin", ".txt")):
            return folder / place
    return None


def read_colmap(folder: Path, model: Path) -> Capture:
    """A scene folder with photos in `images` and a reconstruction.

    Args:
        folder: of the scene.
        model: folder with cameras, images and points3D (.bin or .txt).

    Raises:
        CaptureError: what is wrong, in one line.
    """
    lenses, images, points = read_model(model)
    numbers = np.zeros(0, np.int64) if points is None else points[2]
    photos, names, alpha, notes = _photos(folder, lenses, images, numbers)
    lists = _lists(folder)
    splits = by_interval(len(photos))
    if lists:
        splits, more = by_lists(names, lists)
        notes += more
    xyz, rgb = (None, None) if points is None or not len(points[0]) else points[:2]
    if xyz is None:
        notes.append(f"{model} has no points")
    unique = tuple(dict.fromkeys(notes))
    return Capture("colmap", folder, tuple(photos), splits, alpha, np.eye(4), None, xyz, rgb, unique)


def read_model(model: Path) -> tuple[dict[int, Lens], list[Registered], Points | None]:
    """The cameras, the photos in the order of their numbers and the sparse points of a reconstruction.

    Raises:
        CaptureError: damaged, or without a photo.
    """
    ending = ".bin" if (model / "cameras.bin").exists() else ".txt"
    read = (
        (read_cameras_bin, read_images_bin, read_points_bin)
        if ending == ".bin"
        else (read_cameras_text, read_images_text, read_points_text)
    )
    try:
        lenses = read[0](model / f"cameras{ending}")
        images = sorted(read[1](model / f"images{ending}"), key=lambda image: image.number)
        points = read[2](model / f"points3D{ending}") if (model / f"points3D{ending}").exists() else None
    except (struct.error, ValueError, IndexError, UnicodeDecodeError, OSError) as error:
        if isinstance(error, CaptureError):
            raise
        raise CaptureError(f"{model} is not a COLMAP reconstruction or is damaged: {error}") from error
    if not images:
        raise CaptureError(f"{model} has no registered image")
    return lenses, images, points


def _photos(
    folder: Path, lenses: dict[int, Lens], images: Sequence[Registered], numbers: np.ndarray
) -> tuple[list[Photo], list[str], bool, list[str]]:
    base, notes = _image_folder(folder)
    photos, names, missing, alpha, unseen = [], [], [], False, 0
    order = np.argsort(numbers)
    for image in images:
        path = base / image.name
        if not path.is_file():
            missing.append(image.name)
            continue
        if image.camera not in lenses:
            raise CaptureError(f"{folder}: {image.name} has camera {image.camera}, which cameras does not list")
        facts = header(path)
        lens, upright, more = fitted(lenses[image.camera], facts, path)
        pose = check_pose(np.linalg.inv(image.pose) @ FLIP, image.name)
        seen = None if upright else seen_by(image, lenses[image.camera], numbers, order)
        unseen += seen is None and len(numbers) > 0 and len(image.points) > 0
        photos.append(Photo(path, pose, lens, upright, mask_of(folder, image.name), seen))
        names.append(image.name)
        notes += more
        alpha |= facts.alpha
    if not photos:
        raise CaptureError(f"{base} has none of the {len(images)} images of the reconstruction (e.g. {missing[0]})")
    if unseen:
        notes.append(
            f"the depths of sparse points in {unseen} photos are not used: they are turned or undistorted first"
        )
    if missing:
        notes.append(f"{base}: {len(missing)} of {len(images)} images are missing and left out (e.g. {missing[0]})")
    masks = sum(photo.mask is not None for photo in photos)
    if masks:
        notes.append(f"masks are taken from {folder / 'masks'}, for {masks} of {len(photos)} photos")
    return photos, names, alpha, notes


def seen_by(image: Registered, lens: Lens, numbers: np.ndarray, order: np.ndarray) -> Seen | None:
    """The sparse points that a photo shows.

    Args:
        image: the photo.
        lens: its camera, for the pixels in which its features are given.
        numbers: (n,) int64 numbers that COLMAP gave the points, and
        order: (n,) what sorts them.
    """
    if lens.rational or not len(numbers) or not len(image.points):
        return None
    found = order[np.searchsorted(numbers, image.points, sorter=order).clip(0, len(numbers) - 1)]
    known = numbers[found] == image.points
    return Seen(found[known], image.features[known] / (lens.width, lens.height))


def _image_folder(folder: Path) -> tuple[Path, list[str]]:
    """Where the photos lie: `images`, or a folder of smaller ones beside it where these are very large."""
    base = next((p for p in (folder / "images", folder / "input") if p.is_dir()), folder)
    first = next((p for p in sorted(base.rglob("*")) if p.suffix.lower() in (".jpg", ".jpeg", ".png")), None)
    if first is None:
        return base, []
    size = max(header(first).upright)
    if size <= LARGEST:
        return base, []
    smaller = sorted((int(p.name[7:]), p) for p in folder.glob("images_*") if p.is_dir() and p.name[7:].isdigit())
    for factor, path in smaller:
        if size / factor <= LARGEST:
            return path, [f"photos of {size} pixels: those of {path.name} are taken"]
    return base, []


def _lists(folder: Path) -> dict[str, list[str]]:
    """Names from train_list.txt, test_list.txt and validation_list.txt."""
    found = {"train": "train_list.txt", "val": "validation_list.txt", "test": "test_list.txt"}
    return {
        split: [line for line in (folder / name).read_text().splitlines() if line.strip()]
        for split, name in found.items()
        if (folder / name).is_file()
    }


def lens_of(model: str, width: int, height: int, values: Sequence[float], name: str) -> Lens:
    """A COLMAP camera as a lens.

    Raises:
        CaptureError: a model without a counterpart, or too few parameters.
    """
    if model not in MODELS or model in ("FOV", "THIN_PRISM_FISHEYE"):
        raise CaptureError(
            f"{name}: camera model {model} is not read: undistort the photos first (`colmap image_undistorter`)"
        )
    if len(values) != MODELS[model]:
        raise CaptureError(f"{name}: camera model {model} has {MODELS[model]} parameters, got {len(values)}")
    simple = model.startswith("SIMPLE") or model in ("RADIAL", "RADIAL_FISHEYE")
    fx, fy, cx, cy = (values[0], values[0], values[1], values[2]) if simple else values[:4]
    rest, fisheye = list(values[3:] if simple else values[4:]), "FISHEYE" in model
    if model == "FULL_OPENCV":
        return Lens(width, height, fx, fy, cx, cy, rational=tuple(rest))
    k, p = [0.0] * 4, [0.0] * 2
    if model == "OPENCV":
        k[:2], p = rest[:2], rest[2:]
    else:
        k[: len(rest)] = rest
    return Lens(width, height, fx, fy, cx, cy, fisheye, (*k, *p))


def pose_of(quaternion: Sequence[float], shift: Sequence[float]) -> np.ndarray:
    """(4, 4) world to camera from COLMAP's w x y z quaternion and translation."""
    w, x, y, z = np.array(quaternion, dtype=np.float64) / np.linalg.norm(quaternion)
    matrix = np.eye(4)
    matrix[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    matrix[:3, 3] = shift
    return matrix


def _lines(path: Path) -> Iterator[str]:
    """Lines that are no comments; empty ones, too."""
    for line in path.read_text(encoding="utf8").splitlines():
        if not line.lstrip().startswith("#"):
            yield line


def read_cameras_text(path: Path) -> dict[int, Lens]:
    """cameras.txt: CAMERA_ID MODEL WIDTH HEIGHT PARAMS."""
    lenses = {}
    for line in filter(str.strip, _lines(path)):
        number, model, width, height, *values = line.split()
        lenses[int(number)] = lens_of(model, int(width), int(height), [float(v) for v in values], str(path))
    return lenses


def read_images_text(path: Path) -> list[Registered]:
    """images.txt: two lines an image, the second, which may be empty, with its points; names may have spaces."""
    images, lines = [], _lines(path)
    for line in lines:
        if not line.strip():
            continue
        number, *numbers, camera, name = line.strip().split(maxsplit=9)
        values = [float(v) for v in numbers]
        features = np.array(next(lines, "").split(), dtype=np.float64)
        features = features[: len(features) // 3 * 3].reshape(-1, 3)
        features = features[features[:, 2] >= 0]
        seen = features[:, :2], features[:, 2].astype(np.int64)
        images.append(Registered(int(number), name, int(camera), pose_of(values[:4], values[4:]), *seen))
    return images


def read_points_text(path: Path) -> Points:
    """points3D.txt: POINT3D_ID X Y Z R G B ERROR TRACK."""
    rows = [line.split(maxsplit=7)[:7] for line in filter(str.strip, _lines(path))]
    values = np.array(rows, dtype=np.float64).reshape(-1, 7)
    return values[:, 1:4], values[:, 4:].astype(np.uint8), values[:, 0].astype(np.int64)


def read_cameras_bin(path: Path) -> dict[int, Lens]:
    """cameras.bin."""
    lenses = {}
    with open(path, "rb") as file:
        for _ in range(_unpack(file, "<Q")[0]):
            number, model, width, height = _unpack(file, "<iiQQ")
            names = list(MODELS)
            if not 0 <= model < len(names):
                raise CaptureError(f"{path}: unknown camera model {model}")
            values = _unpack(file, f"<{MODELS[names[model]]}d")
            lenses[number] = lens_of(names[model], width, height, values, str(path))
    return lenses


def read_images_bin(path: Path) -> list[Registered]:
    """images.bin."""
    images = []
    with open(path, "rb") as file:
        for _ in range(_unpack(file, "<Q")[0]):
            number, *values, camera = _unpack(file, "<i7di")
            name = bytearray()
            while (char := file.read(1)) not in (b"\0", b""):
                name += char
            count = _unpack(file, "<Q")[0]
            left = os.fstat(file.fileno()).st_size - file.tell()
            if FEATURE.itemsize * count > left:
                raise ValueError(f"images.bin ends within the features of {name.decode('utf8', 'replace')}")
            features = np.frombuffer(file.read(FEATURE.itemsize * count), FEATURE)
            features = features[features["point"] >= 0]
            pose = pose_of(values[:4], values[4:])
            images.append(Registered(number, name.decode("utf8"), camera, pose, features["place"], features["point"]))
    return images


def read_points_bin(path: Path) -> Points:
    """points3D.bin."""
    points, colors, numbers = [], [], []
    with open(path, "rb") as file:
        for _ in range(_unpack(file, "<Q")[0]):
            number, x, y, z, r, g, b, _, track = _unpack(file, "<Q3d3BdQ")
            points.append((x, y, z))
            colors.append((r, g, b))
            numbers.append(number)
            file.seek(8 * track, 1)
    places = np.array(points, dtype=np.float64).reshape(-1, 3)
    return places, np.array(colors, dtype=np.uint8).reshape(-1, 3), np.array(numbers, dtype=np.int64)


def _unpack(file: BinaryIO, form: str) -> tuple:  # type: ignore[type-arg]
    return struct.unpack(form, file.read(struct.calcsize(form)))
