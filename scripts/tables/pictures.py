"""Denoising and super-resolution as the commands do them, beside the classical methods, on many pictures.

    python scripts/tables/pictures.py denoise --data ../shared/data/images/kodak
    python scripts/tables/pictures.py super-resolve --data ../shared/data/images/kodak --pictures 8 --reduce 2
    python scripts/tables/pictures.py super-resolve --averages --data ../shared/data/images/kodak

Every picture is averaged down by `--reduce` first; that is the truth. `denoise` adds the sensor noise of the command
(tau 40 or `--tau`, read-out noise 2) and is compared with non-local means; `super-resolve` averages down by another 4
and is compared with bicubic enlargement. Networks and training are the commands' defaults, or `--preset`. Each picture
is looked at `--looks` times on the way: `best` is the best of these, which only the truth tells. Writes results.md,
.csv and .json to a folder in `--output`. Each picture's row is kept below docs/results/rows (see rows.py): an
interrupted table goes on where it stopped.
"""

from __future__ import annotations

import math
import shlex
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import report
import torch
import tyro
from rows import ROWS, Row, Rows, below_data, changed, data_path, provenance
from torch import Tensor

from lg_field.restoration import averages, denoising, pictures, super_resolution
from lg_field.restoration.tasks import PRIORS, PUBLISHED_SIDE, TASKS, same_detail
from lg_field.signals.data import SignalData
from lg_field.signals.decode import decode, decoded_signal
from lg_field.signals.encode import build_fit, fitting
from lg_field.signals.fit import Fit
from lg_field.signals.presets import read_preset
from lg_field.signals.settings import CompleteSettings, Settings, resolve

SCALE = 4
TAU, READOUT = 40.0, 2.0


@dataclass
class Args:
    """Restore many pictures."""

    task: Annotated[Literal["denoise", "super-resolve"], tyro.conf.Positional]
    """Which command."""
    data: Path
    """A folder of true pictures."""
    pictures: int = 8
    """Taken from it, the first by name."""
    reduce: int = 4
    """Pixels of a picture averaged to one of the truth, per axis; 1 = the picture is the truth."""
    tau: float = TAU
    """denoise: photons of a white pixel; the smoothness of the prior follows the noise, as 1 / sqrt(tau)."""
    averages: bool = False
    """With the prior: super-resolve --averages, denoise --smoothness."""
    preset: str = ""
    """Settings of configs/NAME.yaml; "" = the command's own."""
    looks: int = 8
    """Times that the picture is measured on the way."""
    seed: int = 0
    """For weights, samples and noise."""
    again: bool = False
    """Train again what has been trained."""
    rows: Path = ROWS / "pictures"
    """Folder of finished rows."""
    output: Path = Path("outputs/tables/pictures")
    """Folder for results."""

    @property
    def name(self) -> str:
        """Of the table."""
        return f"{self.task}{'-averages' * self.averages}{'-' * bool(self.preset)}{self.preset}"


def problem(args: Args, path: Path) -> tuple[SignalData, Tensor, Tensor]:
    """The measurement, the truth and what the classical method makes of it: values from 0 to 1."""
    truth = pictures.values_of(pictures.read_picture(path))
    if args.reduce > 1:
        truth, _ = super_resolution.downsample(truth, args.reduce)
    if args.task == "denoise":
        generator = torch.Generator().manual_seed(args.seed)
        measured = denoising.add_sensor_noise(truth, args.tau, READOUT, generator)
        return pictures.from_values(measured), truth, denoising.non_local_means(measured)
    coarse, truth = super_resolution.downsample(truth, SCALE)
    return pictures.from_values(coarse), truth, super_resolution.bicubic(coarse, tuple(truth.shape[:2]))


def facts(task: str, settings: CompleteSettings, means: bool) -> Row:
    """What decides how a picture is restored."""
    prior = PRIORS[task]
    said = {"smoothness": prior.smoothness, "side": prior.side, "budget": prior.budget, "cells": prior.cells}
    said |= {"chroma": averages.CHROMA}
    return changed(settings.network, settings.fit) | (said if means else {})


def settings_of(task: str, preset: str, means: bool) -> tuple[Settings, CompleteSettings]:
    """What a preset says, and with it the settings of a command."""
    said = read_preset(preset) if preset else Settings()
    return said, resolve(pictures.PICTURE, said, PRIORS[task].settings if means else TASKS[task])


def run(args: Args, data: SignalData, truth: Tensor, classical: Tensor) -> Row:
    """Restore one picture."""
    said, settings = settings_of(args.task, args.preset, args.averages)
    network = same_detail(settings.network, data.signal.shape, PUBLISHED_SIDE[args.task])
    config = replace(fitting(settings.fit, data.signal, said.fit), seed=args.seed)
    result = decoded_signal(data.signal, SCALE) if args.task == "super-resolve" else data.signal
    scale = SCALE if args.task == "super-resolve" else 1
    if args.averages:
        prior = PRIORS[args.task]
        smoothness = prior.smoothness * math.sqrt(TAU / args.tau)
        fit: Fit = averages.build_fit(data, result, scale, settings.network, config, prior, smoothness)
    else:
        fit = build_fit(data, network, config)
    curve: list[tuple[int, float]] = []
    begin, looked = report.now(), 0.0

    def on_step(step: int, error: float) -> None:
        nonlocal looked
        if step % max(1, config.steps // args.looks) == 0 or step == config.steps:
            start = report.now()
            fit.write_back()
            fit.field.description = result
            shown = result.traits.unit_values(torch.cat(list(decode(fit.field, raw=True))))
            curve.append((step, round(pictures.compare(shown, truth)["psnr"], 4)))
            looked += report.now() - start

    fit.run(on_step)
    found = {"size": f"{truth.shape[1]} x {truth.shape[0]}", "parameters": fit.num_parameters()["total"]}
    found |= {"classical": round(pictures.compare(classical, truth)["psnr"], 4), "network": curve[-1][1]}
    print(found, flush=True)
    return found | {"seconds": round(report.now() - begin - looked, 2), "curve": curve}


def noise(tau: float) -> str:
    """What is said of other noise than usual."""
    return f", tau {tau:g}" if tau != TAU else ""


def table(rows: list[dict[str, Any]], classical: str) -> Iterator[dict[str, str]]:
    """A line for each picture, and the means of those that were averaged down alike."""
    for r in rows:
        step, best = max(r["curve"], key=lambda point: point[1])
        yield {
            "picture": f"{r['picture']}, {r['size']}{noise(r.get('tau', TAU))}",
            "parameters": f"{r['parameters']:,}",
            classical: f"{r['classical']:.2f}",
            "network": f"{r['network']:.2f} ({r['network'] - r['classical']:+.2f})",
            "best": f"{best:.2f} ({best - r['classical']:+.2f}) at {step}",
            "seconds": f"{r['seconds']:.0f}",
        }
    groups: dict[tuple[float, int], list[dict[str, Any]]] = {}
    for r in rows:
        groups.setdefault((r.get("tau", TAU), -r["reduce"]), []).append(r)
    for (tau, reduced), group in sorted(groups.items()):
        gains = [r["network"] - r["classical"] for r in group]
        bests = [max(p for _, p in r["curve"]) - r["classical"] for r in group]
        yield {
            "picture": f"mean of {len(group)}" + f", averaged down by {-reduced}" * (reduced < -1) + noise(tau),
            classical: f"{statistics.mean(r['classical'] for r in group):.2f}",
            "network": f"{statistics.mean(gains):+.2f}, ahead in {sum(g > 0 for g in gains)}",
            "best": f"{statistics.mean(bests):+.2f}, ahead in {sum(g > 0 for g in bests)}",
        }


def main(args: Args) -> None:
    """Restore, measure, write."""
    if args.tau != TAU and args.task != "denoise":
        raise SystemExit("--tau is of the noise that denoise adds: leave it out")
    rows = Rows(args.rows / f"{args.name}.jsonl", args.again)
    _, settings = settings_of(args.task, args.preset, args.averages)
    for path in sorted(p for p in args.data.iterdir() if p.is_file())[: args.pictures]:
        data, truth, classical = problem(args, path)
        said = {"picture": path.name, "reduce": args.reduce, "seed": args.seed, "data": data.checksum()}
        said |= {"settings": facts(args.task, settings, args.averages)} | ({"tau": args.tau} if args.tau != TAU else {})
        rows.once(said, partial(run, args, data, truth, classical), path=below_data(path))
    from_rows(rows.path, args.output / args.name)


def commands(results: list[Row], begin: str) -> list[str]:
    """What makes such rows: a command for each folder, factor, seed and noise."""
    groups: dict[tuple[str, int, int, float], int] = {}
    for r in results:
        key = (str(Path(data_path(r, "images/kodak", "picture")).parent), r["reduce"], r["seed"], r.get("tau", TAU))
        groups[key] = groups.get(key, 0) + 1
    return [
        f"{begin} --data {shlex.quote(folder)} --pictures {count} --reduce {factor}{f' --seed {seed}' * bool(seed)}"
        + f" --tau {tau:g}" * (tau != TAU)
        for (folder, factor, seed, tau), count in sorted(groups.items())
    ]


def from_rows(path: Path, folder: Path) -> None:
    """Write a table of its rows alone, and print it."""
    task = next(task for task in TASKS if path.stem.startswith(task))
    means = path.stem.startswith(f"{task}-averages")
    preset = path.stem.removeprefix(task).removeprefix("-averages" if means else "").removeprefix("-")
    _, settings = settings_of(task, preset, means)
    results = Rows(path).of_now(lambda r: facts(task, settings, means))
    classical = {"denoise": "non-local means", "super-resolve": "bicubic"}[task]
    prior = {"super-resolve": " --averages", "denoise": f" --smoothness {PRIORS[task].smoothness}"}[task] * means
    what = f"{task}{prior}, {preset or 'the defaults'}: PSNR in dB, in brackets over {classical}"
    seeds = sorted({r["seed"] for r in results})
    what += f"; seed {', '.join(map(str, seeds))}"
    begin = f"pictures.py {task}{' --averages' * means}{f' --preset {preset}' * bool(preset)}"
    made = provenance(commands(results, begin), results)
    print(report.write(folder, list(table(results, classical)), what, results, made=made))


if __name__ == "__main__":
    main(tyro.cli(Args))
