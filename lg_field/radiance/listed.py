"""Places of a lattice as a list of their numbers: of a scene's voxels few are occupied, and a box around them may hold
hundreds of millions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int64, Shaped
from torch import Tensor

MARGIN = 4
"""Free places around those that are listed, along each axis: steps of so many never lead from one line to another."""


@dataclass(frozen=True)
class Listed:
    """Places of three axes, each once."""

    order: Int64[Tensor, " n"]
    """Which of the places that were given comes first, second, ..."""
    numbers: Int64[Tensor, " n"]
    """Their numbers, rising, in a box with a margin around them."""
    counts: tuple[int, int, int]
    """Places of that box per axis."""

    @staticmethod
    def of(places: Int64[Tensor, "n 3"]) -> Listed:
        """Some places, at least one, in any order."""
        low = places.amin(0) - MARGIN
        x, y, z = (places.amax(0) + 1 + MARGIN - low).tolist()
        numbers = ((places[:, 0] - low[0]) * y + places[:, 1] - low[1]) * z + places[:, 2] - low[2]
        order = numbers.argsort()
        return Listed(order, numbers[order], (x, y, z))

    def __len__(self) -> int:
        return len(self.numbers)

    def step(self, offset: Sequence[int]) -> int:
        """What the number of a place changes by over an offset of at most `MARGIN` per axis."""
        x, y, z = offset
        return (x * self.counts[1] + y) * self.counts[2] + z

    def sorted(self, values: Shaped[Tensor, " n"]) -> Shaped[Tensor, " n"]:
        """Values of the places as given, in the order of their numbers."""
        return values[self.order]

    def given(self, values: Shaped[Tensor, " n"]) -> Shaped[Tensor, " n"]:
        """Inverse of `sorted`."""
        result = torch.empty_like(values)
        result[self.order] = values
        return result

    def labels(self, chosen: Bool[Tensor, " n"]) -> tuple[Int64[Tensor, " n"], Int64[Tensor, " pieces"]]:
        """See `connected`: the piece of each place as given, counted from 1 (0 = not chosen), and the sizes."""
        mine = self.sorted(chosen)
        labels = torch.zeros(len(self), dtype=torch.int64)
        labels[mine], sizes = connected(self.numbers[mine], self.counts)
        return self.given(labels), sizes

    def beside(self, chosen: Bool[Tensor, " n"], corners: bool = False) -> Bool[Tensor, " n"]:
        """Places that share a face with a chosen one, or, with `corners`, an edge or a corner; not for being chosen."""
        mine = self.numbers[self.sorted(chosen)]
        found = torch.zeros(len(self), dtype=torch.bool)
        for offset in ball(3, within=1 if not corners else None):
            found |= holds(mine, self.numbers + self.step(offset))
        return self.given(found)

    def alone(self, chosen: Bool[Tensor, " n"]) -> Bool[Tensor, " n"]:
        """Chosen places with a face that no chosen one shares."""
        mine = self.sorted(chosen)
        numbers = self.numbers[mine]
        free = torch.zeros(len(numbers), dtype=torch.bool)
        for offset in ball(3, within=1):
            free |= ~holds(numbers, numbers + self.step(offset))
        found = torch.zeros(len(self), dtype=torch.bool)
        found[mine] = free
        return self.given(found)

    def nearest(self, labels: Int64[Tensor, " n"], wanted: Bool[Tensor, " n"], within: float) -> Int64[Tensor, " n"]:
        """Labels in which wanted places that have none (0) have that of the nearest place that has one, if one is near.

        Args:
            labels: of the places as given.
            wanted: of the places as given.
            within: distance, in places; at most `MARGIN`.
        """
        mine, into = self.sorted(labels), self.sorted(wanted)
        given = mine > 0
        numbers, own = self.numbers[given], mine[given]
        left = (into & ~given).nonzero()[:, 0]
        for offset in ball(2 * int(within) + 1, within=within):
            if not len(left) or not len(numbers):
                break
            asked = self.numbers[left] + self.step(offset)
            at = torch.searchsorted(numbers, asked).clamp_max(len(numbers) - 1)
            hit = numbers[at] == asked
            mine[left[hit]] = own[at[hit]]
            left = left[~hit]
        return self.given(mine)


def holds(numbers: Int64[Tensor, " n"], asked: Int64[Tensor, " m"]) -> Bool[Tensor, " m"]:
    """Which numbers are in a rising list."""
    if not len(numbers):
        return torch.zeros(len(asked), dtype=torch.bool)
    return numbers[torch.searchsorted(numbers, asked).clamp_max(len(numbers) - 1)] == asked


def ball(width: int, within: float | None) -> list[tuple[int, int, int]]:
    """Offsets in a cube of an odd width, but for none, the nearest first; those no longer than `within`, if it is
    given."""
    reach = range(-(width // 2), width // 2 + 1)
    every = [(x * x + y * y + z * z, (x, y, z)) for x in reach for y in reach for z in reach]
    return [offset for square, offset in sorted(every) if square and (within is None or square <= within * within)]


def connected(
    numbers: Int64[Tensor, " n"], counts: Sequence[int]
) -> tuple[Int64[Tensor, " n"], Int64[Tensor, " pieces"]]:
    """Connected pieces of places; those that share a face, an edge or a corner are connected.

    Stretches of neighbours along the last axis are joined with those in the lines beside theirs, so that memory goes
    with the number of places, not with that of the box.

    Args:
        numbers: rising numbers of places in a box, the last axis fastest.
        counts: places of the box per axis.

    Returns:
        The piece of each place, counted from 1, the largest first, of two as large the one whose first place comes
        first; and the number of places of each.

    Raises:
        ImportError: scipy is missing.
    """
    try:
        from scipy import sparse
    except ImportError as error:
        raise ImportError("connected components need scipy: pip install 'lg-field[mesh]'") from error
    if not len(numbers):
        return numbers, numbers.new_zeros(0)
    width = int(counts[2])
    line, along = numbers.numpy() // width, numbers.numpy() % width
    new = np.ones(len(line), dtype=bool)
    new[1:] = (line[1:] != line[:-1]) | (along[1:] != along[:-1] + 1)
    first = new.nonzero()[0]
    last = np.append(first[1:], len(line)) - 1
    run = new.cumsum() - 1
    pairs = _touching(line[first], along[first], along[last], int(counts[1]), width)
    graph = sparse.coo_matrix((np.ones(len(pairs[0]), dtype=np.int8), pairs), shape=(len(first),) * 2)
    count, piece = sparse.csgraph.connected_components(graph, directed=False)
    sizes = np.bincount(piece, weights=last - first + 1, minlength=count).astype(np.int64)
    begins = np.full(count, len(first))
    np.minimum.at(begins, piece, np.arange(len(first)))
    order = np.lexsort((begins, -sizes))
    rank = np.empty(count, dtype=np.int64)
    rank[order] = np.arange(1, count + 1)
    return torch.from_numpy(rank[piece][run]), torch.from_numpy(sizes[order])


def _touching(
    line: np.ndarray, first: np.ndarray, last: np.ndarray, lines: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of stretches that touch, by their numbers: of each the lines before it are looked at.

    Args:
        line: of each stretch, rising.
        first: place along it,
        last: and the last one.
        lines: lines of each plane.
        width: places of a line.
    """
    wide = width + 2  # the stretch after the end of a line is never that before the next one
    begins, ends, y = line * wide + first, line * wide + last, line % lines
    one, other = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    for back, shift in ((0, -1), (1, -1), (1, 0), (1, 1)):
        base = (line - back * lines + shift) * wide
        low = np.searchsorted(ends, base + first - 1, "left")
        high = np.searchsorted(begins, base + last + 1, "right")
        found = np.where((y + shift >= 0) & (y + shift < lines), high - low, 0)
        mine = np.repeat(np.arange(len(line)), found)
        one.append(mine)
        other.append(np.arange(len(mine)) - np.repeat(found.cumsum() - found, found) + low[mine])
    return np.concatenate(one), np.concatenate(other)
