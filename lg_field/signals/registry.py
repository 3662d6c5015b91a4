"""The kinds of signals that there are, by name and by file. `lg_field.signals.kinds` fills it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

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
    for kind in KINDS.values():
        if kind.matches(path):
            return kind
    suffix = path.suffix.lower() or "files without a suffix"
    raise ValueError(f"{path}: cannot encode {suffix}; use {' '.join(readable_suffixes())}")


def readable_suffixes() -> tuple[str, ...]:
    """Suffixes of all files that some kind reads, lower case."""
    return tuple(dict.fromkeys(suffix for kind in KINDS.values() for suffix in kind.reads))
