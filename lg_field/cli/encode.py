"""`lg-field encode`: from an image, sound, video, volume or mesh to a field file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from lg_field.cli.fitting import FitFlags, check_flags, run_fit
from lg_field.cli.options import Input, Output, pick_device
from lg_field.cli.presets import settings_for
from lg_field.signals.settings import Settings


def encode(
    input: Input,
    output: Output,
    settings: Annotated[Settings, tyro.conf.arg(name="")] = Settings(),  # noqa: B008
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
    from lg_field.signals.encode import build_fit, domain_grid
    from lg_field.signals.kinds import kind_of_file

    check_flags(flags, output)
    if not input.is_file():
        raise FileNotFoundError(f"{input} does not exist")
    kind = kind_of_file(input)
    chosen = settings_for(kind.name, settings, preset, config)
    data, console = kind.read(input, chosen.shape), Console()
    cells = data.needed_cells(domain_grid(data.signal, chosen.network), chosen.shape.margin)
    for note in data.notes(cells):
        console.print(note, highlight=False, soft_wrap=True)
    fit = build_fit(data, chosen.network, chosen.fit, pick_device(flags.device), cells=cells)
    run_fit(fit, output, flags, console)
