"""Objects of a scene: connected pieces of what its occupied voxels show, kept or dropped without changing a weight.

Voxels are known by their index per axis on the *lattice*: the grid of the field's frame with every cell cut into its
voxels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Int64

from lg_field.arrays import Array, Tensor, doubles, host, in_host_memory, index_of, like_number, namespace, torch
from lg_field.radiance import occupancy
from lg_field.radiance.occupancy import Voxels
from lg_field.space.partition import PartitionGrid
from lg_field.space.regions import Region, VoxelSet
from lg_field.table.keeping import NOTHING_KEPT

if TYPE_CHECKING:
    from lg_field.radiance.field import RadianceField
    from lg_field.radiance.occupancy_grid import OccupancyGrid

VOXELS = 1 << 20
"""Voxels looked at at a time."""


def lattice_of(grid: OccupancyGrid | Voxels) -> PartitionGrid:
    """The voxels of the whole domain, as cells."""
    return grid.frame.grid.refined(grid.per_axis)


def voxel_set(grid: OccupancyGrid, dense: Bool[Tensor, "nx ny nz"]) -> VoxelSet:
    """Voxels of a lattice as a region.

    Raises:
        ValueError: there is none.
    """
    return VoxelSet.of(dense, lattice_of(grid), grid.frame.contraction)


def scene_boxes(grid: OccupancyGrid | Voxels, index: Int64[Array, "n 3"]) -> Float[Array, "n 2 3"]:
    """Scene-space boxes (float64) around voxels, on the CPU; those of contracted space are curved."""
    lattice = lattice_of(grid)
    boxes = lattice.boxes(lattice.ravel(in_host_memory(index)))
    return boxes if grid.frame.unwarp_boxes is None else grid.frame.unwarp_boxes(boxes)


def middles(grid: OccupancyGrid | Voxels, index: Int64[Array, "n 3"]) -> Float[Array, "n 3"]:
    """Scene-space middles (float64) of voxels, on the CPU."""
    return grid.frame.from_places((doubles(in_host_memory(index)) + 0.5) / grid.per_axis)


def shown_voxels(grid: OccupancyGrid | Voxels, region: Region | None) -> Bool[Array, "nx ny nz"]:
    """The occupied voxels that a region shows some of, on the CPU.

    Args:
        grid: the occupancy.
        region: None = everything.
    """
    lattice = lattice_of(grid)
    dense = in_host_memory(grid.dense()).reshape(lattice.counts)
    shown = dense & dense  # a copy
    if region is None:
        return shown
    mask, rest = region.split_voxels(lattice, grid.frame.contraction)
    if mask is not None:
        shown &= like_number(shown, host(mask))
    index = index_of(shown) if rest is not None else shown[:0]
    for first in range(0, len(index), VOXELS):
        some = index[first : first + VOXELS]
        assert rest is not None
        shown[tuple(some.T)] = rest.touches(scene_boxes(grid, some))
    return shown


@dataclass(frozen=True)
class Pieces:
    """Connected pieces of voxels, the one with the most voxels first; voxels that share a face, an edge or a corner are
    connected, over the borders of cells as within."""

    numbers: Int64[Tensor, " n"]
    """Rising numbers, on the lattice, of the voxels that are of any."""
    owners: Int64[Tensor, " n"]
    """Piece of each, counted from 1."""
    sizes: Int64[Tensor, " pieces"]
    """Voxels of each, falling."""
    counts: tuple[int, ...]
    """Voxels of the lattice per axis."""

    @staticmethod
    def of(voxels: Bool[Tensor, "nx ny nz"]) -> Pieces:
        """The pieces of some voxels; of two as large the one whose first voxel comes first.

        Raises:
            ImportError: scipy is missing.
        """
        return Pieces.of_numbers(voxels.cpu().reshape(-1).nonzero()[:, 0], tuple(voxels.shape))

    @staticmethod
    def of_numbers(numbers: Int64[Tensor, " n"], counts: tuple[int, ...]) -> Pieces:
        """`of` voxels by their rising numbers on a lattice."""
        from lg_field.radiance.listed import connected  # imports torch

        return Pieces(numbers, *connected(numbers, counts), counts)

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def labels(self) -> Int[Tensor, "nx ny nz"]:
        """int32 piece of each voxel of the lattice; 0 = of none. Made anew at each call."""
        labels = torch.zeros(math.prod(self.counts), dtype=torch.int32)
        labels[self.numbers] = self.owners.int()
        return labels.view(self.counts)

    def index(self, number: int) -> Int64[Tensor, "n 3"]:
        """The voxels of a piece, by their index per axis."""
        return index_by_axis(self.numbers[self.owners == number], self.counts)

    def voxels(self, numbers: Sequence[int] | Tensor) -> Bool[Tensor, "nx ny nz"]:
        """The voxels of some pieces.

        Args:
            numbers: counted from 1.

        Raises:
            ValueError: no such piece.
        """
        wanted = torch.zeros(len(self) + 1, dtype=torch.bool)
        for number in numbers:
            if not 1 <= int(number) <= len(self):
                raise ValueError(f"there is no component {int(number)}: what is shown has {len(self)}")
            wanted[int(number)] = True
        return mask_of(self.numbers[wanted[self.owners]], self.counts)

    def nearest(self, place: Float[Tensor, 3]) -> tuple[int, float]:
        """The piece with the voxel nearest to a place of the lattice, and the distance to that voxel's middle; both in
        voxels.

        Raises:
            ValueError: there is no piece.
        """
        if not len(self.numbers):
            raise ValueError("there is no component: no occupied voxel is shown")
        index = index_by_axis(self.numbers, self.counts)
        away = (index.double() + 0.5 - place.double()).norm(dim=-1)
        first = int(away.argmin())
        return int(self.owners[first]), float(away[first])


def index_by_axis(numbers: Int64[Tensor, " n"], counts: Sequence[int]) -> Int64[Tensor, "n 3"]:
    """Index per axis of voxels by their numbers on a lattice."""
    _, y, z = counts
    return torch.stack([numbers // (y * z), numbers // z % y, numbers % z], dim=1)


def mask_of(numbers: Int64[Tensor, " n"], counts: Sequence[int]) -> Bool[Tensor, "nx ny nz"]:
    """Which voxels of a lattice are among some numbers."""
    mask = torch.zeros(math.prod(counts), dtype=torch.bool)
    mask[numbers] = True
    return mask.view(tuple(counts))


def settled(field: RadianceField, keep_region: bool = False) -> RadianceField:
    """The field with what its exact region says of whole voxels said by its occupancy instead: no weight changes, and
    every query answers as before.

    Args:
        field: the source; untouched.
        keep_region: leave the region as it is, too, so that training does not fill dropped voxels again.

    Returns:
        A new field without the rows that have no occupied voxel left; `field` itself where its region says nothing of
        whole voxels.

    Raises:
        ValueError: nothing would be kept.
    """
    if field.region is None:
        return field
    grid = field.occupancy
    mask, rest = field.region.split_voxels(lattice_of(grid), grid.frame.contraction)
    if mask is None:
        return field
    kept = grid.occupied & occupancy.rows_of_dense(mask.to(grid.cells.device), grid.cells, field.grid, grid.per_axis)
    rows = kept.any(1).nonzero()[:, 0]
    if not len(rows):
        raise ValueError(NOTHING_KEPT)
    result = field.selected(rows)
    result.occupancy.restore_(kept[rows])
    result.region = field.region if keep_region else rest
    return result


def settles(field: object, region: Region | None) -> bool:
    """Whether a region of a field says something of whole voxels of it."""
    lattice = getattr(field, "voxel_lattice", None)
    return region is not None and lattice is not None and region.split_voxels(*lattice)[0] is not None


class Cut(NamedTuple):
    """What a cut goes through, in voxels."""

    cut: int
    """Kept ones beside an occupied one that is dropped."""
    surface: int
    """Kept ones beside one that is not kept, be it empty or dropped."""

    @property
    def share(self) -> float:
        """Part of the kept surface that is cut, 0..1."""
        return self.cut / max(1, self.surface)


def cut_through(shown: Bool[Array, "nx ny nz"], kept: Bool[Array, "nx ny nz"]) -> Cut:
    """What a cut goes through.

    Args:
        shown: occupied voxels before it.
        kept: those of them that it keeps.
    """
    kept = kept & shown
    return Cut(int((kept & beside(shown & ~kept)).sum()), int((kept & beside(~kept, True)).sum()))


def beside(voxels: Bool[Array, "nx ny nz"], outside: bool = False) -> Bool[Array, "nx ny nz"]:
    """Voxels that share a face with one of some voxels; `outside` says whether those beyond the lattice are such."""
    found = namespace(voxels).zeros_like(voxels)
    for axis in range(3):
        line = (slice(None),) * axis
        found[(*line, slice(1, None))] |= voxels[(*line, slice(None, -1))]
        found[(*line, slice(None, -1))] |= voxels[(*line, slice(1, None))]
        for end in (0, -1):
            found[(*line, end)] |= outside
    return found


def kept_middles(
    shown: Bool[Array, "nx ny nz"], cells: Int64[Array, " rows"], region: Region | None, grid: OccupancyGrid | Voxels
) -> Bool[Array, "nx ny nz"]:
    """Those of some voxels that a crop keeps the middle of.

    Args:
        shown: the voxels.
        cells: that the crop keeps.
        region: that it shows; None = whole cells.
        grid: of the field before the crop.
    """
    lattice, kept = lattice_of(grid), shown & shown  # a copy
    has_row = like_number(shown, np.zeros(grid.frame.grid.num_cells, dtype=bool))
    has_row[host(cells)] = True
    mask, rest = (None, None) if region is None else region.split_voxels(lattice, grid.frame.contraction)
    if mask is not None:
        kept &= like_number(kept, host(mask))
    index = index_of(kept)
    for first in range(0, len(index), VOXELS):
        some = index[first : first + VOXELS]
        owned = has_row[grid.frame.grid.ravel(some // grid.per_axis)]
        if rest is not None:
            owned &= rest.contains(middles(grid, some))
        kept[tuple(some.T)] = owned
    return kept
