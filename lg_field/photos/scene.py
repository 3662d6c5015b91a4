"""A scene folder in nerfstudio's format, written whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from lg_field.photos.frame import apply, scene_transform
from lg_field.photos.picture import report_picture
from lg_field.photos.poses import MODEL, Placed
from lg_field.photos.prepare import IMAGES, MASKS, Photo

TRANSFORMS, POINTS, REPORT = "transforms.json", "sparse_pc.ply", "cameras.png"
RECONSTRUCTION = Path("colmap/sparse/0")
"""COLMAP's files, in its own coordinates, where `ns-process-data` puts them: who sees which sparse point."""


def write_scene(placed: Placed, work: Path, folder: Path, keep_work: bool) -> None:
    """Write images, masks, transforms.json, the reconstruction, its points and the report picture into an empty folder.

    Args:
        placed: photos and poses, in the frame of the reconstruction.
        work: holds the photos and masks, and the reconstruction.
        folder: to write into.
        keep_work: copy the photos; without it they are linked, as the work folder goes away.
    """
    transform = scene_transform(placed.camera_to_world, placed.points)
    poses = apply(transform, placed.camera_to_world)
    points = placed.points @ transform[:, :3].T + transform[:, 3]
    for photo in placed.photos:
        _bring(work / IMAGES / photo.name, folder / IMAGES / photo.name, keep_work)
        if photo.has_mask_file:
            _bring(work / MASKS / photo.mask_name, folder / MASKS / photo.mask_name, keep_work)
    (folder / TRANSFORMS).write_text(json.dumps(transforms(placed, transform, poses), indent=2))
    write_points(folder / POINTS, points, placed.colors)
    for part in sorted((work / MODEL).iterdir()):
        _bring(part, folder / RECONSTRUCTION / part.name, keep_work)
    total = len(placed.photos) + len(placed.missing)
    title = f"{len(placed.photos)} of {total} photos placed, {len(points):,} points, error {placed.error:.2f} px"
    report_picture(poses, points, placed.colors, title).save(folder / REPORT)


def transforms(
    placed: Placed, transform: Float[np.ndarray, "3 4"], poses: Float[np.ndarray, "cameras 4 4"]
) -> dict[str, Any]:
    """The content of transforms.json: intrinsics once where all photos have the same, else in each frame."""
    shared = placed.intrinsics[0] if all(i == placed.intrinsics[0] for i in placed.intrinsics) else {}
    frames = []
    for photo, pose, own in zip(placed.photos, poses, placed.intrinsics, strict=True):
        frame: dict[str, Any] = {"file_path": f"{IMAGES}/{photo.name}", "transform_matrix": pose.tolist()}
        if photo.has_mask_file:
            frame["mask_path"] = f"{MASKS}/{photo.mask_name}"
        frames.append(frame if shared else frame | own)
    return {
        "camera_model": "OPENCV",
        **shared,
        "orientation_override": "none",
        "applied_transform": transform.tolist(),
        "ply_file_path": POINTS,
        "frames": frames,
    }


def write_points(path: Path, points: Float[np.ndarray, "points 3"], colors: UInt8[np.ndarray, "points 3"]) -> None:
    """Write coloured points as binary PLY, float32."""
    kind = np.dtype([("xyz", "<f4", 3), ("rgb", "u1", 3)])
    rows = np.zeros(len(points), kind)
    rows["xyz"], rows["rgb"] = points, colors
    properties = [f"property float {axis}" for axis in "xyz"] + [
        f"property uchar {c}" for c in ("red", "green", "blue")
    ]
    head = ["ply", "format binary_little_endian 1.0", f"element vertex {len(points)}", *properties, "end_header", ""]
    path.write_bytes("\n".join(head).encode() + rows.tobytes())


@contextmanager
def new_folder(target: Path, overwrite: bool) -> Iterator[Path]:
    """Yield an empty folder beside `target`; on success it becomes `target`, on failure nothing is left.

    Raises:
        FileExistsError: see `refuse_existing_scene`.
    """
    refuse_existing_scene(target, overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    new, old = (target.parent / f".{target.name}.{word}" for word in ("new", "old"))
    shutil.rmtree(new, ignore_errors=True)  # of a run that was killed
    new.mkdir()
    try:
        yield new
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)
            os.replace(target, old)
        try:
            os.replace(new, target)
        except OSError:
            if old.exists():
                os.replace(old, target)
            raise
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def refuse_existing_scene(target: Path, overwrite: bool) -> None:
    """Raise FileExistsError if `target` exists, unless it may be replaced and is a scene or an empty folder."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not overwrite:
        raise FileExistsError(f"{target} exists; give another path or --overwrite")
    if not (target / TRANSFORMS).is_file():
        raise FileExistsError(f"{target} exists and is no scene folder (no {TRANSFORMS}): it is not replaced")


def _bring(source: Path, target: Path, keep: bool) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if not keep:
        try:
            os.link(source, target)
            return
        except OSError:  # the file system has no links
            pass
    shutil.copyfile(source, target)


def photo_names(photos: list[Photo] | list[str], most: int = 8) -> str:
    """Names for one line: the first few, and how many more."""
    names = [photo if isinstance(photo, str) else photo.name for photo in photos]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
