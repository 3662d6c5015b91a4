"""NRRD scans through pynrrd. Axes are the file's; its space becomes x to the right, y to the front, z up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped
from torch import Tensor

from lg_field.errors import notice
from lg_field.signals.arrays import as_samples
from lg_field.signals.data import SignalData
from lg_field.signals.kinds.scan import EXTRA, SPACE, WRITERS, Scan
from lg_field.signals.kinds.volume import as_volume
from lg_field.signals.own_places import NrrdPlaces
from lg_field.signals.settings import ShapeConfig
from lg_field.signals.signal import Signal

RAS = "right-anterior-superior"
SIGNS = {RAS: (1.0, 1.0, 1.0), "left-anterior-superior": (-1.0, 1.0, 1.0), "left-posterior-superior": (-1.0, -1.0, 1.0)}
"""Named spaces, and the directions of their axes in the one that scans are kept in."""
SHORT = {"ras": RAS, "las": "left-anterior-superior", "lps": "left-posterior-superior"}
KEPT = ("type", "dimension", "sizes", "endian", "encoding", "space", "space directions", "space origin", "spacings")
"""Fields that are read or follow from what is kept."""
UNSAID = ("kinds", "space dimension", "space units", "units", "axis mins", "axismins", "content", "labels", "centers")
"""Fields that are left out without a word: they say nothing of the numbers or repeat others."""
MILLIMETRES = 2


class Nrrd(NrrdPlaces, Scan):
    """A scan in an NRRD file."""

    reads = (".nrrd",)

    def read(self, path: Path, options: ShapeConfig) -> SignalData:
        return read_nrrd(path)


def read_nrrd(path: Path) -> SignalData:
    """Read the numbers as they are stored. `extra` has the name of the space, so that it is written again.

    Types that a signal has no place for (64 bits, unsigned 32) become float32.

    Raises:
        ValueError: no NRRD file, a broken one, other axes than three, or nothing but one value.
        ImportError: pynrrd is missing.
    """
    nrrd = _nrrd()
    try:
        stored, header = nrrd.read(str(path))
    except Exception as error:  # whatever pynrrd, zlib and numpy raise on a file that is none
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise ValueError(f"{path} is not an NRRD file or is broken: {reason}") from error
    data = as_volume(*as_samples(stored, str(path)), str(path), Nrrd.name)
    space = str(header.get("space", "")).lower()
    space = SHORT.get(space, space)
    if left := [name for name in header if name not in (*KEPT, *UNSAID)]:
        notice(f"{path}: left out: its fields {', '.join(left)[:200]}")
    affine = _affine(header, path)
    affine[:3] *= np.asarray(SIGNS.get(space, SIGNS[RAS]))[:, None]
    rows = tuple(tuple(row) for row in affine.tolist())
    return SignalData(data.samples, replace(data.signal, affine=rows, extra={SPACE: space}))


def _affine(header: Any, path: Path) -> np.ndarray:
    """(4, 4) from voxels to the file's own space."""
    affine = np.eye(4)
    directions, spacings = header.get("space directions"), header.get("spacings")
    if directions is not None:
        rows = np.asarray(directions, dtype=np.float64)
        if rows.shape != (3, 3) or not np.isfinite(rows).all():
            raise ValueError(f"{path}: its space directions are no three vectors of three numbers")
        affine[:3, :3] = rows.T
    elif spacings is not None:
        steps = np.asarray(spacings, dtype=np.float64)
        affine[:3, :3] = np.diag(np.where(np.isfinite(steps) & (steps != 0), steps, 1.0)[:3])
    origin = header.get("space origin")
    if origin is not None:
        affine[:3, 3] = np.asarray(origin, dtype=np.float64)
    return affine


def write_nrrd(samples: Shaped[Tensor, "nx ny nz 1"], path: Path, signal: Signal) -> None:
    """Write samples in the signal's type, compressed, in the space that they came from (else x to the right, y to the
    front, z up). NRRD scales no numbers: where the signal does, values are written, float32, and that is said.

    Raises:
        ImportError: pynrrd is missing.
    """
    nrrd, extra = _nrrd(), EXTRA | dict(signal.extra)
    array = samples[..., 0].numpy().astype(signal.dtype)
    slope, intercept = float(extra["slope"]), float(extra["intercept"])
    if (slope, intercept) != (1.0, 0.0):
        notice(f"{path}: NRRD scales no numbers: {slope:g} * number {intercept:+g} is written, as float32")
        array = (array * np.float64(slope) + intercept).astype(np.float32)
    space = str(signal.extra.get(SPACE, RAS))
    affine = np.asarray(signal.affine) if signal.affine else np.eye(4)
    affine = affine[:3] * np.asarray(SIGNS.get(space, SIGNS[RAS]))[:, None]
    header: dict[str, Any] = {"encoding": "gzip", "space directions": affine[:, :3].T, "space origin": affine[:, 3]}
    header |= {"space": space} if space else {"space dimension": 3}
    if int(extra["units"]) == MILLIMETRES and space in SIGNS:
        header["space units"] = ["mm"] * 3
    nrrd.write(str(path), array, header)


WRITERS[".nrrd"] = write_nrrd


def _nrrd() -> Any:
    """The library.

    Raises:
        ImportError: it is missing.
    """
    try:
        import nrrd
    except ImportError as error:
        raise ImportError("NRRD files need pynrrd: pip install 'lg-field[medical]'") from error
    return nrrd
