"""All pages of a TIFF as a volume: x along rows, y along columns, z from page to page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from lg_field.errors import notice
from lg_field.signals.pictures.tiff import check_page, pages_of, quiet_tifffile

TIFF = (".tif", ".tiff")


def read_stack(path: Path) -> Shaped[np.ndarray, "x y z"]:
    """The numbers of all pages, or of a file whose one page holds a volume (ImageJ). Sizes of voxels are left out, and
    said to be.

    Raises:
        ValueError: no TIFF, a broken one, pages of colours, or of several sizes or types.
    """
    import tifffile

    try:
        with quiet_tifffile(), tifffile.TiffFile(path) as file:
            pages = pages_of(file, path)
            if len(file.series) != 1:
                raise ValueError(f"{path} holds {len(file.series)} stacks or sizes of pages; save one by itself")
            for page in pages:
                check_page(page, path)
            array, axes = file.series[0].asarray(), file.series[0].axes
            sized = any(getattr(page, "tags", {}).get(282) is not None for page in pages[:1])
            sized &= bool((file.imagej_metadata or {}).get("spacing") or file.is_ome)
    except ValueError as error:
        words = str(error)
        raise ValueError(words if str(path) in words else f"{path} is not a TIFF or is broken: {words}") from error
    except Exception as error:  # whatever a broken file makes tifffile, struct, zlib and numpy raise
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise ValueError(f"{path} is not a TIFF or is broken: {reason}") from error
    array = array[None] if axes == "YX" else array
    if array.ndim != 3 or axes[-1] == "S" or axes[0] == "S":
        raise ValueError(f"{path} has axes {axes}: a volume is pages of one grey value a pixel")
    if sized:
        notice(f"{path}: the sizes of its voxels are left out; save it as .nii or .nrrd to keep them")
    return array.transpose(2, 1, 0)


def write_stack(array: Shaped[np.ndarray, "x y z"], path: Path) -> None:
    """Write a volume page by page."""
    import tifffile

    pages = np.ascontiguousarray(array.transpose(2, 1, 0))
    tifffile.imwrite(path, pages, photometric="minisblack", compression="zlib", metadata=None)
