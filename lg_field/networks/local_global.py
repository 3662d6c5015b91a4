"""Local-Global networks of a signal: coordinates in, values out (paper, section 3)."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lg_field.networks.initialization import init_rows, init_shared
from lg_field.ops import ChainSizes, local_global_chain, sort_by_row
from lg_field.space.partition import PartitionGrid
from lg_field.table.cell_table import CellTable

FULL = 1.0
"""Value in full cells: the top of the value range."""


class LocalGlobalNetwork(CellTable):
    """One local sub-network per kept cell and a shared global one, merged at every layer.

    `sizes.global_width = 0` is SIREN-per-Partition; `sizes.local_width = 0` is one global network.
    """

    local: nn.Parameter
    """(P, K) rows: all weights of each cell's local sub-network."""
    full: Tensor | None
    """(F,) int64, sorted: cells without a row that are the constant `FULL` (shapes: wholly inside); None if there are
    none."""

    def __init__(
        self,
        grid: PartitionGrid,
        sizes: ChainSizes,
        cells: Tensor | None = None,
        fill: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> None:
        """
        Args:
            grid: partition of the signal's domain, d = sizes.in_features axes.
            sizes: widths and wiring.
            cells: kept cells, None = all.
            fill: value outside the kept cells.
            generator: for the initial weights.
        """
        super().__init__(grid, cells)
        if grid.dim != sizes.in_features:
            raise ValueError(f"the grid has {grid.dim} axes, the network {sizes.in_features} inputs")
        self.sizes, self.fill = sizes, float(fill)
        self.add_rows("local", init_rows(sizes, self.num_rows, generator))
        self.add_cell_set("full")
        self.shared = nn.ParameterDict(init_shared(sizes, generator))

    def config(self) -> dict[str, Any]:
        return asdict(self.sizes) | {"w0": float(self.sizes.w0), "fill": float(self.fill)}

    @classmethod
    def from_config(cls, grid: PartitionGrid, config: dict[str, Any], cells: Tensor) -> LocalGlobalNetwork:
        sizes = dict(config)
        fill = sizes.pop("fill")
        return cls(grid, ChainSizes(**sizes), cells, fill)

    @property
    def out_features(self) -> int:
        """Values per point."""
        return self.sizes.out_features

    def forward(self, points: Tensor, backend: str = "auto", chunk: int | None = None) -> Tensor:
        """Values at points.

        Args:
            points: (..., d) domain coordinates, in any order.
            backend: see `local_global_chain`.
            chunk: points at a time, None = all at once.

        Returns:
            (..., out_features); outside the kept cells and the exact region of a crop `fill`, in full cells `FULL`.
        """
        flat = points.reshape(-1, points.shape[-1])
        cell = self.grid.locate(flat)
        rows = torch.where(cell >= 0, self.row_of_cell()[cell.clamp_min(0)], -1)
        shown = cell >= 0 if self.region is None else self.region.contains(flat)
        kept = (rows >= 0) & shown
        index = kept.nonzero()[:, 0]
        by_row = sort_by_row(rows[index], self.num_rows)
        x = by_row.sort(flat[index])
        values = local_global_chain(
            x, by_row.offsets, self.local, dict(self.shared), self.sizes, backend=backend, chunk=chunk
        )
        out = values.new_full((len(flat), self.sizes.out_features), self.fill)
        if self.full is not None:
            is_full = torch.zeros(self.grid.num_cells, dtype=torch.bool, device=out.device)
            is_full[self.full] = True
            out[is_full[cell.clamp_min(0)] & (cell >= 0) & shown] = FULL
        return out.index_copy(0, index[by_row.order], values).view(*points.shape[:-1], self.sizes.out_features)


def local_global_siren(
    grid: PartitionGrid,
    out_features: int,
    local_width: int,
    global_width: int,
    hidden_layers: int = 3,
    w0: float = 30.0,
    merge: Literal["concat", "add"] = "concat",
    cells: Tensor | None = None,
) -> LocalGlobalNetwork:
    """Local-Global SIREN (paper, section 3.2)."""
    sizes = ChainSizes(grid.dim, out_features, local_width, global_width, hidden_layers, "sine", w0, merge)
    return LocalGlobalNetwork(grid, sizes, cells)


def siren_per_partition(
    grid: PartitionGrid, out_features: int, width: int, hidden_layers: int = 3, w0: float = 30.0
) -> LocalGlobalNetwork:
    """SIREN-per-Partition, the baseline without a global part (paper, section 4)."""
    return local_global_siren(grid, out_features, width, 0, hidden_layers, w0)


def siren(
    grid: PartitionGrid, out_features: int, width: int = 256, hidden_layers: int = 3, w0: float = 30.0
) -> LocalGlobalNetwork:
    """One SIREN for the whole domain (Sitzmann et al., NeurIPS 2020), the other baseline."""
    return local_global_siren(grid, out_features, 0, width, hidden_layers, w0)
