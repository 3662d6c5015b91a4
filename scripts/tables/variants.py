"""What a training depends on: network, initial weights, rate, coordinates, the shared part of the parameters.

    python scripts/tables/variants.py images --data ../shared/data
    python scripts/tables/variants.py videos --data ../shared/data --variants LG SPP
    python scripts/tables/variants.py sound-rates --data ../shared/data

Variants of the presets for smaller signals (those of signals.py --quick), on the same files, seed 0: `images` the first
hundreds of steps, the others to the end. `-rates`: the paper's constant rate and the falling one that `lg-field encode`
has for the kind of signal; `-rates-whole`: of whole files, by the paper's own presets. Of volumes, which the paper has
none of, networks are those of `lg-field encode`. `image-domains`: how far apart samples lie in the domain.
`-defaults`: what `lg-field encode` does, and without parts of that; `-samples`: how many samples a step draws.
`stretched` is the PSNR of `signals.stretched`.
Writes results.md, .csv and .json to a folder in `--output`. Every run is kept below docs/results/rows (see rows.py): an
interrupted table goes on where it stopped.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, cast

import report
import tyro
from paper_tables import IMAGE, narrowed, smaller
from rows import DATA, ROWS, Row, Rows, changed, provenance
from signals import stretched

from lg_field.networks import LocalGlobalNetwork
from lg_field.signals import SignalData, read_signal
from lg_field.signals.encode import build_network
from lg_field.signals.fit import Fit
from lg_field.signals.metrics import measure
from lg_field.signals.presets import read_preset
from lg_field.signals.registry import kind_named
from lg_field.signals.settings import CompleteSettings, resolve


def shared_times(factor: float, *words: str) -> Callable[[LocalGlobalNetwork], None]:
    """What multiplies the shared tensors with all of these words in their names."""

    def change(network: LocalGlobalNetwork) -> None:
        for name, tensor in network.shared.items():
            if all(word in name for word in words):
                tensor.data.mul_(factor)

    return change


AS_THEY_ARE = shared_times(1.0)


@dataclass(frozen=True)
class Variant:
    """A preset, and what is other than there."""

    preset: str
    """Of configs/; "" = what `lg-field encode` does."""
    network: dict[str, Any] = field(default_factory=dict)
    """Entries of the network."""
    fit: dict[str, Any] = field(default_factory=dict)
    """Entries of the training."""
    weights: Callable[[LocalGlobalNetwork], None] = AS_THEY_ARE
    """What is done to the initial weights."""


@dataclass(frozen=True)
class Table:
    """Variants and what they are trained on."""

    kind: str
    """Of signal."""
    data: str
    """A folder of files below the folder of all data."""
    files: tuple[str, ...]
    """Of it."""
    variants: dict[str, Variant]
    """By name."""
    steps: int = 0
    """Of each run; 0 = the preset's."""
    part: Callable[[SignalData], SignalData] = smaller
    """What a run is trained on of a signal."""


def whole(data: SignalData) -> SignalData:
    """All of a signal."""
    return data


def middle(data: SignalData) -> SignalData:
    """The middle 96 x 96 x 96 voxels of a volume."""
    return narrowed(data, (96, 96, 96), range(3))


LG, SPP, SIREN = "image-small", "image-small-per-partition", "image-small-global"
IMAGES = {
    "LG": Variant(LG),
    "SPP": Variant(SPP),
    "SIREN": Variant(SIREN),
    "LG merge weights x2": Variant(LG, weights=shared_times(2.0, "merge_weight")),
    "LG merge bias 0": Variant(LG, weights=shared_times(0.0, "merge", "bias")),
    "LG shared biases 0": Variant(LG, weights=shared_times(0.0, "bias")),
    "LG lr 1e-3": Variant(LG, fit={"lr": 1e-3}),
    "SIREN lr 1e-3": Variant(SIREN, fit={"lr": 1e-3}),
    "LG domain to the outer pixels": Variant(LG, {"coordinate_scale": 0.25 * 128 / 127}),
}
"""The last has the middles of the outermost pixels at the ends of the domain, as SIREN's coordinates do."""
THREE = {"LG": "video-small", "SPP": "video-small-per-partition", "SIREN": "video-small-global"}
VIDEOS = {
    **{name: Variant(preset) for name, preset in THREE.items()},
    **{f"LG, {100 * part:.0f} % shared": Variant(THREE["LG"], {"global_share": part}) for part in (0.2, 0.35, 0.5)},
    **{f"{name}, domain [-0.5, 0.5]": Variant(preset, {"coordinate_scale": 0.5}) for name, preset in THREE.items()},
    **{f"{name}, lr 3e-4": Variant(preset, fit={"lr": 3e-4}) for name, preset in THREE.items()},
    **{f"{name}, 2 % a step": Variant(preset, fit={"sample_fraction": 0.02}) for name, preset in THREE.items()},
}


def rates(kind: str, preset: str) -> dict[str, Variant]:
    """Three networks at the preset's constant rate, and at that of `lg-field encode`."""
    fit = {name: kind_named(kind).fit[name] for name in ("lr", "lr_factor")}
    presets = {"LG": preset, "SPP": f"{preset}-per-partition", "SIREN": f"{preset}-global"}
    falling = {f"{name}, rate of encode": Variant(of, fit=fit) for name, of in presets.items()}
    return {name: Variant(of) for name, of in presets.items()} | falling


def volume_rates() -> dict[str, Variant]:
    """Two networks as `lg-field encode` makes them of volumes: at the constant rate of videos, at its own rate, and so
    with samples drawn as it does."""
    networks = {"LG": "local-global", "SPP": "per-partition"}
    constant = {n: Variant("", {"network": of}, APART | {"lr": 1e-4, "lr_factor": 1.0}) for n, of in networks.items()}
    falling = {f"{name}, rate of encode": Variant("", {"network": of}, APART) for name, of in networks.items()}
    drawn = {f"{name}, rate of encode, stratified": Variant("", {"network": of}) for name, of in networks.items()}
    return constant | falling | drawn


APART = {"stratified": False}
FIXED = {"coordinate_step": 0.0}
PLAIN = {"per_sample": 0.0, "global_share": 0.1, **FIXED}
CENTERED = {name: kind_named("image").fit[name] for name in ("lr", "lr_factor", "center_cells")}
WIDER = {
    f"{name}, domain [-{scale:g}, {scale:g}]": Variant(preset, {"coordinate_scale": scale}, CENTERED)
    for name, preset in (("LG", LG), ("SPP", SPP))
    for scale in (0.25, 0.5, 0.67, 1.0, 2.0)
}


def defaults(drawn: str, fit: dict[str, Any]) -> dict[str, Variant]:
    """What `lg-field encode` does by default, and without parts of that.

    Args:
        drawn: the samples of a step, in words.
        fit: and as settings.
    """
    changes = {
        "domain of one size": Variant("", FIXED, fit),
        "cells not centered": Variant("", fit={**fit, "center_cells": False}),
        "200,000 parameters, a tenth shared, domain of one size, not centered": Variant(
            "", PLAIN, {**fit, "center_cells": False}
        ),
        "SPP": Variant("", {"network": "per-partition"}, fit),
    }
    return {drawn: Variant("", fit=fit)} | {f"{drawn}; {n}": v for n, v in changes.items()}


ALL = {"encode": Variant("")} | defaults("all samples each step", {"points": 0, "steps": 1000, **APART})
DRAWN = {"encode": Variant("")} | defaults("independent samples", APART)
SOUNDS = defaults("encode", APART)
"""A step looks at all samples, however they would be drawn."""
SAMPLES = {
    "encode": Variant(""),
    "encode, independent samples": Variant("", fit=APART),
    "a quarter as many": Variant("", fit={"points": 1 << 16}),
    "a quarter, 1,000 steps": Variant("", fit={"points": 0, "sample_fraction": 0.25, "steps": 1000}),
    "a tenth, 6,000 steps": Variant("", fit={"points": 0, "sample_fraction": 0.1, "steps": 6000}),
    "all, 1,000 steps": Variant("", fit={"points": 0, "steps": 1000}),
}
"""How many samples a step draws, and how."""
VIDEO_FILES, SOUND_FILES = ("bikes.mp4", "carphone_pristine.mp4"), ("gt_bach.wav", "gt_counting.wav")
TABLES = {
    "images": Table("image", "images/div2k_512", ("00.png", "01.png"), IMAGES, steps=300),
    "videos": Table("video", "video", VIDEO_FILES, VIDEOS),
    "image-rates": Table("image", "images/div2k_512", ("00.png", "01.png"), rates("image", LG)),
    "sound-rates": Table("audio", "audio", SOUND_FILES, rates("audio", "audio-small")),
    "video-rates": Table("video", "video", VIDEO_FILES, rates("video", "video-small")),
    "volume-rates": Table("volume", "ct", ("stent.npz",), volume_rates(), part=middle),
    "image-domains": Table("image", "images/div2k_512", ("00.png", "01.png"), WIDER),
    "image-defaults": Table("image", "images/div2k_full", ("0055.png", "0882.png"), ALL, part=whole),
    "sound-defaults": Table("audio", "audio", SOUND_FILES, SOUNDS, part=whole),
    "video-defaults": Table("video", "video", ("carphone_pristine.mp4",), DRAWN, part=whole),
    "volume-defaults": Table("volume", "ct", ("stent.npz",), DRAWN, part=whole),
    "image-samples": Table("image", "images/div2k_full", ("0055.png", "0882.png"), SAMPLES, part=whole),
    "image-rates-whole": Table("image", "images/div2k_512", ("00.png", "01.png"), rates("image", IMAGE), part=whole),
    "sound-rates-whole": Table("audio", "audio", SOUND_FILES, rates("audio", "audio"), part=whole),
    "video-rates-whole": Table("video", "video", ("bikes.mp4",), rates("video", "video"), part=whole),
}


@dataclass
class Args:
    """Train variants."""

    table: Annotated[str, tyro.conf.Positional]
    """Which table: a name of `TABLES`."""
    data: Path
    """The folder of all data."""
    files: int = 2
    """Taken of the table's."""
    steps: int = 0
    """Of each run; 0 = the table's."""
    variants: tuple[str, ...] = ()
    """Names of variants to train, default: all; the runs of others that are there stay in the table."""
    again: bool = False
    """Train again what has been trained."""
    rows: Path = ROWS / "variants"
    """Folder of finished rows."""
    output: Path = Path("outputs/tables/variants")
    """Folder for results."""

    @property
    def finished(self) -> Rows:
        """The finished rows."""
        return Rows(self.rows / f"{self.table}.jsonl", self.again)


def settings_of(args: Args, name: str) -> CompleteSettings:
    """How a variant trains; what is done to its weights its name says. No steps: as many as suit a signal's size."""
    table = TABLES[args.table]
    variant = table.variants[name]
    preset = resolve(table.kind, *([read_preset(variant.preset)] if variant.preset else []))
    network, fit = replace(preset.network, **variant.network), replace(preset.fit, **variant.fit)
    fit = replace(fit, steps=args.steps or table.steps or fit.steps)
    return replace(preset, network=network, fit=fit if fit.points else fit.of_size(1))


def differences(args: Args, name: str) -> Row:
    """The settings of a row of this variant."""
    settings = settings_of(args, name)
    return changed(settings.network, settings.fit) | {"steps": settings.fit.steps}


def run(args: Args, name: str, data: SignalData) -> Row:
    """One variant on one signal."""
    settings = settings_of(args, name)
    network = build_network(data.signal, settings.network, seed=0)
    TABLES[args.table].variants[name].weights(network)
    begin = report.now()
    fit = Fit(network, data, settings.fit)
    fit.run()
    row = (
        {"steps": fit.config.steps, "seconds": round(report.now() - begin, 3)}
        | measure(network, data)
        | stretched(network, data)
    )
    row |= {"parameters": network.num_parameters()["total"]}
    print(name, row, flush=True)
    return row


def main(args: Args) -> None:
    """Train, measure, write."""
    if args.table not in TABLES:
        raise SystemExit(f"there is no table {args.table}; there are {', '.join(TABLES)}")
    table = TABLES[args.table]
    unknown = set(args.variants) - set(table.variants)
    if unknown:
        raise SystemExit(f"{args.table} has no variant {min(unknown)}; there are {', '.join(table.variants)}")
    for name in table.files[: args.files]:
        path = args.data / table.data / name
        data = table.part(cast(SignalData, read_signal(path)))
        for variant in args.variants or table.variants:
            said = {"variant": variant, "file": path.stem, "data": data.checksum()}
            args.finished.once(said | {"settings": differences(args, variant)}, partial(run, args, variant, data))
    write(args)


def from_rows(path: Path, folder: Path) -> None:
    """Write a table of its rows alone."""
    write(Args(path.stem, Path(), rows=path.parent, output=folder.parent))


def command(args: Args, results: list[Row]) -> str:
    """What trains such rows."""
    table = TABLES[args.table]
    present, files = (
        [v for v in table.variants if any(r["variant"] == v for r in results)],
        {r["file"] for r in results},
    )
    said = {"files": [str(len(files))], "steps": [str(args.steps)], "variants": present}
    usual = {
        "files": [str(min(Args.files, len(table.files)))],
        "steps": [str(Args.steps)],
        "variants": [*table.variants],
    }
    options = "".join(f" --{name} {shlex.join(value)}" for name, value in said.items() if value != usual[name])
    return f"variants.py {args.table} --data {DATA}{options}"


def write(args: Args) -> None:
    """Write what the rows of a table say, and print it."""
    variants = TABLES[args.table].variants
    results = args.finished.of_now(lambda r: differences(args, r["variant"]) if r["variant"] in variants else None)
    if not results:
        print(f"{args.table}: no run of it is finished, and no table is written")
        return
    files = sorted({r["file"] for r in results})
    runs = {(r["variant"], r["file"]): r for r in results}
    measures = {"psnr": "PSNR", "psnr_stretched": "stretched"}
    measures = {key: called for key, called in measures.items() if all(key in r for r in results)}
    table = []
    for name in (n for n in variants if any((n, file) in runs for file in files)):
        found = [runs.get((name, file)) for file in files]
        figures = [", ".join(f"{r[key]:.2f}" for key in measures) if r else "" for r in found]
        heads = [f"{file}: {', '.join(measures.values())}" for file in files]
        one = next(r for r in found if r)
        counts = {"parameters": f"{one['parameters']:,}", "seconds": f"{one['seconds']:.1f}"}
        table.append({"": name} | dict(zip(heads, figures)) | counts)
    steps = sorted({r["settings"]["steps"] or r["steps"] for r in results})
    made = provenance([command(args, results)], results)
    print(
        report.write(args.output / args.table, table, f"{', '.join(map(str, steps))} steps, seed 0", results, made=made)
    )


if __name__ == "__main__":
    main(tyro.cli(Args))
