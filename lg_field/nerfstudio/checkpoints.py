"""Checkpoints of runs: nerfstudio's files, tensors only, and the folders that many ranks write; a line where one is
damaged."""

from __future__ import annotations

import functools
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from lg_field.distributed import SHARDS
from lg_field.distributed.ranks import in_torchrun
from lg_field.errors import UserError, tell
from lg_field.files import atomic_write
from lg_field.stored.disk import on_disk


def load_checkpoint(path: Path, scratch: Path | None = None, moments: bool = True) -> dict[str, Any]:
    """Read a nerfstudio checkpoint, tensors only, or one that ranks wrote.

    Args:
        path: a file, or the folder of ranks.
        scratch: a folder; then tensors stay on disk and are read when they are looked at. The rows of many ranks are
            put in order in files there; no name of these files is left. None: all is in memory.
        moments: False: those rows of many ranks that are optimizers' state are not read, None is in their place.

    Raises:
        ValueError: truncated, or not a checkpoint.
    """
    if path.suffix == SHARDS:
        from lg_field.distributed.shards import Shards  # nerfstudio's commands start without it

        new = torch.empty if scratch is None else functools.partial(on_disk, scratch)
        return Shards(path).checkpoint(leave_out=() if moments else ("optimizers",), new=new)
    try:
        mapped = scratch is not None and zipfile.is_zipfile(path)
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} cannot be read ({path.stat().st_size:,} bytes): truncated or not a checkpoint "
            f"({str(error).splitlines()[0][:100]})"
        ) from error
    if not isinstance(state, dict) or not {"step", "pipeline"} <= state.keys():
        raise ValueError(f"{path} is not a nerfstudio checkpoint: it has no 'pipeline'")
    return state


def check_newest(folder: Path, step: int | None = None) -> None:
    """Look at the checkpoint that nerfstudio is about to load from a folder, without reading it. One that ranks wrote
    is joined to a file that nerfstudio can read, unless this process is a rank.

    Args:
        folder: of checkpoints; one that does not exist or has none is nerfstudio's to report.
        step: the one that is asked for, None = the newest.

    Raises:
        UserError: it is truncated, or a rank's part of it is missing.
    """
    found = newest_checkpoint(folder, step)
    if found is None:
        return
    if found.suffix == SHARDS and not in_torchrun():
        join_shards(found)
    elif found.is_file() and not zipfile.is_zipfile(found):
        size = found.stat().st_size
        raise UserError(f"{found} cannot be read ({size:,} bytes): truncated or not a checkpoint")


def newest_checkpoint(folder: Path, step: int | None = None) -> Path | None:
    """A run's checkpoint: a file of nerfstudio's, or a folder that ranks wrote; where there are both, the file.

    Args:
        folder: of checkpoints.
        step: the one that is asked for, None = the newest.

    Returns:
        Its path; None: there is none.
    """
    name = "step-*" if step is None else f"step-{step:09d}"
    found = [*folder.glob(name + SHARDS), *folder.glob(name + ".ckpt")]
    return max(found, key=lambda path: (path.stem, path.suffix != SHARDS), default=None)


def join_shards(folder: Path) -> Path:
    """Write the file that nerfstudio reads beside a folder that ranks wrote.

    Raises:
        UserError: a part of it is missing.
    """
    target = folder.with_suffix(".ckpt")
    try:
        checkpoint = load_checkpoint(folder)
    except ValueError as error:
        raise UserError(str(error)) from error
    with atomic_write(target) as temporary:
        torch.save(checkpoint, temporary)
    tell(f"lg-field: the checkpoint of several ranks {folder.name} was joined to {target.name}")
    return target
