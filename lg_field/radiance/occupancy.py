"""Occupancy voxels of the kept cells: they live in the rows, so a crop takes them along."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lg_field.arrays import Array, Tensor, namespace, torch
from lg_field.constants import constant
from lg_field.space.ownership import raveled
from lg_field.space.partition import PartitionGrid

if TYPE_CHECKING:
    from lg_field.radiance.frame import Frame

MARGIN = 2
"""Voxels around occupied ones that count as near."""
SLAB = 1 << 22
"""Voxels that are grown at a time, about: each takes eight bytes meanwhile."""


def voxel_index(places: Tensor, counts: tuple[int, ...], per_axis: int) -> Tensor:
    """Number of the voxel in the whole domain, in 0..prod(counts) * per_axis^3 - 1, row-major.

    Args:
        places: (M, 3) in cells, 0..counts.
        counts: cells per axis.
        per_axis: voxels per cell and axis r.
    """
    size = [c * per_axis for c in counts]
    scaled = (places * per_axis).long()
    index = scaled.clamp(constant((0, 0, 0), scaled), constant(tuple(n - 1 for n in size), scaled))
    return raveled(index, size)


class Voxels(NamedTuple):
    """The voxels of some cells, in numpy: what of an `OccupancyGrid` says where something is."""

    frame: Frame
    cells: np.ndarray
    """(n,) int64."""
    occupied: np.ndarray
    """(n, r^3) bool."""
    per_axis: int
    """Voxels per cell and axis r."""

    def dense(self) -> np.ndarray:
        """(C1 r * C2 r * C3 r,) bool: the whole domain's voxels; False in other cells."""
        return dense_occupancy(self.occupied, self.cells, self.frame.grid, self.per_axis)


def dense_occupancy(bits: Array, cells: Array, grid: PartitionGrid, per_axis: int, none: int = 0) -> Array:
    """(P, r^3) rows -> (C1 r * C2 r * C3 r,) of the same type, `none` where no row owns the voxel."""
    r, counts = per_axis, grid.counts
    if isinstance(bits, np.ndarray):
        full = np.full((grid.num_cells, r**3), none, dtype=bits.dtype)
    else:
        full = bits.new_full((grid.num_cells, r**3), none)
    full[cells] = bits
    full = full.reshape(*counts, r, r, r)
    return namespace(bits).moveaxis(full, (3, 4, 5), (1, 3, 5)).reshape(-1)


def rows_of_dense(dense: Tensor, cells: Tensor, grid: PartitionGrid, per_axis: int) -> Tensor:
    """Voxels of the whole domain, (C1 r * C2 r * C3 r,) or with three axes -> (P, r^3) those of some cells; the inverse
    of `dense_occupancy` for these."""
    blocks = dense.reshape(*[n for c in grid.counts for n in (c, per_axis)]).permute(0, 2, 4, 1, 3, 5)
    return blocks.reshape(grid.num_cells, -1)[cells]


def dilate(bits: Tensor, grid: PartitionGrid, per_axis: int, by: int = 1) -> Tensor:
    """Dense occupancy grown by some voxels in all directions."""
    dense = bits.view([c * per_axis for c in grid.counts])
    made = torch.empty(dense.shape, dtype=torch.bool, device=bits.device)
    step = max(1, SLAB // dense[0].numel())
    for first in range(0, len(dense), step):
        low = max(0, first - by)
        grown = dense[low : first + step + by][None, None].float()
        for axis in range(3):
            window = [2 * by + 1 if k == axis else 1 for k in range(3)]
            padding = [by if k == axis else 0 for k in range(3)]
            grown = torch.nn.functional.max_pool3d(grown, window, stride=1, padding=padding)
        made[first : first + step] = grown[0, 0, first - low :][:step] > 0
    return made.view(-1)


def split_voxels(rows: Tensor, per_axis: int) -> Tensor:
    """Voxels of the 8 children of each cell, each parent voxel repeated 2^3 times.

    Args:
        rows: (P, r^3), r even.

    Returns:
        (P, 8, r^3), children in row-major order.
    """
    r, half = per_axis, per_axis // 2
    blocks = rows.view(-1, 2, half, 2, half, 2, half).permute(0, 1, 3, 5, 2, 4, 6)
    for axis in (4, 5, 6):
        blocks = blocks.repeat_interleave(2, dim=axis)
    return blocks.reshape(len(rows), 8, r**3)


def points_in_voxels(cells: Tensor, voxels: Tensor, grid: PartitionGrid, per_axis: int) -> Tensor:
    """A random point in each voxel.

    Args:
        cells: (M,) cell numbers.
        voxels: (M,) voxel in the cell, 0..r^3 - 1.

    Returns:
        (M, 3) in cells, 0..counts.
    """
    index = voxels_of(cells, voxels, grid, per_axis)
    return (index + torch.rand(index.shape, device=cells.device)) / per_axis


def voxels_of(cells: Array, voxels: Array, grid: PartitionGrid, per_axis: int) -> Array:
    """Where voxels are in the whole domain.

    Args:
        cells: (M,) cell numbers.
        voxels: (M,) voxel in the cell, 0..r^3 - 1.

    Returns:
        (M, 3) int64, counted in voxels from the domain's lower corner.
    """
    r = per_axis
    inner = namespace(voxels).stack([voxels // (r * r), voxels // r % r, voxels % r], axis=-1)
    return grid.unravel(cells) * r + inner


def choose_voxels(bits: Tensor, rows: Tensor, count: int) -> Tensor:
    """Random voxels of some rows, half of them among the occupied ones; every voxel once if there are no more.

    Args:
        bits: (P, r^3) bool occupancy.
        rows: (n,) rows to choose from.
        count: voxels wanted.

    Returns:
        (at most `count`,) int64 places in the flattened `bits`.
    """
    voxels = bits.shape[1]
    total = len(rows) * voxels
    if count >= total:
        chosen = torch.arange(total, device=bits.device)
    else:
        chosen = torch.randint(total, (count // 2,), device=bits.device)
        filled = bits[rows].flatten().nonzero()[:, 0]
        if len(filled):
            pick = torch.randint(len(filled), (count // 2,), device=bits.device)
            chosen = torch.cat([chosen, filled[pick]])
    return rows[chosen // voxels] * voxels + chosen % voxels
