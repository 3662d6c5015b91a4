"""The process that finds poses, by pycolmap (Schoenberger and Frahm, CVPR 2016): `python -m` with WORK.

Nothing else imports pycolmap: see `poses`. It reads WORK/job.json, prints its progress (what, done, total, with tabs
between) and writes WORK/poses.json, poses.npz and the reconstruction itself, for its tracks.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

from lg_field.photos.pairs import blocks, pairs_to_compare
from lg_field.photos.poses import ARRAYS, JOB, MODEL, RESULT, PoseSettings
from lg_field.photos.prepare import IMAGES, MASKS, Photo
from lg_field.photos.view_graph import Pair, strong_pairs

DATABASE, STRONG, MODELS, PAIRS = "database.db", "strong.db", "sparse", "pairs.txt"
ENOUGH, FEW = 15, 200
"""Matches that join two photos, and features of a photo that are too few."""
SHARED_BY = 8
"""A camera that so many photos share gets two focal lengths and four distortions (OPENCV), else one of each
(SIMPLE_RADIAL)."""
CENTRE_BY = 20
"""A camera that so many photos share gets a principal point of its own, else it is the middle of the picture."""
NEARLY_ALL = 0.9
"""Strong pairs are enough if they place this share of the photos."""
OPENCV_NAMES = ("fl_x", "fl_y", "cx", "cy", "k1", "k2", "p1", "p2")


def main(work: Path) -> None:
    """Do the job of a work folder."""
    job = json.loads((work / JOB).read_text())
    photos = [Photo(**photo) for photo in job["photos"]]
    settings = PoseSettings(**job["settings"])
    pycolmap.logging.minloglevel = int(pycolmap.logging.Level.FATAL)
    pycolmap.set_random_seed(0)
    _make_database(work, photos, job["groups"])
    _extract(work, photos, settings)
    _match(work, photos, settings, job["is_video"])
    models = _map(work, photos, settings)
    if models:
        _refine_centre(models[0])
        arrays, found = _describe(models, photos)
        np.savez(work / ARRAYS, **arrays)
        _write_model(models[0], work / MODEL)
    else:
        found = {"error": _why_nothing(work, photos)}
    (work / RESULT).write_text(json.dumps(found))


def progress(doing: str, done: int, total: int) -> None:
    """Tell the process that waits."""
    print(doing, done, total, sep="\t", flush=True)


def _make_database(work: Path, photos: Sequence[Photo], groups: Sequence[Sequence[str]]) -> None:
    """The database with its cameras, one for each group of photos, and images, unless it is there."""
    database, new = work / DATABASE, work / f"new.{DATABASE}"
    if database.exists():
        return
    new.unlink(missing_ok=True)
    pycolmap.Database.open(new).close()
    by_name = {photo.name: photo for photo in photos}
    for names in groups:
        group = [by_name[name] for name in names]
        options = pycolmap.ImageReaderOptions(camera_model="OPENCV" if len(group) >= SHARED_BY else "SIMPLE_RADIAL")
        first = group[0]
        known = [photo.focal for photo in group if photo.focal]
        if known:
            middle, focal = (first.width / 2, first.height / 2), float(np.median(known))
            values = (focal, focal, *middle, 0, 0, 0, 0) if len(group) >= SHARED_BY else (focal, *middle, 0)
            options.camera_params = ",".join(map(str, values))
        pycolmap.import_images(new, work / IMAGES, pycolmap.CameraMode.SINGLE, names, options)
    os.replace(new, database)


def _extract(work: Path, photos: Sequence[Photo], settings: PoseSettings) -> None:
    """Features of all photos; those that have theirs are passed over."""
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
            pycolmap.extract_features(
                work / DATABASE,
                work / IMAGES,
                names,
                reader_options=reader,
                extraction_options=options,
                device=pycolmap.Device.cpu,
            )
            done += len(names)
    progress("features", len(photos), len(photos))


def _match(work: Path, photos: Sequence[Photo], settings: PoseSettings, is_video: bool) -> None:
    """Matches of the pairs, checked by geometry; pairs that have theirs are passed over."""
    options = pycolmap.FeatureMatchingOptions(num_threads=settings.threads or -1, use_gpu=False)
    geometry = pycolmap.TwoViewGeometryOptions()
    geometry.ransac.random_seed = 0
    groups = blocks(pairs_to_compare(len(photos), settings.matching, is_video))
    listed, done, total = work / PAIRS, 0, sum(map(len, groups))
    pairing = pycolmap.ImportedPairingOptions(match_list_path=listed)
    for group in groups:
        progress("pairs compared", done, total)
        listed.write_text("".join(f"{photos[a].name} {photos[b].name}\n" for a, b in group))
        pycolmap.match_image_pairs(work / DATABASE, options, pairing, geometry, pycolmap.Device.cpu)
        done += len(group)
    progress("pairs compared", total, total)


def _map(work: Path, photos: Sequence[Photo], settings: PoseSettings) -> list[Any]:
    """Reconstructions, that of most photos first; the photos of different ones do not hang together.

    Strong pairs are believed; all of them only where those leave photos out, and all place more.
    """
    _keep_strong(work)
    models = _map_once(work, work / STRONG, len(photos), settings)
    most = max((model.num_reg_images() for model in models), default=0)
    if most < NEARLY_ALL * len(photos):
        others = _map_once(work, work / DATABASE, len(photos), settings)
        if max((model.num_reg_images() for model in others), default=0) > most:
            models = others
    return sorted(models, key=lambda model: -model.num_reg_images())


def _keep_strong(work: Path) -> None:
    """A copy of the database without the geometry of weak pairs."""
    shutil.copyfile(work / DATABASE, work / STRONG)
    with pycolmap.Database.open(work / STRONG) as database:
        numbers, counts = database.read_two_view_geometry_num_inliers()
        pairs: list[Pair] = [pycolmap.pair_id_to_image_pair(number) for number in numbers]
        strong = strong_pairs({pair: count for pair, count in zip(pairs, counts, strict=True) if count >= ENOUGH})
        for pair in pairs:
            if pair not in strong:
                database.delete_two_view_geometry(*pair)


def _map_once(work: Path, database: Path, count: int, settings: PoseSettings) -> list[Any]:
    """Reconstructions of 3 photos or more from the pairs of a database."""
    models = work / MODELS
    shutil.rmtree(models, ignore_errors=True)
    models.mkdir()
    options = pycolmap.IncrementalPipelineOptions(
        num_threads=settings.threads or -1, random_seed=0, min_model_size=min(10, max(3, count // 3))
    )
    placed = 0

    def add(photos: int) -> None:
        nonlocal placed
        placed = 2 if photos == 2 else placed + 1
        progress("photos placed", min(placed, count - 1), count)  # refined once all are placed

    found = pycolmap.incremental_mapping(
        database,
        work / IMAGES,
        models,
        options,
        initial_image_pair_callback=lambda: add(2),
        next_image_callback=lambda: add(1),
    )
    return [model for model in found.values() if model.num_reg_images() >= 3]


def _refine_centre(model: Any) -> None:
    """Let the principal point of cameras that many photos share move from the middle; all else moves with it."""
    shared: dict[int, int] = {}
    for number in model.reg_image_ids():
        camera = model.image(number).camera_id
        shared[camera] = shared.get(camera, 0) + 1
    if min(shared.values()) >= CENTRE_BY:
        pycolmap.bundle_adjustment(model, pycolmap.BundleAdjustmentOptions(refine_principal_point=True))


def _write_model(model: Any, folder: Path) -> None:
    """The reconstruction as COLMAP's files, in a folder of its own."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    model.write_binary(folder)


def _describe(models: list[Any], photos: Sequence[Photo]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The first reconstruction in the terms of `poses.Placed`: arrays, and the rest."""
    model = models[0]
    order = {photo.name: index for index, photo in enumerate(photos)}
    images = sorted((model.image(i) for i in model.reg_image_ids()), key=lambda image: order[image.name])
    poses = np.tile(np.eye(4), (len(images), 1, 1))
    for pose, image in zip(poses, images, strict=True):
        pose[:3] = image.cam_from_world().inverse().matrix()
    poses[:, :3, 1:3] *= -1.0  # OpenCV's axes (y down, z forward) to OpenGL's
    points = list(model.points3D.values())
    arrays: dict[str, np.ndarray] = {
        "poses": poses,
        "points": np.array([point.xyz for point in points], np.float64).reshape(-1, 3),
        "colors": np.array([point.color for point in points], np.uint8).reshape(-1, 3),
    }
    return arrays, {
        "names": [image.name for image in images],
        "intrinsics": [intrinsics(model.camera(image.camera_id)) for image in images],
        "error_pixels": float(model.compute_mean_reprojection_error()),
        "others": [other.num_reg_images() for other in models[1:]],
    }


def intrinsics(camera: Any) -> dict[str, float]:
    """A pycolmap camera (OPENCV or SIMPLE_RADIAL) in nerfstudio's words; pixel centres at halves in both."""
    values = [float(value) for value in camera.params]
    if camera.model_name == "SIMPLE_RADIAL":
        focal, cx, cy, k1 = values
        values = [focal, focal, cx, cy, k1, 0.0, 0.0, 0.0]
    return dict(zip(OPENCV_NAMES, values, strict=True)) | {"w": int(camera.width), "h": int(camera.height)}


def _why_nothing(work: Path, photos: Sequence[Photo]) -> str:
    """One line: no photo was placed, what was found, the likely cause, and the cure."""
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


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    main(Path(sys.argv[1]))
