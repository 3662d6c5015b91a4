"""Files: whole or not at all. Everything lg-field writes goes through `atomic_write`."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(path: str | os.PathLike[str], overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it becomes `path`, on failure nothing is left.

    Args:
        path: the file to write. Missing parent folders are made. Of a symbolic link, what it points to is written.
        overwrite: replace an existing file; without it an existing file is an error.

    Raises:
        FileExistsError: `path` exists and `overwrite` is False.
        OSError: `path` is a folder, a device or another thing that is no file.
    """
    target = file_to_write(Path(path))
    refuse_existing(target, overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(target)
    temporary = _new_file(target)
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def temporary_folder(target: Path) -> Iterator[Path]:
    """A folder beside a path, gone afterwards; of a process that is killed it is gone at the next of the same path."""
    remove_leftovers(target)
    folder = target.parent / f"{_leftover_prefix(target)}{os.getpid()}.{secrets.token_hex(4)}"
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def file_to_write(path: Path) -> Path:
    """Where links lead.

    Raises:
        OSError: to something that is there and is no file.
    """
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    if target.is_symlink():
        raise OSError(f"{path} is a link that leads to itself")
    if target.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give the path of a file")
    if target.exists() and not target.is_file():
        raise OSError(f"{path} is a device, not a file; give the path of a file")
    return target


def _new_file(target: Path) -> Path:
    """An empty file beside `target`, with the permissions that any new file gets: the system applies the umask."""
    while True:
        name = f"{_leftover_prefix(target)}{os.getpid()}.{secrets.token_hex(4)}{''.join(target.suffixes)}"
        try:
            os.close(os.open(target.parent / name, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666))
        except FileExistsError:
            continue
        return target.parent / name


def remove_leftovers(target: Path) -> None:
    """Remove what processes of this machine that were killed while writing `target` left beside it."""
    prefix = _leftover_prefix(target)
    for path in target.parent.iterdir() if target.parent.is_dir() else ():
        number = path.name[len(prefix) :].split(".")[0] if path.name.startswith(prefix) else ""
        if number.isdigit() and not _is_alive(int(number)):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


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
