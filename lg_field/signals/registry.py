"""The kinds of signals that there are, by name and by file. `lg_field.signals.kinds` fills it."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lg_field.signals.own_places import PLACES
from lg_field.signals.parts import split_part
from lg_field.signals.places import Places

if TYPE_CHECKING:
    from lg_field.signals.kinds.base import Kind

    KINDS: dict[str, Kind]
    """Name -> kind, in the order of registration."""

_registered: dict[str, Kind] = {}


def __getattr__(name: str) -> Any:
    """`KINDS`, with the kinds that are part of lg-field: they register themselves when they are imported."""
    if name != "KINDS":
        raise AttributeError(f"module 'lg_field.signals.registry' has no attribute {name!r}")
    return _kinds()


def _kinds() -> dict[str, Kind]:
    importlib.import_module("lg_field.signals.kinds")
    return _registered


def register(kind: Kind) -> None:
    """Add a kind.

    Raises:
        ValueError: its name is taken.
    """
    if kind.name in _registered:
        raise ValueError(f"there is a kind of signal called {kind.name!r} already")
    _registered[kind.name] = kind


def kind_named(name: str) -> Kind:
    """The kind that messages and files call by this name.

    Raises:
        ValueError: there is none.
    """
    kinds = _kinds()
    if name not in kinds:
        raise ValueError(f"kind must be one of {', '.join(kinds)}, got {name!r}")
    return kinds[name]


def places_named(name: str) -> Places:
    """Where things are in signals of the kind of this name. Only kinds that are no part of lg-field are imported.

    Raises:
        ValueError: there is no such kind.
    """
    return PLACES[name] if name in PLACES else kind_named(name)


def kind_of_file(path: Path) -> Kind:
    """The kind that reads a file, by its suffix (of arrays also by what they hold).

    Raises:
        ValueError: none does.
    """
    folder = split_part(path)[0].is_dir()
    for kind in _kinds().values():
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
    return tuple(dict.fromkeys(suffix for kind in _kinds().values() for suffix in kind.reads))
