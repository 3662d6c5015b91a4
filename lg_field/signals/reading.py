"""Files in."""

from __future__ import annotations

from pathlib import Path

from lg_field.signals.data import Samples
from lg_field.signals.parts import split_part
from lg_field.signals.registry import kind_of_file
from lg_field.signals.settings import ShapeConfig


def read_signal(path: Path, shape: ShapeConfig | None = None) -> Samples:
    """Read an image, a sound, a video, an array or a mesh: whatever some kind of signal reads.

    Args:
        path: the file, see `registry.readable_suffixes`; or a part of it, see `parts`.
        shape: how a mesh becomes voxels.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a kind of file that is read, or a broken one; a folder, pipe or device.
        ImportError: a library is missing that reads it.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give one file: an image, sound, video, array or mesh")
    file = split_part(path)[0]
    if str(path) == "-" or (file.exists() and not file.is_file()):
        name = "standard input" if str(path) == "-" else f"{path}, a pipe or device,"
        raise ValueError(
            f"{name} cannot be read: formats are told by the file's suffix and most need to seek; save it to a file "
            "first"
        )
    if not file.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    return kind_of_file(path).read(path, shape or ShapeConfig())
