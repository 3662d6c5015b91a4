"""lg-field: Local-Global neural fields that can be cropped.

The names below are imported when they are first asked for: `import lg_field` alone does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lg_field.files import load as load
    from lg_field.files import save as save
    from lg_field.space.partition import PartitionGrid as PartitionGrid
    from lg_field.space.regions import Region as Region
    from lg_field.table.editing import crop as crop
    from lg_field.table.editing import extend as extend
    from lg_field.table.editing import merge as merge
    from lg_field.table.editing import prune as prune

__version__ = "0.1.0"

_HOMES = {
    "PartitionGrid": "lg_field.space.partition",
    "Region": "lg_field.space.regions",
    "crop": "lg_field.table.editing",
    "extend": "lg_field.table.editing",
    "load": "lg_field.files",
    "merge": "lg_field.table.editing",
    "prune": "lg_field.table.editing",
    "save": "lg_field.files",
}
"""Public name -> the module it lives in."""
_ROOMS = ("files", "space", "table")
"""Subpackages that are attributes without being imported by name."""

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """A public name, imported now (PEP 562)."""
    if name in _ROOMS:
        return importlib.import_module(f"lg_field.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'lg_field' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_ROOMS})
