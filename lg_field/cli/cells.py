"""Cells on a command line: numbers and ranges, as `0-7,12 40`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lg_field.space.partition import PartitionGrid

SPAN = re.compile(r"([0-9]+)(?:-([0-9]+))?")


def parse_cells(words: Iterable[str | int], grid: PartitionGrid) -> list[int]:
    """The cells that words name: numbers, and ranges with both ends in them, apart by spaces or commas.

    Args:
        words: such as `["0-7,12", "40"]`.
        grid: numbers the cells.

    Returns:
        Sorted numbers, none twice. Ranges are checked against the grid before they are written out.

    Raises:
        ValueError: neither a number nor a range, a range that ends before it begins, or no such cell.
    """
    spans: list[tuple[int, int]] = []
    for part in re.split(r"\s*,\s*|\s+", " ".join(map(str, words)).strip()):
        found = SPAN.fullmatch(part)
        if found is None:
            raise ValueError(f"--cells takes numbers and ranges, such as 0-7,12 40; {part!r} is neither")
        low, high = found[1], found[2] or found[1]
        if max(len(low.lstrip("0")), len(high.lstrip("0"))) > 18 or int(high) >= grid.num_cells:
            raise ValueError(f"no cell {part[:40]}: the grid {grid.counts} has 0..{grid.num_cells - 1}")
        if int(high) < int(low):
            raise ValueError(f"--cells {part} ends before it begins; the lower number goes first")
        spans.append((int(low), int(high)))
    return joined(spans)


def joined(spans: list[tuple[int, int]]) -> list[int]:
    """The numbers in any of these spans (both ends in them), sorted, none twice."""
    numbers: list[int] = []
    following = 0
    for low, high in sorted(spans):
        numbers.extend(range(max(low, following), high + 1))
        following = max(following, high + 1)
    return numbers
