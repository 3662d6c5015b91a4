"""What the first hundreds of steps on an image depend on: network, initial weights, rate, where the domain ends.

    python scripts/tables/variants.py --data ../shared/data/images/div2k_512 --files 2

Centres of 128 x 128 in cells of 32 x 32 pixels, 12,770 parameters, the frequencies of a 512 x 512 image: a sixteenth of
the preset image-div2k. `stretched` is the PSNR of `signals.stretched`. Writes results.md, .csv and .json to `--output`.
Every run is kept below docs/results/rows (see rows.py): an interrupted table goes on where it stopped.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import cast

import report
import tyro
from paper_tables import smaller
from rows import DATA, ROWS, Row, Rows, changed, provenance
from signals import stretched

from lg_field.networks import LocalGlobalNetwork
from lg_field.signals import SignalData, read_signal
from lg_field.signals.encode import build_network
from lg_field.signals.fit import Fit
from lg_field.signals.metrics import measure
from lg_field.signals.settings import CompleteFit, CompleteNetwork


def shared_times(factor: float, *words: str) -> Callable[[LocalGlobalNetwork], None]:
    """What multiplies the shared tensors with all of these words in their names."""

    def change(field: LocalGlobalNetwork) -> None:
        for name, tensor in field.shared.items():
            if all(word in name for word in words):
                tensor.data.mul_(factor)

    return change


LG = CompleteNetwork(counts=(4, 4), local_width=14, global_width=16, coordinate_scale=0.25)
SPP = replace(LG, network="per-partition", local_width=15, global_width=0)
SIREN = replace(LG, network="global", counts=(1, 1), local_width=0, global_width=64)
RATE = 5e-4
Variant = tuple[CompleteNetwork, float, Callable[[LocalGlobalNetwork], None]]
SAME = shared_times(1.0)
VARIANTS: dict[str, Variant] = {
    "LG": (LG, RATE, SAME),
    "SPP": (SPP, RATE, SAME),
    "SIREN": (SIREN, RATE, SAME),
    "LG merge weights x2": (LG, RATE, shared_times(2.0, "merge_weight")),
    "LG merge bias 0": (LG, RATE, shared_times(0.0, "merge", "bias")),
    "LG shared biases 0": (LG, RATE, shared_times(0.0, "bias")),
    "LG lr 1e-3": (LG, 1e-3, SAME),
    "SIREN lr 1e-3": (SIREN, 1e-3, SAME),
    "LG domain to the outer pixels": (replace(LG, coordinate_scale=0.25 * 128 / 127), RATE, SAME),
}
"""Name -> network, learning rate, what is done to the initial weights. The last has the middles of the outermost pixels
at the ends of the domain, as SIREN's coordinates do."""


@dataclass
class Args:
    """Train variants."""

    data: Path
    """A folder of images."""
    files: int = 2
    """Taken from it, the first by name."""
    steps: int = 300
    """Of each run."""
    variants: tuple[str, ...] = tuple(VARIANTS)
    """Names of `VARIANTS` to train; the runs of others that are there stay in the table."""
    again: bool = False
    """Train again what has been trained."""
    rows: Path = ROWS / "variants.jsonl"
    """Finished rows."""
    output: Path = Path("outputs/tables/variants")
    """Folder for results."""


def settings_of(name: str, steps: int) -> Row:
    """What decides how a variant trains; what is done to its weights its name says."""
    network, rate, _ = VARIANTS[name]
    return changed(network, CompleteFit(steps=steps, lr=rate)) | {"steps": steps}


def run(name: str, data: SignalData, steps: int) -> Row:
    """One variant on one image."""
    network, rate, change = VARIANTS[name]
    field = build_network(data.signal, network, seed=0)
    change(field)
    begin = report.now()
    Fit(field, data, CompleteFit(steps=steps, lr=rate)).run()
    row = {"seconds": report.now() - begin} | measure(field, data) | stretched(field, data)
    print(name, row, flush=True)
    return row


def main(args: Args) -> None:
    """Train, measure, write."""
    paths = sorted(p for p in args.data.iterdir() if p.is_file())[: args.files]
    rows = Rows(args.rows, args.again)
    for path in paths:
        data = smaller(cast(SignalData, read_signal(path)))
        for name in args.variants:
            said = {"variant": name, "file": path.stem, "data": data.checksum()}
            rows.once(said | {"settings": settings_of(name, args.steps)}, partial(run, name, data, args.steps))
    write(args.rows, args.output, args.steps)


def from_rows(path: Path, folder: Path) -> None:
    """Write the table of its rows alone."""
    write(path, folder, Args(Path()).steps)


def command(results: list[Row], steps: int) -> str:
    """What trains such rows."""
    present, files = [v for v in VARIANTS if any(r["variant"] == v for r in results)], {r["file"] for r in results}
    said = {"files": [str(len(files))], "steps": [str(steps)], "variants": present}
    usual = {"files": [str(Args.files)], "steps": [str(Args.steps)], "variants": [*VARIANTS]}
    options = "".join(f" --{name} {shlex.join(value)}" for name, value in said.items() if value != usual[name])
    return f"variants.py --data {DATA}/images/div2k_512{options}"


def write(path: Path, folder: Path, steps: int) -> None:
    """Write what the rows of so many steps say, and print it."""
    results = Rows(path).of_now(lambda r: settings_of(r["variant"], steps) if r["variant"] in VARIANTS else None)
    files = sorted({r["file"] for r in results})
    runs = {(r["variant"], r["file"]): r for r in results}
    columns = ["", *(f"{file}: PSNR, stretched" for file in files), "seconds"]
    table = []
    for name in (n for n in VARIANTS if any((n, file) in runs for file in files)):
        found = [runs.get((name, file)) for file in files]
        figures = [f"{r['psnr']:.2f}, {r['psnr_stretched']:.2f}" if r else "" for r in found]
        table.append(dict(zip(columns, [name, *figures, next(f"{r['seconds']:.1f}" for r in found if r)])))
    made = provenance([command(results, steps)], results)
    print(report.write(folder, table, f"{steps} steps, seed 0", results, made=made))


if __name__ == "__main__":
    main(tyro.cli(Args))
