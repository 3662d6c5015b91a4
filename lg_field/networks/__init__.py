"""Networks on the row layout: Local-Global and its two baselines.

The names below are imported when they are first asked for: `outline` needs no torch.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lg_field.networks.local_global import LocalGlobalNetwork as LocalGlobalNetwork
    from lg_field.networks.local_global import local_global_siren as local_global_siren
    from lg_field.networks.local_global import siren as siren
    from lg_field.networks.local_global import siren_per_partition as siren_per_partition

__all__ = ["LocalGlobalNetwork", "local_global_siren", "siren", "siren_per_partition"]


def __getattr__(name: str) -> Any:
    """A public name or a module of this package, imported now (PEP 562)."""
    if name in __all__:
        return getattr(importlib.import_module("lg_field.networks.local_global"), name)
    if not name.startswith("_") and importlib.util.find_spec(f"lg_field.networks.{name}") is not None:
        return importlib.import_module(f"lg_field.networks.{name}")
    raise AttributeError(f"module 'lg_field.networks' has no attribute {name!r}")
