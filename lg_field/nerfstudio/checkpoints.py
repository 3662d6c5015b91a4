"""nerfstudio's checkpoint files: tensors only, and a line where one is damaged."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from lg_field.errors import UserError


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a nerfstudio checkpoint, tensors only.

    Raises:
        ValueError: truncated, or not a checkpoint.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} cannot be read ({path.stat().st_size:,} bytes): truncated or not a checkpoint "
            f"({str(error).splitlines()[0][:100]})"
        ) from error
    if not isinstance(state, dict) or not {"step", "pipeline"} <= state.keys():
        raise ValueError(f"{path} is not a nerfstudio checkpoint: it has no 'pipeline'")
    return state


def check_newest(folder: Path, step: int | None = None) -> None:
    """Look at the checkpoint that nerfstudio is about to load from a folder, without reading it.

    Args:
        folder: of checkpoints; one that does not exist or has none is nerfstudio's to report.
        step: the one that is asked for, None = the newest.

    Raises:
        UserError: it is truncated.
    """
    found = sorted(folder.glob("step-*.ckpt")) if step is None else [folder / f"step-{step:09d}.ckpt"]
    if found and found[-1].is_file() and not zipfile.is_zipfile(found[-1]):
        size = found[-1].stat().st_size
        raise UserError(f"{found[-1]} cannot be read ({size:,} bytes): truncated or not a checkpoint")
