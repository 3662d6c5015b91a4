"""Where the photos were taken: pycolmap runs in a process of its own, and what it found comes back in a file.

In a process of its own, for pycolmap brings libraries along (zlib, SQLite) that break Pillow's and Python's where both
are loaded, and it aborts on some errors. Ctrl-C ends that process; its database stays whole.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8

from lg_field.photos.pairs import Matching
from lg_field.photos.prepare import Photo

Progress = Callable[[str, int, int], None]
"""Is told what is being done, how much of it is done, and of how much."""
CameraChoice = Literal["auto", "single", "per-image"]

JOB, RESULT, ARRAYS, MODEL = "job.json", "poses.json", "poses.npz", "model"
"""In the work folder: what the process is to do, what it found, and the reconstruction as COLMAP's files."""


@dataclass(frozen=True)
class PoseSettings:
    """How poses are looked for."""

    camera: CameraChoice = "auto"
    """Which photos share intrinsics: those of one folder, size, camera and zoom; all; or none."""
    matching: Matching = "auto"
    """All pairs, or neighbours by name and an evenly spaced few."""
    feature_size: int = 1600
    """Longer side, in pixels, at which features are looked for."""
    mask_features: bool = True
    """Whether features outside of masks are left out."""
    threads: int = 0
    """0 = all cores."""


@dataclass
class Placed:
    """Photos with poses, in one frame."""

    photos: list[Photo]
    camera_to_world: Float[np.ndarray, "cameras 4 4"]
    """float64, OpenGL's axes: x right, y up, z backward."""
    intrinsics: list[dict[str, float]]
    """Of each photo, in pixels, in nerfstudio's words: fl_x fl_y cx cy k1 k2 p1 p2 w h."""
    points: Float[np.ndarray, "points 3"]
    """float64 sparse points."""
    colors: UInt8[np.ndarray, "points 3"]
    error: float = 0.0
    """Mean reprojection error, pixels."""
    missing: list[str] = field(default_factory=list)
    """Names of photos that could not be placed."""
    others: list[int] = field(default_factory=list)
    """Photos in each of the other reconstructions that do not hang together with this one."""


def find_poses(
    work: Path, photos: Sequence[Photo], settings: PoseSettings, is_video: bool, progress: Progress
) -> Placed:
    """Place the photos of a work folder. Features and matches that it has already are used again.

    Args:
        work: holds `images/` and `masks/`; gets `database.db` and more.
        photos: what `prepare_folder` or `prepare_video` gave.
        settings: see there.
        is_video: the photos are frames in order.
        progress: is told.

    Raises:
        ImportError: pycolmap is missing.
        ValueError: no reconstruction; the message names the likely cause.
    """
    if importlib.util.find_spec("pycolmap") is None:
        raise ImportError("poses are found by pycolmap: pip install lg-field[photos]")
    groups = [[photo.name for photo in group] for group in camera_groups(photos, settings.camera)]
    job = {
        "photos": [asdict(photo) for photo in photos],
        "groups": groups,
        "settings": asdict(settings),
        "is_video": is_video,
    }
    (work / JOB).write_text(json.dumps(job))
    (work / RESULT).unlink(missing_ok=True)
    _run(work, progress)
    return _read(work, photos)


def _run(work: Path, progress: Progress) -> None:
    """Run the process to its end and pass its progress on.

    Raises:
        ValueError: it failed.
    """
    command = [sys.executable, "-m", "lg_field.photos.mapping", str(work)]
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    with (
        open(work / "pycolmap.log", "w+") as log,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=os.environ | {"PYTHONPATH": path},
        ) as process,
    ):
        try:
            assert process.stdout is not None
            for line in process.stdout:
                doing, _, numbers = line.rstrip("\n").partition("\t")
                if numbers:
                    done, total = map(int, numbers.split("\t"))
                    progress(doing, done, total)
        except BaseException:
            process.kill()
            raise
        if process.wait() != 0:
            log.seek(0)
            lines = [line for line in log.read().splitlines() if line.strip()] or ["no word"]
            why = next((line for line in lines if "what():" in line or "Check failed" in line), lines[-1]).strip()
            raise ValueError(f"pycolmap failed ({process.returncode}): {why}")


def _read(work: Path, photos: Sequence[Photo]) -> Placed:
    """What the process found.

    Raises:
        ValueError: no poses.
    """
    found = json.loads((work / RESULT).read_text())
    if "error" in found:
        raise ValueError(found["error"])
    by_name = {photo.name: photo for photo in photos}
    with np.load(work / ARRAYS) as arrays:
        return Placed(
            photos=[by_name[name] for name in found["names"]],
            camera_to_world=arrays["poses"],
            intrinsics=found["intrinsics"],
            points=arrays["points"],
            colors=arrays["colors"],
            error=found["error_pixels"],
            missing=[photo.name for photo in photos if photo.name not in set(found["names"])],
            others=found["others"],
        )


def camera_groups(photos: Sequence[Photo], choice: CameraChoice) -> list[list[Photo]]:
    """Photos that share a camera, largest group first.

    Raises:
        ValueError: one camera is asked for, and sizes differ.
    """
    if choice == "per-image":
        return [[photo] for photo in photos]
    if choice == "single":
        sizes = Counter((p.width, p.height) for p in photos)
        if len(sizes) > 1:
            words = ", ".join(f"{count} of {w}x{h}" for (w, h), count in sizes.most_common(4))
            raise ValueError(f"--camera single needs photos of one size, there are {words}: use --camera auto")
        return [list(photos)]
    groups: dict[str, list[Photo]] = {}
    for photo in photos:
        groups.setdefault(photo.camera, []).append(photo)
    return sorted(groups.values(), key=lambda group: -len(group))
