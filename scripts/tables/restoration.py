"""The paper's restoration tasks: Local-Global INCODE beside INCODE, Local-Global SIREN, SIREN and a classical method.

    python scripts/tables/restoration.py super-resolution --data ../shared/data/images/div2k_full/0882.png --seeds 3
    python scripts/tables/restoration.py denoising --data ../shared/data/images/div2k_full/0055.png --quick
    python scripts/tables/restoration.py ct --data ../shared/data/ct/img_377_ct_reconstruction.png --rows ct --stop 200

Every row is a preset of configs/, trained on the same measurement with the same seeds; the noise of denoising is of the
seed, too, and all rows of a seed have the same. Other measurements, and what classical methods make of them, are the
same for all seeds. Under the table stands by how many dB Local-Global INCODE is better than each other row, seed by
seed, with a 95 % confidence interval. With `--stop` a run ends early but keeps its schedule of learning rates, so that
its curve can be compared with the published one step by step. `--quick` takes a smaller picture and a tenth of the
steps: its numbers are not the paper's. Writes results.md, .csv, .json, curves.png and the pictures (of seed 2:
NAME-2.png) to a folder in `--output`. Finished rows are kept below
docs/results/rows (see rows.py; of `--quick` and `--stop` below `--output`): an interrupted table goes on where it
stopped, rows made in several processes meet in one table. `--again` trains everything anew. With `OMP_NUM_THREADS=1` on
a CPU seconds are processor time.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import report
import torch
import tyro
from interrupts import Interrupts
from margins import margin
from rows import ROWS, Row, Rows, below_data, changed, check_counts, data_path, provenance, seeds_said, thinned
from torch import Tensor

from lg_field.files import atomic_write
from lg_field.restoration import denoising, pictures, super_resolution, tomography
from lg_field.signals.decode import decode
from lg_field.signals.encode import build_fit
from lg_field.signals.fit import Fit
from lg_field.signals.kinds.image import to_pixels, write_image
from lg_field.signals.presets import preset_names, read_preset
from lg_field.signals.settings import CompleteSettings, resolve
from lg_field.signals.signal import Signal

PUBLISHED = {
    "super-resolution": "published for LG-INCODE: 29.997 dB, SSIM .904 after 2001 steps, 28.756 dB after 600",
    "denoising": "published for LG-INCODE: 29.10, 31.66, 32.27 dB at 100, 200, 300 steps; 32.446 dB, SSIM .868 at 401",
    "ct": "published for LG-INCODE: 27.17, 28.78, 30.43 dB at 200, 400, 1000 steps; 31.28 dB at 2001",
}
FOLDERS = {"super-resolution": "images/div2k_full", "denoising": "images/div2k_full", "ct": "ct"}
"""Where the true pictures of a task are, below the folder of all data."""


@dataclass
class Args:
    """Restore one picture in several ways."""

    task: Annotated[Literal["super-resolution", "denoising", "ct"], tyro.conf.Positional]
    """Which table."""
    data: Path
    """The true picture; the measurement is simulated from it."""
    rows: tuple[str, ...] = ()
    """Presets to train now; default: all of the task. Rows of the others that are there already stay in the table."""
    stop: int = 0
    """End each run after this many steps of its schedule; 0 = at its end."""
    every: int = 100
    """Steps between the points of the curves."""
    quick: bool = False
    """Smaller picture, a tenth of the steps."""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    """Where."""
    seed: int = 0
    """For weights, samples and noise."""
    seeds: int = 0
    """Make all rows with seeds 0, 1, ..., so many, seed by seed; 0 = with `--seed` alone."""
    again: bool = False
    """Train again what has been trained."""
    rows_in: Path | None = None
    """Folder of finished rows; default: docs/results/rows/restoration, with --quick or --stop below --output."""
    output: Path = Path("outputs/tables/restoration")
    """Folder for results."""

    @property
    def folder(self) -> Path:
        """Where this table is written."""
        return self.output / (self.task + "-quick" * self.quick)

    @property
    def finished(self) -> Rows:
        """The finished rows."""
        stop = f"-to-{self.stop}" if self.stop else ""
        place = self.output / "rows" if self.quick or self.stop else ROWS / "restoration"
        return Rows((self.rows_in or place) / f"{self.folder.name}{stop}.jsonl", self.again)


@dataclass
class Problem:
    """A simulated measurement."""

    truth: Tensor
    """(height, width, channels) values, 0 to 1."""
    result: Signal
    """What the field decodes to."""
    classical: tuple[str, Callable[[], Tensor]]
    """Name of the classical method, and what gives its values."""
    fit: Callable[[CompleteSettings], Fit]
    """A fit with a preset's settings."""
    measured: Tensor | None = None
    """The picture that was measured, where the measurement is one of the size of the truth."""
    random: bool = False
    """Whether the measurement is of the seed."""


def super_resolution_problem(values: Tensor, args: Args) -> Problem:
    """x4; the published crop to whole cells (multiples of 24 and 32 pixels)."""
    height, width = (n - n % m for n, m in zip(values.shape[:2], (24, 32)))
    coarse, fine = super_resolution.downsample(values[:height, :width], 4.0)
    data = pictures.from_values(coarse)
    classical = ("bicubic", partial(super_resolution.bicubic, coarse, (height, width)))
    result = replace(data.signal, shape=(height, width))
    return Problem(fine, result, classical, lambda s: build_fit(data, s.network, s.fit, args.device))


def denoising_problem(values: Tensor, args: Args) -> Problem:
    """512 x 288, tau 40, read-out noise 2."""
    size = (96, 160) if args.quick else (288, 512)
    truth = torch.nn.functional.adaptive_avg_pool2d(values.movedim(-1, 0), size).movedim(0, -1)
    noisy = denoising.add_sensor_noise(truth, 40.0, 2.0, torch.Generator().manual_seed(args.seed))
    data = pictures.from_values(noisy)
    classical = ("non-local means", partial(denoising.non_local_means, noisy))
    return Problem(
        truth, data.signal, classical, lambda s: build_fit(data, s.network, s.fit, args.device), noisy, random=True
    )


def ct_problem(values: Tensor, args: Args) -> Problem:
    """150 angles."""
    truth = values[..., :3].mean(-1)
    if args.quick:
        truth = torch.nn.functional.avg_pool2d(truth[None], 2)[0]
    angles = tomography.projection_angles(150)
    sinogram, signal = tomography.project(truth, angles)
    classical = ("filtered back-projection", lambda: tomography.filtered_back_projection(sinogram, angles)[..., None])

    def fit(settings: CompleteSettings) -> Fit:
        return tomography.build_fit(sinogram, angles, settings.network, settings.fit, args.device, signal)[0]

    return Problem(truth[..., None], signal, classical, fit)


def settings_of(args: Args, name: str) -> CompleteSettings:
    """What a preset says."""
    settings = resolve(pictures.PICTURE, read_preset(name))
    steps = settings.fit.steps // 10 if args.quick else settings.fit.steps
    return replace(settings, fit=replace(settings.fit, seed=args.seed, steps=steps))


def differences(args: Args, name: str) -> Row:
    """The settings of a row; those of classical methods have none."""
    if name not in preset_names():
        return {}
    settings = settings_of(args, name)
    return changed(settings.network, settings.fit) | {"stop": args.stop}


def run(args: Args, name: str, problem: Problem, interrupts: Interrupts) -> Row | None:
    """Train one preset and write its picture; its figures and curve, None if it was interrupted."""
    settings = settings_of(args, name)
    fit = problem.fit(settings)
    steps = settings.fit.steps
    last, begin = min(args.stop or steps, steps), report.now()
    curve: list[dict[str, float]] = []
    looking = 0.0

    def picture() -> Tensor:
        fit.write_back()
        fit.field.description = problem.result
        return problem.result.traits.unit_values(torch.cat(list(decode(fit.field, raw=True))))

    def on_step(step: int, error: float) -> None:
        nonlocal looking
        if step % args.every == 0 or step == last or fit.stopping:
            seconds = report.now() - begin - looking
            figures = pictures.compare(picture(), problem.truth)
            looking = report.now() - begin - seconds
            curve.append({"step": step, "seconds": seconds, **figures})
            print(f"  {name} {step}: {figures['psnr']:.3f} dB, {seconds:.0f} s", flush=True)

    at_end = interrupts.train(fit, on_step, last)
    save(args, name, picture(), problem.result)
    if not at_end:
        return None
    found = {"parameters": fit.num_parameters()["total"], "steps": fit.step, "of": steps, **curve[-1]}
    return found | {"curve": thinned([(p["step"], round(p["seconds"], 2), round(p["psnr"], 4)) for p in curve])}


def save(args: Args, name: str, values: Tensor, signal: Signal) -> None:
    """Write a picture of the table."""
    file = f"{name.replace(' ', '-')}{f'-{args.seed}' * bool(args.seed)}.png"
    with atomic_write(args.folder / file, overwrite=True) as temporary:
        write_image(to_pixels(pictures.to_samples(values.clamp(0.0, 1.0), signal), signal), temporary)


def names_of(task: str) -> list[str]:
    """The presets of a task."""
    return [task + end for end in ("", "-incode", "-lg-siren", "-siren")]


def shown(args: Args, name: str, values: Callable[[], Tensor], problem: Problem) -> Row:
    """A picture that is not trained: written, and its figures."""
    picture = values()
    save(args, name, picture, problem.result)
    return pictures.compare(picture, problem.truth)


def main(args: Args) -> None:
    """Run the table."""
    check_counts(stop=(args.stop, 0), seeds=(args.seeds, 0))
    values = pictures.values_of(pictures.read_picture(args.data))
    if args.quick and args.task == "super-resolution":
        values = values[: values.shape[0] // 2, : values.shape[1] // 2]
    for seed in range(args.seeds) if args.seeds else (args.seed,):
        if not make(replace(args, seed=seed), values):
            print("interrupted: the rows that were finished are kept; the same command goes on")
            break
    write(args)


def make(args: Args, values: Tensor) -> bool:
    """All rows of one seed that are not there yet; whether they came to their end."""
    simulated = {"super-resolution": super_resolution_problem, "denoising": denoising_problem, "ct": ct_problem}
    problem = simulated[args.task](values, args)
    fixed = replace(args, seed=0)
    save(fixed, "true", problem.truth, problem.result)
    known = [problem.classical]
    if problem.measured is not None:
        known.append(("measured", lambda: cast(Tensor, problem.measured)))
    makers: dict[str, Callable[[], Row | None]] = {
        name: partial(shown, args if problem.random else fixed, name, v, problem) for name, v in known
    }
    interrupts = Interrupts()
    makers |= {name: partial(run, args, name, problem, interrupts) for name in args.rows or names_of(args.task)}
    data = pictures.from_values(problem.truth).checksum()
    for name, maker in makers.items():
        drawn = {"seed": args.seed} if problem.random or name in preset_names() else {}
        said = {"row": name, "file": args.data.name} | drawn | {"data": data}
        said |= {"settings": differences(args, name)}
        if args.finished.once(said, maker, path=below_data(args.data)) is None or interrupts.came:
            return False
    return True


def from_rows(path: Path, folder: Path) -> None:
    """Write a table of its rows alone."""
    task = cast(Any, path.stem)
    write(Args(task, Path(), rows_in=path.parent, output=folder.parent))


def table(results: list[Row]) -> Iterator[dict[str, str]]:
    """A line for each method: mean and standard deviation over files and seeds."""
    for name in dict.fromkeys(r["row"] for r in results):
        rows = [r for r in results if r["row"] == name]

        def mean(key: str, digits: int) -> str:
            return report.mean([r[key] for r in rows if key in r], digits, spread=digits > 0)  # noqa: B023

        yield {
            "": name,
            "parameters": mean("parameters", 0),
            "steps": f"{rows[0]['steps']} of {rows[0]['of']}" if "steps" in rows[0] else "",
            "runs": str(len(rows)),
            "PSNR": mean("psnr", 2),
            "SSIM": mean("ssim", 3),
            "seconds": mean("seconds", 0),
        }


def margins(results: list[Row], first: str) -> Iterator[dict[str, str]]:
    """By how many dB the first preset is better than every other row, of the same files and seeds; what is the same for
    all seeds is held against each."""
    runs = {(r["row"], r["file"], r.get("seed")): r for r in results}
    ours = [r for r in results if r["row"] == first]
    for other in dict.fromkeys(r["row"] for r in results if r["row"] not in (first, "measured")):
        found = [(r, [runs.get((other, r["file"], seed)) for seed in (r["seed"], None)]) for r in ours]
        pairs = [(r, next(t for t in theirs if t)) for r, theirs in found if any(theirs)]
        if len(pairs) > 1:
            yield {f"{first} over": other, "pairs": str(len(pairs)), **margin(pairs, "psnr", "dB")}


def write(args: Args) -> None:
    """Write what the finished rows say, and print it."""
    results = args.finished.of_now(lambda r: differences(args, r["row"]))
    if not results:
        print(f"{args.task}: no row of it is finished, and no table is written")
        return
    order = ["non-local means", "bicubic", "filtered back-projection", "measured", *names_of(args.task)]
    results.sort(key=lambda r: ((*order, r["row"]).index(r["row"]), r.get("seed", 0)))
    files, seeds = (sorted({r[key] for r in results if key in r}) for key in ("file", "seed"))
    what = f"{args.task}: {'quick, ' * args.quick}{', '.join(files)}{', seed ' * bool(seeds)}"
    what += f"{', '.join(map(str, seeds))}. {PUBLISHED[args.task]}"
    over = list(margins(results, args.task))
    what = f"{report.markdown(over)}\n{what}" if over else what
    trained = {r["row"]: [s["curve"] for s in results if s["row"] == r["row"]] for r in results if "curve" in r}
    curves = {name: report.mean_curve(runs) for name, runs in trained.items()}
    options = " --quick" * args.quick + (f" --stop {args.stop}" if args.stop else "")
    seeds_of: dict[str, set[int]] = {data_path(r, FOLDERS[args.task]): set() for r in results}
    for r in results:
        seeds_of[data_path(r, FOLDERS[args.task])] |= {r["seed"]} if "seed" in r else set()
    begin = f"restoration.py {args.task} --data"
    commands = [
        f"{begin} {shlex.quote(path)}{options}{said}"
        for path in sorted(seeds_of)
        for said in seeds_said(sorted(seeds_of[path]))
    ]
    made = provenance(commands, results)
    print(report.write(args.folder, list(table(results)), what, results, curves, made))


if __name__ == "__main__":
    main(tyro.cli(Args))
