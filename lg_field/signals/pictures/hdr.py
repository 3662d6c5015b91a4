"""Linear float pictures, OpenEXR and Radiance HDR: fitted as logarithms, written as the numbers that they were.

value -> sign(value) log(1 + |value| / knee), which the network's range holds; `extra` of the signal has the knee.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from lg_field.signals.own_places import KNEE as KNEE
from lg_field.signals.pictures.raster import Raster


def curve(values: np.ndarray, knee: float) -> np.ndarray:
    """Linear values as logarithms, float32."""
    logs: np.ndarray = np.copysign(np.log1p(np.abs(values, dtype=np.float64) / knee), values).astype(np.float32)
    return logs


def linear(samples: Shaped[Tensor, "*shape"], extra: Mapping[str, Any]) -> Shaped[Tensor, "*shape"]:
    """Inverse of `curve`, float32, of samples whose signal says `extra`; others are as they are."""
    if KNEE not in extra:
        return samples
    logs = samples.double()
    return (torch.expm1(logs.abs()) * extra[KNEE]).copysign(logs).float()


def as_logs(values: Float[np.ndarray, "height width channels"], notes: list[str]) -> Raster:
    """A raster of linear values; the knee is a tenth of the median brightness.

    Raises:
        ValueError: never; NaN and infinite values are refused later, with the file's name.
    """
    positive = np.abs(values[np.isfinite(values) & (values != 0)])
    knee = 0.1 * float(np.median(positive)) if positive.size else 1.0
    knee = float(np.float32(max(knee, 1e-12)))
    return Raster(curve(values, knee), notes, extra={KNEE: knee})


def read_radiance(path: Path) -> Raster:
    """Read a Radiance .hdr through OpenCV.

    Raises:
        ValueError: not one, or broken.
    """
    import cv2

    array = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if array is None or array.dtype != np.float32 or array.ndim != 3:
        raise ValueError(f"{path} is not a Radiance HDR image or is broken")
    return as_logs(np.ascontiguousarray(array[..., ::-1]), [])


def read_exr(path: Path) -> Raster:
    """Read the colours, or the one channel, of an OpenEXR file.

    Raises:
        ValueError: not one, broken, or of other channels than Y, RGB or RGBA.
        ImportError: OpenEXR is missing.
    """
    openexr = _openexr(path)
    try:
        with openexr.File(str(path), separate_channels=True) as file:
            parts, channels = len(file.parts), {name: c.pixels for name, c in file.channels().items()}
    except Exception as error:  # OpenEXR's own types, RuntimeError among them
        raise ValueError(f"{path} is not an OpenEXR image or is broken: {str(error)[:200]}") from error
    names = next((names for names in ("RGBA", "RGB", "YA", "Y") if set(names) <= set(channels)), "")
    if not names and len(channels) == 1:
        names = next(iter(channels))
        taken = [names]
    else:
        taken = list(names)
    if not taken:
        raise ValueError(f"{path} holds channels {', '.join(sorted(channels))[:200]}; R G B, or one, are read")
    notes = ["only the first of its parts is read"] if parts > 1 else []
    if left := sorted(set(channels) - set(taken)):
        notes.append(f"channels {', '.join(left)[:200]} are left out")
    if len({channels[name].shape for name in taken}) > 1:
        raise ValueError(f"{path} holds channels of different sizes, which are not read")
    half = channels[taken[0]].dtype == np.float16
    raster = as_logs(np.stack([channels[name].astype(np.float32) for name in taken], -1), notes)
    raster.extra = {**raster.extra, "half": half}
    if len(taken) == 2:
        raster.spread_grey()
    return raster


def write_float(array: Float[np.ndarray, "height width channels"], path: Path, half: bool = False) -> None:
    """Write linear float32 values as .exr or .hdr.

    Args:
        array: (height, width, channels): 1, 3, or in .exr 4 channels; in .hdr not below 0.
        path: of one of these suffixes.
        half: .exr: 16-bit floats.

    Raises:
        ValueError: other channels.
        ImportError: OpenEXR is missing.
        OSError: it cannot be written.
    """
    channels = array.shape[-1]
    if channels not in ((1, 3, 4) if path.suffix.lower() == ".exr" else (3,)):
        raise ValueError(f"{channels} channels do not fit {path.suffix}: write .tif or .npy")
    if path.suffix.lower() == ".hdr":
        import cv2

        if not cv2.imwrite(str(path), np.ascontiguousarray(array[..., ::-1])):
            raise OSError(f"cannot write {path}")
        return
    openexr, name = _openexr(path), {1: "Y", 3: "RGB", 4: "RGBA"}[channels]
    pixels = np.ascontiguousarray((array[..., 0] if channels == 1 else array).astype(np.float16 if half else "float32"))
    header = {"compression": openexr.ZIP_COMPRESSION, "type": openexr.scanlineimage}
    openexr.File(header, {name: pixels}).write(str(path))


def _openexr(path: Path) -> Any:
    """The library.

    Raises:
        ImportError: it is missing.
    """
    try:
        import OpenEXR
    except ImportError as error:
        raise ImportError(f"{path}: OpenEXR files need OpenEXR: pip install 'lg-field[hdr]'") from error
    return OpenEXR
