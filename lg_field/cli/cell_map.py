"""A map of a field's kept cells as text."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lg_field.cli.console import shows

if TYPE_CHECKING:
    from jaxtyping import Float
    from rich.console import Console
    from torch import Tensor

    from lg_field.table.cell_table import CellTable

SHADES = " ░▒▓█"
"""From no cell kept to all of them."""
PLAIN_SHADES = " .-+#"
"""The same for terminals without these characters."""
WIDTH, HEIGHT = 64, 32


def shades_for(console: Console) -> str:
    """Five characters from empty to full that this terminal can show."""
    return SHADES if shows(console, SHADES) else PLAIN_SHADES


def cell_map(field: CellTable, shades: str = SHADES) -> str:
    """Kept cells as lines of text: rows down, columns across; further axes are summed up.

    Args:
        field: of any number of axes, with or without a description.
        shades: five characters from empty to full.
    """
    import torch

    dense = kept_in_plane(field)
    height, width = dense.shape
    if height > HEIGHT or width > WIDTH:
        size = (min(height, HEIGHT), min(width, WIDTH))
        dense = torch.nn.functional.adaptive_avg_pool2d(dense[None], size)[0]
    wide = 2 if dense.shape[1] * 2 <= WIDTH else 1
    rows = ["".join(shades[math.ceil(v * 4 - 1e-6)] * wide for v in row) for row in dense.tolist()]
    edge = "+" + "-" * (dense.shape[1] * wide) + "+"
    return "\n".join([edge, *(f"|{row}|" for row in rows), edge])


def kept_in_plane(field: CellTable) -> Float[Tensor, "rows columns"]:
    """Share of kept cells and those that need no row, 0 to 1, at each place of the plane that the map shows.

    Signals that are drawn in a plane show it; everything else is seen from above: its first axis across, its second up.
    """
    import torch

    from lg_field.signals.signal import Signal

    kept = torch.zeros(field.grid.num_cells)
    kept[field.cells] = 1.0
    for cells in field.cell_sets().values():
        kept[cells] = 1.0
    dense, about = kept.view(field.grid.counts), field.description
    if dense.dim() < 3:
        return dense if dense.dim() == 2 else dense[None]
    if isinstance(about, Signal) and about.traits.flat:
        return dense.flatten(0, -3).mean(0)
    return dense.flatten(2).mean(2).T.flip(0)
