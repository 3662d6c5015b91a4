"""A signal in memory, and which reader a file name asks for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lg_field.description import Signal


@dataclass
class SignalData:
    """The samples of a signal, in the type they came in."""

    samples: Tensor
    """(*shape, channels); uint16 samples as int32, for torch computes little in uint16."""
    signal: Signal

    def __post_init__(self) -> None:
        if tuple(self.samples.shape) != (*self.signal.shape, self.signal.channels):
            raise ValueError(f"samples {tuple(self.samples.shape)} do not fit {self.signal}")
        check_finite(self.samples)

    def flat(self) -> Tensor:
        """(num_samples, channels) view."""
        return self.samples.view(-1, self.signal.channels)


def check_finite(samples: Tensor) -> None:
    """Raise ValueError if samples are NaN or infinite."""
    if samples.is_floating_point() and not bool(samples.isfinite().all()):
        bad = int((~samples.isfinite()).sum())
        raise ValueError(f"{bad:,} samples are NaN or infinite; replace them first")


def read_signal(path: Path) -> SignalData:
    """Read an image, a sound, a video or an array.

    Args:
        path: .png .jpg .jpeg .bmp .tif .tiff .webp (8 or 16 bits, grey, RGB, RGBA), .wav .flac .ogg, .mp4 .avi .mov
            .mkv .webm, or .npy .npz with a volume (x, y, z) of numbers.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a kind of file that is read, or a broken one.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    suffix = path.suffix.lower()
    if suffix in IMAGES:
        from lg_field.signals.image import read_image

        return read_image(path)
    if suffix in SOUNDS:
        from lg_field.signals.audio import read_audio

        return read_audio(path)
    if suffix in VIDEOS:
        from lg_field.signals.video import read_video

        return read_video(path)
    if suffix in ARRAYS:
        return read_volume(path)
    raise ValueError(f"{path}: cannot encode {suffix or 'files without a suffix'}; use {' '.join(SUFFIXES)}")


IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
SOUNDS = (".wav", ".flac", ".ogg")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm")
ARRAYS = (".npy", ".npz")
SUFFIXES = IMAGES + SOUNDS + VIDEOS + ARRAYS


def read_volume(path: Path) -> SignalData:
    """A .npy array, or the first of a .npz, as a volume."""
    values = read_array(path)
    if values.dim() != 3 or not values.numel():
        raise ValueError(f"{path} has shape {tuple(values.shape)}; a volume (x, y, z) is needed")
    low, high = float(values.min()), float(values.max())
    if not low < high:
        raise ValueError(f"{path} is constant ({low:g}): there is nothing to encode")
    signal = Signal("volume", tuple(values.shape), 1, "float32", (low, high))
    return SignalData(values[..., None], signal)


def read_array(path: Path) -> Tensor:
    """The numbers of a .npy, or of the first array of a .npz, as float32.

    Raises:
        ValueError: no numbers, or NaN or infinite ones.
    """
    import numpy as np

    try:
        array = np.load(path, allow_pickle=False)
        array = array[array.files[0]] if path.suffix.lower() == ".npz" else array
        values = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
    except (ValueError, OSError, EOFError, IndexError, TypeError) as error:
        raise ValueError(f"{path} is not an array of numbers: {error}") from error
    check_finite(values)
    return values
