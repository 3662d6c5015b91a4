"""Tensors in memory-mapped files."""

from __future__ import annotations

import errno
import math
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Shaped
from torch import Tensor

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says where a file cannot have its size."""


def on_disk(
    folder: str | os.PathLike[str], shape: Sequence[int], *, dtype: torch.dtype = torch.float32
) -> Shaped[Tensor, "..."]:
    """Zeros that are in a file: what is looked at is in memory as long as there is room for it. The file is gone when
    the tensor is, however the process ends: it has no name.

    Args:
        folder: where the file is.
        shape: of the tensor.
        dtype: of the tensor.

    Raises:
        OSError: the folder cannot hold a file of that size. Nothing is left then; a disk that fills up later does no
            harm, since the whole file has its place from the beginning.
    """
    count = math.prod(shape)
    if count == 0:
        return torch.zeros(*shape, dtype=dtype)
    size = count * dtype.itemsize
    handle, name = tempfile.mkstemp(prefix=".lg-field.rows.", dir=folder)
    try:
        os.posix_fallocate(handle, 0, size)
        return torch.from_file(name, shared=True, size=count, dtype=dtype).view(*shape)
    except OSError as error:
        if error.errno not in FULL:
            raise
        free = shutil.disk_usage(folder).free
        raise OSError(
            error.errno,
            f"{Path(folder).resolve()} cannot hold {size / 1e9:,.3f} GB of rows, {free / 1e9:,.3f} GB are free there",
        ) from error
    finally:
        os.close(handle)
        os.unlink(name)
