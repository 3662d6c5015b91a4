"""Arrays in files: .npy, and the first array of a .npz."""

from __future__ import annotations

from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from lg_field.signals.data import check_finite
from lg_field.signals.signal import LIMITS, TENSORS

ARRAYS = (".npy", ".npz")


def is_array(path: Path) -> bool:
    """Whether a file's name is that of an array."""
    return path.suffix.lower() in ARRAYS


def holds_booleans(path: Path) -> bool:
    """Whether an array file, or the first array of a .npz, is of booleans: a shape. False if it cannot be read."""
    try:
        return bool(load_array(path, lazy=True).dtype == bool)
    except ValueError:
        return False


def read_array(path: Path) -> Float[Tensor, "*shape"]:
    """The numbers of a .npy, or of the first array of a .npz, as float32 of the array's shape.

    Raises:
        ValueError: no numbers, or NaN or infinite ones.
    """
    try:
        values = torch.from_numpy(np.ascontiguousarray(load_array(path), dtype=np.float32))
    except TypeError as error:
        raise ValueError(f"{path} is not an array of numbers: {error}") from error
    check_finite(values)
    return values


def read_samples(path: Path) -> tuple[Shaped[Tensor, "*shape"], str]:
    """The numbers of an array file in a tensor that holds them, and their type's name.

    Types without a place in `LIMITS` become float32.

    Raises:
        ValueError: no numbers, or NaN or infinite ones.
    """
    return as_samples(load_array(path), str(path))


def as_samples(array: np.ndarray, name: str) -> tuple[Shaped[Tensor, "*shape"], str]:
    """An array of any numbers in a tensor that holds them, and their type's name, one of `LIMITS`.

    Raises:
        ValueError: no numbers, or NaN or infinite ones.
    """
    if array.dtype.kind not in "iufb":
        raise ValueError(f"{name} is not an array of numbers, but of {array.dtype}")
    dtype = array.dtype.name if array.dtype.name in LIMITS else "float32"
    held = TENSORS.get(dtype, dtype)
    samples = torch.from_numpy(np.ascontiguousarray(array, dtype=held))
    check_finite(samples)
    return samples, dtype


def load_array(path: Path, lazy: bool = False) -> np.ndarray:
    """A .npy, or the first array of a .npz; `lazy` does not read the samples of a .npy.

    Raises:
        ValueError: no array.
    """
    try:
        array = np.load(path, mmap_mode="r" if lazy else None, allow_pickle=False)
        return np.asarray(array[array.files[0]]) if path.suffix.lower() == ".npz" else array
    except (ValueError, OSError, EOFError, IndexError, TypeError, BadZipFile) as error:
        raise ValueError(f"{path} is not an array of numbers: {error}") from error
