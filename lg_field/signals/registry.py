"""The kinds of signals that there are, by name and by file. `lg_field.signals.kinds` fills it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lg_field.signals.parts import split_part

if TYPE_CHECKING:
    from lg_field.signals.kinds.base import Kind

KINDS: dict[str, Kind] = {}
"""Name -> kind, in the order of registration."""


def register(kind: Kind) -> None:
    """Add a kind.

    Raises:
        ValueError: its name is taken.
    """
    if kind.name in KINDS:
        raise ValueError(f"there is a kind of signal called {kind.name!r} already")
    KINDS[kind.name] = kind


def kind_named(name: str) -> Kind:
    """The kind that messages and files call by this name.

    Raises:
        ValueError: there is none.
    """
    if name not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {name!r}")
    return KINDS[name]


def kind_of_file(path: Path) -> Kind:
    """The kind that reads a file, by its suffix (of arrays also by what they hold).

    Raises:
        ValueError: none does.
    """
    folder = split_part(path)[0].is_dir()
    for kind in KINDS.values():
        if (kind.folders or not folder) and kind.matches(path):
            return kind
    if folder:
        raise ValueError(f"{path} is a folder without DICOM slices; give a file: an image, sound, video, array or mesh")
    suffix = path.suffix.lower() or "files without a suffix"
    raise ValueError(f"{path}: cannot encode {suffix}; use {' '.join(readable_suffixes())}")


def kind_to_read(path: Path, name: str = "") -> Kind:
    """The kind that a file is to be read as.

    Args:
        path: the file, or a part of it.
        name: of the kind that is asked for; "" = `kind_of_file`.

    Raises:
        ValueError: no such kind, or it does not read such files.
    """
    if not name:
        return kind_of_file(path)
    kind = kind_named(name)
    if (split_part(path)[0].is_dir() and not kind.folders) or not kind.can_read(path):
        raise ValueError(f"{path}: --kind {name} reads {' '.join((*kind.reads, *kind.on_request))}")
    return kind


def readable_suffixes() -> tuple[str, ...]:
    """Suffixes of all files that some kind reads, lower case."""
    return tuple(dict.fromkeys(suffix for kind in KINDS.values() for suffix in kind.reads))
