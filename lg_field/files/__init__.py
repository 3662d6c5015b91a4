"""Files: the field file (safetensors, versioned, read by region), and writes that happen whole or not at all.

The names below are imported when they are first asked for: those of `atomic` need no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lg_field.files.atomic import atomic_write as atomic_write
    from lg_field.files.atomic import file_to_write as file_to_write
    from lg_field.files.atomic import refuse_existing as refuse_existing
    from lg_field.files.container import FileError as FileError
    from lg_field.files.field_file import FieldFile as FieldFile
    from lg_field.files.field_file import load as load
    from lg_field.files.writing import crop_file as crop_file
    from lg_field.files.writing import merge_files as merge_files
    from lg_field.files.writing import save as save

_HOMES = {
    "FieldFile": "field_file",
    "FileError": "ranges",
    "atomic_write": "atomic",
    "crop_file": "writing",
    "file_to_write": "atomic",
    "load": "field_file",
    "merge_files": "writing",
    "refuse_existing": "atomic",
    "save": "writing",
}
"""Public name -> the module here that it lives in."""

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """A public name, imported now (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'lg_field.files' has no attribute {name!r}")
    return getattr(importlib.import_module(f"lg_field.files.{_HOMES[name]}"), name)
