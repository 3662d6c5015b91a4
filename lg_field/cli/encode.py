"""`lg-field encode`: from an image, sound, video, volume or mesh to a field file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from lg_field.cli.console import say
from lg_field.cli.fitting import NO_FLAGS, FitFlags, check_flags, run_fit
from lg_field.cli.kind_facts import FACTS
from lg_field.cli.options import Output, pick_device
from lg_field.cli.presets import NOTHING_SAID, Settings, chosen_settings
from lg_field.cli.setting_flags import setting_flags
from lg_field.errors import doing

READS = "; ".join(f"{kind.name}: {' '.join(kind.reads)}" for kind in FACTS)
Signals = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(help=f"What to encode. {READS}.")]


def encode(
    input: Signals,
    output: Output,
    settings: Annotated[Settings, tyro.conf.arg(name="", constructor=setting_flags())] = NOTHING_SAID,
    flags: Annotated[FitFlags, tyro.conf.arg(name="")] = NO_FLAGS,
    preset: str | None = None,
    config: Path | None = None,
    kind: str = "",
    format: str = "",
) -> None:
    """Train a network on an image, sound, video, volume or mesh and save it as a field file.

    Ctrl-C keeps what was learned so far, and OUTPUT.resume to go on from with --resume.

    Args:
        input: what to encode.
        output: the field file to write (.safetensors).
        settings: network, training, and voxels of a mesh.
        flags: device, pictures, logs, resuming.
        preset: settings of configs/NAME.yaml; flags win over it.
        config: settings of this YAML file; flags win over it.
        kind: read it as this kind of signal (a TIFF of several pages: volume; a GIF of one frame: video); the default
            is what its name and content say.
        format: suffix of its format, such as png, where the name does not say it; of a pipe or - (standard input) the
            default is what its first bytes say.
    """
    from lg_field.signals import read_signal
    from lg_field.signals.encode import build_fit, domain_grid, fitting
    from lg_field.signals.settings import resolve, resolve_shape

    check_flags(flags, output, [input, config])
    said, console = (settings, chosen_settings(preset, config)), Console()
    with doing(f"encoding {input}"):
        data = read_signal(input, resolve_shape(*(layer.shape for layer in said)), kind, format)
        complete = resolve(data.signal.traits, *said)
        cells = data.needed_cells(domain_grid(data.signal, complete.network), complete.shape.margin)
        for note in data.notes(cells):
            say(console, note)
        config_fit = fitting(complete.fit, data.signal, settings.fit)
        fit = build_fit(data, complete.network, config_fit, pick_device(flags.device), cells=cells)
        run_fit(fit, output, flags, console)
