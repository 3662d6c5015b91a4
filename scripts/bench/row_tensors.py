"""What it costs that the tensors of a row lie apart in a file: requests for a box, against rows in one piece.

    python scripts/bench/row_tensors.py scene.safetensors --sides 16 42 --share 0.05

Row sizes are the file's own; the grids are cubes with a row for every cell, the box is in their middle. Requests are
planned as `files.ranges` plans them, nothing is fetched. `waves` follow one another: so many requests are under way
together. `only what is occupied` is what the commands read that look for objects before anything else. Lists, shared
part and lines of shared tensors are left out: they take as many round trips either way (`far_files.py` counts them).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import tyro
from rich.console import Console
from rich.table import Table

from lg_field.files import FieldFile
from lg_field.files.ranges import Range, in_flight, merged


@dataclass
class Args:
    """Plan."""

    file: Annotated[Path, tyro.conf.Positional]
    """Scene file."""
    sides: tuple[int, ...] = (8, 16, 24, 42)
    """Cells per axis of the grids."""
    share: float = 0.05
    """Part of the grid that the box holds."""


class Plan(NamedTuple):
    """Requests for some ranges."""

    requests: int
    waves: int
    bytes: int

    @staticmethod
    def of(ranges: list[Range]) -> Plan:
        """As they are planned for a file far away."""
        found = merged(ranges)
        return Plan(len(found), -(-len(found) // in_flight(len(found))), sum(count for _, count in found))


def row_widths(path: Path) -> dict[str, int]:
    """Bytes of a row in each tensor of a file that has one line for each cell."""
    with FieldFile.open(path) as file:
        rows = file.skeleton.row_names
        entries = {name: file.reader.entries[name] for name in file.entry_names() if file.owner(name) in rows}
    return {name: entry.row_bytes for name, entry in entries.items()}


def box_rows(side: int, share: float) -> list[int]:
    """Rows of a box in the middle of a cube of cells, last axis fastest."""
    wide = max(1, round(side * share ** (1 / 3)))
    inside = range((side - wide) // 2, (side - wide) // 2 + wide)
    return [(x * side + y) * side + z for x in inside for y in inside for z in inside]


def apart(rows: list[int], widths: dict[str, int], count: int) -> list[Range]:
    """Ranges of some of `count` rows whose tensors follow one another."""
    found, begin = [], 0
    for width in widths.values():
        found += [(begin + row * width, width) for row in rows]
        begin += count * width
    return found


def main(args: Args) -> None:
    """Print a table."""
    widths = row_widths(args.file)
    whole, occupied = sum(widths.values()), widths["occupied"]
    table = Table("grid", "bytes", "rows", "apart", "in one piece", "only what is occupied: apart", "in one piece")
    for side in args.sides:
        rows, count = box_rows(side, args.share), side**3
        plans = [Plan.of(apart(rows, widths, count)), Plan.of([(row * whole, whole) for row in rows])]
        said = [f"{p.requests} requests in {p.waves} waves, {p.bytes / (whole * len(rows)):.3f}" for p in plans]
        table.add_row(
            f"{side}^3", f"{whole * count:,}", f"{len(rows):,}", *said, f"{occupied * count:,}", f"{whole * count:,}"
        )
    Console(width=200).print(table)


if __name__ == "__main__":
    main(tyro.cli(Args))
