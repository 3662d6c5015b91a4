"""What a field says of itself: the signal it encodes, or the scene it renders. Plain data, kept in its file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lg_field.table.cell_table import CellTable
    from lg_field.table.outline import Outline


class Description(ABC):
    """What a field's numbers mean outside. Rooms that know a kind of field subclass it."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""

    @classmethod
    @abstractmethod
    def from_dict(cls, data: Any) -> Description:
        """Inverse of `to_dict`.

        Raises:
            ValueError: unknown, missing or senseless entries.
        """

    @abstractmethod
    def check(self, field: CellTable | Outline) -> None:
        """Raise ValueError if this cannot be what `field` is of."""


def known_entries(kind: type, data: Any) -> dict[str, Any]:
    """The entries of a JSON object if they are exactly the fields of a dataclass.

    Raises:
        ValueError: not an object, or other entries.
    """
    names = {f.name for f in fields(kind)}
    if not isinstance(data, dict) or data.keys() != names:
        got = sorted(data) if isinstance(data, dict) else type(data).__name__
        raise ValueError(f"{kind.__name__.lower()} needs the entries {sorted(names)}, got {got}")
    return dict(data)
