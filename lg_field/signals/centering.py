"""First layers of cells that learn about the middles of their cells.

A row's first layer is s (x W + b) at domain coordinates x. Far from the domain's middle a small step of W moves the
phase by a lot, for it is multiplied by x: Adam, whose steps are as long for every number, then learns little. With the
middle c of the row's cell the same layer is s ((x - c) W + b'), b' = b + c W: stepping W and b' instead, and writing
b = b' - c W, trains a cell as well wherever it lies. The field stays what it is, in domain coordinates.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lg_field.networks import LocalGlobalNetwork
from lg_field.ops import ChainSizes


class CenteredRows:
    """Turns the steps of an optimizer into steps about the middles of cells."""

    def __init__(
        self, table: Float[Tensor, "rows K"], sizes: ChainSizes, middles: Float[Tensor, "rows d"], plain: bool
    ) -> None:
        """
        Args:
            table: the rows that an optimizer steps, with their gradients; a leaf.
            sizes: what they hold.
            middles: of their cells, domain coordinates.
            plain: whether their biases are the network's own, not those of modulated layers: of an activation with a
                period they are then kept within it.
        """
        self.table, self.sizes = table, sizes
        self.middles = middles.to(table)[:, :, None]
        period = sizes.act.period
        self.period = period / sizes.rate if plain and period is not None else None

    @torch.no_grad()
    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """One step of an optimizer whose gradients are those of the table."""
        assert self.table.grad is not None
        slopes, offsets = self.sizes.views(self.table.grad)[0]
        slopes -= self.middles * offsets
        weight, _ = self.sizes.views(self.table)[0]
        before = weight.clone()
        optimizer.step()
        self.shift(weight - before)

    @torch.no_grad()
    def shift(self, moved: Float[Tensor, "rows d width"]) -> None:
        """Change biases so that values at the middles of cells stay as they were when weights moved by so much."""
        _, bias = self.sizes.views(self.table)[0]
        bias -= (self.middles * moved).sum(1, keepdim=True)
        if self.period is not None:
            bias -= self.period * (bias / self.period).round()


def centered(
    field: LocalGlobalNetwork, table: Tensor, rows: Int64[Tensor, " rows"] | None, plain: bool
) -> CenteredRows | None:
    """What steps rows of a field about the middles of their cells; None if cells have no networks of their own.

    Args:
        field: whose rows they are.
        table: (n, K) what is trained of them.
        rows: which, None = all.
        plain: see `CenteredRows`.
    """
    if not (field.sizes.local_width and len(table)):
        return None
    cells = field.cells if rows is None else field.cells[rows]
    return CenteredRows(table, field.sizes, field.grid.boxes(cells.cpu()).mean(1), plain)


@torch.no_grad()
def center(field: LocalGlobalNetwork, rows: Int64[Tensor, " rows"] | None = None) -> None:
    """Move the initial first layers of rows to the middles of their cells, as if each cell were that of the domain.

    An activation with a period needs it not: phases are all over it wherever a cell lies.

    Args:
        field: changed in place.
        rows: fresh ones, None = all.
    """
    if field.sizes.act.period is not None:
        return
    table = field.local if rows is None else field.local[rows]
    steps = centered(field, table, rows, plain=True)
    if steps is not None:
        steps.shift(field.sizes.views(table)[0][0])
        if rows is not None:
            field.local[rows] = table
