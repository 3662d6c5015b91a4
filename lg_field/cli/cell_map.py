"""A map of a field's kept cells as text."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from lg_field.arrays import host
from lg_field.cli.console import shows

if TYPE_CHECKING:
    from jaxtyping import Float
    from rich.console import Console

    from lg_field.table.cell_table import CellTable
    from lg_field.table.outline import Outline

SHADES = " ░▒▓█"
"""From no cell kept to all of them."""
PLAIN_SHADES = " .-+#"
"""The same for terminals without these characters."""
WIDTH, HEIGHT = 64, 32


def shades_for(console: Console) -> str:
    """Five characters from empty to full that this terminal can show."""
    return SHADES if shows(console, SHADES) else PLAIN_SHADES


def cell_map(field: CellTable | Outline, shades: str = SHADES) -> str:
    """Kept cells as lines of text: rows down, columns across; further axes are summed up.

    Args:
        field: of any number of axes, with or without a description.
        shades: five characters from empty to full.
    """
    dense = kept_in_plane(field)
    for axis, most in enumerate((HEIGHT, WIDTH)):
        dense = fewer(dense, axis, most)
    wide = 2 if dense.shape[1] * 2 <= WIDTH else 1
    rows = ["".join(shades[math.ceil(v * 4 - 1e-6)] * wide for v in row) for row in dense.tolist()]
    edge = "+" + "-" * (dense.shape[1] * wide) + "+"
    return "\n".join([edge, *(f"|{row}|" for row in rows), edge])


def fewer(dense: np.ndarray, axis: int, most: int) -> np.ndarray:
    """Means of neighbours along an axis, where it has more than `most` places."""
    count = dense.shape[axis]
    if count <= most:
        return dense
    ends = [(k * count // most, -(-(k + 1) * count // most)) for k in range(most)]
    parts = [dense.take(range(first, last), axis).mean(axis) for first, last in ends]
    return np.stack(parts, axis)


def kept_in_plane(field: CellTable | Outline) -> Float[np.ndarray, "rows columns"]:
    """Share of kept cells and those that need no row, 0 to 1, at each place of the plane that the map shows.

    Signals that are drawn in a plane show it; everything else is seen from above: its first axis across, its second up.
    """
    from lg_field.signals.signal import Signal

    kept = np.zeros(field.grid.num_cells)
    for cells in (field.cells, *field.cell_sets().values()):
        kept[host(cells)] = 1.0
    dense, about = kept.reshape(field.grid.counts), field.description
    if dense.ndim < 3:
        return dense if dense.ndim == 2 else dense[None]
    if isinstance(about, Signal) and about.places.flat:
        return dense.reshape(-1, *dense.shape[-2:]).mean(0)
    return dense.reshape(*dense.shape[:2], -1).mean(2).T[::-1]
