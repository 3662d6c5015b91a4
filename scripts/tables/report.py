"""What the tables share: their clock, and what they write: Markdown, CSV and JSON of the rows, a plot of the curves."""

from __future__ import annotations

import csv
import io
import json
import os
import platform
import re
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from lg_field.files import atomic_write

Curve = Sequence[tuple[float, float, float]]
"""(step, seconds, PSNR) points."""


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table with the keys of the first row as its head."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([str(row.get(k, "")) for k in rows[0]] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def mean(values: Sequence[float], digits: int, spread: bool = True) -> str:
    """Mean and, of several and where `spread` says so, standard deviation, as text; "" of none."""
    if not values:
        return ""
    text = f"{statistics.mean(values):,.{digits}f}"
    return f"{text} ± {statistics.stdev(values):.{digits}f}" if spread and len(values) > 1 else text


def common_positions(curves: Sequence[Curve]) -> set[float]:
    """The positions (first of each point: steps, or samples seen) that all of several curves have: a mean at any other
    would be of fewer of them."""
    return set.intersection(*({point[0] for point in curve} for curve in curves))


def mean_curve(curves: Sequence[Curve]) -> list[tuple[float, ...]]:
    """Means of the points of several curves, at the positions that all of them have."""
    common = common_positions(curves)
    rows = zip(*([point for point in curve if point[0] in common] for curve in curves))
    return [tuple(map(statistics.mean, zip(*points))) for points in rows]


def now() -> float:
    """Seconds: of the processor with one CPU thread, so that other programs on the machine count less, else of the
    clock."""
    return time.process_time() if processor_clock() else time.perf_counter()


def processor_clock() -> bool:
    """Whether `now` is of the processor."""
    return torch.get_num_threads() == 1 and not torch.cuda.is_available()


def commit() -> str:
    """Of this code, short; with + where files were changed since; "" outside of a repository."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        found = [
            subprocess.run([*git, *command], capture_output=True, text=True).stdout.strip()
            for command in (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        ]
    except OSError:
        return ""
    return found[0] + "+" * bool(found[1])


def hardware() -> str:
    """Processors, their number, and what else computes, in words."""
    try:
        names = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.M)
    except OSError:
        names = []
    words = f"{names[0] if names else platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    return f"{words}, {torch.cuda.get_device_name()}" if torch.cuda.is_available() else f"{words}, no GPU"


def provenance() -> str:
    """One line: the command, but for where it wrote, the machine, the code, and how long this process has computed."""
    said = list(sys.argv[1:])
    if "--output" in said:
        del said[said.index("--output") : said.index("--output") + 2]
    command = shlex.join([f"scripts/tables/{Path(sys.argv[0]).name}", *said])
    return (
        f"`python {command}`: {hardware()}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"commit {commit() or 'unknown'}, {time.process_time():.0f} s of processor time"
    )


def write(
    folder: Path,
    table: Sequence[Mapping[str, Any]],
    what: str,
    results: Any,
    curves: Mapping[str, Curve] | None = None,
    made: str = "",
    title: str = "",
) -> str:
    """Write results.md, results.csv, results.json and curves.png, in place of those of an earlier run.

    Args:
        folder: where; made if it is not there.
        table: rows as they are to be read.
        what: on the data and the settings, put under the table.
        results: everything that was measured, for results.json.
        curves: by name; none = no plot.
        made: the line below: how, where, by which code and for how long it was made; "" = by this process.
        title: of the plot; "" = the last line of `what`.

    Returns:
        The Markdown.
    """
    text = f"{markdown(table)}\n{what}\n\n{made or provenance()}\n"
    cells = io.StringIO()
    writer = csv.DictWriter(cells, list(table[0]), extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    for name, content in (("md", text), ("csv", cells.getvalue()), ("json", json.dumps(results, indent=1))):
        with atomic_write(folder / f"results.{name}", overwrite=True) as temporary:
            temporary.write_text(content)
    if curves:
        with atomic_write(folder / "curves.png", overwrite=True) as temporary:
            plot(curves, title or what.split("\n")[-1], temporary)
    return text


def plot(curves: Mapping[str, Curve], title: str, path: Path) -> None:
    """PSNR by steps and by seconds of training."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import MaxNLocator

    figure, axes = plt.subplots(1, 2, figsize=(11, 4.5), sharey=True, layout="constrained")
    for name, points in curves.items():
        for k, axis in enumerate(axes):
            axis.plot([p[k] for p in points], [p[2] for p in points], label=name)
    axes[0].set(xlabel="steps", ylabel="PSNR (dB)")
    axes[0].xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2.5, 5, 10]))
    axes[1].set(xlabel="seconds", xscale="log")
    for axis in axes:
        axis.grid(alpha=0.3)
    axes[0].legend()
    figure.suptitle(title, fontsize=8, wrap=True)
    figure.savefig(path, dpi=120, format="png")
    plt.close(figure)
