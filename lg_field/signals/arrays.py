"""Arrays in files: .npy, and .npz, of whose arrays one is chosen by name (`scan.npz:volume`)."""

from __future__ import annotations

from pathlib import Path
from zipfile import BadZipFile
from zlib import error as ZlibError

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from lg_field.errors import tell
from lg_field.signals.data import check_finite
from lg_field.signals.parts import split_part
from lg_field.signals.signal import LIMITS, TENSORS

ARRAYS = (".npy", ".npz")
CURES = {
    "c": "take its .real, .imag or np.abs",
    "O": "save plain numbers",
    "V": "save one of its fields",
    "M": "save numbers",
    "m": "save numbers",
}
"""Kinds of NumPy's types that are no real numbers -> what to do about them."""


def is_array(path: Path) -> bool:
    """Whether a file's name, or what it is followed by `:name`, is that of an array."""
    return split_part(path)[0].suffix.lower() in ARRAYS


def holds_booleans(path: Path) -> bool:
    """Whether the array in a file is of booleans: a shape. False if it cannot be read."""
    try:
        return bool(load_array(path, lazy=True).dtype == bool)
    except ValueError:
        return False


def read_array(path: Path) -> Float[Tensor, "*shape"]:
    """The numbers of an array file as float32 of the array's shape.

    Raises:
        ValueError: no real numbers, NaN or infinite ones, or several arrays of which none was chosen.
    """
    return read_samples(path)[0].float()


def read_samples(path: Path) -> tuple[Shaped[Tensor, "*shape"], str]:
    """The numbers of an array file in a tensor that holds them, and their type's name.

    Types without a place in `LIMITS` become float32, which is said.

    Raises:
        ValueError: no real numbers, NaN or infinite ones, or several arrays of which none was chosen.
    """
    return as_samples(load_array(path), str(path))


def as_samples(array: np.ndarray, name: str) -> tuple[Shaped[Tensor, "*shape"], str]:
    """An array of any real numbers in a tensor that holds them, and their type's name, one of `LIMITS`.

    Args:
        array: of any byte order and layout.
        name: of its file, for messages.

    Raises:
        ValueError: no real numbers, or NaN or infinite ones.
    """
    if array.dtype.kind not in "iufb":
        held = "objects" if array.dtype.kind == "O" else str(array.dtype)[:80]
        cure = CURES.get(array.dtype.kind, "save numbers")
        raise ValueError(f"{name} is not an array of numbers, but of {held}: {cure}")
    dtype = array.dtype.name if array.dtype.name in LIMITS else "float32"
    with np.errstate(over="ignore"):
        held_as = np.array(array, dtype=TENSORS.get(dtype, dtype), order="C")
    samples = torch.from_numpy(held_as)
    check_finite(samples, name)
    if dtype != array.dtype.name:
        changed = int((held_as != array).sum()) if array.dtype.itemsize > 2 else 0
        rounded = f", {changed:,} numbers are rounded" if changed else ""
        tell(f"{name} holds {array.dtype.name}: kept as float32{rounded}")
    return samples, dtype


def load_array(path: Path, lazy: bool = False) -> np.ndarray:
    """The array of a .npy, or the one array of a .npz, or the one that is named (`scan.npz:volume`).

    Args:
        path: the file, with or without a name.
        lazy: do not read the samples of a .npy.

    Raises:
        ValueError: no array, several and none named, or none of this name.
    """
    file, name = split_part(path)
    try:
        loaded = np.load(file, mmap_mode="r" if lazy else None, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            if name not in loaded.files and (name or len(loaded.files) != 1):
                raise _Unchosen(_choice(file, name, loaded.files))
            return np.asarray(loaded[name or loaded.files[0]])
    except _Unchosen:
        raise
    except (ValueError, OSError, EOFError, KeyError, IndexError, TypeError, BadZipFile, ZlibError) as error:
        if "allow_pickle" in str(error):
            raise ValueError(f"{path} holds objects, not an array of real numbers: {CURES['O']}") from error
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} is not an array of numbers: {reason}") from error


class _Unchosen(ValueError):
    """Several arrays, and none of them named."""


def _choice(file: Path, name: str, names: list[str]) -> str:
    """What to say where an array has to be chosen."""
    if not names:
        return f"{file} holds no array"
    listed = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    if name:
        return f"{file} holds no array {name!r}, but {listed}"
    return f"{file} holds {len(names)} arrays, {listed}: name one, {file}:{names[0]}"
