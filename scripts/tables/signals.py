"""The paper's tables of images, sounds, videos and partition factors: Local-Global SIREN beside its baselines.

    python scripts/tables/signals.py images --data ../shared/data/images/div2k_512 --files 2
    python scripts/tables/signals.py audio --data ../shared/data/audio/gt_bach.wav --quick

Every row is a preset of configs/, trained on the same files with the same seed in one run of this script. `--quick`
makes the signal smaller (images: centre of 256 x 256; sounds: the first quarter; videos: 32 frames of 128 x 128) and
trains for `--steps` steps, so that a run takes minutes on 2 CPU cores: its numbers are then not the paper's, only
their order is of interest. Writes results.json and results.md to `--output`.
"""

from __future__ import annotations

import json
import platform
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from lg_field.cli.presets import CONFIGS, Settings, read_settings
from lg_field.files import atomic_write
from lg_field.metrics import measure
from lg_field.signals import SignalData, read_signal
from lg_field.signals.encode import build_network
from lg_field.training import Fit

PRESETS = {
    "images": ["image-div2k", "image-div2k-auto", "image-div2k-per-partition", "image-div2k-global"],
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
    steps: int = 0
    """Steps for every row; 0 = the preset's."""
    quick: bool = False
    """Smaller signals."""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    """Where."""
    seed: int = 0
    """For weights and samples."""
    output: Path = Path("outputs/tables/signals")
    """Folder for results."""


def smaller(data: SignalData) -> SignalData:
    """The part of a signal that --quick trains on."""
    samples, kind = data.samples, data.signal.kind
    if kind == "audio":
        samples = samples[: len(samples) // 4]
    elif kind == "image":
        top, left = ((n - 256) // 2 for n in samples.shape[:2])
        samples = samples[top : top + 256, left : left + 256].contiguous()
    elif kind == "video":
        samples = samples[:32, :128, :128].contiguous()
    shape = tuple(samples.shape[:-1])
    return SignalData(samples, replace(data.signal, shape=shape))


def run(args: Args, name: str, data: SignalData) -> dict[str, float]:
    """Train one preset on one signal."""
    settings = read_settings(CONFIGS / f"{name}.yaml", Settings())
    fit = replace(settings.fit, seed=args.seed, steps=args.steps or settings.fit.steps)
    field = build_network(data.signal, settings.network, args.seed).to(args.device)
    training = Fit(field, data, fit)
    training.run()
    return measure(field, data) | {
        "seconds": training.seconds,
        "parameters": field.num_parameters()["total"],
        "steps": fit.steps,
    }


def main(args: Args) -> None:
    """Run the table."""
    files = sorted(p for p in args.data.iterdir() if p.is_file())[: args.files] if args.data.is_dir() else [args.data]
    rows = []
    for name in PRESETS[args.experiment]:
        begin, results = time.perf_counter(), []
        for path in files:
            data = read_signal(path)
            results.append(run(args, name, smaller(data) if args.quick else data))
        row = {"preset": name} | {k: sum(r[k] for r in results) / len(results) for k in results[0]}
        rows.append(row)
        print({k: v if isinstance(v, str) else round(v, 5) for k, v in row.items()}, flush=True)
        print(f"  {time.perf_counter() - begin:.0f} s with measuring", flush=True)
    lines = ["| preset | parameters | steps | PSNR | SSIM | MSE x 1e-4 | seconds |", "| --- " * 7 + "|"]
    for r in rows:
        ssim = f"{r['ssim']:.3f}" if "ssim" in r else "-"
        lines.append(
            f"| {r['preset']} | {r['parameters']:,.0f} | {r['steps']:.0f} | {r['psnr']:.2f} | {ssim} | "
            f"{r['mse'] * 1e4:.2f} | {r['seconds']:.0f} |"
        )
    what = "quick, " if args.quick else ""
    lines.append(
        f"\n{args.experiment}: {what}{len(files)} of {args.data.name}, seed {args.seed}, {args.device}, "
        f"{torch.get_num_threads()} threads, {platform.machine()}"
    )
    for file, text in (("results.md", "\n".join(lines) + "\n"), ("results.json", json.dumps(rows, indent=1))):
        with atomic_write(args.output / args.experiment / file, overwrite=True) as temporary:
            temporary.write_text(text)
    print("\n".join(lines))


if __name__ == "__main__":
    main(tyro.cli(Args))
