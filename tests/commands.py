"""The commands run as a user runs them, and signals to run them on."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

BIN = Path(sys.executable).parent


def lg(*arguments: object, cwd: Path, fails: bool = False) -> str:
    """Run `lg-field` through its entry point in this process; returns what it printed."""
    from lg_field.cli import main

    before, sys.argv = Path.cwd(), ["lg-field", *map(str, arguments)]
    printed, status = io.StringIO(), 0
    os.chdir(cwd)
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            main()
    except SystemExit as stop:
        status = int(stop.code or 0)
    finally:
        os.chdir(before)
    assert (status != 0) == fails, printed.getvalue()[-2000:]
    return printed.getvalue()


def lg_process(*arguments: object, cwd: Path) -> None:
    """Run `lg-field` in a process of its own."""
    command = [str(BIN / "lg-field"), *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=200, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]


def picture(height: int, width: int, channels: int = 3, top: int = 255) -> np.ndarray:
    """Smooth colours with an edge."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    waves = [np.sin(6 * x + k) * np.cos(5 * y - k) * 0.4 + 0.5 + 0.1 * (x > y) for k in range(channels)]
    return (np.stack(waves, -1).clip(0, 1) * top).astype(np.uint8 if top == 255 else np.uint16)


def tone(count: int) -> np.ndarray:
    t = np.arange(count) / 8000
    return (0.4 * np.sin(2 * np.pi * 70 * t) * np.exp(-t)).astype(np.float32)
