"""When checkpoints are saved."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

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
