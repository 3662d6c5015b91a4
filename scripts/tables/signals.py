"""The paper's tables of images, sounds, videos and partition factors: Local-Global SIREN beside its baselines.

    python scripts/tables/signals.py images --data ../shared/data/images/div2k_512
    python scripts/tables/signals.py audio --data ../shared/data/audio/gt_bach.wav --quick
    python scripts/tables/signals.py all --data ../shared/data

Every row is a preset of configs/, trained on the same files with the same seeds; under the table stands what the first
preset is better than each of the others by, file by file and seed by seed, with a 95 % confidence interval: after the
last step, and in the mean of the last tenth of the steps, for at a constant rate PSNR swings from step to step. `all`
makes every table of `TABLES` on the files that each names below `--data`. `--quick` makes the signal smaller (images:
centre of 128 x 128; sounds: the first quarter; videos: 64 frames, centre of 144 x 192): with `--steps` a run takes
minutes on 2 CPU cores, but its numbers are then not the paper's, only their order is of interest. The tables
`images-small`, `partitions-small`, `audio-small` and `video-small` are always of these, by presets with the paper's
cells, frequencies and parameters for each sample; so are `video-bikes`, of its first 64 frames, and `video-carphone`.

Writes results.md, results.csv, results.json and curves.png to a folder in `--output`. Every run is kept when it ends,
as a row below docs/results/rows (of `--quick` and `--steps` below `--output`): a table that was interrupted goes on
where it stopped, on this machine or another, and runs made with `--presets` in several processes meet in one table.
Rows of other settings than the presets have now are left out. `--again` trains everything anew, `--kept` nothing. With
`OMP_NUM_THREADS=1` on a CPU seconds are processor time. `scripts/tables/page.py` makes one page of all tables.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, Any, cast

import report
import torch
import tyro
from interrupts import Interrupts
from margins import margins
from paper_tables import TABLES, Table
from rows import DATA, ROWS, Row, Rows, changed, provenance, thinned

import lg_field
from lg_field.networks import LocalGlobalNetwork
from lg_field.quality import psnr
from lg_field.signals import SignalData, read_signal
from lg_field.signals.decode import decode
from lg_field.signals.encode import build_network
from lg_field.signals.fit import Fit
from lg_field.signals.metrics import measure
from lg_field.signals.presets import read_preset
from lg_field.signals.settings import CompleteSettings, resolve

MEASURES = {"psnr": "dB", "psnr_late": "dB, last tenth", "psnr_stretched": "dB, stretched"}
"""Figures whose margins a table says."""


@dataclass
class Args:
    """Compare networks on the same signals."""

    experiment: Annotated[str, tyro.conf.Positional]
    """Which table: a name of `TABLES`, or all."""
    data: Path
    """A file, or a folder of files, or the folder that the names in `TABLES` are below."""
    files: int = 0
    """Files taken from a folder; 0 = as many as the table has."""
    seeds: int = 0
    """Runs of every file, with seeds 0, 1, ...; 0 = as many as the table has."""
    presets: tuple[str, ...] = ()
    """Presets to train now; default: all of the table. Runs of the others that are there already stay in the table."""
    steps: int = 0
    """Steps for every row; 0 = the preset's."""
    quick: bool = False
    """Smaller signals."""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    """Where."""
    again: bool = False
    """Train again what has been trained."""
    kept: bool = False
    """Train nothing: write the table of the runs that are there."""
    rows: Path | None = None
    """Folder of finished rows; default: docs/results/rows/signals, with --quick or --steps below --output."""
    output: Path = Path("outputs/tables/signals")
    """Folder for results."""

    def folder(self, name: str) -> Path:
        """Where a table is written."""
        quick = self.quick and not TABLES[name].quick
        return self.output / (name + "-quick" * quick + (f"-{self.steps}" if self.steps else ""))

    def finished(self, name: str) -> Rows:
        """The finished rows of a table."""
        folder = self.folder(name)
        place = ROWS / "signals" if folder.name == name else self.output / "rows"
        return Rows((self.rows or place) / f"{folder.name}.jsonl", self.again)


def files_of(args: Args, table: Table) -> list[Path]:
    """The files to train on."""
    below = args.experiment == "all" or all((args.data / name).exists() for name in table.data)
    named = [args.data / name for name in table.data] if below else [args.data]
    paths = []
    for path in named:
        inside = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
        paths += inside[: (args.files or table.files) or None]
    return paths


def stretched(field: LocalGlobalNetwork, data: SignalData) -> dict[str, float]:
    """Of an image, the PSNR as the authors' published script takes it: prediction, not clipped, and truth are each
    stretched to [0, 1] by their own least and largest value first. One value out of range costs all pixels."""
    if len(data.signal.shape) != 2:
        return {}
    shown, true = torch.cat(list(decode(field, raw=True))), data.signal.normalize(data.samples)
    a, b = ((v - v.min()) / (v.max() - v.min()).clamp_min(1e-12) for v in (shown.cpu(), true))
    return {"psnr_stretched": psnr(float((a - b).square().double().mean()))}


@lru_cache(1)
def signal_of(path: Path, table: Table, quick: bool) -> SignalData:
    """What a run is trained on."""
    return table.part(cast(SignalData, read_signal(path)), quick)


def settings_of(args: Args, kind: str, name: str) -> CompleteSettings:
    """What a preset says about a kind of signal in the table of `args`."""
    settings = TABLES[args.experiment].settings(resolve(kind, read_preset(name)))
    return replace(settings, fit=replace(settings.fit, steps=args.steps or settings.fit.steps))


def differences(args: Args, row: Mapping[str, Any]) -> Row:
    """The settings of a row of this kind and preset."""
    settings = settings_of(args, row["kind"], row["preset"])
    return changed(settings.network, settings.fit)


def said(args: Args, name: str, path: Path, seed: int) -> Row:
    """What a run is of."""
    data = signal_of(path, TABLES[args.experiment], args.quick)
    found = {"preset": name, "file": path.name, "seed": seed, "kind": data.signal.kind, "data": data.checksum()}
    return found | {"settings": differences(args, found)}


def run(args: Args, name: str, path: Path, seed: int, kept: Path, interrupts: Interrupts) -> Row | None:
    """Train one preset on one signal and save its field to `kept`; None if it was interrupted before its last step."""
    data = signal_of(path, TABLES[args.experiment], args.quick)
    settings = settings_of(args, data.signal.kind, name)
    fit = replace(settings.fit, seed=seed)
    field = build_network(data.signal, settings.network, seed).to(args.device)
    training = Fit(field, data, fit)
    curve: list[tuple[int, float, float]] = []
    begin = report.now()

    def on_step(step: int, error: float) -> None:
        curve.append((step, round(report.now() - begin, 3), round(data.signal.traits.step_psnr(error), 3)))
        if step % max(1, fit.steps // 10) == 0:
            print(f"  {name} {path.stem} {step} of {fit.steps}: {curve[-1][2]} dB, {curve[-1][1]} s", flush=True)

    if not interrupts.train(training, on_step, fit.steps):
        return None
    figures = {k: float(f"{v:.6g}") for k, v in (measure(field, data) | stretched(field, data)).items()}
    figures |= {"parameters": field.num_parameters()["total"], "steps": fit.steps, "seconds": curve[-1][1]}
    field.description = data.signal
    lg_field.save(field.cpu(), kept, overwrite=True)
    return figures | {"device": args.device} | late(curve) | {"curve": thinned(curve)}


def table(results: list[dict[str, Any]]) -> Iterator[dict[str, str]]:
    """One row a preset: mean and standard deviation over files and seeds."""
    for name in dict.fromkeys(r["preset"] for r in results):
        runs = [r for r in results if r["preset"] == name]

        def mean(key: str, digits: int, scale: float = 1.0, spread: bool = True) -> str:
            values = [r[key] * scale for r in runs if key in r]  # noqa: B023
            return report.mean(values, digits, spread) if len(values) == len(runs) else "-"  # noqa: B023

        yield {
            "preset": name,
            "parameters": mean("parameters", 0, spread=False),
            "runs": str(len(runs)),
            "PSNR": mean("psnr", 2),
            "PSNR, each stretched": mean("psnr_stretched", 2),
            "SSIM": mean("ssim", 3),
            "MSE x 1e-4": mean("mse", 2, 1e4),
            "seconds": mean("seconds", 0, spread=False),
            "ms a step": mean("seconds", 0, 1e3 / runs[0]["steps"], spread=False),
        }


def late(curve: report.Curve) -> dict[str, float]:
    """PSNR at the steps of the last tenth of a training, of the samples of each of them: mean, and most less least."""
    last = [point[2] for point in curve[-max(2, len(curve) // 10) :]]
    return {"psnr_late": round(statistics.mean(last), 4), "swing": round(max(last) - min(last), 4)}


def by_steps(results: list[dict[str, Any]], curves: dict[str, report.Curve]) -> Iterator[dict[str, str]]:
    """PSNR at the quarters of the training, of the samples of those steps, and how steady its last tenth is."""
    for name, points in curves.items():
        quarters = [points[max(1, len(points) * k // 4) - 1] for k in (1, 2, 3, 4)]
        runs = [r for r in results if r["preset"] == name]
        last, swing = (f"{statistics.mean(r[key] for r in runs):.2f}" for key in ("psnr_late", "swing"))
        yield (
            {"PSNR of the samples of a step": name}
            | {f"{round(p[0]):,} steps": f"{p[2]:.2f}" for p in quarters}
            | {"mean of the last tenth": last, "from least to most in it": swing}
        )


def runs_of(results: list[dict[str, Any]]) -> dict[str, set[tuple[str, int]]]:
    """The files and seeds of each preset's runs."""
    return {r["preset"]: {(s["file"], s["seed"]) for s in results if s["preset"] == r["preset"]} for r in results}


def shared(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The runs of the files and seeds that every preset has, so that curves are of the same signals; all runs where
    there are none such."""
    common = set.intersection(*runs_of(results).values())
    return [r for r in results if (r["file"], r["seed"]) in common] or results


def uneven(results: list[dict[str, Any]]) -> str:
    """A line where not all presets have the same runs: their means are then of different signals. "" where they do."""
    runs = runs_of(results)
    every, common = set().union(*runs.values()), set.intersection(*runs.values())
    few = [f"{name} {len(has)}" for name, has in runs.items() if has != every]
    if not few:
        return ""
    curves = f"only the {len(common)} that all have" if common else "each preset's own, for no run is made by all"
    said = f"Of {len(every)} runs {', '.join(few)} are made: means of different rows are of different signals."
    return f"{said} Curves, and PSNR by steps, are of {curves}.\n\n"


def train(args: Args, name: str, presets: Sequence[str]) -> bool:
    """Every run that is not there yet: seed by seed, in each of them file by file, in each of them all presets, so that
    what is compared is done together. Whether they came to their end."""
    finished, fields, interrupts = args.finished(name), args.folder(name) / "runs", Interrupts()
    files, seeds = files_of(args, TABLES[name]), range(args.seeds or TABLES[name].seeds)
    args = replace(args, experiment=name, quick=args.quick or TABLES[name].quick)
    for seed, path, preset in itertools.product(seeds, files, presets):
        kept = fields / f"{preset}.{path.stem}.{seed}.safetensors"
        row = finished.once(said(args, preset, path, seed), partial(run, args, preset, path, seed, kept, interrupts))
        if row is None or interrupts.came:
            return False
        print({k: v for k, v in row.items() if k not in ("curve", "settings")}, flush=True)
    return True


def make(args: Args, name: str) -> bool:
    """Run a table; whether it came to its end."""
    presets = TABLES[name].presets
    if not args.kept and not train(args, name, args.presets or presets):
        print("interrupted: the runs that were finished are kept; the same command goes on")
        return False
    args = replace(args, experiment=name)
    results = args.finished(name).of_now(lambda r: differences(args, r) if r["preset"] in presets else None)
    write(args, name, sorted(results, key=lambda r: (presets.index(r["preset"]), r["file"], r["seed"])))
    return True


def from_rows(path: Path, folder: Path) -> None:
    """Write a table of its rows alone."""
    make(Args(path.stem, Path(), kept=True, rows=path.parent, output=folder.parent), path.stem)


def signals_in(args: Args, name: str, results: list[dict[str, Any]]) -> str:
    """What runs of a table are of, in one line."""
    files, seeds = dict.fromkeys(r["file"] for r in results), {r["seed"] for r in results}
    steps = ", ".join(sorted({f"{r['steps']:,}" for r in results}))
    quick = "quick, " * (args.quick or TABLES[name].quick)
    return f"{name}: {quick}{', '.join(files)}, {len(seeds)} seed(s), {steps} steps"


def write(args: Args, name: str, results: list[dict[str, Any]]) -> None:
    """Write what the runs of a table say, and print it."""
    if not results:
        print(f"{name}: no run of it is finished, and no table is written")
        return
    alike = shared(results)
    curves = {
        preset: report.mean_curve([r["curve"] for r in alike if r["preset"] == preset]) for preset in runs_of(alike)
    }
    lines = {f"{p} ({len(runs)} run{'s' * (len(runs) > 1)})": curves[p] for p, runs in runs_of(alike).items()}
    of, of_curves = (signals_in(args, name, runs) for runs in (results, alike))
    what = f"{uneven(results)}{report.markdown(list(by_steps(alike, curves)))}\n{of}"
    over = list(margins(results, MEASURES))
    if over:
        what = f"{report.markdown(over)}\n{what}"
    options = " --quick" * args.quick + (f" --steps {args.steps}" if args.steps else "")
    made = provenance([f"signals.py {name} --data {DATA}{options}"], results)
    print(report.write(args.folder(name), list(table(results)), what, results, lines, made, of_curves))


def main(args: Args) -> None:
    """Run the table, or all."""
    names = list(TABLES) if args.experiment == "all" else [args.experiment]
    if not set(names) <= set(TABLES):
        raise SystemExit(f"there is no table {names[0]}; there are {', '.join(TABLES)} and all")
    for name in names:
        if not make(args, name):
            return


if __name__ == "__main__":
    main(tyro.cli(Args))
