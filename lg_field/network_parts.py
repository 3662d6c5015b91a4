"""The networks there are, of signals and of scenes alike, and of which parts each is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

Network = Literal["local-global", "per-partition", "global"]
"""Local-Global, or a baseline of it."""


class NetworkParts(NamedTuple):
    """What a network is made of: at least one of both."""

    rows: bool
    """One small network per cell."""
    shared: bool
    """One that all cells share."""


PARTS: Mapping[Network, NetworkParts] = {
    "local-global": NetworkParts(rows=True, shared=True),
    "per-partition": NetworkParts(rows=True, shared=False),
    "global": NetworkParts(rows=False, shared=True),
}
"""By name."""


def parts_of(network: str) -> NetworkParts:
    """What a network is made of.

    Raises:
        ValueError: there is none of that name.
    """
    for name, parts in PARTS.items():
        if name == network:
            return parts
    raise ValueError(f"network must be one of {', '.join(PARTS)}, got {network!r}")
