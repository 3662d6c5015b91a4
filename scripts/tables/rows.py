"""Finished rows of the tables, kept in the repository: what was trained once, on any machine, is not trained again.

The rows of a table are a file of JSON lines below docs/results/rows, a line for each run: what it is of (preset, file,
seed), its settings, its figures, the machine, the code's commit. Only rows of just the settings that the code has now
are read: of what was said otherwise than by default, so that a new setting leaves the rows of before as they are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import report
import torch

from lg_field.files import atomic_write

ROWS = Path(__file__).parents[2] / "docs" / "results" / "rows"
"""Where the rows of the tables are. `ROWS/signals/images.jsonl` are those of the table images of signals.py."""
POINTS = 20
"""Points of a curve that are kept."""
DATA = "../shared/data"
"""The folder of all data in the commands that make the tables, which are run in the repository."""
Row = dict[str, Any]


def changed(*configs: Any) -> Row:
    """What dataclasses say other than by default, but for the seed, by name.

    Args:
        configs: instances of dataclasses all of whose fields have a default.
    """
    pairs = [(c, type(c)(), f.name) for c in configs for f in fields(c) if f.name != "seed"]
    return {name: getattr(c, name) for c, default, name in pairs if getattr(c, name) != getattr(default, name)}


def thinned(curve: Sequence[Sequence[float]]) -> list[Sequence[float]]:
    """At most `POINTS` points of a curve, evenly; the last is the last."""
    count = min(POINTS, len(curve))
    return [curve[len(curve) * (k + 1) // count - 1] for k in range(count)]


class Rows:
    """The finished rows of one table."""

    def __init__(self, path: Path, again: bool = False) -> None:
        """
        Args:
            path: of the file of JSON lines; it need not be there.
            again: make every row anew, in place of what is kept.
        """
        self.path, self.again = path, again

    def all(self) -> list[Row]:
        """Every row, in the order they were finished; a line that was not written to its end is said and left out."""
        rows: list[Row] = []
        for number, line in enumerate(self.path.read_text().splitlines() if self.path.exists() else [], 1):
            try:
                rows += [json.loads(line)] if line else []
            except json.JSONDecodeError:
                print(f"{self.path}, line {number} is not JSON and left out: delete it")
        return rows

    def once(self, said: Row, make: Callable[[], Row | None], **beside: Any) -> Row | None:
        """The row of what is said, if it is kept, else what `make` returns now, kept for later; None is not kept.

        Args:
            said: what the row is of, and `settings`; may have `data`, a checksum of what it is made from.
            make: takes long.
            beside: what a row made now says, too, but rows are not told apart by.

        Raises:
            SystemExit: there is this row of other data.
        """
        said = json.loads(json.dumps(said))
        alike = [r for r in self.all() if same(r, {k: v for k, v in said.items() if k not in ("settings", "data")})]
        found = [r for r in alike if same(r, said)]
        if found and not self.again:
            return found[-1]
        name = " ".join(str(v) for k, v in said.items() if k not in ("settings", "data", "kind"))
        if any(r["settings"] == said["settings"] for r in alike) and not found:
            raise SystemExit(f"{self.path} has {name} of other data: keep these rows elsewhere with --rows")
        if alike and not found:
            print(f"{self.path}: {len(alike)} row(s) of {name} have other settings and are left out")
        made = make()
        if made is None:
            return None
        row = said | made | beside | {"machine": machine(), "commit": report.commit()}
        self.add(row, [r for r in self.all() if not same(r, said)] if found else None)
        return row

    def replace(self, row: Row, by: Row) -> None:
        """Write the file anew with another row in place of one that is there."""
        self.add(by, [r for r in self.all() if r != json.loads(json.dumps(row))])

    def add(self, row: Row, others: list[Row] | None = None) -> None:
        """Append a row, or write the file anew of `others` and this."""
        lines = [json.dumps(r) for r in [*(others or []), row]]
        if others is not None:
            with atomic_write(self.path, overwrite=True) as temporary:
                temporary.write_text("".join(f"{line}\n" for line in lines))
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        whole = not self.path.exists() or self.path.read_bytes()[-1:] in (b"\n", b"")
        with open(self.path, "a") as file:
            file.write(f"{'' if whole else chr(10)}{lines[0]}\n")

    def of_now(self, settings: Callable[[Row], Row | None]) -> list[Row]:
        """The rows whose settings are those that `settings` says such a row has now, None = there is no such row now;
        how many are not is said."""
        rows = self.all()
        kept = [r for r in rows if r["settings"] == json.loads(json.dumps(settings(r)))]
        if len(kept) < len(rows):
            print(f"{self.path}: {len(rows) - len(kept)} of {len(rows)} rows have other settings and are left out")
        return kept


def same(row: Row, said: Row) -> bool:
    """Whether a row is of this."""
    return all(row.get(name) == value for name, value in said.items())


def below_data(path: Path) -> str:
    """Where a file is, for a row: below the folder of all data (`DATA`), or as it was said where it is not in such a
    folder; `data_path` reads it."""
    parts, ends = path.absolute().parts, Path(DATA).parts[-2:]
    starts = [k + 2 for k in range(len(parts) - 2) if parts[k : k + 2] == ends]
    return Path(*parts[starts[-1] :]).as_posix() if starts else path.absolute().as_posix()


def data_path(row: Mapping[str, Any], folder: str, name: str = "file") -> str:
    """The file that a row is of, as commands say it.

    Args:
        row: with `path` of `below_data`, or without.
        folder: below the folder of all data, of the file of a row without.
        name: key of the file's name in such a row.
    """
    return str(Path(DATA) / row.get("path", f"{folder}/{row[name]}"))


def check_counts(**counts: tuple[int, int]) -> None:
    """End with a line if an option is less than it may be.

    Args:
        counts: by the options' names: what was said, and the least that makes sense.
    """
    for name, (value, least) in counts.items():
        if value < least:
            raise SystemExit(f"--{name} {value}: it is {least} or more")


def seeds_said(seeds: Sequence[int]) -> list[str]:
    """The options of the commands that make rows of just these seeds, in rising order: of one command where they are
    0, 1, ... ("" for seed 0 alone), else of a command for each."""
    if list(seeds) == list(range(len(seeds))):
        return [f" --seeds {len(seeds)}" * (len(seeds) > 1)]
    return [f" --seed {seed}" for seed in seeds]


def machine() -> str:
    """Where a row is made, and what its seconds are."""
    threads = torch.get_num_threads()
    clock = "processor time" if report.processor_clock() else "time"
    return f"{report.hardware()}, {threads} thread{'s' * (threads > 1)}, torch {torch.__version__}, seconds of {clock}"


def provenance(commands: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """One line: the commands that make such rows, the machines and commits that made these, and for how long.

    Args:
        commands: script and arguments of each. They can be run, and together make such rows, among others where these
            are a part of a table.
        rows: as `Rows.once` returns them, with `seconds`.
    """
    rows = list(rows)
    machines, commits = (", ".join(sorted({str(r[key]) for r in rows})) for key in ("machine", "commit"))
    seconds = sum(r.get("seconds", 0.0) for r in rows)
    took = f"{len(rows)} run(s), {seconds:,.0f} s of training in all, commit {commits}"
    said = ", ".join(f"`python scripts/tables/{command}`" for command in commands)
    return f"{said}: {took}, on {machines}"
