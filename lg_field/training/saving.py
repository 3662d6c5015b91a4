"""When checkpoints are saved, and how they are read."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

CHECKPOINT = ("settings", "photos", "step", "seconds", "field", "trainer", "optimizer")
"""Keys of a checkpoint of `SceneRun`."""
FIRST_SAVE, SAVE_EVERY = 45.0, 300.0
"""Seconds until the first checkpoint, and between later ones."""


def by_time(save: Callable[[int], Any], now: Callable[[], float] = time.monotonic) -> Callable[[int], None]:
    """What saves a checkpoint when it is time, asked after each step.

    Args:
        save: saves that of a step.
        now: seconds.
    """
    due = now() + FIRST_SAVE

    def after(step: int) -> None:
        nonlocal due
        if now() >= due:
            save(step)
            due = now() + SAVE_EVERY

    return after


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What `SceneRun.save` wrote; plain numbers and tensors only, no code is run.

    Raises:
        ValueError: something else, or a damaged file.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict) or not {*CHECKPOINT} <= state.keys():
            raise ValueError("it holds something else")
    except (OSError, MemoryError):
        raise
    except Exception as error:  # whatever torch raises of damaged files
        words = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise ValueError(f"{path} is no checkpoint of `lg-field train`, or is damaged: {words}") from error
    return state
