"""3D shapes: IoU by voxels seen of Local-Global SIREN and its baselines, meshes compared with their source, and seams.

    python scripts/tables/shapes.py lucy --data ../shared/data
    python scripts/tables/shapes.py meshes --data ../shared/data/shapes/bunny.obj --quick

Every row is a network of configs/ (the paper's widths), trained on the same voxels with the same seeds: after equal
steps each has seen equally many voxels. `lucy` and `meshes` are trained by lg-field's own schedule, `lucy-paper` by the
paper's (uniform voxels, lr 1e-4), which `--steps` cuts off. IoU is measured at `--looks` times on the way.

Writes results.md, .csv, .json and the field files to a folder in `--output`. Every run is kept when it ends, as a row
below docs/results/rows (see rows.py; with `--quick` or other settings than the table's below `--output`): an
interrupted table goes on where it stopped. `--again` trains everything anew, `--kept` nothing. With `OMP_NUM_THREADS=1`
on a CPU seconds are processor time; looks and meshes are not in them.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import margins as in_pairs
import report
import torch
import tyro
from interrupts import Interrupts
from rows import DATA, ROWS, Row, Rows, changed, check_counts, provenance
from seams import seams

from lg_field.files import load, save
from lg_field.meshing.metrics import compare
from lg_field.networks import LocalGlobalNetwork
from lg_field.signals.encode import build_network, domain_grid
from lg_field.signals.fit import Fit
from lg_field.signals.metrics import measure
from lg_field.signals.presets import read_preset
from lg_field.signals.settings import CompleteSettings, FitConfig, ShapeConfig, resolve, resolve_fit
from lg_field.signals.shapes.occupancy import OccupancyData, read_shape, shape_cells
from lg_field.signals.surface import signal_mesh


@dataclass(frozen=True)
class Table:
    """Shapes and how they are encoded."""

    data: str
    """A file, or a folder of files, below the folder of all data."""
    resolution: int
    """Voxels along the longest side."""
    steps: int
    """Of training."""
    paper: bool = False
    """By the paper's schedule."""
    published: str = ""
    """Figures to compare with."""


LUCY = "shapes/lucy.obj"
PUBLISHED = (
    "Published for Local-Global, by the paper's schedule: IoU .9779, .9848 and .9883 after epochs 1, 5 and 10 of 20 "
    "(counted from 0, each of 134 M voxels), .9920 at the end, after 2,684 M"
)
TABLES = {
    "lucy": Table(LUCY, resolution=512, steps=2850, published=PUBLISHED),
    "lucy-paper": Table(LUCY, resolution=512, steps=26844, paper=True, published=PUBLISHED),
    "meshes": Table("shapes", resolution=256, steps=1500),
}
PRESETS = ("shape", "shape-per-partition", "shape-global")
QUICK = {"resolution": 128, "steps": 200, "points": 20_000}


@dataclass
class Args:
    """Compare networks on shapes."""

    experiment: Annotated[str, tyro.conf.Positional]
    """Which table: a name of `TABLES`."""
    data: Path
    """A mesh, or a folder of meshes, or the folder that the names in `TABLES` are below."""
    presets: tuple[str, ...] = PRESETS
    """Networks to train now; runs of the others that are there already stay in the table."""
    seeds: int = 1
    """Runs of every file, with seeds 0, 1, ..."""
    resolution: int = 0
    """Voxels along the longest side; 0 = the table's."""
    steps: int = 0
    """Training steps; 0 = the table's."""
    points: int = 0
    """Voxels a step; 0 = the schedule's, 50,000 or the paper's 100,000."""
    lr: float = 0.0
    """Learning rate; 0 = the schedule's."""
    looks: int = 5
    """Times that the IoU is measured on the way, the last after the last step."""
    mesh: int = 256
    """Resolution of the mesh that is compared with the source; 0 = none. Rows that
    have a mesh stay as they are; those without get one if their field file is there."""
    quick: bool = False
    """128 voxels and 200 steps of 20,000, where nothing else is said."""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    """Where."""
    again: bool = False
    """Train again what has been trained."""
    kept: bool = False
    """Train nothing: write the table of the runs that are there."""
    rows: Path | None = None
    """Folder of finished rows; default: docs/results/rows/shapes, with other settings than the table's below
    --output."""
    output: Path = Path("outputs/tables/shapes")
    """Folder for results."""

    @property
    def table(self) -> Table:
        """What the table says."""
        return TABLES[self.experiment]

    @property
    def options(self) -> str:
        """What is said otherwise than the table says, as words of a command."""
        changes = {name: getattr(self, name) for name in ("resolution", "steps", "points", "lr")}
        return " --quick" * self.quick + "".join(f" --{name} {v}" for name, v in changes.items() if v)

    @property
    def folder(self) -> Path:
        """Where this table is written."""
        return self.output / (self.experiment + self.options.replace(" --", "-").replace(" ", "-"))

    @property
    def finished(self) -> Rows:
        """The finished rows."""
        place = self.output / "rows" if self.options else ROWS / "shapes"
        return Rows((self.rows or place) / f"{self.folder.name}.jsonl", self.again)

    def setting(self, name: str) -> int:
        """The resolution, the steps or the points: said, of --quick, or the table's, 0 = the schedule's."""
        return getattr(self, name) or (QUICK[name] if self.quick else getattr(self.table, name, 0))


@lru_cache(4)
def shape_of(path: Path, resolution: int) -> OccupancyData:
    """What a run is trained on."""
    data = read_shape(path, ShapeConfig(resolution))
    print(f"{path.stem}: {data.signal.shape} voxels, {data.voxels.count():,} inside", flush=True)
    return data


def files_of(args: Args) -> list[Path]:
    """The meshes."""
    inside = args.data / args.table.data
    path = inside if inside.exists() else args.data
    return sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]


def settings_of(args: Args, preset: str) -> CompleteSettings:
    """How to train."""
    settings = resolve("occupancy", read_preset(preset))
    own = resolve_fit("occupancy", FitConfig(steps=args.setting("steps")))
    fit = settings.fit if args.table.paper else own
    fit = replace(fit, points=args.setting("points") or fit.points, lr=args.lr or fit.lr)
    return replace(settings, fit=fit, shape=replace(settings.shape, resolution=args.setting("resolution")))


def check_steps(args: Args) -> None:
    """End with a line if there is nothing to train, or runs by the paper's schedule are to go on after its end."""
    check_counts(steps=(args.steps, 0), seeds=(args.seeds, 1))
    schedule = min(settings_of(args, preset).fit.steps for preset in PRESETS)
    if args.table.paper and args.setting("steps") > schedule:
        raise SystemExit(
            f"--steps {args.setting('steps')} of {args.experiment}: the paper's schedule, which --steps cuts off, has "
            f"{schedule} steps: say no more, or take the table {args.experiment.removesuffix('-paper')}"
        )


def differences(args: Args, preset: str) -> Row:
    """The settings of a row of this preset."""
    settings = settings_of(args, preset)
    stop = {"stop": args.setting("steps")} if args.table.paper else {}
    return changed(settings.network, settings.fit, settings.shape) | stop


def said(args: Args, preset: str, path: Path, seed: int) -> Row:
    """What a run is of."""
    data = shape_of(path, args.setting("resolution"))
    found = {"preset": preset, "file": path.name, "seed": seed, "kind": "occupancy", "data": data.checksum()}
    return found | {"settings": differences(args, preset)}


def kept_field(args: Args, preset: str, path: Path, seed: int) -> Path:
    """The field file of a run."""
    return args.folder / "runs" / f"{preset}.{path.stem}.{seed}.safetensors"


def run(args: Args, preset: str, path: Path, seed: int, interrupts: Interrupts) -> Row | None:
    """Train one network on one shape and save it; None if it was interrupted before its last step."""
    data, settings = shape_of(path, args.setting("resolution")), settings_of(args, preset)
    cells = shape_cells(data, domain_grid(data.signal, settings.network), settings.shape.margin)
    field = build_network(data.signal, settings.network, seed, cells).to(args.device)
    fit, last = Fit(field, data, replace(settings.fit, seed=seed)), args.setting("steps")
    looks = {last, *(max(1, round(last * (k + 1) / args.looks)) for k in range(args.looks))}
    curve: list[tuple[int, float, float]] = []
    looking, begin = 0.0, report.now()

    def on_step(step: int, error: float) -> None:
        nonlocal looking
        if step in looks:
            seconds = report.now() - begin - looking
            curve.append((step * fit.config.points, round(seconds, 2), round(measure(field, data)["iou"], 6)))
            looking = report.now() - begin - seconds
            print(
                f"  {preset}: {curve[-1][0] / 1e6:g} M voxels seen, IoU {curve[-1][2]:.4f}, {seconds:.0f} s", flush=True
            )

    if not interrupts.train(fit, on_step, last):
        return None
    voxels, seconds, iou = curve[-1]
    field.history = {"steps": last, "seconds": seconds, "iou": iou}
    save(field, kept_field(args, preset, path, seed), overwrite=True)
    row: Row = {"iou": iou, "parameters": field.num_parameters()["total"], "rows": field.num_rows}
    row |= {"full": 0 if field.full is None else len(field.full), "steps": last, "voxels": voxels, "seconds": seconds}
    return row | {"device": args.device, "curve": curve}


def with_mesh(args: Args, row: Row, preset: str, path: Path, seed: int) -> Row:
    """A kept row with the figures of its mesh, which it gets now if it has none and its field file is there."""
    data, file = shape_of(path, args.setting("resolution")), kept_field(args, preset, path, seed)
    if not args.mesh or "mesh" in row or data.source is None or not file.exists():
        return row
    field = load(file).to(args.device)
    if any(field.history.get(key) != row[key] for key in ("steps", "seconds", "iou")):
        return row  # the field of another run
    more = row | meshed(field, data, args.mesh)
    args.finished.replace(row, more)
    return more


def meshed(field: LocalGlobalNetwork, data: OccupancyData, resolution: int) -> Row:
    """How close the field's mesh is to the source, and its seams."""
    assert data.source is not None
    begin = time.perf_counter()
    mesh = signal_mesh(field, resolution)
    found: Row = {"mesh": resolution, "mesh_seconds": time.perf_counter() - begin, "faces": len(mesh.faces)}
    figures = compare(mesh, data.source.vertices, data.source.faces) | seams(field, data, mesh)
    return found | {name: float(f"{value:.6g}") for name, value in figures.items()}


def groups(results: list[Row]) -> dict[tuple[str, str], list[Row]]:
    """Runs of all seeds of a shape and a network."""
    keys = dict.fromkeys((r["file"], r["preset"]) for r in results)
    return {key: [r for r in results if (r["file"], r["preset"]) == key] for key in keys}


def table(results: list[Row]) -> Iterator[dict[str, str]]:
    """A line for each shape and network: means and standard deviations over seeds; IoU by millions of voxels seen,
    where all runs of the line have it."""
    lines = groups(results)
    common = {key: report.common_positions([r["curve"] for r in runs]) for key, runs in lines.items()}
    looks = sorted(set().union(*common.values()))
    for (file, preset), runs in lines.items():
        seen = {n: [p[2] for r in runs for p in r["curve"] if p[0] == n] for n in common[(file, preset)]}
        yield {
            "shape": Path(file).stem,
            "network": preset,
            "cells (full)": f"{runs[0]['rows']} ({runs[0]['full']})",
            "parameters": f"{runs[0]['parameters']:,}",
            "runs": str(len(runs)),
            "seconds": report.mean([r["seconds"] for r in runs], 0, spread=False),
            "ms a step": report.mean([1e3 * r["seconds"] / r["steps"] for r in runs], 0, spread=False),
        } | {f"IoU at {n / 1e6:g} M voxels": report.mean(seen.get(n, []), 4) for n in looks}


def mesh_table(results: list[Row]) -> Iterator[dict[str, str]]:
    """A line for each shape and network whose mesh was compared with its source."""
    for (file, preset), runs in groups([r for r in results if "chamfer" in r]).items():

        def mean(key: str, digits: int, scale: float = 1.0) -> str:
            return report.mean([r[key] * scale for r in runs], digits)  # noqa: B023

        yield {
            "mesh of": f"{Path(file).stem}, {preset}",
            "chamfer to / from source x 1e-4": " / ".join(
                mean(f"chamfer_{way}_source", 2, 1e4) for way in ("to", "from")
            ),
            "normals": mean("normal_consistency", 4),
            "F-score": mean("f_score", 4),
            "jump across / inside": f"{mean('jump_across', 4)} / {mean('jump_inside', 4)}",
            "degrees border / elsewhere": f"{mean('angle_border', 1)} / {mean('angle_elsewhere', 1)}",
        }


def margins(results: list[Row]) -> Iterator[dict[str, str]]:
    """By how much the first network's IoU is higher than each other's, of the shapes and seeds that both have."""
    in_order = sorted(results, key=lambda r: PRESETS.index(r["preset"]))
    return in_pairs.margins([r | {"iou": 100 * r["iou"]} for r in in_order], {"iou": "IoU x 100"})


def train(args: Args) -> bool:
    """Every run that is not there yet, seed by seed and file by file; whether they came to their end."""
    interrupts = Interrupts()
    for seed, path, preset in itertools.product(range(args.seeds), files_of(args), args.presets):
        row = args.finished.once(said(args, preset, path, seed), partial(run, args, preset, path, seed, interrupts))
        if row is None or interrupts.came:
            return False
        row = with_mesh(args, row, preset, path, seed)
        print({k: v for k, v in row.items() if k not in ("curve", "settings")}, flush=True)
    return True


def main(args: Args) -> None:
    """Run the table."""
    unknown = set(args.presets) - set(PRESETS)
    if args.experiment not in TABLES or unknown:
        raise SystemExit(
            f"there is no table {args.experiment} of {', '.join(args.presets)}: tables are {', '.join(TABLES)}, "
            f"presets {', '.join(PRESETS)}"
        )
    check_steps(args)
    if args.mesh and not args.kept and find_spec("open3d") is None:
        raise SystemExit("comparing meshes needs open3d: pip install 'lg-field[mesh]', or --mesh 0 for none")
    if not args.kept and not train(args):
        print("interrupted: the runs that were finished are kept; the same command goes on")
        return
    results = args.finished.of_now(lambda r: differences(args, r["preset"]) if r["preset"] in PRESETS else None)
    write(args, sorted(results, key=lambda r: (r["file"], PRESETS.index(r["preset"]), r["seed"])))


def from_rows(path: Path, folder: Path) -> None:
    """Write a table of its rows alone."""
    main(Args(path.stem, Path(), kept=True, rows=path.parent, output=folder.parent))


def commands(args: Args, results: list[Row]) -> list[str]:
    """The commands that make such rows: one for the networks of equally many seeds, which are 0, 1, ... here."""
    present = [p for p in PRESETS if any(r["preset"] == p for r in results)]
    seeds = {p: 1 + max(r["seed"] for r in results if r["preset"] == p) for p in present}
    begin, found = f"shapes.py {args.experiment} --data {DATA}{args.options}", []
    for count in dict.fromkeys(seeds.values()):
        named = [p for p in present if seeds[p] == count]
        presets = f" --presets {' '.join(named)}" * (tuple(named) != PRESETS)
        found.append(begin + presets + f" --seeds {count}" * (count > 1))
    return found


def write(args: Args, results: list[Row]) -> None:
    """Write what the runs of a table say, and print it."""
    if not results:
        print(f"{args.experiment}: no run of it is finished, and no table is written")
        return
    seeds = sorted({r["seed"] for r in results})
    parts = [report.markdown(lines) for lines in (list(margins(results)), list(mesh_table(results))) if lines]
    kind = "the paper's schedule" if args.table.paper else "lg-field's schedule"
    steps = ", ".join(f"{n:,}" for n in sorted({r["steps"] for r in results}))
    meshes = ", ".join(str(n) for n in sorted({r["mesh"] for r in results if "mesh" in r}))
    of = f"{args.experiment}: {args.setting('resolution')} voxels along the longest side, {steps} steps, {kind}, "
    of += f"seed {', '.join(map(str, seeds))}" + f", meshes at {meshes}" * bool(meshes)
    what = "\n".join([*parts, of + (f". {args.table.published}" if args.table.published else "")])
    made = provenance(commands(args, results), results)
    print(report.write(args.folder, list(table(results)), what, results, made=made))


if __name__ == "__main__":
    main(tyro.cli(Args))
