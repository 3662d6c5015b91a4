"""A photo without the plain backdrop that it shows."""

from __future__ import annotations

from types import ModuleType

import numpy as np

from lg_field.captures.capture import Backdrop, CaptureError

SAME = 12
"""Largest difference of a channel, of 255, within one colour at least; noise may ask for more."""
REACH = 3.0
"""Pixels along the edge of a thing whose colour may be mixed with the backdrop's."""
GRADED = 0.35
"""Part by which a graded backdrop may be darker or lighter than its colour."""
ROUNDS, SAMPLES = 3, 1 << 14
"""How often what is found of a graded backdrop says how it is graded, by about so many pixels."""
SHOWN, STRIDE = 0.2, 9
"""Part of a photo's border that shows the backdrop, from which on it says how that is graded there; a thing begins
where the border's colour changes within so many pixels."""
SPECK = 12
"""Pixels of a piece that is noise."""


def cut_out(pixels: np.ndarray, backdrop: Backdrop) -> np.ndarray:
    """A photo without its backdrop.

    Args:
        pixels: (height, width, 3 or 4) uint8; with alpha: what has none (beyond a lens) is as the backdrop is.
        backdrop: its colour here may differ a little from photo to photo.

    Returns:
        (height, width, 4) uint8, straight alpha: 0 where the backdrop's colour goes on to a border of the photo, in
        holes of the thing, and in specks. A pixel along the edge of a thing is as opaque as its colour lies between
        those of backdrop and thing, and has the thing's.

    Raises:
        CaptureError: SciPy is missing.
    """
    ndimage = image_measures()
    color, outside, within = parted(pixels, backdrop)
    if backdrop.holes is not None:
        outside |= _holes(within, backdrop.holes)
    empty = _without_specks(~outside, ndimage)
    values, alpha = pixels[..., :3].astype(np.float32), np.zeros(empty.shape, dtype=np.float32)
    here = _around(~empty)
    values[here], alpha[here] = _unmixed(values[here], empty[here], color[here], ndimage)
    return np.dstack([values, alpha * 255.0]).round().astype(np.uint8)


def parted(pixels: np.ndarray, backdrop: Backdrop) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where a photo has its backdrop's colour.

    Args:
        pixels: (height, width, 3 or 4) uint8.
        backdrop: what is looked for.

    Returns:
        The backdrop's colour at each pixel, (height, width, 3) float32; which pixels have it and are connected to a
        border, (height, width) bool; and the number of the piece of each that has it and is not, counted from 1.

    Raises:
        CaptureError: SciPy is missing.
    """
    ndimage = image_measures()
    values = pixels[..., :3].astype(np.float32)
    color = np.broadcast_to(_color_here(values, backdrop), values.shape)
    places = unit_places(*values.shape[:2])
    known = _border_of(values, backdrop) if backdrop.graded else frame_of(values.shape[:2])
    graded = backdrop.graded and known.sum() >= SHOWN * frame_of(values.shape[:2]).sum()
    for _ in range(ROUNDS if graded else 1):
        here = shaded(values, color[0, 0], places, known) if graded and known.any() else color
        near = np.abs(values - here).max(2) <= backdrop.tolerance
        if pixels.shape[2] == 4:
            near |= pixels[..., 3] == 0
        pieces, count = ndimage.label(near)
        outer = np.zeros(count + 1, dtype=bool)
        outer[np.concatenate((pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]))] = True
        outer[0] = False
        known = outer[pieces]
    return here, known, np.where(known, 0, pieces)


def image_measures() -> ModuleType:
    """SciPy's `ndimage`.

    Raises:
        CaptureError: SciPy is missing.
    """
    try:
        from scipy import ndimage
    except ImportError as error:
        raise CaptureError(
            "photos before a plain backdrop need SciPy, which is not installed: pip install 'lg-field[mesh]', or keep "
            "the backdrop in the scene (--background keep; ns-train: --pipeline.datamanager.background keep)"
        ) from error
    module: ModuleType = ndimage
    return module


def frame_of(shape: tuple[int, ...], width: int = 1) -> np.ndarray:
    """(height, width) bool: the outermost pixels."""
    frame = np.ones(shape, dtype=bool)
    frame[width:-width, width:-width] = False
    return frame


def unit_places(height: int, width: int) -> np.ndarray:
    """(height, width, 6) float32: 1, x, y, x^2, x y, y^2 of each pixel; x and y go from -1 to 1."""
    x = np.linspace(-1.0, 1.0, width, dtype=np.float32)[None] * np.ones((height, 1), dtype=np.float32)
    y = np.linspace(-1.0, 1.0, height, dtype=np.float32)[:, None] * np.ones((1, width), dtype=np.float32)
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)


def shaded(values: np.ndarray, color: np.ndarray, places: np.ndarray, known: np.ndarray) -> np.ndarray:
    """A colour that is lighter and darker from place to place, evenly (a polynomial of order two), as pixels that are
    known to show it say: those that say something else by far count less, again and again.

    Args:
        values: (height, width, 3) float32.
        color: (3,) float32, not black.
        places: `unit_places`.
        known: (height, width) bool; at least some.

    Returns:
        (height, width, 3) float32.
    """
    numbers = known.ravel().nonzero()[0]
    numbers = numbers[:: max(1, len(numbers) // SAMPLES)]
    basis = places.reshape(-1, 6)[numbers].astype(np.float64)
    light = (values.reshape(-1, 3)[numbers] @ color / (color @ color)).astype(np.float64)
    fit, trust = np.zeros(6), np.ones(len(light))
    for _ in range(8):
        weighted = basis * trust[:, None]
        fit = np.linalg.solve(weighted.T @ basis + 1e-6 * np.eye(6), weighted.T @ light)
        apart = np.abs(basis @ fit - light)
        trust = 1.0 / (1.0 + (apart / max(float(np.median(apart)), 1e-3)) ** 2) ** 2
    shade = (places @ fit.astype(np.float32)).clip(1.0 - GRADED, 1.0 + GRADED)
    lit: np.ndarray = shade[..., None] * color
    return lit


def _holes(within: np.ndarray, holes: np.ndarray) -> np.ndarray:
    """Pieces of a photo that are holes for the most part, by a small picture of these."""
    height, width = within.shape
    rows = ((np.arange(height) + 0.5) * holes.shape[0] / height).astype(int)
    columns = ((np.arange(width) + 0.5) * holes.shape[1] / width).astype(int)
    count = int(within.max()) + 1
    sizes = np.bincount(within.ravel(), minlength=count)
    hits = np.bincount(within.ravel(), weights=holes[np.ix_(rows, columns)].ravel(), minlength=count)
    open_ones = hits >= 0.5 * np.maximum(sizes, 1)
    open_ones[0] = False
    found: np.ndarray = open_ones[within]
    return found


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
    thing, here, behind = values[row[mixed], column[mixed]], values[mixed], color[mixed]
    span = thing - behind
    share = ((here - behind) * span).sum(1) / np.maximum((span * span).sum(1), 1e-6)
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
    near = borders[_near(borders, backdrop)]
    return np.median(near, axis=0).astype(np.float32) if len(near) else color


def _near(colors: np.ndarray, backdrop: Backdrop) -> np.ndarray:
    """(n,) bool: which (n, 3) colours are about a backdrop's."""
    near: np.ndarray = np.abs(colors - np.array(backdrop.color, dtype=np.float32)).max(1) <= backdrop.tolerance + SAME
    return near


def _border_of(values: np.ndarray, backdrop: Backdrop) -> np.ndarray:
    """(height, width) bool: where a photo's border shows a graded backdrop: the colour changes slowly along it from
    there to where it is about the backdrop's."""
    height, width = values.shape[:2]
    across, down = np.arange(width), np.arange(height)
    rows = np.concatenate((0 * across, down, 0 * across + height - 1, down[::-1]))
    columns = np.concatenate((across, 0 * down + width - 1, across[::-1], 0 * down))
    line = values[rows, columns]
    mean = sum(np.roll(line, -k, axis=0) for k in range(STRIDE)) / STRIDE
    jump = np.abs(mean - np.roll(mean, STRIDE, axis=0)).max(1) > backdrop.tolerance
    start = int(jump.argmax())
    run = np.roll(np.cumsum(np.roll(jump, -start)), start)
    shows = np.bincount(run, weights=_near(line, backdrop) & ~jump) >= STRIDE
    known = np.zeros((height, width), dtype=bool)
    kept = shows[run] & ~jump
    known[rows[kept], columns[kept]] = True
    return known
