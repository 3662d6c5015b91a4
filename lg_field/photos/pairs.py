"""Which pairs of photos are compared: all, or near ones and an evenly spaced few."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Literal

import numpy as np

Matching = Literal["auto", "exhaustive", "sequential"]

EXHAUSTIVE_UP_TO = 150
NEIGHBOURS = 10
SKELETON = 40
"""Photos, evenly spaced, that sequential matching compares all with all, so that a round walk closes."""
BLOCK = 10
"""Photos on each side of a group of pairs."""


def pairs_to_compare(count: int, matching: Matching, is_video: bool) -> list[tuple[int, int]]:
    """The pairs of so many photos. `auto` takes all of few photos, near ones of many and of videos.

    Returns:
        (first, second) numbers, first < second, sorted.
    """
    many = count > (SKELETON if is_video else EXHAUSTIVE_UP_TO)
    if matching == "sequential" or (matching == "auto" and many):
        return near_pairs(count)
    return list(combinations(range(count), 2))


def near_pairs(count: int) -> list[tuple[int, int]]:
    """Pairs that sequential matching compares: near ones, ones 2^k apart, and all of an evenly spaced few.

    Returns:
        (first, second) numbers, first < second, sorted.
    """
    steps = sorted({*range(1, NEIGHBOURS + 1), *(1 << k for k in range(count.bit_length()))})
    found = {(i, i + step) for step in steps for i in range(count - step)}
    few = np.unique(np.linspace(0, count - 1, min(SKELETON, count)).round().astype(int)).tolist()
    return sorted(found | set(combinations(few, 2)))


def blocks(pairs: Sequence[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """The same pairs in groups that share photos: pycolmap reads each photo's features once a group."""
    groups: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for first, second in pairs:
        groups.setdefault((first // BLOCK, second // BLOCK), []).append((first, second))
    return list(groups.values())
