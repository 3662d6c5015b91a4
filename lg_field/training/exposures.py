"""Whether photos of one scene differ in exposure or white balance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lg_field.captures.photo_file import few_pixels

DIFFERENT = 0.12
"""Differences of the logarithm of mean colours that are of cameras' settings: 12 %."""
DIFFER = "The photos differ in exposure or white balance"
"""What is said of such photos."""
LEAST = 20
"""Photos at least."""
MOST = 300
"""Photos that are looked at."""
SIDE = 48
"""Pixels of the longer side of what is looked at."""
DARK = 1e-2
"""Added to mean colours: black has no logarithm."""


def mean_colors(images: Sequence[Path]) -> np.ndarray:
    """(n, 3) mean colours of photos, 0..1.

    Raises:
        CaptureError: a broken photo.
    """
    return np.array([few_pixels(path, SIDE).mean((0, 1)) / 255.0 for path in images])


def exposures_differ(images: Sequence[Path], places: np.ndarray, forward: np.ndarray) -> bool:
    """Whether photos differ in brightness or tint by more than what they show explains.

    What cameras see changes slowly with where they are and look; their settings jump. So both has to be: photos differ
    from those taken close to them, and from what places and directions of the cameras say together (a quadratic
    function, or a linear one of few photos).

    Args:
        images: opaque photos.
        places: (n, 3) of their cameras.
        forward: (n, 3) unit directions in which they look.

    Raises:
        CaptureError: a broken photo.
    """
    if len(images) < LEAST:
        return False
    some = np.unique(np.linspace(0, len(images) - 1, min(MOST, len(images))).round().astype(int))
    colors = np.log(mean_colors([images[k] for k in some]) + DARK)
    places, forward = places[some] - places[some].mean(0), forward[some]
    places = places / max(float(np.median(np.linalg.norm(places, axis=1))), 1e-9)
    return bool(min(_from_neighbours(colors, places, forward), _from_all(colors, places, forward)) > DIFFERENT)


def _from_neighbours(colors: np.ndarray, places: np.ndarray, forward: np.ndarray) -> float:
    """Median difference of a photo from the one whose camera is closest to its own."""
    apart = np.linalg.norm(places[:, None] - places, axis=2) + 2.0 * (1.0 - forward @ forward.T)
    np.fill_diagonal(apart, np.inf)
    return float(np.median(np.abs(colors - colors[apart.argmin(1)]).mean(1)))


def _from_all(colors: np.ndarray, places: np.ndarray, forward: np.ndarray) -> float:
    """Standard deviation from a smooth function of the cameras."""
    given = np.concatenate([places, forward], axis=1)
    pairs = [given[:, i] * given[:, j] for i in range(6) for j in range(i, 6)]
    smooth = np.column_stack([np.ones(len(given)), given, *pairs])
    if len(smooth) < 1.3 * smooth.shape[1]:
        smooth = smooth[:, : 1 + 6]
    free = max(1, len(smooth) - smooth.shape[1])
    fit, *_ = np.linalg.lstsq(smooth, colors, rcond=1e-4)
    left = colors - smooth @ fit
    return float(np.sqrt((left * left).sum(0) / free).mean())
