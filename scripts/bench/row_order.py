"""Why rows lie in row-major order: contiguous runs and seeks of reading a box, against Morton (Z) order.

    python scripts/bench/row_order.py

Random boxes of about the given part of a cubic grid with a row for every cell. A run is one request to a file or a
server; bytes between runs are read as well where that is cheaper than another request (`--gap` rows).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table


@dataclass
class Args:
    """Measure."""

    sides: tuple[int, ...] = (8, 16, 32, 64)
    """Cells per axis of the grids."""
    fractions: tuple[float, ...] = (0.01, 0.05, 0.25)
    """Parts of the grid kept."""
    gaps: tuple[int, ...] = (0, 4)
    """Runs that are at most this many rows apart count as one."""
    boxes: int = 200
    """Random boxes each."""
    seed: int = 0
    """For the boxes."""


def morton(index: np.ndarray, bits: int) -> np.ndarray:
    """(n, 3) cell index -> (n,) position in Z order."""
    place = np.zeros(len(index), np.int64)
    for bit in range(bits):
        for axis in range(3):
            place |= ((index[:, axis] >> bit) & 1) << (3 * bit + 2 - axis)
    return place


def runs(places: np.ndarray, gap: int) -> int:
    """Contiguous runs of sorted places, those at most `gap` apart joined."""
    return 1 + int((np.diff(np.sort(places)) > 1 + gap).sum())


def main(args: Args) -> None:
    """Print a table."""
    random = np.random.default_rng(args.seed)
    table = Table("grid", "kept", "rows", *(f"{o}, gap {g}" for g in args.gaps for o in ("row-major", "Morton")))
    for side in args.sides:
        for fraction in args.fractions:
            counts = []
            for _ in range(args.boxes):
                shape = np.exp(random.normal(0, 0.4, 3))
                size = np.clip(np.round(shape * side * (fraction / shape.prod()) ** (1 / 3)), 1, side).astype(int)
                first = [random.integers(0, side - s + 1) for s in size]
                index = np.stack(
                    np.meshgrid(*(np.arange(f, f + s) for f, s in zip(first, size)), indexing="ij"), -1
                ).reshape(-1, 3)
                orders = (index @ np.array([side * side, side, 1]), morton(index, side.bit_length() - 1))
                counts.append([len(index), *(runs(p, g) for g in args.gaps for p in orders)])
            means = np.mean(counts, axis=0)
            table.add_row(f"{side}^3", f"{fraction:.0%}", *(f"{v:,.1f}" for v in means))
    Console().print(table)


if __name__ == "__main__":
    main(tyro.cli(Args))
