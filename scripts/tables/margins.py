"""By how much one row of a table is better than the others: in pairs of runs of one file and seed."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from scipy.stats import t as student

Pairs = list[tuple[Mapping[str, Any], Mapping[str, Any]]]
FEW = 3
"""Of so many files with several seeds the margins of each stand by themselves: more are averaged over seeds, for runs
of one file do not tell how files differ."""


def margins(results: Iterable[Mapping[str, Any]], measures: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """What the first preset is better than each other by, on the files and with the seeds that both have: of `FEW`
    files each by itself, seed by seed, else file by file, each the mean of its seeds; none of a single pair.

    Args:
        results: with preset, file, seed and figures, in the order of presets.
        measures: name of a figure -> what it is called.
    """
    runs = {(r["preset"], r["file"], r["seed"]): r for r in results}
    first, *others = dict.fromkeys(preset for preset, _, _ in runs)
    for other in others:
        files: dict[str, Pairs] = {}
        for (preset, file, seed), r in runs.items():
            if preset == other and (first, file, seed) in runs:
                files.setdefault(file, []).append((runs[first, file, seed], r))
        apart = len(files) <= FEW and any(len(pairs) > 1 for pairs in files.values())
        together = {other: [(mean(a for a, _ in p), mean(b for _, b in p)) for p in files.values()]}
        each = {f"{other}, {file}" if len(files) > 1 else other: pairs for file, pairs in files.items()}
        for name, pairs in (each if apart else together).items():
            if len(pairs) > 1:
                row = {f"{first} over": name, "pairs": str(len(pairs))}
                for key, called in measures.items():
                    row |= margin(pairs, key, called)
                yield row


def mean(runs: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """The mean of each figure that all of these runs have."""
    runs = list(runs)
    numbers = [k for k, v in runs[0].items() if isinstance(v, float)]
    return {k: statistics.mean(r[k] for r in runs) for k in numbers if all(k in r for r in runs)}


def margin(pairs: Pairs, key: str, name: str) -> dict[str, str]:
    """Mean of what the first of each pair has more of, its 95 % interval, and in how many pairs it has more."""
    gains = [a[key] - b[key] for a, b in pairs if key in a and key in b]
    if len(gains) < 2:
        return {}
    half = student.ppf(0.975, len(gains) - 1) * statistics.stdev(gains) / len(gains) ** 0.5
    found = {f"{name}, 95 % interval": f"{statistics.mean(gains):+.2f} ± {half:.2f}"}
    return found | {f"better in ({name})": f"{sum(g > 0 for g in gains)} of {len(gains)}"}
