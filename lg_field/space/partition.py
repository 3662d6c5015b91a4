"""The partition grid: which cell of the domain a coordinate lies in. Frozen geometry, no weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float64, Int, Int64

from lg_field.arrays import Array, Tensor, like, namespace, torch
from lg_field.constants import constant
from lg_field.space.ownership import index_of_places, index_of_points, index_of_samples, raveled, sample_edges

MAX_CELLS = 1 << 24
"""A grid of more cells is not extended to, written or read."""


@dataclass(frozen=True)
class PartitionGrid:
    """An axis-aligned box cut into `counts` equal cells per axis, numbered in row-major order (last axis fastest).

    Cells are half-open, `[lower, upper)` per axis, except that the last cell of an axis owns the domain's upper
    border too: every point of the closed domain lies in exactly one cell (paper, section 3.1).
    """

    counts: tuple[int, ...]
    """Cells per axis, each at least 1."""
    lower: tuple[float, ...]
    """Lower corner of the domain."""
    upper: tuple[float, ...]
    """Upper corner of the domain."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "counts", tuple(int(c) for c in self.counts))
        object.__setattr__(self, "lower", tuple(float(v) for v in self.lower))
        object.__setattr__(self, "upper", tuple(float(v) for v in self.upper))
        if not len(self.counts) == len(self.lower) == len(self.upper) > 0:
            raise ValueError(
                f"counts, lower and upper need one entry per axis, got {len(self.counts)}, "
                f"{len(self.lower)} and {len(self.upper)}"
            )
        if min(self.counts) < 1:
            raise ValueError(f"counts must be at least 1 per axis, got {self.counts}")
        if not all(math.isfinite(lo) and math.isfinite(up) and lo < up for lo, up in zip(self.lower, self.upper)):
            raise ValueError(f"lower must be below upper on every axis, got {self.lower} and {self.upper}")

    @property
    def dim(self) -> int:
        """Number of axes."""
        return len(self.counts)

    @property
    def num_cells(self) -> int:
        """Number of cells, the product of `counts`."""
        return math.prod(self.counts)

    @property
    def cell_size(self) -> tuple[float, ...]:
        """Extent of a cell per axis, in domain units."""
        return tuple((u - lo) / c for lo, u, c in zip(self.lower, self.upper, self.counts))

    def index(self, points: Float[Array, "*batch d"]) -> Int64[Array, "*batch d"]:
        """Integer cell index per axis, not clipped to the domain.

        Args:
            points: (..., d) coordinates.

        Returns:
            (..., d) int64. Monotone in every coordinate, whatever the rounding.
        """
        return index_of_points(points, self.lower, self.upper, self.counts)

    def locate(self, points: Float[Array, "*batch d"]) -> Int64[Array, "*batch"]:
        """Cell number of each point.

        Args:
            points: (..., d) coordinates.

        Returns:
            (...) int64 cell numbers, -1 outside the domain (and for non-finite coordinates).
        """
        index = self.index(points)
        xp = namespace(points)
        return xp.where(self._holds(index) & xp.isfinite(points).all(-1), self.ravel(index), -1)

    def locate_places(
        self, places: Float[Tensor, "*batch d"], shift: Sequence[int] | None = None
    ) -> Int64[Tensor, "*batch"]:
        """Cell number of places counted in cells; whole numbers are borders.

        Args:
            places: (..., d) in cells, counted from the lower corner of the cell with the index `shift`.
            shift: (d,) None = the grid's first cell. A grid that grew by cells before its first one gives the same
                places the same cells to the bit: the shift is added to whole numbers.

        Returns:
            (...) int64 cell numbers, -1 outside the grid.
        """
        index = index_of_places(places, self.counts, shift)
        inside = self._holds(index)
        return torch.where(inside, self.ravel(index * inside[..., None]), -1)

    def _holds(self, index: Int64[Array, "*batch d"]) -> Bool[Array, "*batch"]:
        """Whether an index per axis is one of a cell."""
        return ((index >= 0) & (index < constant(self.counts, index))).all(-1)

    def index_of_samples(
        self, axis: int, samples: int, positions: Int[Tensor, " n"] | None = None
    ) -> Int64[Tensor, " n"]:
        """Index on an axis of the cell that owns each sample: that of its middle.

        Args:
            axis: number of the axis.
            samples: samples on it, spread evenly over the domain.
            positions: (n,) sample numbers; None = all of them.
        """
        wanted = torch.arange(samples) if positions is None else positions
        return index_of_samples(wanted, samples, self.lower[axis], self.upper[axis], self.counts[axis])

    def sample_edges(self, axis: int, samples: int) -> Int64[Tensor, " edges"]:
        """(counts[axis] + 1,) first sample of each cell on an axis, then the number of samples."""
        return sample_edges(samples, self.lower[axis], self.upper[axis], self.counts[axis])

    def ravel(self, index: Int[Array, "*batch d"]) -> Int[Array, "*batch"]:
        """(..., d) index per axis -> (...) cell number."""
        return raveled(index, self.counts)

    def unravel(self, cells: Int[Array, "*batch"]) -> Int[Array, "*batch d"]:
        """(...) cell number -> (..., d) index per axis."""
        axes = []
        for count in reversed(self.counts):
            axes.append(cells % count)
            cells = cells // count
        return namespace(cells).stack(axes[::-1], axis=-1)

    def boxes(self, cells: Int[Array, " n"]) -> Float64[Array, "n 2 d"]:
        """(n,) cell numbers -> (n, 2, d) float64 lower and upper corners in domain units."""
        xp, index = namespace(cells), self.unravel(cells)
        lower, size = (constant(v, cells, xp.float64) for v in (self.lower, self.cell_size))
        return xp.stack([lower + index * size, lower + (index + 1) * size], axis=1)

    def touched_by_box(self, lower: Sequence[float], upper: Sequence[float]) -> Int64[Tensor, " touched"]:
        """`cells_of_box`, as a tensor."""
        return torch.from_numpy(self.cells_of_box(lower, upper))

    def cells_of_box(self, lower: Sequence[float], upper: Sequence[float]) -> Int64[np.ndarray, " touched"]:
        """Cells that the half-open box `[lower, upper)` touches.

        Returns:
            Sorted (n,) int64. Every point of the box inside the domain lies in one of them, but for those that are
            within a millionth of a cell of a face: a box drawn along cell borders keeps only the cells within.
        """
        corners = np.array([list(lower), list(upper)], dtype=np.float64).clip(-1e30, 1e30)
        margin = np.minimum(1e-6 * np.array(self.cell_size), 0.1 * (corners[1] - corners[0]))
        before = np.nextafter(corners[1].astype(np.float32), np.float32(-np.inf))
        first, last = (corners[0] + margin).astype(np.float32), (corners[1] - margin).astype(np.float32)
        last = np.minimum(last, before)
        low, up = (np.array(corner, dtype=np.float32) for corner in (self.lower, self.upper))
        first_index = np.maximum(self.index(first.clip(low, up)), 0)
        last_index = np.minimum(self.index(last.clip(low, up)), np.array(self.counts) - 1)
        ranges = [np.arange(int(a), int(b) + 1) for a, b in zip(first_index, last_index)]
        if bool(((first > up) | (last < low)).any()) or any(len(r) == 0 for r in ranges):
            return np.empty(0, dtype=np.int64)
        return self.ravel(np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1)).reshape(-1)

    def refined(self, factor: int = 2) -> PartitionGrid:
        """The grid with every cell cut into `factor` per axis."""
        return PartitionGrid(tuple(c * factor for c in self.counts), self.lower, self.upper)

    def children(self, cells: Int[Array, " n"], factor: int = 2) -> Int[Array, "n children"]:
        """(n,) cells of this grid -> (n, factor ** d) cells of `refined(factor)` that fill each, row-major."""
        steps = like(cells, lattice_points((factor,) * self.dim))
        return self.refined(factor).ravel(self.unravel(cells)[:, None] * factor + steps)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        return {"counts": list(self.counts), "lower": list(self.lower), "upper": list(self.upper)}

    @staticmethod
    def from_dict(data: dict[str, Any]) -> PartitionGrid:
        """Inverse of `to_dict`."""
        return PartitionGrid(tuple(data["counts"]), tuple(data["lower"]), tuple(data["upper"]))


def lattice_points(counts: Sequence[int]) -> Int64[np.ndarray, "points d"]:
    """(n, d) index per axis of every point of a lattice with so many per axis, the last axis fastest."""
    return np.stack(np.meshgrid(*map(np.arange, counts), indexing="ij"), axis=-1).reshape(-1, len(counts))


def automatic_counts(shape: Sequence[int], cell_size: Sequence[int]) -> tuple[int, ...]:
    """Cells per axis so that cells have about `cell_size` samples of a signal of `shape` (paper, appendix A).

    Sizes that do not divide round up: the last cell is then partly outside the signal.
    """
    if len(shape) != len(cell_size) or min(*shape, *cell_size) < 1:
        raise ValueError(f"shape and cell_size need one positive entry per axis, got {shape} and {cell_size}")
    return tuple(-(-s // c) for s, c in zip(shape, cell_size))
