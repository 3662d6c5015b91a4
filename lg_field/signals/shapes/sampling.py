"""Batches of voxels to train a shape on, drawn from its bits: the grid is never unpacked."""

from __future__ import annotations

import torch
from jaxtyping import Int64
from torch import Tensor

from lg_field.ops import sort_by_row
from lg_field.signals.batches import Batch, Windows
from lg_field.signals.settings import Sampling
from lg_field.signals.shapes.voxels import BitGrid, bits_at
from lg_field.signals.signal import Signal
from lg_field.space.partition import PartitionGrid

BAND = 1
"""Voxels from the surface, per axis, within which `surface` samples are drawn."""


class ShapeSampler:
    """Draws voxels of the cells that are trained, each for the row of its cell or, near a border, of a neighbour."""

    def __init__(
        self,
        signal: Signal,
        voxels: BitGrid,
        grid: PartitionGrid,
        cells: Int64[Tensor, " cells"],
        points: int,
        sampling: Sampling,
        overlap: int,
        generator: torch.Generator,
    ) -> None:
        """
        Args:
            signal: what the voxels are.
            voxels: the shape.
            grid: its partition.
            cells: (P,) cells to train.
            points: in a batch, about.
            sampling: "uniform" draws equally many voxels of every cell, "surface" voxels near the surface, "mixed"
                half and half.
            overlap: voxels beyond its borders that a cell trains on too.
            generator: also says the device.

        Raises:
            ValueError: no surface in the cells, though surface samples are wanted.
        """
        self.signal, self.grid, self.overlap, self.generator = signal, grid, overlap, generator
        self.shape, self.device = signal.shape, generator.device
        self.bits = torch.from_numpy(voxels.bits).to(self.device)
        self.num_rows = len(cells)
        self.row_of_cell = torch.full((grid.num_cells,), -1, device=self.device)
        self.row_of_cell[cells] = torch.arange(len(cells), device=self.device)
        self.cell_index = [signal.cell_index(grid, axis).to(self.device) for axis in range(3)]
        near = {"uniform": 0, "surface": points, "mixed": points // 2}[sampling]
        self.near, self.per_cell = near, max(1, (points - near) // len(cells)) if near < points else 0
        self.windows = [Windows.of(signal, grid, cells, overlap, axis) for axis in range(3)]
        if near:
            surface = voxels.surface().to(self.device)
            self.surface = surface[self.rows(torch.unravel_index(surface, self.shape)) >= 0]
            if len(self.surface) == 0:
                raise ValueError("no surface lies in the cells to train")

    def rows(self, voxel: tuple[Tensor, ...]) -> Int64[Tensor, " n"]:
        """(n,) voxel numbers per axis -> (n,) row of the cell of each, -1 where it has none."""
        return self.row_of_cell[self.grid.ravel(torch.stack([i[v] for i, v in zip(self.cell_index, voxel)], dim=-1))]

    def draw(self) -> Batch:
        """A batch: (n, 3) points sorted by row, (P + 1,) offsets, (n, 1) network values, -1 empty and 1 full."""
        parts = [self._everywhere()] if self.per_cell else []
        parts += [self._near_surface()] if self.near else []
        voxel = [torch.cat(axis) for axis in zip(*(part[0] for part in parts))]
        by_row = sort_by_row(torch.cat([rows for _, rows in parts]), self.num_rows)
        voxel = [by_row.sort(axis) for axis in voxel]
        x = torch.stack([self.signal.coordinates(self.grid, k, v) for k, v in enumerate(voxel)], dim=-1)
        return Batch(x, by_row.offsets, self.signal.normalize(bits_at(self.bits, *voxel))[:, None])

    def _everywhere(self) -> tuple[list[Tensor], Tensor]:
        """Equally many voxels of every cell's window, and their rows."""
        voxel = [window.draw(self.per_cell, self.generator).flatten() for window in self.windows]
        return voxel, torch.arange(self.num_rows, device=self.device).repeat_interleave(self.per_cell)

    def _near_surface(self) -> tuple[list[Tensor], Tensor]:
        """Voxels of the band around the surface, and their rows."""
        pick = torch.randint(len(self.surface), (self.near,), generator=self.generator, device=self.device)
        voxel = self._shifted(list(torch.unravel_index(self.surface[pick], self.shape)), BAND)
        rows = self.rows(tuple(self._shifted(voxel, self.overlap)))
        rows = torch.where(rows >= 0, rows, self.rows(tuple(voxel)))
        owned = rows >= 0
        return [v[owned] for v in voxel], rows[owned]

    def _shifted(self, voxel: list[Tensor], most: int) -> list[Tensor]:
        """Each voxel moved by up to `most` per axis, within the grid."""
        return [
            (v + torch.randint(-most, most + 1, v.shape, generator=self.generator, device=self.device)).clamp(0, n - 1)
            for v, n in zip(voxel, self.shape)
        ]
