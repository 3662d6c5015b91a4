"""Image files out: the type and channels that went in, or a line that says what the format made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped
from torch import Tensor

from lg_field.errors import tell
from lg_field.signals.pictures.hdr import KNEE, linear, write_float
from lg_field.signals.signal import Signal

TIFF = (".tif", ".tiff")
FLOAT = (".exr", ".hdr")
CHANNELS = {".png": (1, 3, 4), ".webp": (3, 4), ".jpg": (1, 3), ".jpeg": (1, 3), ".bmp": (1, 3)}
"""Channels of the files of 8 bits (PNG: and 16)."""


def write_signal(samples: Shaped[Tensor, "height width channels"], path: Path, signal: Signal) -> None:
    """Write decoded samples: their type and range where the format has them, else mapped, in a line on stderr.

    Args:
        samples: of the signal's type.
        path: of a suffix of images.
        signal: what they are.

    Raises:
        ValueError: channels that the format does not have.
    """
    suffix = path.suffix.lower()
    if suffix in FLOAT:
        write_float(_light(samples, path, signal), path, bool(signal.extra.get("half")))
    elif suffix in TIFF:
        _write_tiff(linear(samples, signal.extra).numpy().astype(signal.dtype), path)
    elif signal.dtype == "uint8" or (signal.dtype == "uint16" and suffix == ".png"):
        _write_plain(samples.numpy().astype(signal.dtype), path)
    else:
        _write_plain(_mapped(samples, path, signal), path)


def write_image(samples: Shaped[Tensor, "height width channels"], path: Path) -> None:
    """Write (height, width, channels) samples, uint8 or 16 bits in int32.

    Raises:
        ValueError: channels or a depth that the format does not have.
    """
    array = samples.numpy()
    array = array if array.dtype == np.uint8 else array.astype(np.uint16)
    suffix = path.suffix.lower()
    if suffix in TIFF:
        _write_tiff(array, path)
    elif array.dtype == np.uint16 and suffix != ".png":
        raise ValueError(f"16 bits do not fit {suffix}: write .png or .tif")
    else:
        _write_plain(array, path)


def to_pixels(
    samples: Shaped[Tensor, "height width channels"], signal: Signal
) -> Shaped[Tensor, "height width channels"]:
    """Samples as they are seen: 8 and 16 bits as they are, others mapped from the value range to 8 bits."""
    if signal.dtype in ("uint8", "uint16"):
        return samples
    return (signal.normalize(samples).add(1.0) * 127.5).round().clamp(0.0, 255.0).byte()


def _mapped(samples: Tensor, path: Path, signal: Signal) -> np.ndarray:
    """Samples as 8 bits, and said."""
    low, high = signal.value_range
    span = 0.5 / 255.0
    unit = signal.normalize(samples) * 0.5 + 0.5
    clipped = int(((unit < -span) | (unit > 1.0 + span)).sum())
    form = f"logarithms of {signal.dtype}" if KNEE in signal.extra else signal.dtype
    beyond = f"; {clipped:,} values beyond that were clipped" if clipped else ""
    tell(f"{path.suffix} holds 8 bits: {form} from {low:g} to {high:g} became 0 to 255{beyond}")
    eight: np.ndarray = (unit * 255.0).round().clamp(0.0, 255.0).byte().numpy()
    return eight


def _light(samples: Tensor, path: Path, signal: Signal) -> np.ndarray:
    """Samples as light, float32: linear ones as they are, integers from black (0) to white (1)."""
    array = linear(samples, signal.extra).float().numpy()
    if signal.dtype != "float32":
        tell(
            f"{path.suffix} holds real numbers: {signal.dtype} from {signal.value_range} became 0 to 1, not linearized"
        )
        array = (signal.normalize(samples) * 0.5 + 0.5).numpy()
    if path.suffix.lower() == ".hdr" and (below := int((array < 0).sum())):
        tell(f".hdr holds nothing below 0: {below:,} values were clipped")
        array = array.clip(0.0, None)
    return array


def _write_plain(array: np.ndarray, path: Path) -> None:
    """Write 8 bits by Pillow, 16-bit PNG by imagecodecs."""
    import PIL.Image

    suffix, channels = path.suffix.lower(), array.shape[-1]
    fits = CHANNELS[suffix]
    if channels == 1 and 1 not in fits:
        tell(f"{suffix} has no grey: written as RGB")
        array = np.repeat(array, 3, axis=-1)
    elif channels == 4 and 4 not in fits:
        clear = f", which was not full at {int((array[..., 3] != 255).sum()):,} pixels," if array.dtype == "u1" else ""
        tell(f"{suffix} has no alpha: the fourth channel{clear} is left out")
        array = array[..., :3]
    elif channels not in fits:
        raise ValueError(f"{channels} channels do not fit {suffix}: write .tif or .npy")
    array = np.ascontiguousarray(array[..., 0] if array.shape[-1] == 1 else array)
    if array.dtype == np.uint16:
        import imagecodecs

        path.write_bytes(imagecodecs.png_encode(array))
        return
    lossy: dict[str, Any] = {"quality": 95} if suffix in (".jpg", ".jpeg", ".webp") else {}
    PIL.Image.fromarray(array).save(path, **lossy)


def _write_tiff(array: np.ndarray, path: Path) -> None:
    """Write any samples: RGB and RGBA as such, other channels as they are."""
    import tifffile

    channels = array.shape[-1]
    colour = channels in (3, 4)
    extra = {4: ["unassalpha"]}.get(channels, ["unspecified"] * (channels - 1) if not colour else None)
    tifffile.imwrite(
        path,
        array[..., 0] if channels == 1 else array,
        photometric="rgb" if colour else "minisblack",
        planarconfig="contig" if channels > 1 else None,
        extrasamples=extra if channels > 1 else None,
        compression="zlib",
        metadata=None,
    )
