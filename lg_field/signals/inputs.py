"""What a command is given to read, as a file: pipes and standard input are kept in a temporary one first."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lg_field.signals.parts import split_part
from lg_field.signals.registry import readable_suffixes
from lg_field.signals.sniffing import LOOKED_AT, sniffed

STANDARD_INPUT = Path("-")
NAME = "standard input"


def is_stream(path: Path) -> bool:
    """Whether a path is standard input (`-`) or a pipe, of which a process substitution is one."""
    return path == STANDARD_INPUT or path.is_fifo()


@contextmanager
def as_file(path: Path, format: str = "") -> Iterator[Path]:
    """Context: a file with what a path gives, under a name whose suffix says its format.

    Args:
        path: a file, or a part of one; `-`; or a pipe.
        format: suffix of the format, "png" or ".png"; "" = the file's own, else what its first bytes say.

    Yields:
        The path itself where nothing has to be done. Otherwise a temporary file; errors name what was given.

    Raises:
        ValueError: no format is named and the first bytes tell none, or it is none that is read.
    """
    suffix = checked_suffix(format)
    file, part = split_part(path)
    if not is_stream(path) and (not suffix or not file.is_file() or file.name.lower().endswith(suffix)):
        yield path
        return
    name = NAME if path == STANDARD_INPUT else str(path)
    with tempfile.TemporaryDirectory(prefix="lg-field-") as folder:
        if is_stream(path):
            kept = _kept(path, suffix or _own_suffix(path), Path(folder), name)
        else:
            kept = Path(folder) / f"{file.stem}{suffix}"
            kept.symlink_to(file.absolute())
        given = Path(f"{kept}:{part}") if part else kept
        try:
            yield given
        except (ValueError, OSError, ImportError) as error:
            words = str(error).replace(str(kept), name)
            raise (ImportError if isinstance(error, ImportError) else ValueError)(words) from error


def checked_suffix(format: str) -> str:
    """The suffix of a format that is read, "" for "".

    Raises:
        ValueError: none that is read.
    """
    suffix = f".{format.lower().lstrip('.')}" if format else ""
    if suffix and suffix not in readable_suffixes():
        raise ValueError(f"--format {format}: cannot read {suffix}; use {' '.join(readable_suffixes())}")
    return suffix


def _own_suffix(path: Path) -> str:
    """The suffix of a name if it is of a format that is read."""
    return max((s for s in readable_suffixes() if path.name.lower().endswith(s)), key=len, default="")


def _kept(path: Path, suffix: str, folder: Path, name: str) -> Path:
    """All that a stream gives, in a file; its format is told by the first bytes if it has none yet."""
    if path == STANDARD_INPUT:
        if sys.stdin.isatty():
            raise ValueError("- is standard input, which is a terminal: pipe a file into it, or name one")
        return _spooled(sys.stdin.buffer, suffix, folder, name)
    with open(path, "rb") as stream:
        return _spooled(stream, suffix, folder, name)


def _spooled(stream: Any, suffix: str, folder: Path, name: str) -> Path:
    head = stream.read(LOOKED_AT)
    if not head:
        raise ValueError(f"{name} is empty: there is nothing to read")
    suffix = suffix or sniffed(head)
    if not suffix:
        raise ValueError(f"{name}: its first bytes are of no format that is known; name it, for example --format obj")
    kept = folder / f"standard-input{suffix}"
    with open(kept, "wb") as file:
        file.write(head)
        shutil.copyfileobj(stream, file)
    return kept
