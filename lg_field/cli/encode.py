"""`lg-field encode`: from an image, sound, video or volume to a field file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from lg_field.cli.fitting import FitFlags, check_flags, run_fit
from lg_field.cli.options import Input, Output, pick_device
from lg_field.cli.presets import Settings


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
        """Train a network on an image, sound, video or volume and save it as a field file.

        Ctrl-C keeps what was learned so far, and OUTPUT.resume to go on from with --resume.

        Args:
            input: .png .jpg .tif ... (8 or 16 bits), .wav .flac .ogg, .mp4 ..., or .npy .npz with a volume.
            output: the field file to write (.safetensors).
            settings: network and training.
            flags: device, pictures, logs, resuming.
            preset: settings of configs/NAME.yaml; flags win over it.
            config: settings of this YAML file; flags win over it.
        """
        from lg_field.signals import read_signal
        from lg_field.signals.encode import build_fit

        check_flags(flags, output)
        data = read_signal(input)
        fit = build_fit(data, settings.network, settings.fit, pick_device(flags.device))
        run_fit(fit, output, flags, Console())

    return encode
