"""`lg-field info` and `lg-field validate`: what is in a field file, and whether it is sound."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lg_field.cli.cell_map import cell_map, shades_for
from lg_field.cli.opening import source_of
from lg_field.cli.options import Address
from lg_field.cli.region_files import region_json
from lg_field.errors import doing
from lg_field.table.outline import FLOAT, Outline

if TYPE_CHECKING:
    from lg_field.files import FieldFile
    from lg_field.signals.signal import Signal


def info(input: Address, as_json: Annotated[bool, tyro.conf.arg(name="json")] = False) -> None:
    """Say what is in a field file: signal or scene, grid, kept cells, parameters and bytes by part.

    Args:
        input: field file or composition, or an address fsspec reads; weights are not read.
        as_json: as JSON.
    """
    source_of(input).info(as_json)


def info_of_field(input: str, as_json: bool) -> None:
    """`lg-field info` of a field file."""
    from lg_field.files import FieldFile

    with doing(f"reading {input}"), FieldFile.open(input) as file:
        if as_json:
            print(json.dumps(facts_of(file), indent=1))
            return
        console = Console()
        table = Table(title=Text(input), show_header=False)
        for name, text in lines_of(file):
            table.add_row(name, Text(text))
        console.print(table, highlight=False)
        console.print(cell_map(file.outline, shades_for(console)), highlight=False)


def facts_of(file: FieldFile) -> dict[str, Any]:
    """Plain data about an open file."""
    field, data = file.outline, file.data
    return {
        "file": file.reader.name,
        "network": data["network"],
        "config": data["config"],
        "description": data["description"],
        "grid": data["grid"],
        "cells": {
            "kept": field.num_rows,
            "of": field.grid.num_cells,
            "without_row": {name: len(cells) for name, cells in field.cell_sets().items()},
            "rows": list(field.row_names),
        },
        "region": data["region"],
        "lines": {
            name: {"kept": int(field.mask(name).sum()), "of": form.shape[0]} for name, form in field.lines.items()
        },
        "parameters": field.num_parameters() | parts_of(field),
        "bytes": file.bytes_by_part(),
        "precision": file.precision,
        "history": data["history"],
    }


def parts_of(field: Outline) -> dict[str, int]:
    """Parameters of the shared part by the first word of their name: global, merge, head, color."""
    parts: dict[str, int] = {}
    for name, form in field.forms().items():
        if form.dtype == FLOAT and name not in field.row_names:
            part = name.removeprefix("shared.").split("_")[0].split(".")[0]
            parts[part] = parts.get(part, 0) + form.numbers
    return parts


def lines_of(file: FieldFile) -> list[tuple[str, str]]:
    """The facts as lines for people."""
    facts = facts_of(file)
    lines = [("network", f"{facts['network']}, {describe_config(facts['config'])}")]
    lines += description_lines(file)
    lines += grid_lines(file, facts)
    count, size = facts["parameters"], facts["bytes"]
    shared = ", ".join(f"{k} {v:,}" for k, v in count.items() if k not in ("local", "shared", "total"))
    shared = f" ({shared})" if shared else ""
    for name, kept in facts["lines"].items():
        lines.append((name.replace("_", " "), f"{kept['kept']:,} of {kept['of']:,} entries"))
    lines.append(("parameters", f"{count['total']:,}: local {count['local']:,}, shared {count['shared']:,}{shared}"))
    lines.append(
        ("bytes", f"{size['total']:,}: header {size['header']:,}, shared {size['shared']:,}, rows {size['rows']:,}")
    )
    lines.append(("weights", facts["precision"]))
    if facts["history"]:
        lines.append(("training", ", ".join(f"{k} {v:g}" for k, v in facts["history"].items() if _is_number(v))))
    return lines


def description_lines(file: FieldFile) -> list[tuple[str, str]]:
    """What the field is of; nothing if its file does not say."""
    from lg_field.radiance.edits import edit_words
    from lg_field.radiance.scene import Scene
    from lg_field.signals.signal import Signal

    about = file.outline.description
    if isinstance(about, Signal):
        return signal_lines(about)
    if isinstance(about, Scene):
        dropped = [("edited", words) for words in edit_words(file.header.history)]
        return [("scene", f"marching step {about.step:g}, background {tuple(about.background)}"), *dropped]
    return []


def signal_lines(signal: Signal) -> list[tuple[str, str]]:
    """Samples of a signal, and where they lie if it has a place in the world."""
    rate = f", {signal.rate:g} a second" if signal.rate else ""
    shape = " x ".join(map(str, signal.shape))
    lines = [(signal.kind, f"{shape} samples x {signal.channels} {signal.dtype}{rate}")]
    if signal.origin or signal.affine:
        world = signal.world_matrix()
        corners = [world @ np.array([*corner, 1.0]) for corner in ([0.0] * len(signal.shape), signal.shape)]
        low, high = (" ".join(f"{v:.6g}" for v in corner[:-1].tolist()) for corner in corners)
        steps = sorted({f"{v:.6g}" for v in np.linalg.norm(world[:-1, :-1], axis=0).tolist()})
        lines.append(("place", f"from {low} to {high}, {signal.places.sample}s of {' x '.join(steps)}"))
    return lines


def grid_lines(file: FieldFile, facts: dict[str, Any]) -> list[tuple[str, str]]:
    """The partition, which of its cells are kept, and what of them is shown."""
    field, cells, count = file.outline, facts["cells"], facts["parameters"]
    lower, upper = ("(" + ", ".join(f"{v:g}" for v in end) + ")" for end in (field.grid.lower, field.grid.upper))
    lines = [
        ("grid", f"{' x '.join(map(str, field.grid.counts))} cells from {lower} to {upper}"),
        ("kept cells", f"{cells['kept']:,} of {cells['of']:,} ({cells['kept'] / cells['of']:.1%})"),
    ]
    for name, number in cells["without_row"].items():
        saved = number * count["local"] // max(1, cells["kept"])
        lines.append((f"{name} cells", f"{number:,}, constant: {saved:,} parameters not needed"))
    if field.region is None:
        return [*lines, ("shown", "whole cells")]
    return [*lines, ("shown", f"exactly {region_json(field.region, field)}")]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def describe_config(config: dict[str, Any]) -> str:
    """Widths and wiring in a line."""
    names = ("local_width", "global_width", "hidden_layers", "activation", "merge")
    return ", ".join(f"{n.replace('_', ' ')} {config[n]}" for n in names if n in config)


def validate(input: Address) -> None:
    """Check a field file through and through, weights included; the exit status is 1 if there is an error.

    Args:
        input: field file or composition, or an address fsspec reads.
    """
    source_of(input).validate()


def validate_field(input: str) -> None:
    """`lg-field validate` of a field file."""
    from lg_field.files import FieldFile

    with doing(f"checking {input}"), FieldFile.open(input) as file:
        problems = warnings_of(file)
        size = file.reader.size
    for problem in problems:
        print(f"warning: {problem}")
    count = f", {len(problems)} warning{'s' * (len(problems) > 1)}" if problems else ""
    print(f"{input}: sound, {size:,} bytes read{count}")


def warnings_of(file: FieldFile) -> list[str]:
    """What is odd but not wrong. Reads every weight, a few MB at a time.

    Raises:
        FileError: NaN or infinite weights.
    """
    import torch

    warnings, field = [], file.skeleton
    for name in file.entry_names():
        lines = file.reader.entries[name].shape
        everything = torch.arange(lines[0] if lines else 1)
        largest = max((float(v.float().abs().max()) for v in file.values(name, everything) if v.numel()), default=0.0)
        if name != "cells" and file.reader.entries[name].dtype.is_floating_point and largest > 1e4:
            warnings.append(f"{name} holds weights up to {largest:.3g}")
    warnings += size_warnings(field.description)
    if field.description is None:
        warnings.append("it has no description: it can be loaded, but not decoded or rendered by commands")
    if field.region is not None:
        unused = field.num_rows - len(field.rows_touching(field.region))
        if unused:
            warnings.append(f"{unused} kept cells lie outside the exact region; `lg-field crop` would drop them")
    return warnings


def size_warnings(about: Any) -> list[str]:
    """A warning of a signal so large that `decode` refuses it unless told otherwise: a few bytes can claim any size."""
    from lg_field.signals.decode import MAX_SIZE, decoded_bytes, size_words
    from lg_field.signals.signal import Signal

    if not isinstance(about, Signal):
        return []
    shape, size = decoded_bytes(about)
    if size <= MAX_SIZE * 1e9:
        return []
    sizes = " x ".join(f"{n:,}" for n in shape)
    return [f"it says that it holds {sizes} samples, {size_words(size)}: decode asks for --max-size or a --box"]
