"""How far a crop shrinks in proportion: bytes, parameters, memory and seconds a picture against the kept share.

    python scripts/tables/proportion.py scene.safetensors
    python scripts/tables/proportion.py scene.safetensors --shares 1 0.5 0.05 --size 400 --threads 1
    python scripts/tables/proportion.py image.safetensors sound.safetensors video.safetensors scene.safetensors

Each row is a crop of the file to the cells nearest to one of its cells, compact as a box is. `cells` is the ideal that
the other shares are held against, plotted as a line. Of scenes a picture from the same camera is timed for every crop;
of other fields nothing is. Of several files bytes are plotted, of one everything. Writes results.md, .csv, .json,
proportion.png and nothing else to `--output`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import report
import torch
import tyro

from lg_field.files import FieldFile, atomic_write, crop_file
from lg_field.radiance.field import RadianceField
from lg_field.radiance.render import orbit, render
from lg_field.radiance.scene import Scene
from lg_field.table.cell_table import CellTable


@dataclass
class Args:
    """Measure crops of field files."""

    files: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Field files."""
    shares: tuple[float, ...] = (1.0, 0.75, 0.5, 0.25, 0.1, 0.05, 0.02)
    """Of the cells, to be kept."""
    size: int = 200
    """Pixels of a scene's picture along each side."""
    threads: int = 1
    """CPU threads."""
    output: Path = Path("outputs/tables/proportion")
    """Folder to write to."""


def nearest_cells(field: CellTable, count: int) -> torch.Tensor:
    """(count,) sorted kept cells around the one in the middle of the list, by their largest distance along an axis."""
    index = field.grid.unravel(field.cells)
    distance = (index - index[len(index) // 2]).abs().amax(1)
    return field.cells[distance.argsort(stable=True)[:count]].sort().values


def seconds_a_picture(field: CellTable, whole: CellTable, size: int) -> float | None:
    """Of a scene, seen as the first camera around the whole one sees it; the faster of two."""
    about = whole.description
    if not (isinstance(field, RadianceField) and isinstance(whole, RadianceField) and isinstance(about, Scene)):
        return None
    camera = next(iter(orbit(whole, about, 1, size, size)))
    taken = []
    for _ in range(2):
        begin = report.now()
        with torch.no_grad():
            render(field, about, camera)
        taken.append(report.now() - begin)
    return min(taken)


def measure(path: Path, whole: CellTable, size: int) -> dict[str, Any]:
    """What a field file takes on disk, in memory and in time."""
    with FieldFile.open(path) as file:
        field, parts = file.load(), file.bytes_by_part()
    memory = sum(v.numel() * v.element_size() for v in (*field.parameters(), *field.buffers()))
    measured = {"cells": field.num_rows, "bytes": parts["total"], "memory": memory}
    measured |= {"parameters": field.num_parameters()["total"]}
    measured |= {f"{name.replace('_', ' ')} entries": len(kept.numbers()) for name, kept in field.kept_lines.items()}
    seconds = seconds_a_picture(field, whole, size)
    return measured if seconds is None else measured | {"seconds": seconds}


def shares_of(measured: Mapping[str, float], whole: Mapping[str, float]) -> dict[str, float]:
    """Every number as a part of the whole file's."""
    return {name: value / whole[name] for name, value in measured.items()}


def row(measured: Mapping[str, float], whole: Mapping[str, float]) -> dict[str, str]:
    """A line of the table: numbers, and their share of the whole in brackets."""
    texts = {name: f"{value:.2f}" if name == "seconds" else f"{value:,}" for name, value in measured.items()}
    return {name: f"{texts[name]} ({share:.1%})" for name, share in shares_of(measured, whole).items()}


def plot(lines: Mapping[str, Sequence[tuple[float, float]]], title: str, path: Path) -> None:
    """Kept shares by the kept share of the cells, a line for each name, and the ideal line."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6, 5), layout="constrained")
    axis.plot([0, 1], [0, 1], color="black", linestyle=":", label="ideal")
    for name, points in lines.items():
        axis.plot(*zip(*points), marker="o", markersize=3, label=name)
    axis.set(xlabel="kept share of the cells", ylabel="kept share", xlim=(0, 1.02), ylim=(0, 1.02))
    axis.grid(alpha=0.3)
    axis.legend()
    axis.set_title(title, fontsize=8)
    figure.savefig(path, dpi=120, format="png")
    plt.close(figure)


def crops_of(path: Path, args: Args) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What a file takes, and what each of its crops does."""
    with FieldFile.open(path) as file:
        field = file.load()
    whole, results = measure(path, field, args.size), []
    with tempfile.TemporaryDirectory() as folder:
        for share in sorted(args.shares, reverse=True):
            cut = Path(folder) / f"{share}.safetensors"
            crop_file(path, cut, cells=nearest_cells(field, max(1, round(share * field.num_rows))))
            results.append(measure(cut, field, args.size))
    return whole, results


def main(args: Args) -> None:
    """Crop, measure, write."""
    torch.set_num_threads(args.threads)
    if not all(0.0 < share <= 1.0 for share in args.shares):
        raise SystemExit(f"--shares are parts of the cells, above 0 and up to 1, got {args.shares}")
    found = {path.stem: crops_of(path, args) for path in args.files}
    several = len(found) > 1
    rows, lines = [], {}
    for name, (whole, crops) in found.items():
        said = {"file": name} if several else {}
        rows += [said | row(measured, whole) for measured in (whole, *crops)]
        shares = [shares_of(measured, whole) for measured in crops]
        for key in ["bytes"] if several else [k for k in shares[0] if k != "cells"]:
            lines[name if several else key] = [(s["cells"], s[key]) for s in shares]
    what = "bytes" if several else f"{args.files[0].name}: {rows[0]['cells'].split(' ')[0]} cells"
    text = f"{what}; shares of the whole file in brackets"
    results = {name: {"whole": whole, "crops": crops} for name, (whole, crops) in found.items()}
    columns = list(dict.fromkeys(key for r in rows for key in r))
    print(report.write(args.output, [{c: r.get(c, "") for c in columns} for r in rows], text, results))
    with atomic_write(args.output / "proportion.png", overwrite=True) as temporary:
        plot(lines, what, temporary)


if __name__ == "__main__":
    main(tyro.cli(Args))
