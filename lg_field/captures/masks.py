"""Masks of an object, one per photo, from any tool that cuts it out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lg_field.captures.photo_file import decoding, eight_bits

SIZE = 384
"""Pixels per axis to which masks are brought."""
FEW = 0.1
"""Least part of the images that a mask must be there for."""
PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".heic")
"""Endings of images that masks may keep before their own."""


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
        ValueError: not an image, or a broken one.
    """
    from PIL import Image

    with decoding(path) as image:
        array = eight_bits(image, path)
    bright = array[..., :3].max(2)
    if array.shape[2] == 4 and bool((bright == bright.flat[0]).all()):
        bright = array[..., 3]
    solid = Image.fromarray(np.where(bright > 127, np.uint8(255), np.uint8(0)))
    return torch.from_numpy(np.array(solid.resize((SIZE, SIZE), Image.Resampling.BOX))).float() / 255.0
