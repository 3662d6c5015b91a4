"""A signal in memory, and which reader a file name asks for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import torch
from torch import Tensor

from lg_field.signals.shapes.mesh_file import MESHES
from lg_field.signals.signal import Signal

if TYPE_CHECKING:
    import numpy as np

    from lg_field.signals.shapes.occupancy import OccupancyData, ShapeConfig


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
        from lg_field.signals.kinds.image import read_image

        return read_image(path)
    if suffix in SOUNDS:
        from lg_field.signals.kinds.audio import read_audio

        return read_audio(path)
    if suffix in VIDEOS:
        from lg_field.signals.kinds.video import read_video

        return read_video(path)
    if suffix in ARRAYS:
        return read_volume(path)
    if suffix in MESHES:
        from lg_field.signals.shapes.occupancy import ShapeConfig, read_shape

        return read_shape(path, shape or ShapeConfig())
    raise ValueError(f"{path}: cannot encode {suffix or 'files without a suffix'}; use {' '.join(SUFFIXES)}")


IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
SOUNDS = (".wav", ".flac", ".ogg")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm")
ARRAYS = (".npy", ".npz")
SUFFIXES = IMAGES + SOUNDS + VIDEOS + ARRAYS + MESHES


def read_volume(path: Path) -> SignalData | OccupancyData:
    """A .npy array, or the first of a .npz, as a volume; booleans are a shape."""
    if holds_booleans(path):
        from lg_field.signals.shapes.occupancy import from_array

        return from_array(load_array(path), str(path))
    values = read_array(path)
    if values.dim() != 3 or not values.numel():
        raise ValueError(f"{path} has shape {tuple(values.shape)}; a volume (x, y, z) is needed")
    low, high = float(values.min()), float(values.max())
    if not low < high:
        raise ValueError(f"{path} is constant ({low:g}): there is nothing to encode")
    signal = Signal("volume", tuple(values.shape), 1, "float32", (low, high))
    return SignalData(values[..., None], signal)


def holds_booleans(path: Path) -> bool:
    """Whether an array file, or the first array of a .npz, is of booleans: a shape. False if it cannot be read."""
    try:
        return load_array(path, lazy=True).dtype == bool
    except ValueError:
        return False


def read_array(path: Path) -> Tensor:
    """The numbers of a .npy, or of the first array of a .npz, as float32.

    Raises:
        ValueError: no numbers, or NaN or infinite ones.
    """
    import numpy as np

    try:
        values = torch.from_numpy(np.ascontiguousarray(load_array(path), dtype=np.float32))
    except TypeError as error:
        raise ValueError(f"{path} is not an array of numbers: {error}") from error
    check_finite(values)
    return values


def load_array(path: Path, lazy: bool = False) -> np.ndarray:
    """A .npy, or the first array of a .npz; `lazy` does not read the samples of a .npy.

    Raises:
        ValueError: no array.
    """
    import numpy as np

    try:
        array = np.load(path, mmap_mode="r" if lazy else None, allow_pickle=False)
        return array[array.files[0]] if path.suffix.lower() == ".npz" else array
    except (ValueError, OSError, EOFError, IndexError, TypeError, BadZipFile) as error:
        raise ValueError(f"{path} is not an array of numbers: {error}") from error
