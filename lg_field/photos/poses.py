"""Where the photos were taken: features, matches and mapping by pycolmap (Schoenberger and Frahm, CVPR 2016)."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from jaxtyping import Float, UInt8

from lg_field.photos.pairs import Matching, blocks, pairs_to_compare
from lg_field.photos.prepare import IMAGES, MASKS, Photo

Result = TypeVar("Result")
Progress = Callable[[str, int, int], None]
"""Is told what is being done, how much of it is done, and of how much."""
CameraChoice = Literal["auto", "single", "per-image"]

DATABASE, MODELS, PAIRS = "database.db", "sparse", "pairs.txt"
ENOUGH, FEW = 15, 200
"""Matches that join two photos, and features of a photo that are too few."""
SHARED_BY = 8
"""A camera that so many photos share gets two focal lengths and four distortions (OPENCV), else one of each
(SIMPLE_RADIAL)."""
OPENCV_NAMES = ("fl_x", "fl_y", "cx", "cy", "k1", "k2", "p1", "p2")


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
        work: holds `images/` and `masks/`; gets `database.db` and `sparse/`.
        photos: what `prepare_folder` or `prepare_video` gave.
        settings: see there.
        is_video: the photos are frames in order.
        progress: is told.

    Raises:
        ImportError: pycolmap is missing.
        ValueError: no reconstruction; the message names the likely cause.
    """
    try:
        import pycolmap
    except ImportError as error:
        raise ImportError("poses are found by pycolmap: pip install lg-field[photos]") from error
    pycolmap.logging.minloglevel = int(pycolmap.logging.Level.FATAL)
    pycolmap.set_random_seed(0)
    _make_database(work, photos, settings)
    _extract(work, photos, settings, progress)
    _match(work, photos, settings, is_video, progress)
    models = _map(work, photos, settings, progress)
    if not models:
        raise ValueError(_why_nothing(work, photos))
    models.sort(key=lambda model: -model.num_reg_images())
    return _placed(models, photos)


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


def run_cancellable(call: Callable[..., Result], poll: Callable[[], None] = lambda: None) -> Result:
    """Run a long call of pycolmap in a thread, so that Ctrl-C ends it: pycolmap alone would work on to its end.

    Args:
        call: takes pycolmap's token as `cancellation_token`.
        poll: called twice a second meanwhile.
    """
    import pycolmap

    token = pycolmap.CancellationToken()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(call, cancellation_token=token)
        try:
            while not wait([future], 0.5).done:
                poll()
            return future.result()
        except BaseException:
            token.cancel()
            raise


def _make_database(work: Path, photos: Sequence[Photo], settings: PoseSettings) -> None:
    """The database with its cameras and images, unless it is there."""
    import pycolmap

    database, new = work / DATABASE, work / f"new.{DATABASE}"
    if database.exists():
        return
    new.unlink(missing_ok=True)
    pycolmap.Database.open(new).close()
    for group in camera_groups(photos, settings.camera):
        options = pycolmap.ImageReaderOptions(camera_model="OPENCV" if len(group) >= SHARED_BY else "SIMPLE_RADIAL")
        first = group[0]
        known = [p.focal for p in group if p.focal]
        if known:
            middle, focal = (first.width / 2, first.height / 2), float(np.median(known))
            values = (focal, focal, *middle, 0, 0, 0, 0) if len(group) >= SHARED_BY else (focal, *middle, 0)
            options.camera_params = ",".join(map(str, values))
        names = [p.name for p in group]
        pycolmap.import_images(new, work / IMAGES, pycolmap.CameraMode.SINGLE, names, options)
    os.replace(new, database)


def _extract(work: Path, photos: Sequence[Photo], settings: PoseSettings, progress: Progress) -> None:
    """Features of all photos; those that have theirs are passed over."""
    import pycolmap

    options = pycolmap.FeatureExtractionOptions(
        max_image_size=settings.feature_size, num_threads=settings.threads or -1, use_gpu=False
    )
    masked = [photo for photo in photos if photo.masked and settings.mask_features]
    whole = [photo for photo in photos if not (photo.masked and settings.mask_features)]
    size, done = settings.threads or os.cpu_count() or 1, 0
    for some, reader in (
        (masked, pycolmap.ImageReaderOptions(mask_path=work / MASKS)),
        (whole, pycolmap.ImageReaderOptions()),
    ):
        for start in range(0, len(some), size):
            progress("features", done, len(photos))
            names = [photo.name for photo in some[start : start + size]]
            run_cancellable(
                partial(
                    pycolmap.extract_features,
                    work / DATABASE,
                    work / IMAGES,
                    names,
                    reader_options=reader,
                    extraction_options=options,
                    device=pycolmap.Device.cpu,
                )
            )
            done += len(names)
    progress("features", len(photos), len(photos))


def _match(work: Path, photos: Sequence[Photo], settings: PoseSettings, is_video: bool, progress: Progress) -> None:
    """Matches of the pairs, checked by geometry; pairs that have theirs are passed over."""
    import pycolmap

    options = pycolmap.FeatureMatchingOptions(num_threads=settings.threads or -1, use_gpu=False)
    geometry = pycolmap.TwoViewGeometryOptions()
    geometry.ransac.random_seed = 0
    groups = blocks(pairs_to_compare(len(photos), settings.matching, is_video))
    listed, done, total = work / PAIRS, 0, sum(map(len, groups))
    threads = settings.threads or os.cpu_count() or 1  # a call is interrupted between blocks of pairs
    for group in groups:
        progress("pairs compared", done, total)
        listed.write_text("".join(f"{photos[a].name} {photos[b].name}\n" for a, b in group))
        run_cancellable(
            partial(
                pycolmap.match_image_pairs,
                work / DATABASE,
                options,
                pycolmap.ImportedPairingOptions(match_list_path=listed, block_size=4 * threads),
                geometry,
                pycolmap.Device.cpu,
            )
        )
        done += len(group)
    progress("pairs compared", total, total)


def _map(work: Path, photos: Sequence[Photo], settings: PoseSettings, progress: Progress) -> list[Any]:
    """All reconstructions; the photos of different ones do not hang together."""
    import pycolmap

    models = work / MODELS
    shutil.rmtree(models, ignore_errors=True)
    models.mkdir()
    options = pycolmap.IncrementalPipelineOptions(
        num_threads=settings.threads or -1, random_seed=0, min_model_size=min(10, max(3, len(photos) // 3))
    )
    placed = 0

    def first_pair() -> None:
        nonlocal placed
        placed = 2

    def one_more() -> None:
        nonlocal placed
        placed += 1

    found = run_cancellable(
        partial(
            pycolmap.incremental_mapping,
            work / DATABASE,
            work / IMAGES,
            models,
            options,
            initial_image_pair_callback=first_pair,
            next_image_callback=one_more,
        ),
        lambda: progress("photos placed", min(placed, len(photos) - 1), len(photos)),  # refined once all are placed
    )
    kept = [model for model in found.values() if model.num_reg_images() >= 3]
    progress("photos placed", max((model.num_reg_images() for model in kept), default=0), len(photos))
    return kept


def _placed(models: list[Any], photos: Sequence[Photo]) -> Placed:
    """The first reconstruction, in this package's terms."""
    model = models[0]
    by_name = {photo.name: photo for photo in photos}
    images = sorted(
        (model.image(i) for i in model.reg_image_ids()), key=lambda image: photos.index(by_name[image.name])
    )
    poses = np.tile(np.eye(4), (len(images), 1, 1))
    for pose, image in zip(poses, images, strict=True):
        pose[:3] = image.cam_from_world().inverse().matrix()
    poses[:, :3, 1:3] *= -1.0  # OpenCV's axes (y down, z forward) to OpenGL's
    points = list(model.points3D.values())
    names = {image.name for image in images}
    return Placed(
        photos=[by_name[image.name] for image in images],
        camera_to_world=poses,
        intrinsics=[intrinsics(model.camera(image.camera_id)) for image in images],
        points=np.array([point.xyz for point in points], np.float64).reshape(-1, 3),
        colors=np.array([point.color for point in points], np.uint8).reshape(-1, 3),
        error=float(model.compute_mean_reprojection_error()),
        missing=[photo.name for photo in photos if photo.name not in names],
        others=[other.num_reg_images() for other in models[1:]],
    )


def intrinsics(camera: Any) -> dict[str, float]:
    """A pycolmap camera (OPENCV or SIMPLE_RADIAL) in nerfstudio's words; pixel centres at halves in both."""
    values = [float(value) for value in camera.params]
    if camera.model_name == "SIMPLE_RADIAL":
        focal, cx, cy, k1 = values
        values = [focal, focal, cx, cy, k1, 0.0, 0.0, 0.0]
    return dict(zip(OPENCV_NAMES, values, strict=True)) | {"w": int(camera.width), "h": int(camera.height)}


def _why_nothing(work: Path, photos: Sequence[Photo]) -> str:
    """One line: no photo was placed, what was found, the likely cause, and the cure."""
    import pycolmap

    with pycolmap.Database.open(work / DATABASE) as database:
        features = [database.num_keypoints_for_image(image.image_id) for image in database.read_all_images()]
        matches = database.read_two_view_geometry_num_inliers()[1]
    joined, middle = sum(count >= ENOUGH for count in matches), int(np.median(features or [0]))
    found = (
        f"no photo could be placed ({len(photos)} photos, {middle} features in the middle one, {joined} pairs match)"
    )
    if middle < FEW and any(photo.masked for photo in photos):
        return f"{found}: the masks leave too little to see; use --no-mask-features, or leave the masks out"
    if middle < FEW:
        return f"{found}: too little texture, or blurred, or too small; put something patterned into the scene"
    if joined < len(photos) // 2:
        return (
            f"{found}: they hardly overlap; walk around with two thirds of each photo seen in the next, in steps "
            "of 10 degrees or less"
        )
    return f"{found}: the camera was turned but hardly moved; photos must be taken from different places"
