"""Files in."""

from __future__ import annotations

from pathlib import Path

from lg_field.signals.data import Samples
from lg_field.signals.registry import kind_of_file
from lg_field.signals.settings import ShapeConfig


def read_signal(path: Path, shape: ShapeConfig | None = None) -> Samples:
    """Read an image, a sound, a video, an array or a mesh: whatever some kind of signal reads.

    Args:
        path: the file; see `registry.readable_suffixes`.
        shape: how a mesh becomes voxels.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a kind of file that is read, or a broken one.
        ImportError: a library is missing that reads it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    return kind_of_file(path).read(path, shape or ShapeConfig())
