"""A list of cells as JSON: what a viewer's selection is saved as, and `--region` reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lg_field.space.partition import PartitionGrid


def cells_to_dict(grid: PartitionGrid, cells: Sequence[int]) -> dict[str, Any]:
    """Plain data, for JSON: the cells' numbers and the grid that numbers them."""
    return {"type": "cells", "grid": grid.to_dict(), "cells": [int(c) for c in cells]}


def cells_from_dict(data: Any, grid: PartitionGrid) -> list[int] | None:
    """Inverse of `cells_to_dict`; None if the data is something else.

    Raises:
        ValueError: a list of another grid's cells, or not cells of it.
    """
    if not isinstance(data, dict) or data.get("type") != "cells":
        return None
    if data.get("grid") != grid.to_dict():
        raise ValueError(f"cells of another grid: {str(data.get('grid'))[:200]}, the field has {grid.to_dict()}")
    cells = data.get("cells")
    if not isinstance(cells, list) or not cells or not all(type(c) is int for c in cells):
        raise ValueError("'cells' must be a list of whole numbers")
    if not all(0 <= c < grid.num_cells for c in cells):
        raise ValueError(f"'cells' must be in 0..{grid.num_cells - 1}")
    return cells
