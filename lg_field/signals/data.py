"""A signal in memory, and which reader a file name asks for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import torch
from torch import Tensor

from lg_field.description import Signal
from lg_field.signals.mesh_file import MESHES

if TYPE_CHECKING:
    from lg_field.signals.occupancy import OccupancyData, ShapeConfig


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

    def slab(self, first: int, last: int) -> Tensor:
        """(last - first, ..., channels) samples along the first axis."""
        return self.samples[first:last]

    def checksum(self) -> float:
        """A number that differs for most other signals."""
        return float(self.samples.double().sum())


def check_finite(samples: Tensor) -> None:
    """Raise ValueError if samples are NaN or infinite."""
    if samples.is_floating_point() and not bool(samples.isfinite().all()):
        bad = int((~samples.isfinite()).sum())
        raise ValueError(f"{bad:,} samples are NaN or infinite; replace them first")


def read_signal(path: Path, shape: ShapeConfig | None = None) -> SignalData | OccupancyData:
    """Read an image, a sound, a video, an array or a mesh.

    Args:
        path: .png .jpg .jpeg .bmp .tif .tiff .webp (8 or 16 bits, grey, RGB, RGBA), .wav .flac .ogg, .mp4 .avi .mov
            .mkv .webm, .npy .npz with a volume (x, y, z) of numbers or a shape of booleans, or a mesh: .obj .ply .stl
            .glb .gltf .off.
        shape: how a mesh becomes voxels.

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
    if suffix in MESHES:
        from lg_field.signals.occupancy import ShapeConfig, read_shape

        return read_shape(path, shape or ShapeConfig())
    raise ValueError(f"{path}: cannot encode {suffix or 'files without a suffix'}; use {' '.join(SUFFIXES)}")


IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
SOUNDS = (".wav", ".flac", ".ogg")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm")
ARRAYS = (".npy", ".npz")
SUFFIXES = IMAGES + SOUNDS + VIDEOS + ARRAYS + MESHES


def holds_booleans(path: Path) -> bool:
    """Whether an array file, or the first array of a .npz, is of booleans: a shape. False if it cannot be read."""
    import numpy as np

    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        array = loaded[loaded.files[0]] if path.suffix.lower() == ".npz" else loaded
        return array.dtype == bool
    except (ValueError, OSError, EOFError, IndexError, TypeError, BadZipFile):
        return False


def read_volume(path: Path) -> SignalData | OccupancyData:
    """A .npy array, or the first of a .npz, as a volume; booleans are a shape."""
    import numpy as np

    from lg_field.signals.occupancy import from_array

    try:
        array = np.load(path, allow_pickle=False)
        array = array[array.files[0]] if path.suffix.lower() == ".npz" else array
        shape = array if array.dtype == bool else None
        values = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
    except (ValueError, OSError, EOFError, IndexError, TypeError, BadZipFile) as error:
        raise ValueError(f"{path} is not an array of numbers: {error}") from error
    if shape is not None:
        return from_array(shape, str(path))
    if values.dim() != 3 or not values.numel():
        raise ValueError(f"{path} has shape {tuple(values.shape)}; a volume (x, y, z) is needed")
    check_finite(values)
    low, high = float(values.min()), float(values.max())
    if not low < high:
        raise ValueError(f"{path} is constant ({low:g}): there is nothing to encode")
    signal = Signal("volume", tuple(values.shape), 1, "float32", (low, high))
    return SignalData(values[..., None], signal)
