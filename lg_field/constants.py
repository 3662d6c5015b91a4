"""Small tensors of fixed numbers, made once for each device: on a GPU making one anew would keep the host waiting."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from lg_field.arrays import Array, Tensor, torch


def constant(values: Any, like: Array, dtype: Any = None) -> Array:
    """A tensor of fixed numbers on the device of another one; beside a numpy array an array. Not to be changed.

    Args:
        values: a number, or (nested) tuples of numbers.
        like: a tensor or a numpy array.
        dtype: None = that of `like`.
    """
    if isinstance(like, np.ndarray):
        return np.asarray(values, like.dtype if dtype is None else dtype)
    return _made(values, like.dtype if dtype is None else dtype, like.device)


def counting(count: int, like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """(count,) 0, 1, ..., count - 1 on the device of another tensor, int64 if nothing is said. Not to be changed."""
    return _counted(1 << max(0, count - 1).bit_length(), dtype or torch.int64, like.device)[:count]


@lru_cache(maxsize=1024)
def _made(values: Any, dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device)


@lru_cache(maxsize=256)
def _counted(count: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return torch.arange(count, dtype=dtype, device=device)
