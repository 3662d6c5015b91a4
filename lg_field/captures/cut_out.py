"""A photo without the plain backdrop that it shows."""

from __future__ import annotations

from types import ModuleType

import numpy as np

from lg_field.captures.capture import Backdrop, CaptureError

SAME = 12
"""Largest difference of a channel, of 255, within one colour at least; noise may ask for more."""
REACH = 3.0
"""Pixels along the edge of a thing whose colour may be mixed with the backdrop's."""
SPECK = 12
"""Pixels of a piece that is noise."""


def cut_out(pixels: np.ndarray, backdrop: Backdrop) -> np.ndarray:
    """A photo without its backdrop.

    Args:
        pixels: (height, width, 3 or 4) uint8; with alpha: what has none (beyond a lens) is as the backdrop is.
        backdrop: its colour here may differ a little from photo to photo.

    Returns:
        (height, width, 4) uint8, straight alpha: 0 where the backdrop's colour goes on to a border of the photo, and in
        specks. A pixel along the edge of a thing is as opaque as its colour lies between those of backdrop and thing,
        and has the thing's.

    Raises:
        CaptureError: SciPy is missing.
    """
    try:
        from scipy import ndimage
    except ImportError as error:
        raise CaptureError(
            "photos before a plain backdrop need SciPy: pip install 'lg-field[mesh]', or keep it (background keep)"
        ) from error
    values = pixels[..., :3].astype(np.float32)
    color = _color_here(values, backdrop)
    near = np.abs(values - color).max(2) <= backdrop.tolerance
    if pixels.shape[2] == 4:
        near |= pixels[..., 3] == 0
    pieces, _ = ndimage.label(near)
    edges = (pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1])
    outside = np.zeros(int(pieces.max()) + 1, dtype=bool)
    outside[np.concatenate(edges)] = True
    outside[0] = False
    empty = _without_specks(~outside[pieces], ndimage)
    alpha = np.zeros(empty.shape, dtype=np.float32)
    here = _around(~empty)
    values[here], alpha[here] = _unmixed(values[here], empty[here], color, ndimage)
    return np.dstack([values, alpha * 255.0]).round().astype(np.uint8)


def _around(solid: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns around what is there, and a few pixels more."""
    spans = []
    for axis in (0, 1):
        at = solid.any(1 - axis).nonzero()[0]
        lower, upper = (int(at[0]), int(at[-1])) if len(at) else (0, 0)
        spans.append(slice(max(0, lower - 4), upper + 5))
    return spans[0], spans[1]


def _unmixed(
    values: np.ndarray, empty: np.ndarray, color: np.ndarray, ndimage: ModuleType
) -> tuple[np.ndarray, np.ndarray]:
    """Colours and alpha of pixels, those along the edge of a thing parted into the thing's and the backdrop's."""
    values, alpha = values.copy(), np.where(empty, np.float32(0.0), np.float32(1.0))
    inner = ndimage.binary_erosion(~empty, np.ones((3, 3)), iterations=2, border_value=1)
    distance, (row, column) = ndimage.distance_transform_edt(~inner, return_indices=True)
    mixed = ~empty & ~inner & (distance <= REACH)
    thing, here = values[row[mixed], column[mixed]], values[mixed]
    span = thing - color
    share = ((here - color) * span).sum(1) / np.maximum((span * span).sum(1), 1e-6)
    alpha[mixed] = share.clip(0.0, 1.0)
    values[mixed] = np.where(share[:, None] < 1.0, thing, here)
    return values, alpha


def _without_specks(solid: np.ndarray, ndimage: ModuleType) -> np.ndarray:
    """Where there is nothing: what is not solid, and solid specks (noise, what JPEG makes of edges)."""
    pieces, count = ndimage.label(solid, np.ones((3, 3)))
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    sizes[0] = 0
    empty: np.ndarray = sizes[pieces] <= SPECK
    return empty


def _color_here(values: np.ndarray, backdrop: Backdrop) -> np.ndarray:
    """The backdrop's colour in one photo: the median of what is near it along the borders."""
    borders = np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])
    color = np.array(backdrop.color, dtype=np.float32)
    near = borders[np.abs(borders - color).max(1) <= backdrop.tolerance + SAME]
    return np.median(near, axis=0).astype(np.float32) if len(near) else color
