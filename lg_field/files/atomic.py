"""Files: whole or not at all. Everything lg-field writes goes through `atomic_write`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(path: str | os.PathLike[str], overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it becomes `path`, on failure nothing is left.

    Args:
        path: the file to write. Missing parent folders are made.
        overwrite: replace an existing file; without it an existing file is an error.

    Raises:
        FileExistsError: `path` exists and `overwrite` is False.
    """
    target = Path(path)
    refuse_existing(target, overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.stem}.", suffix=target.suffix, dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raise FileExistsError, with the cure, if `path` exists and may not be replaced."""
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; give another path or --overwrite")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
