"""From photos or a video to a scene folder: prepare, find poses, write; a work folder lets a second run go on."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lg_field.photos.gather import check_places, find_masks, find_photos, is_video, photo_folder
from lg_field.photos.poses import Placed, PoseSettings, Progress, find_poses
from lg_field.photos.prepare import Photo, Tell, prepare_folder, write_whole
from lg_field.photos.scene import new_folder, photo_names, refuse_existing_scene, write_scene

STATE = "photos.json"
"""Marks a folder as a work folder, and says of which photos and settings."""


@dataclass(frozen=True)
class CaptureSettings:
    """How a capture becomes a scene."""

    frames: int = 120
    """Frames taken of a video."""
    masks: Path | None = None
    """Folder of masks; None = `masks` in or beside the folder of photos."""
    image_size: int = 2048
    """Pixels of the longer side of the scene's pictures at most; 0 = as the photos are."""
    poses: PoseSettings = field(default_factory=PoseSettings)


def make_scene(
    source: Path,
    target: Path,
    settings: CaptureSettings,
    tell: Tell,
    progress: Progress,
    work: Path | None = None,
    overwrite: bool = False,
) -> Placed:
    """Make a scene folder. The source is only read; the target appears whole at the end, or not at all.

    Args:
        source: folder of photos, or a video.
        target: the scene folder to write.
        settings: see there.
        tell: gets the lines that a user should read.
        progress: is told what is being done, how much is done, and of how much.
        work: folder for features and matches, kept; None = one beside the target, which is removed at success.
        overwrite: replace an existing scene.

    Raises:
        FileExistsError: the target exists, or `work` is a folder of something else.
        FileNotFoundError: no source.
        ImportError: a package is missing; the message says what to install.
        ValueError: no photo, or no poses; the message says why, and the cure.
    """
    check_places(source, target)
    refuse_existing_scene(target, overwrite)
    folder = work or target.parent / f".{target.name}.work"
    if source.is_dir() and source.resolve() in (folder.resolve(), *folder.resolve().parents):
        raise ValueError(f"--work {folder} must lie outside of {source}: the photos are left as they are")
    photos = _photos(source, folder, settings, tell, progress)
    try:
        placed = find_poses(folder, photos, settings.poses, is_video(source), progress)
        with new_folder(target, overwrite) as new:
            write_scene(placed, folder, new, keep_work=work is not None)
    except BaseException:
        tell(f"features and matches are kept in {folder}: the same command goes on with them")
        raise
    if work is None:
        shutil.rmtree(folder, ignore_errors=True)
    _say_result(placed, tell)
    return placed


def _photos(source: Path, work: Path, settings: CaptureSettings, tell: Tell, progress: Progress) -> list[Photo]:
    """The prepared photos in the work folder, by an earlier run or this one; on failure the folder is removed."""
    signature = _signature(source, settings)
    photos = open_work(work, signature, tell)
    if photos is not None:
        return photos
    try:
        photos = _prepare(source, work, settings, tell, progress)
        state = {"signature": signature, "photos": [asdict(photo) for photo in photos]}
        write_whole(work / STATE, lambda path: path.write_text(json.dumps(state)))
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    return photos


def open_work(folder: Path, signature: str, tell: Tell) -> list[Photo] | None:
    """Take a work folder, or make it.

    Returns:
        the photos prepared in it by an earlier run with the same photos and settings; None = it is empty.

    Raises:
        FileExistsError: it holds something else.
    """
    state = folder / STATE
    if folder.exists() and not (folder.is_dir() and (state.is_file() or not any(folder.iterdir()))):
        raise FileExistsError(f"{folder} is no work folder of lg-field photos: give an empty one (--work)")
    earlier: dict[str, object] = {}
    if state.is_file():
        try:
            earlier = json.loads(state.read_text())
        except ValueError:
            tell(f"{state} is damaged: begun anew")
    if earlier.get("signature") == signature and earlier.get("photos"):
        tell(f"going on with the features and matches in {folder}")
        return [Photo(**photo) for photo in earlier["photos"]]  # type: ignore[attr-defined]
    if earlier.get("photos"):
        tell(f"{folder} is of other photos or settings: begun anew")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    state.write_text("{}")
    return None


def _prepare(source: Path, work: Path, settings: CaptureSettings, tell: Tell, progress: Progress) -> list[Photo]:
    if is_video(source):
        if settings.masks is not None:
            raise ValueError("--masks go with photos, not with a video: save its frames as photos first")
        from lg_field.photos.video import prepare_video

        return prepare_video(
            source, work, settings.frames, settings.image_size, lambda done, of: progress("frames looked at", done, of)
        )
    return prepare_folder(
        source, work, settings.masks, settings.image_size, tell, lambda done, of: progress("photos read", done, of)
    )


def _signature(source: Path, settings: CaptureSettings) -> str:
    """Changes with the photos, the masks and every setting that features depend on."""
    if is_video(source):
        files = [source]
    else:
        folder = photo_folder(source)
        photos = find_photos(folder)
        files = [*photos, *find_masks(folder, photos, settings.masks).values()]
    facts: list[object] = [(str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    poses = settings.poses
    facts += [settings.frames if is_video(source) else 0, settings.image_size]
    facts += [poses.camera, poses.feature_size, poses.mask_features]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _say_result(placed: Placed, tell: Tell) -> None:
    total = len(placed.photos) + len(placed.missing)
    if not placed.missing:
        tell(f"all {total} photos placed")
    else:
        tell(f"{len(placed.photos)} of {total} photos placed; not placed: {photo_names(placed.missing)}")
    if placed.others:
        sizes = ", ".join(map(str, placed.others))
        tell(
            f"the photos fall into parts that do not overlap: the largest was taken, others ({sizes} photos) left out; "
            "photos between them would join them"
        )
    if len(placed.photos) * 2 < total:
        tell("fewer than half were placed: photos taken closer together, sharper, or of more texture would help")
