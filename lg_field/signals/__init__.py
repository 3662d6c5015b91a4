"""Signals: files of pixels or samples on one side, values on a regular grid on the other.

The names below are imported when they are first asked for: descriptions of signals need no torch.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lg_field.signals.data import SignalData as SignalData
    from lg_field.signals.decode import decode as decode
    from lg_field.signals.reading import read_signal as read_signal

_HOMES = {"SignalData": "data", "decode": "decode", "read_signal": "reading"}
"""Public name -> the module here that it lives in."""

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """A public name or a module of this package, imported now (PEP 562)."""
    if name in _HOMES:
        return getattr(importlib.import_module(f"lg_field.signals.{_HOMES[name]}"), name)
    if not name.startswith("_") and importlib.util.find_spec(f"lg_field.signals.{name}") is not None:
        return importlib.import_module(f"lg_field.signals.{name}")
    raise AttributeError(f"module 'lg_field.signals' has no attribute {name!r}")


class _Room(ModuleType):
    """This package: `decode` is the function, though the module that it lives in is called so, too."""

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value.decode if name == "decode" and isinstance(value, ModuleType) else value)


sys.modules[__name__].__class__ = _Room
