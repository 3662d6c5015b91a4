"""Local-Global networks of a signal: coordinates in, values out (paper, section 3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lg_field.networks.initialization import init_rows, init_shared
from lg_field.networks.outline import check_axes, checked_fill, checked_layers
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
            fill: value outside the kept cells, in network values.
            generator: for the initial weights.

        Raises:
            ValueError: a grid of other axes than the network's inputs, cells not its own, a fill that is not finite.
        """
        super().__init__(grid, cells)
        check_axes(grid, sizes.in_features)
        self.sizes, self.fill = sizes, checked_fill(fill)
        self.add_rows("local", init_rows(sizes, self.num_rows, generator))
        self.add_cell_set("full")
        self.shared = nn.ParameterDict(init_shared(sizes, generator))

    def config(self) -> dict[str, Any]:
        """The entries of `ChainSizes` and `fill`, as plain data that `from_config` takes."""
        return asdict(self.sizes) | {"fill": float(self.fill)}

    @classmethod
    def from_config(cls, grid: PartitionGrid, config: dict[str, Any], cells: Tensor) -> LocalGlobalNetwork:
        """A network with fresh weights.

        Raises:
            ValueError: an entry that is missing, unknown or out of range, by name; cells that are not the grid's.
        """
        sizes, fill = checked_config(config)
        return cls(grid, sizes, cells, fill)

    @property
    def out_features(self) -> int:
        """Values per point."""
        return self.sizes.out_features

    def forward(
        self, points: Float[Tensor, "*batch d"], backend: str = "auto", chunk: int | None = None
    ) -> Float[Tensor, "*batch out"]:
        """Values at points.

        Args:
            points: (..., d) domain coordinates, in any order.
            backend: see `local_global_chain`.
            chunk: points at a time, None = all at once.

        Returns:
            (..., out_features); outside the kept cells and the exact region of a crop `fill`, in full cells `FULL`.
        """
        flat = points.reshape(-1, points.shape[-1])
        rows = self.locate_rows(flat)
        shown = torch.ones_like(rows, dtype=torch.bool) if self.region is None else self.region.contains(flat)
        index = ((rows >= 0) & shown).nonzero()[:, 0]
        by_row = sort_by_row(rows[index], self.num_rows)
        x = by_row.sort(flat[index])
        values = local_global_chain(
            x, by_row.offsets, self.local, dict(self.shared), self.sizes, backend=backend, chunk=chunk
        )
        out = values.new_full((len(flat), self.sizes.out_features), self.fill)
        if self.full is not None:
            rest = ((rows < 0) & shown).nonzero()[:, 0]
            out[rest[torch.isin(self.grid.locate(flat[rest]), self.full)]] = FULL
        return out.index_copy(0, index[by_row.order], values).view(*points.shape[:-1], self.sizes.out_features)


def checked_config(config: Mapping[str, Any]) -> tuple[ChainSizes, float]:
    """The sizes and the fill that a configuration states (see `checked_layers`).

    Raises:
        ValueError: an entry that is missing, unknown or out of range, by name.
    """
    layers, fill = checked_layers(config)
    return ChainSizes(**vars(layers)), fill


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
