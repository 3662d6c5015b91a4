"""Which matches are believed: those of pairs that have many, for their photos.

Where a scene repeats itself (wallpaper, windows, tiles), photos of different places match, too, geometry and all, and a
reconstruction that believes them folds the scene together. Such pairs have fewer matches than pairs of photos that show
the same place, so poses are found from strong pairs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

Pair = tuple[int, int]

SHARES = (0.2, 0.1, 0.05, 0.02, 0.0)
"""A pair is strong if it has this share of the matches of the best pair of either photo. Where such pairs do not join
what all pairs join, weaker ones are taken between the parts."""


def strong_pairs(matches: Mapping[Pair, int]) -> set[Pair]:
    """The strong pairs, and of the weaker ones as few as join what all pairs join.

    Args:
        matches: pair of photo numbers -> matches that agree with a geometry, at least 1.

    Returns:
        a subset of the pairs, with the best pair of every photo.
    """
    best: dict[int, int] = {}
    for pair, count in matches.items():
        for photo in pair:
            best[photo] = max(best.get(photo, 0), count)
    share_of = {pair: count / min(best[pair[0]], best[pair[1]]) for pair, count in matches.items()}
    strong = {pair for pair, share in share_of.items() if share >= SHARES[0]}
    for least in SHARES[1:]:
        part = {photo: number for number, group in enumerate(components(best, strong)) for photo in group}
        strong |= {(a, b) for (a, b), share in share_of.items() if share >= least and part[a] != part[b]}
    return strong


def components(photos: Iterable[int], pairs: Iterable[Pair]) -> list[set[int]]:
    """The photos in groups that pairs join."""
    group = {photo: {photo} for photo in photos}
    for a, b in pairs:
        if group[a] is not group[b]:
            group[a] |= group[b]
            for photo in group[b]:
                group[photo] = group[a]
    return list({id(found): found for found in group.values()}.values())
