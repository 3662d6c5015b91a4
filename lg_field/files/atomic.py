"""Files: whole or not at all. Everything lg-field writes goes through `atomic_write`."""

from __future__ import annotations

import os
import socket
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
    remove_leftovers(target)
    prefix = f"{_leftover_prefix(target)}{os.getpid()}."
    handle, name = tempfile.mkstemp(prefix=prefix, suffix="".join(target.suffixes), dir=target.parent)
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


def remove_leftovers(target: Path) -> None:
    """Remove what processes of this machine that were killed while writing `target` left beside it."""
    prefix = _leftover_prefix(target)
    for path in target.parent.iterdir():
        number = path.name[len(prefix) :].split(".")[0] if path.name.startswith(prefix) else ""
        if number.isdigit() and not _is_alive(int(number)):
            path.unlink(missing_ok=True)


def _leftover_prefix(target: Path) -> str:
    """Temporary files are called .STEM.HOST-PROCESS.random: another machine may write to the same folder."""
    return f".{target.stem}.{socket.gethostname().split('.')[0]}-"


def _is_alive(process: int) -> bool:
    if os.name == "nt":
        return True  # signal 0 is not a question there
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # another user's
    return True


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raise FileExistsError, with the cure, if `path` exists and may not be replaced."""
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; give another path or --overwrite")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
