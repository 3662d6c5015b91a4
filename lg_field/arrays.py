"""Arrays of numpy and of torch alike, and torch itself, which is imported when something of it is first used.

What is written with a `namespace` runs on either. A command that selects rows of a file needs numpy alone: torch takes
longer to import than such a command to run.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

Array = Any
"""A numpy array or a tensor, where a function takes either and gives back the like."""

if TYPE_CHECKING:
    import torch as torch
    from torch import Tensor as Tensor
else:

    class _Later:
        """The module `torch`, imported when one of its names is asked for."""

        def __getattr__(self, name: str) -> Any:
            return getattr(sys.modules.get("torch") or importlib.import_module("torch"), name)

    torch = _Later()
    Tensor = torch.Tensor if "torch" in sys.modules else Any  # a name for annotations alone


def namespace(array: Array) -> Any:
    """The module whose functions take an array: numpy or torch."""
    return np if isinstance(array, np.ndarray) else sys.modules["torch"]


def like(array: Array, values: Any) -> Array:
    """Numbers (nested sequences, a numpy array) as an array of another's kind, type and device."""
    if isinstance(array, np.ndarray):
        return np.asarray(values, dtype=array.dtype)
    return torch.as_tensor(values, dtype=array.dtype, device=array.device)


def like_number(array: Array, numbers: np.ndarray) -> Array:
    """A numpy array as one of another's kind, on its device; its own type stays."""
    return numbers if isinstance(array, np.ndarray) else torch.from_numpy(numbers).to(array.device)


def host(array: Array) -> np.ndarray:
    """An array's numbers in numpy; not copied where they are in host memory."""
    return array if isinstance(array, np.ndarray) else array.detach().cpu().numpy()


def whole(array: Array) -> Array:
    """Floating point numbers as int64, cut towards zero."""
    if not isinstance(array, np.ndarray):
        return array.long()
    with np.errstate(invalid="ignore"):
        return array.astype(np.int64)


def places_of(mask: Array) -> Array:
    """(n,) bool -> (m,) int64: where it is True, rising."""
    return mask.nonzero()[0] if isinstance(mask, np.ndarray) else mask.nonzero()[:, 0]


def index_of(mask: Array) -> Array:
    """(..., of d axes) bool -> (n, d) int64: the index of every True, row by row."""
    return np.argwhere(mask) if isinstance(mask, np.ndarray) else mask.nonzero()


def doubles(array: Array) -> Array:
    """The numbers as float64."""
    return array.astype(np.float64) if isinstance(array, np.ndarray) else array.double()


def in_host_memory(array: Array) -> Array:
    """A tensor on the CPU; a numpy array as it is."""
    return array if isinstance(array, np.ndarray) else array.cpu()
