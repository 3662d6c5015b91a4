"""Extending: half of a signal encoded, the rest added with everything old frozen, beside the whole encoded at once.

    python scripts/tables/extension.py --data ../shared/data/images/div2k_512/00.png --preset image-small --quick
    python scripts/tables/extension.py --data ../shared/data/audio/gt_bach.wav --preset audio

The first half of the cells along the last axis is trained alone, with the shared part, on the samples that lie in them;
then the other cells are trained for as many steps and everything else stays as it is to the bit. Old and new are the
samples of the first half and of the rest. Finished files are kept as rows of their preset below docs/results/rows (see
rows.py; with `--steps` below `--output`). Writes results.md, .csv and .json to a folder in `--output`. With
`OMP_NUM_THREADS=1` on a CPU seconds are processor time.
"""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import report
import tyro
from margins import margins
from paper_tables import smaller
from rows import ROWS, Row, Rows, below_data, changed, check_counts, data_path, provenance, seeds_said
from torch import Tensor

import lg_field
from lg_field.networks import LocalGlobalNetwork
from lg_field.signals import SignalData, read_signal
from lg_field.signals.encode import build_network
from lg_field.signals.extend import extend_to
from lg_field.signals.fit import Fit
from lg_field.signals.metrics import psnr_of_rows
from lg_field.signals.presets import read_preset
from lg_field.signals.settings import CompleteFit, CompleteSettings, resolve

FOLDERS = {"image": "images/div2k_512", "audio": "audio", "video": "video"}
"""Where the signals of a kind are, below the folder of all data, for rows that do not say it."""


@dataclass
class Args:
    """Extend signals."""

    data: tuple[Path, ...]
    """Files of signals."""
    preset: str
    """Network and training, of configs/NAME.yaml."""
    steps: int = 0
    """Steps of each training; 0 = the preset's."""
    quick: bool = False
    """Smaller signals, those of signals.py --quick."""
    seed: int = 0
    """For weights and samples."""
    seeds: int = 0
    """Extend every file with seeds 0, 1, ..., so many; 0 = with `--seed` alone."""
    rows: Path | None = None
    """Folder of finished rows, a file for each preset; default: docs/results/rows/extension, with --steps below
    --output."""
    output: Path = Path("outputs/tables/extension")
    """Folder for results."""

    @property
    def folder(self) -> Path:
        """Where this table is written."""
        return self.output / (self.preset + (f"-{self.steps}" if self.steps else ""))

    @property
    def finished(self) -> Rows:
        """The finished rows."""
        place = self.output / "rows" if self.steps else ROWS / "extension"
        return Rows((self.rows or place) / f"{self.folder.name}.jsonl")


def halves(field: LocalGlobalNetwork) -> tuple[Tensor, Tensor]:
    """Rows of the first half of the cells along the last axis, and of the rest."""
    first = field.grid.unravel(field.cells)[:, -1] < field.grid.counts[-1] // 2
    return first.nonzero()[:, 0], (~first).nonzero()[:, 0]


def figures(field: LocalGlobalNetwork, data: SignalData, steps: int) -> dict[str, Any]:
    """PSNR of both halves, as far as there are rows for them."""
    names = {"old": halves(field)[0], "new": halves(field)[1]}
    return {"steps": steps} | {name: psnr_of_rows(field, data, rows) for name, rows in names.items() if len(rows)}


def train(field: LocalGlobalNetwork, data: SignalData, fit: CompleteFit, rows: Tensor | None = None) -> float:
    """Train in place; seconds of the steps."""
    training = Fit(field, data, fit, rows)
    begin = report.now()
    training.run()
    return report.now() - begin


def settings_of(preset: str, kind: str, steps: int) -> CompleteSettings:
    """Of each training."""
    settings = resolve(kind, read_preset(preset))
    return replace(settings, fit=replace(settings.fit, steps=steps or settings.fit.steps))


def extended(data: SignalData, settings: CompleteSettings, seed: int) -> Row:
    """The whole at once, half of it, and that extended."""
    fit = replace(settings.fit, seed=seed)
    whole, fresh = (build_network(data.signal, settings.network, seed) for _ in range(2))
    if whole.grid.counts[-1] < 2:
        raise SystemExit(
            f"half is to be added, but {whole.grid.counts} cells have one along the last axis: other --preset"
        )
    parts: list[Row] = [{"": "whole at once", "seconds": train(whole, data, fit)} | figures(whole, data, fit.steps)]
    half = cast(LocalGlobalNetwork, lg_field.crop(fresh, cells=fresh.cells[halves(fresh)[0]]))
    half.region = None
    parts.append({"": "half", "seconds": train(half, data, fit)} | figures(half, data, fit.steps))
    before = [t.detach().clone() for t in (half.local, *half.shared.values())]
    both, target, rows = extend_to(half, data)
    seconds = train(both, target, fit, rows)
    after = (both.local[halves(both)[0]], *both.shared.values())
    same = {"old weights unchanged": all(bool((a == b).all()) for a, b in zip(after, before))}
    parts.append({"": "extended", "seconds": seconds} | same | figures(both, target, fit.steps))
    print(*parts, sep="\n", flush=True)
    return {"parts": parts, "seconds": sum(p["seconds"] for p in parts)}


def main(args: Args) -> None:
    """Train, extend, write."""
    check_counts(steps=(args.steps, 0), seeds=(args.seeds, 0))
    kept = args.finished
    for seed, path in itertools.product(range(args.seeds) if args.seeds else (args.seed,), args.data):
        data = cast(SignalData, read_signal(path))
        data = smaller(data) if args.quick else data
        settings = settings_of(args.preset, data.signal.kind, args.steps)
        said = {"file": path.name, "kind": data.signal.kind, "quick": args.quick, "seed": seed}
        said |= {"data": data.checksum(), "settings": changed(settings.network, settings.fit)}
        kept.once(said, partial(extended, data, settings, seed), path=below_data(path))
    write(kept, args.folder, args.preset, args.steps)


def over_the_whole(rows: list[Row]) -> Iterator[dict[str, str]]:
    """By how many dB both halves of what was extended are better than those of the whole at once."""
    names = ("extended", "whole at once")
    runs = ({"preset": p[""], "file": r["file"], "seed": r["seed"]} | p for r in rows for p in r["parts"])
    found = sorted((run for run in runs if run["preset"] in names), key=lambda run: names.index(run["preset"]))
    return margins(found, {"old": "old, dB", "new": "new, dB"})


def from_rows(path: Path, folder: Path) -> None:
    """Write the table of its rows alone."""
    write(Rows(path), folder, path.stem, 0)


def commands(rows: list[Row], options: str) -> list[str]:
    """The commands that make just these rows: of the files that are alike in seeds and in --quick together."""
    seeds: dict[tuple[bool, str], set[int]] = {}
    for r in rows:
        seeds.setdefault((r["quick"], data_path(r, FOLDERS.get(r["kind"], r["kind"]))), set()).add(r["seed"])
    files: dict[tuple[bool, tuple[int, ...]], list[str]] = {}
    for (quick, path), of in sorted(seeds.items()):
        files.setdefault((quick, tuple(sorted(of))), []).append(path)
    return [
        f"extension.py --data {shlex.join(paths)}{options}{' --quick' * quick}{said}"
        for (quick, of), paths in files.items()
        for said in seeds_said(of)
    ]


def write(kept: Rows, folder: Path, preset: str, steps: int) -> None:
    """Write what the rows of a preset say, and print it."""

    def settings(row: Row) -> Row:
        now = settings_of(preset, row["kind"], steps)
        return changed(now.network, now.fit)

    rows = kept.of_now(settings)
    if not rows:
        print(f"{preset}: no file is finished, and no table is written")
        return
    columns = ("file", "seed", "", "steps", "old", "new", "old weights unchanged", "seconds")
    texts = {"old": "{:.2f} dB", "new": "{:.2f} dB", "seconds": "{:.0f}"}
    names = [r["file"] + ", a part of it" * r["quick"] for r in rows]
    lines = [{"file": name, "seed": r["seed"]} | part for name, r in zip(names, rows) for part in r["parts"]]
    table = [{c: texts.get(c, "{}").format(r[c]) if c in r else "" for c in columns} for r in lines]
    seeds = sorted({r["seed"] for r in rows})
    made = provenance(commands(rows, f" --preset {preset}" + f" --steps {steps}" * bool(steps)), rows)
    over = [report.markdown(lines) for lines in (list(over_the_whole(rows)),) if lines]
    what = "\n".join([*over, f"preset {preset}, seed {', '.join(map(str, seeds))}"])
    print(report.write(folder, table, what, rows, made=made))


if __name__ == "__main__":
    main(tyro.cli(Args))
