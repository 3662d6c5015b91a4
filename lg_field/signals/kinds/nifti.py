"""NIfTI volumes (.nii, .nii.gz) through nibabel: numbers on a grid that lies in the world, in millimetres.

What a file says of its grid (affine, voxel size, units) and of its numbers (type, slope and intercept) is kept in the
signal's description, and written back when a field is decoded. Axes are the file's: x, y and z are its i, j and k.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped
from torch import Tensor

from lg_field.signals.arrays import as_samples
from lg_field.signals.data import SignalData
from lg_field.signals.kinds.scan import EXTRA, WRITERS, Scan
from lg_field.signals.kinds.volume import as_volume
from lg_field.signals.own_places import NiftiPlaces
from lg_field.signals.settings import ShapeConfig
from lg_field.signals.signal import Signal


class Nifti(NiftiPlaces, Scan):
    """A scan in a NIfTI file."""

    reads = (".nii", ".nii.gz")

    def read(self, path: Path, options: ShapeConfig) -> SignalData:
        return read_nifti(path)


def read_nifti(path: Path) -> SignalData:
    """Read the numbers as they are stored, int16 as int16; `extra` has the slope and intercept that scale them.

    Types that a signal has no place for (64 bits, unsigned 32) become float32.

    Raises:
        ValueError: no NIfTI file, a broken one, other axes than three, colours, or nothing but one value.
        ImportError: nibabel is missing.
    """
    nibabel = _nibabel()
    try:
        image: Any = nibabel.load(path)
        stored = np.asarray(image.dataobj.get_unscaled())
        slope, intercept, header = float(image.dataobj.slope), float(image.dataobj.inter), image.header
        codes = (int(header[name]) for name in ("qform_code", "sform_code", "xyzt_units"))
        affine = np.asarray(image.affine, dtype=np.float64)
    except Exception as error:  # whatever nibabel's readers, zip and numpy raise on a file that is none
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise ValueError(f"{path} is not a NIfTI file or is broken: {reason}") from error
    while stored.ndim > 3 and stored.shape[-1] == 1:
        stored = stored[..., 0]
    data = as_volume(*as_samples(stored, str(path)), str(path), Nifti.name)
    extra = dict(zip(EXTRA, (slope, intercept, *codes)))
    rows = tuple(tuple(row) for row in affine.tolist())
    return SignalData(data.samples, replace(data.signal, affine=rows, extra=extra))


def write_nifti(samples: Shaped[Tensor, "nx ny nz 1"], path: Path, signal: Signal) -> None:
    """Write samples in the signal's type, with its affine, slope and intercept.

    Raises:
        ImportError: nibabel is missing.
    """
    nibabel, extra = _nibabel(), EXTRA | dict(signal.extra)
    affine = np.asarray(signal.affine) if signal.affine else np.eye(4)
    image = nibabel.Nifti1Image(samples[..., 0].numpy().astype(signal.dtype), affine, dtype=np.dtype(signal.dtype))
    known = extra["qform"] or extra["sform"]
    image.header.set_qform(affine, int(extra["qform"]), strip_shears=True)
    image.header.set_sform(affine, int(extra["sform"] if known else EXTRA["sform"]))
    image.header["xyzt_units"] = int(extra["units"])
    image.header.set_slope_inter(extra["slope"], extra["intercept"])  # with these said, numbers are stored as they are
    nibabel.save(image, path)


WRITERS.update({".nii": write_nifti, ".nii.gz": write_nifti})


def _nibabel() -> Any:
    """The library.

    Raises:
        ImportError: it is missing.
    """
    try:
        import nibabel
    except ImportError as error:
        raise ImportError("NIfTI files need nibabel: pip install 'lg-field[medical]'") from error
    return nibabel
