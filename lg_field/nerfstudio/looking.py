"""What the training cameras of a run say of its objects: what they look at, and what masks of their images cut out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from torch import Tensor

from lg_field.captures.photo_file import eight_bits, opened
from lg_field.nerfstudio.placing import views_of
from lg_field.nerfstudio.runs import Run, training_outputs
from lg_field.radiance.components import middles, shown_voxels
from lg_field.radiance.focus import Look
from lg_field.radiance.hull import visual_hull
from lg_field.radiance.occupancy_grid import OccupancyGrid
from lg_field.radiance.placement import look_at
from lg_field.radiance.views import Views
from lg_field.space.regions import Region

SIZE = 384
"""Pixels per axis to which masks are brought."""
FEW = 0.1
"""Least part of the images that a mask must be there for."""
PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".heic")
"""Endings of images that masks may keep before their own."""
POINTS = 1 << 18
"""Voxels looked at at a time."""


def training_cameras(run: Run) -> DataparserOutputs:
    """The run's training images and their cameras, in its scene space.

    Raises:
        FileNotFoundError: the data set is not where it was.
    """
    outputs = training_outputs(run)
    if outputs is None:
        data = run.config.pipeline.datamanager.data
        raise FileNotFoundError(f"{data}, the data set of the run, is not there; --focus and --masks need its cameras")
    return outputs


def look_of_run(run: Run) -> Look:
    """The run's cameras, and what they look at.

    Raises:
        FileNotFoundError: the data set is not where it was.
    """
    views = views_of(training_cameras(run).cameras)
    return Look(views, look_at(views)[0])


def hull_of_masks(
    grid: OccupancyGrid, region: Region | None, outputs: DataparserOutputs, folder: Path
) -> tuple[Bool[Tensor, "nx ny nz"], int]:
    """The voxels that masks agree on: inside the masks of nearly all images that show them, and shown by two at least;
    and those beside them, whose middles lie outside while what they hold may not.

    Args:
        grid: occupancy.
        region: that is shown of it; None = everything.
        outputs: the training images and their cameras.
        folder: with one mask per image; see `mask_files`.

    Returns:
        Voxels, and the number of masks that were found.

    Raises:
        ValueError: too few masks.
    """
    files = mask_files(outputs.image_filenames, folder)
    which = [k for k, file in enumerate(files) if file is not None]
    every = views_of(outputs.cameras)
    index = torch.tensor(which, dtype=torch.int64)
    views = Views(every.poses[index], every.focals[index], every.centers[index])
    alphas = torch.stack([read_mask(file) for file in files if file is not None])
    shown = shown_voxels(grid, region)
    agreed = shown.clone()
    for some in shown.nonzero().split(POINTS):
        agreed[tuple(some.unbind(1))] = visual_hull(views, alphas, middles(grid, some), least=0.0)
    grown = torch.nn.functional.max_pool3d(agreed[None, None].float(), 3, stride=1, padding=1)[0, 0] > 0
    return grown & shown, len(which)


def mask_files(images: list[Path], folder: Path) -> list[Path | None]:
    """The mask of each image, None where it has none: named as the image is, with any suffix (a.png or a.jpg.png for
    a.jpg), in the folder or in a folder of it that is called as the image's.

    Raises:
        ValueError: not a folder, masks of fewer than `FEW` of the images or of less than two, or two of one image.
    """
    if not folder.is_dir():
        raise ValueError(f"--masks takes a folder with one mask per training image, {folder} is none")
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            inner = Path(path.stem)
            for name in {path.stem, inner.stem if inner.suffix.lower() in PICTURES else path.stem}:
                found.setdefault(name, []).append(path)
    files = [_only(image, found.get(image.stem, [])) for image in images]
    count = sum(file is not None for file in files)
    if count < max(2.0, FEW * len(images)):
        raise ValueError(
            f"{folder} has masks of {count} of the {len(images)} training images; they are named as the images, e.g. "
            f"{images[0].stem}.png"
        )
    return files


def _only(image: Path, paths: list[Path]) -> Path | None:
    """The one of some masks that is an image's: all, or the one in a folder that is called as the image's."""
    paths = paths if len(paths) < 2 else [path for path in paths if path.parent.name == image.parent.name]
    if len(paths) > 1:
        raise ValueError(f"{paths[0]} and {paths[1]} could both be the mask of {image}: leave one")
    return paths[0] if paths else None


def read_mask(path: Path) -> Float[Tensor, "SIZE SIZE"]:
    """A mask, brought to a square, 1 where it is brighter than half; of a plain picture with alpha where that is.

    Raises:
        ValueError: not an image.
    """
    from PIL import Image

    with opened(path) as image:
        array = eight_bits(image, path)
    bright = array[..., :3].max(2)
    if array.shape[2] == 4 and bool((bright == bright.flat[0]).all()):
        bright = array[..., 3]
    solid = Image.fromarray(np.where(bright > 127, np.uint8(255), np.uint8(0)))
    return torch.from_numpy(np.array(solid.resize((SIZE, SIZE), Image.Resampling.BOX))).float() / 255.0
