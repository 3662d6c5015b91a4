"""The paper's tables of images, sounds, videos and partition factors: Local-Global SIREN beside its baselines.

    python scripts/tables/signals.py images --data ../shared/data/images/div2k_512 --files 2
    python scripts/tables/signals.py audio --data ../shared/data/audio/gt_bach.wav --quick

Every row is a preset of configs/, trained on the same files with the same seeds. `--quick` makes the signal smaller
(images: centre of 256 x 256; sounds: the first quarter; videos: 32 frames of 128 x 128): with `--steps` a run takes
minutes on 2 CPU cores, but its numbers are then not the paper's, only their order is of interest.

Writes results.md, results.csv, results.json and curves.png to a folder in `--output`, and each run to a file of its own
in `runs/` there: a table that was interrupted goes on where it stopped, and runs made with `--presets` in several
processes meet in one table. `--again` trains everything anew. With `OMP_NUM_THREADS=1` on a CPU seconds are processor
time.
"""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import report
import torch
import tyro

from lg_field.cli.fitting import finish_step_on_interrupt
from lg_field.signals import SignalData, read_signal
from lg_field.signals.encode import build_network
from lg_field.signals.fit import Fit
from lg_field.signals.metrics import measure
from lg_field.signals.presets import read_preset
from lg_field.signals.settings import resolve

PRESETS = {
    "images": [
        *(f"image-div2k{end}" for end in ("", "-auto", "-per-partition", "-auto-per-partition", "-global")),
        "image-best",
    ],
    "partitions": [f"image-partitions-{n:02d}" for n in (2, 4, 8, 16, 32)] + ["image-div2k-global"],
    "audio": ["audio", "audio-per-partition", "audio-global"],
    "video": ["video", "video-per-partition", "video-global"],
}


@dataclass
class Args:
    """Compare networks on the same signals."""

    experiment: Annotated[Literal["images", "partitions", "audio", "video"], tyro.conf.Positional]
    """Which table."""
    data: Path
    """A file, or a folder of files."""
    files: int = 1
    """Files taken from a folder."""
    seeds: int = 1
    """Runs of every file, with seeds 0, 1, ..."""
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
    output: Path = Path("outputs/tables/signals")
    """Folder for results."""

    @property
    def folder(self) -> Path:
        """Where this table is written."""
        return self.output / (self.experiment + "-quick" * self.quick + (f"-{self.steps}" if self.steps else ""))


def smaller(data: SignalData) -> SignalData:
    """The part of a signal that --quick trains on."""
    samples = data.samples
    axes = len(data.signal.shape)
    if axes == 1:
        samples = samples[: len(samples) // 4]
    elif axes == 2:
        top, left = ((n - 256) // 2 for n in samples.shape[:2])
        samples = samples[top : top + 256, left : left + 256].contiguous()
    else:
        samples = samples[:32, :128, :128].contiguous()
    shape = tuple(samples.shape[:-1])
    return SignalData(samples, replace(data.signal, shape=shape))


def run(args: Args, name: str, path: Path, seed: int) -> dict[str, Any] | None:
    """Train one preset on one signal; None if it was interrupted."""
    data = read_signal(path)
    data = smaller(data) if args.quick else data
    settings = resolve(data.signal.traits, read_preset(name))
    fit = replace(settings.fit, seed=seed, steps=args.steps or settings.fit.steps)
    field = build_network(data.signal, settings.network, seed).to(args.device)
    training = Fit(field, data, fit)
    curve: list[tuple[int, float, float]] = []
    begin = report.now()

    def on_step(step: int, error: float) -> None:
        curve.append((step, round(report.now() - begin, 3), round(data.signal.traits.step_psnr(error), 3)))
        if step % max(1, fit.steps // 10) == 0:
            print(f"  {name} {path.stem} {step} of {fit.steps}: {curve[-1][2]} dB, {curve[-1][1]} s", flush=True)

    with finish_step_on_interrupt(training):
        training.run(on_step)
    if training.stopping:
        return None
    figures = measure(field, data) | {"seconds": curve[-1][1], "parameters": field.num_parameters()["total"]}
    made = f"{args.device}, {torch.get_num_threads()} threads, {platform.machine()}"
    result = {"preset": name, "file": path.name, "seed": seed, "steps": fit.steps, "made": made, **figures}
    return result | {"curve": curve}


def table(results: list[dict[str, Any]]) -> Iterator[dict[str, str]]:
    """One row a preset: mean and standard deviation over files and seeds."""
    for name in dict.fromkeys(r["preset"] for r in results):
        rows = [r for r in results if r["preset"] == name]

        def mean(key: str, digits: int, scale: float = 1.0, spread: bool = True) -> str:
            if key not in rows[0]:  # noqa: B023
                return "-"
            values = [r[key] * scale for r in rows]  # noqa: B023
            text = f"{statistics.mean(values):,.{digits}f}"
            return f"{text} ± {statistics.stdev(values):.{digits}f}" if spread and len(values) > 1 else text

        yield {
            "preset": name,
            "parameters": mean("parameters", 0, spread=False),
            "runs": str(len(rows)),
            "PSNR": mean("psnr", 2),
            "SSIM": mean("ssim", 3),
            "MSE x 1e-4": mean("mse", 2, 1e4),
            "seconds": mean("seconds", 0, spread=False),
            "ms a step": mean("seconds", 0, 1e3 / rows[0]["steps"], spread=False),
        }


def main(args: Args) -> None:
    """Run the table."""
    paths = sorted(p for p in args.data.iterdir() if p.is_file())[: args.files] if args.data.is_dir() else [args.data]
    for name in args.presets or PRESETS[args.experiment]:
        for path in paths:
            for seed in range(args.seeds):
                kept = args.folder / "runs" / f"{name}.{path.stem}.{seed}.json"
                result = report.once(kept, args.again, partial(run, args, name, path, seed))
                if result is None:
                    print("interrupted: the runs that were finished are kept; the same command goes on")
                    return
                print({k: v for k, v in result.items() if k != "curve"}, flush=True)
    found = {p.name: p for p in (args.folder / "runs").iterdir()}
    names = [f"{n}.{p.stem}.{s}.json" for n in PRESETS[args.experiment] for p in paths for s in range(args.seeds)]
    results = [json.loads(found[n].read_text()) for n in names if n in found]
    curves = {
        name: [
            tuple(map(statistics.mean, zip(*points)))
            for points in zip(*(r["curve"] for r in results if r["preset"] == name))
        ]
        for name in dict.fromkeys(r["preset"] for r in results)
    }
    size = "quick, " if args.quick else ""
    what = (
        f"{args.experiment}: {size}{', '.join(p.name for p in paths)}, {args.seeds} seed(s), "
        f"{results[0]['steps']} steps, {'; '.join(dict.fromkeys(r['made'] for r in results))}"
    )
    print(report.write(args.folder, list(table(results)), what, results, curves))


if __name__ == "__main__":
    main(tyro.cli(Args))
