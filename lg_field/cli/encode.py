"""`lg-field encode`: from an image, sound, video, volume or mesh to a field file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console

from lg_field.cli.fitting import FitFlags, check_flags, run_fit
from lg_field.cli.options import Input, Output, pick_device
from lg_field.cli.presets import Settings

if TYPE_CHECKING:
    from lg_field.signals.shapes.occupancy import OccupancyData, ShapeCells


def encode_command(settings: Settings) -> Callable[..., None]:
    """`lg-field encode` with these settings as defaults (a preset's, or those of the kind of file)."""

    def encode(
        input: Input,
        output: Output,
        settings: Annotated[Settings, tyro.conf.arg(name="")] = settings,
        flags: Annotated[FitFlags, tyro.conf.arg(name="")] = FitFlags(),  # noqa: B008
        preset: str | None = None,
        config: Path | None = None,
    ) -> None:
        """Train a network on an image, sound, video, volume or mesh and save it as a field file.

        Ctrl-C keeps what was learned so far, and OUTPUT.resume to go on from with --resume.

        Args:
            input: .png .jpg .tif ... (8 or 16 bits), .wav .flac .ogg, .mp4 ..., .npy .npz with a volume (booleans: a
                shape), or a mesh: .obj .ply .stl .glb .gltf .off.
            output: the field file to write (.safetensors).
            settings: network, training, and voxels of a mesh.
            flags: device, pictures, logs, resuming.
            preset: settings of configs/NAME.yaml; flags win over it.
            config: settings of this YAML file; flags win over it.
        """
        from lg_field.signals import read_signal
        from lg_field.signals.encode import build_fit, domain_grid
        from lg_field.signals.shapes.occupancy import OccupancyData, shape_cells

        check_flags(flags, output)
        data, console, cells = read_signal(input, settings.shape), Console(), None
        if isinstance(data, OccupancyData):
            cells = shape_cells(data, domain_grid(data.signal, settings.network), settings.shape.margin)
            say_shape(console, data, cells)
        fit = build_fit(data, settings.network, settings.fit, pick_device(flags.device), cells=cells)
        run_fit(fit, output, flags, console)

    return encode


def say_shape(console: Console, data: OccupancyData, cells: ShapeCells) -> None:
    """What became of a mesh, and which cells get a row."""
    for warning in data.warnings:
        console.print(f"warning: {warning}", soft_wrap=True)
    inside, rows, full = data.voxels.count(), len(cells.rows), len(cells.full)
    source = ""
    if data.source is not None:
        state = "watertight" if data.source.closed and not data.warnings else "not watertight"
        source = f"{len(data.source.vertices):,} vertices, {len(data.source.faces):,} faces, {state}; "
    console.print(
        f"{source}{inside:,} of {data.signal.num_samples:,} voxels inside ({inside / data.signal.num_samples:.1%})\n"
        f"{cells.occupied} cells hold a part of it: {rows} cells get a row, {full} are full and stored as a constant",
        highlight=False,
        soft_wrap=True,
    )
