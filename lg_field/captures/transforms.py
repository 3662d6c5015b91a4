"""Captures with a transforms.json: blender's, instant-ngp's and nerfstudio's."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lg_field.captures.capture import SPLITS, Capture, CaptureError, Cube, Lens, Photo, check_pose
from lg_field.captures.photo_file import Header, header
from lg_field.captures.placing import fitted, mask_of
from lg_field.captures.points import read_points
from lg_field.captures.splits import Splits, by_fraction, by_lists
from lg_field.captures.tracks import find_tracks

ENDINGS = ("", ".png", ".jpg", ".jpeg", ".PNG", ".JPG", ".JPEG", ".webp")
"""What may be missing at the end of a `file_path`."""
DISTORTION = ("k1", "k2", "k3", "k4", "p1", "p2")
PERSPECTIVE = ("PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV")
FISHEYE = ("OPENCV_FISHEYE", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE")
NGP_SCALE = 0.3333
"""Of instant-ngp: lengths of a file times this are lengths of its unit cube, unless the file says `scale`."""


@dataclass
class Found:
    """What one transforms file gives."""

    photos: list[Photo] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    alpha: bool = False
    notes: list[str] = field(default_factory=list)


def read_json(path: Path) -> dict[str, Any]:
    """A transforms file.

    Raises:
        CaptureError: not JSON, or without a list of frames.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CaptureError(f"{path} is not JSON: {error}") from error
    frames = data.get("frames") if isinstance(data, dict) else None
    if not isinstance(frames, list) or not frames or not all(isinstance(f, dict) for f in frames):
        raise CaptureError(f"{path} is no transforms file: it needs a list of 'frames', each with transform_matrix")
    return data


def read_blender(folder: Path) -> Capture:
    """A folder with transforms_train.json and perhaps transforms_test.json and transforms_val.json.

    Raises:
        CaptureError: what is wrong, in one line.
    """
    found, splits = Found(), {}
    for split in SPLITS:
        path = folder / f"transforms_{split}.json"
        if path.exists():
            first = len(found.photos)
            _add_frames(found, read_json(path), path)
            splits[split] = tuple(range(first, len(found.photos)))
    train = splits["train"]
    test = splits.get("test") or splits.get("val")
    if not test:
        test, train = train[::8], tuple(k for n, k in enumerate(train) if n % 8) or train
        found.notes.append(f"no transforms_test.json: every 8th of its photos ({len(test)}) tests instead of training")
    parts = {"train": train, "val": splits.get("val") or test, "test": test}
    meta = read_json(folder / "transforms_train.json")
    cube = None if "aabb_scale" not in meta else _cube(meta, folder / "transforms_train.json")
    kind = "blender" if cube is None else "instant-ngp"
    return _capture(kind, folder, found, parts, np.eye(4), cube)


def read_instant_ngp(path: Path) -> Capture:
    """A transforms.json with `aabb_scale`.

    Raises:
        CaptureError: what is wrong, in one line.
    """
    meta, found = read_json(path), Found()
    _add_frames(found, meta, path)
    parts = _split(found, meta, path.parent)
    return _capture("instant-ngp", path.parent, found, parts, np.eye(4), _cube(meta, path))


def read_nerfstudio(path: Path) -> Capture:
    """A transforms.json as nerfstudio writes it, with the tracks of a COLMAP reconstruction that lies beside it.

    Raises:
        CaptureError: what is wrong, in one line.
    """
    meta, found = read_json(path), Found()
    frames = sorted(meta["frames"], key=lambda frame: str(frame.get("file_path")))
    _add_frames(found, meta | {"frames": frames}, path)
    parts = _split(found, meta, path.parent)
    applied = check_pose(meta.get("applied_transform", np.eye(4)), str(path), "applied_transform")
    scale = _positive(meta, "applied_scale", 1.0, path)
    from_world = np.diag([scale, scale, scale, 1.0]) @ applied
    tracks, note = find_tracks(path.parent, found.photos, from_world)
    found.notes += note
    points = colors = None
    if tracks is not None:
        found.photos, points, colors = tracks
    elif isinstance(meta.get("ply_file_path"), str):
        points, colors, note = read_points(path.parent / meta["ply_file_path"])
        found.notes += note
    return _capture("nerfstudio", path.parent, found, parts, np.linalg.inv(from_world), None, points, colors)


def _capture(
    kind: str,
    folder: Path,
    found: Found,
    splits: Splits,
    to_world: np.ndarray,
    cube: Cube | None,
    points: np.ndarray | None = None,
    colors: np.ndarray | None = None,
) -> Capture:
    notes, photos = tuple(dict.fromkeys(found.notes)), tuple(found.photos)
    return Capture(kind, folder, photos, splits, found.alpha, to_world, cube, points, colors, notes)


def _cube(meta: Mapping[str, Any], path: Path) -> Cube:
    """What instant-ngp's `scale`, `offset` and `aabb_scale` say."""
    side = _positive(meta, "aabb_scale", 1.0, path)
    scale = _positive(meta, "scale", NGP_SCALE, path)
    given = meta.get("offset", (0.5, 0.5, 0.5))
    try:
        offset = np.broadcast_to(np.array(given, dtype=np.float64), (3,))
    except (TypeError, ValueError) as error:
        raise CaptureError(f"{path}: offset must be three numbers, got {given!r}") from error
    return Cube((0.5 - offset) / scale, scale, side)


def _split(found: Found, meta: Mapping[str, Any], folder: Path) -> Splits:
    lists = {split: meta[f"{split}_filenames"] for split in SPLITS if isinstance(meta.get(f"{split}_filenames"), list)}
    if not lists:
        return by_fraction(len(found.photos))
    paths = {split: [str(find_image(folder, str(n)) or n) for n in names] for split, names in lists.items()}
    splits, notes = by_lists([str(p.image) for p in found.photos], paths)
    found.notes += notes
    return splits


def find_image(folder: Path, name: str) -> Path | None:
    """The file that a `file_path` means: endings may be missing, separators may be Windows', the name in other letters
    (a.JPG for a.jpg), and a path from elsewhere is looked for by its last parts."""
    plain = name.replace("\\", "/")
    parts = Path(plain).parts
    tries = (
        [Path(plain), *(Path(*parts[k:]) for k in range(1, len(parts)))] if Path(plain).is_absolute() else [Path(plain)]
    )
    for attempt in tries:
        for ending in ENDINGS:
            path = folder / (str(attempt) + ending)
            if path.is_file():
                return path
    for attempt in tries:
        near = (folder / attempt).parent
        for path in sorted(near.iterdir()) if near.is_dir() else ():
            if path.name.lower() == attempt.name.lower() and path.is_file():
                return path
    return None


def _add_frames(found: Found, meta: Mapping[str, Any], path: Path) -> None:
    """Add the photos of one file; those whose image is missing are left out and counted."""
    folder, missing, masks, beside = path.parent, [], [], 0
    named = any(isinstance(frame.get("mask_path"), str) for frame in meta["frames"])
    for number, frame in enumerate(meta["frames"]):
        name = frame.get("file_path")
        if not isinstance(name, str):
            raise CaptureError(f"{path}: frame {number} has no file_path")
        image = find_image(folder, name)
        if image is None:
            missing.append(name)
            continue
        facts = header(image)
        pose = check_pose(frame.get("transform_matrix"), f"{path}: {name}")
        lens, upright, notes = fitted(_lens(frame, meta, facts, f"{path}: {name}"), facts, image)
        mask = None if named else mask_of(folder, _below_images(image, folder))
        beside += mask is not None
        if isinstance(frame.get("mask_path"), str):
            mask = find_image(folder, frame["mask_path"])
            if mask is None:
                masks.append(frame["mask_path"])
        found.photos.append(Photo(image, pose, lens, upright, mask))
        found.names.append(name)
        found.alpha |= facts.alpha
        found.notes += notes
    count = len(meta["frames"])
    if len(missing) == count:
        raise CaptureError(f"{path} lists {count} images and none of them exists (e.g. {missing[0]})")
    if missing:
        found.notes.append(f"{path}: {len(missing)} of {count} images are missing and left out (e.g. {missing[0]})")
    if beside:
        found.notes.append(f"masks are taken from {folder / 'masks'}, for {beside} of {count - len(missing)} photos")
    if masks:
        found.notes.append(f"{path}: {len(masks)} masks are missing (e.g. {masks[0]}): these photos count whole")


def _below_images(image: Path, folder: Path) -> str:
    """The name of a photo below a scene's folder of photos."""
    for base in (folder / "images", folder):
        if image.is_relative_to(base):
            return image.relative_to(base).as_posix()
    return image.name


def _lens(frame: Mapping[str, Any], meta: Mapping[str, Any], facts: Header, name: str) -> Lens:
    """The camera that a frame describes, the file's own entries standing in for what it does not say."""
    said = {**meta, **frame}
    model = str(said.get("camera_model", "OPENCV_FISHEYE" if said.get("is_fisheye") else "OPENCV"))
    if model not in (*PERSPECTIVE, *FISHEYE, "FULL_OPENCV"):
        raise CaptureError(
            f"{name}: camera_model {model} is not read; undistort the photos, or give one of "
            f"{', '.join((*PERSPECTIVE, *FISHEYE, 'FULL_OPENCV'))}"
        )
    width = round(_number(said, "w", name) or facts.upright[0])
    height = round(_number(said, "h", name) or facts.upright[1])
    fx = _number(said, "fl_x", name) or _from_angle(said, "x", width, name)
    fy = _number(said, "fl_y", name) or _from_angle(said, "y", height, name)
    if fx is None and fy is None:
        raise CaptureError(f"{name}: no focal length: fl_x (pixels) or camera_angle_x (radians) is needed")
    fx, fy = fx or fy, fy or fx
    assert fx is not None and fy is not None
    cx, cy = _number(said, "cx", name), _number(said, "cy", name)
    k = {key: _number(said, key, name) or 0.0 for key in (*DISTORTION, "k5", "k6")}
    given = said.get("distortion_params")
    values = tuple(k[key] for key in DISTORTION)
    if isinstance(given, Sequence) and len(given) == 6:
        values = tuple(float(v) for v in given)
    rational: tuple[float, ...] = ()
    if model == "FULL_OPENCV":
        rational = tuple(k[key] for key in ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6"))
        values = (0.0,) * 6
    middle = (width / 2 if cx is None else cx, height / 2 if cy is None else cy)
    return Lens(width, height, fx, fy, *middle, model in FISHEYE, values, rational)


def _from_angle(said: Mapping[str, Any], axis: str, size: int, name: str) -> float | None:
    angle = _number(said, f"camera_angle_{axis}", name)
    degrees = _number(said, f"{axis}_fov", name)
    angle = math.radians(degrees) if angle is None and degrees is not None else angle
    if angle is None:
        return None
    if not 0.0 < angle < math.pi:
        raise CaptureError(f"{name}: camera_angle_{axis} must be between 0 and pi radians, got {angle:g}")
    return 0.5 * size / math.tan(0.5 * angle)


def _positive(said: Mapping[str, Any], key: str, otherwise: float, name: object) -> float:
    """A number above 0; `otherwise` where it is not said.

    Raises:
        CaptureError: something else.
    """
    number = _number(said, key, name)
    if number is not None and number <= 0.0:
        raise CaptureError(f"{name}: {key} must be above 0, got {number:g}")
    return otherwise if number is None else number


def _number(said: Mapping[str, Any], key: str, name: object) -> float | None:
    """A finite number, None where it is not said.

    Raises:
        CaptureError: something else.
    """
    value = said.get(key)
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise CaptureError(f"{name}: {key} must be a number, got {value!r}") from error
    if not math.isfinite(number):
        raise CaptureError(f"{name}: {key} must be finite, got {value!r}")
    return number
