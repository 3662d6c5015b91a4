"""What the demo's crop did: parameters, bytes and cells before and after, quality, seconds, and where to look.

    python scripts/demo_report.py demo --run demo/outputs/demo/lg-field-tiny/full --crop demo/outputs/crop

Also writes `before_after.png` (the same test view of the whole scene and of the crop) and `without_optimizer.ckpt`
(the run's checkpoint less the optimizer state, which a crop leaves out too: the fair file to compare sizes with).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from PIL import Image
from rich.console import Console
from rich.table import Table

import lg_field.nerfstudio  # noqa: F401  (lets torch load nerfstudio's checkpoints)

FIELD = "_model.field."
"""Prefix of the field's tensors in a checkpoint's pipeline state."""


def checkpoint_path(run: Path) -> Path:
    """The last checkpoint of a run.

    Raises:
        FileNotFoundError: there is none.
    """
    found = sorted((run / "nerfstudio_models").glob("step-*.ckpt"))
    if not found:
        raise FileNotFoundError(f"no checkpoint in {run / 'nerfstudio_models'}")
    return found[-1]


def load(path: Path) -> dict[str, Any]:
    """A nerfstudio checkpoint: step, pipeline, optimizers, schedulers, scalers."""
    return torch.load(path, map_location="cpu", weights_only=True)


def count_parameters(checkpoint: dict[str, Any]) -> int:
    """Floating point numbers in the field's tensors."""
    tensors = [v for k, v in checkpoint["pipeline"].items() if k.startswith(FIELD) and torch.is_tensor(v)]
    return sum(v.numel() for v in tensors if v.is_floating_point())


def count_cells(checkpoint: dict[str, Any]) -> int:
    """Kept cells of the field."""
    return len(checkpoint["pipeline"][FIELD + "table.cells"])


def write_before_after(whole: Path, crop: Path, output: Path, zoom: int = 4) -> Path:
    """Put one view of two render folders side by side: the one that shows most of what the crop kept.

    Args:
        whole: folder of pictures of the whole scene, on white.
        crop: folder of the same views of the crop.
        output: PNG to write: whole left, crop right.
        zoom: output pixels per picture pixel.

    Returns:
        Path of the chosen picture in `crop`.

    Raises:
        FileNotFoundError: `crop` holds no picture.
    """
    pictures = sorted(crop.glob("*.png"))
    if not pictures:
        raise FileNotFoundError(f"no picture in {crop}")
    chosen = min(pictures, key=lambda path: np.asarray(Image.open(path).convert("L")).mean())
    pair = [Image.open(folder / chosen.name).convert("RGB") for folder in (whole, crop)]
    width, height = pair[0].size
    both = Image.new("RGB", (2 * width, height))
    for i, picture in enumerate(pair):
        both.paste(picture, (i * width, 0))
    both.resize((2 * width * zoom, height * zoom), Image.Resampling.NEAREST).save(output)
    return chosen


def size_table(run: Path, crop: Path, bare: Path) -> Table:
    """Cells, parameters and file bytes before and after; writes `bare`, the run's checkpoint without optimizer."""
    full, cropped = load(checkpoint_path(run)), load(checkpoint_path(crop))
    torch.save({**full, "optimizers": {}}, bare)
    bytes_of = {path: path.stat().st_size for path in (checkpoint_path(run), bare, checkpoint_path(crop))}
    trained, fair, after = bytes_of.values()
    table = Table("", "whole scene", "crop", "kept", title="What the crop did", title_justify="left")
    rows = [
        ("cells", count_cells(full), count_cells(cropped)),
        ("parameters", count_parameters(full), count_parameters(cropped)),
        ("checkpoint bytes, weights only", fair, after),
        ("checkpoint bytes, as trained", trained, after),
    ]
    for name, before, now in rows:
        table.add_row(name, f"{before:,}", f"{now:,}", f"{now / before:.1%}")
    table.caption = "as trained: with the optimizer state, which a crop leaves out"
    return table


def seconds_table(path: Path) -> Table:
    """Seconds of each step, from lines `step<TAB>seconds`."""
    table = Table("step", "seconds", title="How long it took", title_justify="left")
    lines = [line.split("\t") for line in path.read_text().splitlines()]
    for name, seconds in lines:
        table.add_row(name, seconds)
    table.add_row("all", str(sum(int(seconds) for _, seconds in lines)), style="bold")
    return table


def demo_report(demo: Annotated[Path, tyro.conf.Positional], run: Path, crop: Path) -> None:
    """Print the demo's results and write the before-and-after picture.

    Args:
        demo: the demo's folder.
        run: folder of the training run.
        crop: folder of the cropped run.
    """
    console = Console()
    picture, bare = demo / "before_after.png", demo / "outputs" / "without_optimizer.ckpt"
    write_before_after(demo / "render/test/rgb", demo / "render_crop/test/rgb", picture)
    console.print(size_table(run, crop, bare))
    console.print(seconds_table(demo / "seconds.tsv"))
    psnr = json.loads((demo / "eval.json").read_text())["results"]["psnr"]
    console.print(f"PSNR of the whole scene on its test views: {psnr:.2f} dB\n", highlight=False)
    console.print("Have a look:")
    places = [
        (picture, "whole scene and crop, same camera"),
        (demo / "render_crop/test/rgb", "all test views of the crop"),
        (demo / "full.ply", "mesh of the whole scene"),
        (demo / "crop.ply", "mesh of the crop"),
        (f"ns-viewer --load-config {crop / 'config.yml'}", "the crop in the browser"),
    ]
    for place, what in places:
        console.print(f"  {place}  [dim]({what})[/dim]", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    try:
        tyro.cli(demo_report)
    except (OSError, ValueError) as error:
        sys.exit(f"demo_report: {error}")
