"""The one rule of which cell owns a point, a place or a sample.

A box is cut into equal cells per axis. Cells are half-open, `[lower, upper)`, except that the last cell of an axis owns
the box's upper border too: every point of the closed box lies in exactly one cell (paper, section 3.1). A sample
belongs to the cell that owns its middle, in float32, the type that networks see it in. Everything else that asks for a
cell (`PartitionGrid`, batches of samples, occupancy, the viewer) asks here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float32, Int, Int64, Shaped

from lg_field.arrays import Array, Tensor, namespace, torch, whole
from lg_field.constants import constant


def index_of_points(
    points: Float[Array, "*batch d"], lower: Sequence[float], upper: Sequence[float], counts: Sequence[int]
) -> Int64[Array, "*batch d"]:
    """Cell index per axis of domain coordinates, not clipped to the domain.

    Args:
        points: (..., d) domain coordinates.
        lower: (d,) lower corner of the domain.
        upper: (d,) upper corner.
        counts: (d,) cells per axis.

    Returns:
        (..., d) int64, below 0 or not below `counts` outside. Monotone in every coordinate, whatever the rounding.
    """
    xp = namespace(points)
    low, high = (constant(tuple(corner), points) for corner in (lower, upper))
    scale = constant(tuple(c / (u - lo) for lo, u, c in zip(lower, upper, counts)), points)
    index = whole(xp.floor((points - low) * scale))
    ends = constant(tuple(counts), index)
    at_end = (points == high) | (index == ends)
    return xp.where(at_end & (points <= high), ends - 1, index)


def index_of_places(
    places: Float[Tensor, "*batch d"], counts: Sequence[int], shift: Sequence[int] | None = None
) -> Int64[Tensor, "*batch d"]:
    """Cell index per axis of places counted in cells (whole numbers are borders), not clipped to the domain.

    Args:
        places: (..., d) in cells, 0 to `counts` within the domain.
        counts: (d,) cells per axis.
        shift: (d,) added to the index: places are counted from this cell's lower corner. It is added to whole numbers,
            so that rounding does not depend on it.

    Returns:
        (..., d) int64, below 0 or not below `counts` outside.
    """
    index = torch.floor(places).long()
    ends, last = (constant(tuple(c - k for c in counts), index) for k in (0, 1))
    if shift is None:
        return torch.where(places == ends, last, index)
    moved = constant(tuple(shift), index)
    return torch.where(places + constant(tuple(shift), places) == ends, last, index + moved)


def nearest_index_of_places(places: Float[Tensor, "*batch d"], counts: Tensor) -> Int64[Tensor, "*batch d"]:
    """`index_of_places`, with places outside given to the nearest cell per axis.

    Args:
        places: (..., d) in cells (or voxels, or whatever `counts` counts).
        counts: (d,) int64 cells per axis.
    """
    return torch.minimum(places.long().clamp_min(0), counts - 1)


def raveled(index: Int[Array, "*batch d"], counts: Sequence[int]) -> Int[Array, "*batch"]:
    """(..., d) index per axis of a grid with `counts` (d,) cells -> (...) number, the last axis fastest."""
    if not isinstance(index, np.ndarray) and not index.is_cpu:  # where each operation costs more than what it computes
        steps = tuple(math.prod(counts[axis + 1 :]) for axis in range(len(counts)))
        return (index * constant(steps, index)).sum(-1, dtype=index.dtype)
    number = index[..., 0]
    for axis in range(1, len(counts)):
        number = number * counts[axis] + index[..., axis]
    return number


def sample_coordinates(
    positions: Shaped[Tensor, " n"], samples: int, lower: float, upper: float
) -> Float32[Tensor, " n"]:
    """Domain coordinates of positions on an axis of samples: sample i lies at lower + (upper - lower) (i + 0.5) / n.

    Args:
        positions: (n,) in samples, whole or not; 0 = middle of the first sample.
        samples: samples on the axis.
        lower: the domain's lower border on it.
        upper: its upper border.
    """
    return (lower + (upper - lower) * (positions.double() + 0.5) / samples).float()


def index_of_samples(
    positions: Shaped[Tensor, " n"], samples: int, lower: float, upper: float, count: int
) -> Int64[Tensor, " n"]:
    """Index of the cell that owns each of some samples of an axis, in 0..count - 1; rising with the position.

    Args:
        positions: (n,) sample numbers, 0..samples - 1.
        samples: samples on the axis.
        lower: the domain's lower border on it.
        upper: its upper border.
        count: cells on it.
    """
    x = sample_coordinates(positions, samples, lower, upper)
    return index_of_points(x[:, None], (lower,), (upper,), (count,))[:, 0]


def sample_edges(samples: int, lower: float, upper: float, count: int) -> Int64[Tensor, " edges"]:
    """(count + 1,) first sample of each cell of an axis, then `samples`: cell i owns samples edges[i] to edges[i + 1].

    Where there are more cells than samples, some own none: their edges are equal.
    """
    owners = index_of_samples(torch.arange(samples), samples, lower, upper, count)
    return torch.searchsorted(owners, torch.arange(count + 1))
