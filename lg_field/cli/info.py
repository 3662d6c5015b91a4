"""`lg-field info` and `lg-field validate`: what is in a field file, and whether it is sound."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table

from lg_field.cli.options import Address

if TYPE_CHECKING:
    from lg_field.files import FieldFile

SHADES = " ░▒▓█"
MAP_WIDTH, MAP_HEIGHT = 64, 32


def info(input: Address, as_json: Annotated[bool, tyro.conf.arg(name="json")] = False) -> None:
    """Say what is in a field file: signal or scene, grid, kept cells, parameters and bytes by part.

    Args:
        input: field file, or an address fsspec reads; weights are not read.
        as_json: as JSON.
    """
    from lg_field.files import FieldFile

    with FieldFile.open(input) as file:
        facts = facts_of(file)
        if as_json:
            print(json.dumps(facts, indent=1))
            return
        console = Console()
        table = Table(title=input, show_header=False)
        for name, text in lines_of(facts):
            table.add_row(name, text)
        console.print(table, highlight=False)
        console.print(cell_map(file), highlight=False)


def facts_of(file: FieldFile) -> dict[str, Any]:
    """Plain data about an open file."""
    field, data = file.skeleton, file.data
    names = [n for n in field.row_names if n in file.saved()]
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
            "rows": names,
        },
        "region": data["region"],
        "parameters": field.num_parameters() | parts_of(field),
        "bytes": file.bytes_by_part(),
        "precision": file.precision,
        "history": data["history"],
    }


def parts_of(field: Any) -> dict[str, int]:
    """Parameters of the shared part by the first word of their name: global, merge, head, color."""
    parts: dict[str, int] = {}
    for name, value in field.named_parameters():
        if name not in field.row_names:
            part = name.removeprefix("shared.").split("_")[0].split(".")[0]
            parts[part] = parts.get(part, 0) + value.numel()
    return parts


def lines_of(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """The facts as lines for people."""
    about, count, size, cells = facts["description"] or {}, facts["parameters"], facts["bytes"], facts["cells"]
    lines = [("network", f"{facts['network']}, {describe_config(facts['config'])}")]
    if "kind" in about:
        rate = f", {about['rate']:g} a second" if about["rate"] else ""
        shape = " x ".join(map(str, about["shape"]))
        lines.append((about["kind"], f"{shape} samples x {about['channels']} {about['dtype']}{rate}"))
        if about.get("origin"):
            low = about["origin"]
            high = [o + n * about["spacing"] for o, n in zip(low, about["shape"])]
            corners = (" ".join(f"{v:.6g}" for v in corner) for corner in (low, high))
            lines.append(("place", f"from {' to '.join(corners)}, voxels of {about['spacing']:.6g}"))
    elif about:
        lines.append(("scene", f"marching step {about['step']:g}, background {tuple(about['background'])}"))
    grid = facts["grid"]
    lower, upper = ("(" + ", ".join(f"{v:g}" for v in grid[k]) + ")" for k in ("lower", "upper"))
    lines.append(("grid", f"{' x '.join(map(str, grid['counts']))} cells from {lower} to {upper}"))
    lines.append(("kept cells", f"{cells['kept']:,} of {cells['of']:,} ({cells['kept'] / cells['of']:.1%})"))
    for name, number in cells["without_row"].items():
        saved = number * count["local"] // cells["kept"]
        lines.append((f"{name} cells", f"{number:,}, constant: {saved:,} parameters not needed"))
    lines.append(("shown", "whole cells" if facts["region"] is None else f"exactly {json.dumps(facts['region'])}"))
    shared = ", ".join(f"{k} {v:,}" for k, v in count.items() if k not in ("local", "shared", "total"))
    lines.append(("parameters", f"{count['total']:,}: local {count['local']:,}, shared {count['shared']:,} ({shared})"))
    lines.append(
        ("bytes", f"{size['total']:,}: header {size['header']:,}, shared {size['shared']:,}, rows {size['rows']:,}")
    )
    lines.append(("weights", facts["precision"]))
    if facts["history"]:
        lines.append(("training", ", ".join(f"{k} {v:g}" for k, v in facts["history"].items() if _is_number(v))))
    return lines


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def describe_config(config: dict[str, Any]) -> str:
    """Widths and wiring in a line."""
    names = ("local_width", "global_width", "hidden_layers", "activation", "merge")
    return ", ".join(f"{n.replace('_', ' ')} {config[n]}" for n in names if n in config)


def cell_map(file: FieldFile) -> str:
    """Kept cells as text: rows down, columns across; a third axis is summed up (scenes: seen from above)."""
    import torch

    from lg_field.signals.signal import Signal

    field = file.skeleton
    kept = torch.zeros(field.grid.num_cells)
    kept[field.cells] = 1.0
    for cells in field.cell_sets().values():
        kept[cells] = 1.0
    dense = kept.view(field.grid.counts)
    if dense.dim() == 1:
        dense = dense[None]
    if dense.dim() == 3:
        flat = isinstance(field.description, Signal) and field.description.traits.flat
        dense = dense.mean(0) if flat else dense.mean(2).T.flip(0)
    height, width = dense.shape
    if height > MAP_HEIGHT or width > MAP_WIDTH:
        size = (min(height, MAP_HEIGHT), min(width, MAP_WIDTH))
        dense = torch.nn.functional.adaptive_avg_pool2d(dense[None], size)[0]
    wide = 2 if dense.shape[1] * 2 <= MAP_WIDTH else 1
    rows = ["".join(SHADES[math.ceil(v * 4 - 1e-6)] * wide for v in row) for row in dense.tolist()]
    edge = "+" + "-" * (dense.shape[1] * wide) + "+"
    return "\n".join([edge, *(f"|{row}|" for row in rows), edge])


def validate(input: Address) -> None:
    """Check a field file through and through, weights included; the exit status is 1 if there is an error.

    Args:
        input: field file, or an address fsspec reads.
    """
    from lg_field.files import FieldFile

    with FieldFile.open(input) as file:
        problems = warnings_of(file)
        size = file.reader.size
    for problem in problems:
        print(f"warning: {problem}")
    print(f"{input}: sound, {size:,} bytes read" + (f", {len(problems)} warnings" if problems else ""))


def warnings_of(file: FieldFile) -> list[str]:
    """What is odd but not wrong. Reads every weight, a few MB at a time.

    Raises:
        FileError: NaN or infinite weights.
    """
    import torch

    warnings, field = [], file.skeleton
    for name in file.saved():
        lines = file.reader.entries[name].shape
        everything = torch.arange(lines[0] if lines else 1)
        largest = max((float(v.float().abs().max()) for v in file.values(name, everything) if v.numel()), default=0.0)
        if name != "cells" and file.reader.entries[name].dtype.is_floating_point and largest > 1e4:
            warnings.append(f"{name} holds weights up to {largest:.3g}")
    if field.description is None:
        warnings.append("it has no description: it can be loaded, but not decoded or rendered by commands")
    if field.region is not None:
        unused = field.num_rows - len(field.rows_touching(field.region))
        if unused:
            warnings.append(f"{unused} kept cells lie outside the exact region; `lg-field crop` would drop them")
    return warnings
