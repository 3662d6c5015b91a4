"""What the restoration commands share: their options, checks before any work, and what they say and save at the end."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console
from rich.table import Table

from lg_field.cli.fitting import FitFlags, check_flags, history_of, run_fit
from lg_field.cli.presets import settings_for
from lg_field.signals.settings import CompleteSettings, Settings

if TYPE_CHECKING:
    from torch import Tensor

    from lg_field.signals.data import SignalData
    from lg_field.signals.fit import Fit
    from lg_field.signals.signal import Signal


@dataclass(frozen=True)
class RestoreOptions:
    """Around a restoration."""

    settings: Annotated[Settings, tyro.conf.arg(name="")] = dataclasses.field(default_factory=Settings)
    """Network and training."""
    flags: Annotated[FitFlags, tyro.conf.arg(name="")] = dataclasses.field(default_factory=FitFlags)
    """Device, pictures, logs, resuming."""
    preset: str | None = None
    """Settings of configs/NAME.yaml: super-resolution, denoising, ct, and each with -incode, -lg-siren or -siren."""
    config: Path | None = None
    """Settings of this YAML file; flags win over it."""
    reference: Path | None = None
    """The true picture, if there is one: PSNR and SSIM are taken against it."""
    simulate: bool = False
    """INPUT is the true picture: make the measurement from it, restore, compare."""
    save_input: Path | None = None
    """Where to write the simulated measurement (.npy keeps values as they are)."""
    field: Path | None = None
    """The field file to write; default: beside OUTPUT, .safetensors. Crop it, decode it at another scale, ..."""
    baseline: bool = True
    """Compare with the classical method too, where there is a reference."""

    def complete(self, task: str) -> CompleteSettings:
        """Everything that flags, preset or config, and the task's defaults say.

        Args:
            task: name of the command.
        """
        from lg_field.restoration.tasks import TASKS

        return settings_for("image", self.settings, self.preset, self.config, TASKS[task])


@dataclass
class Task:
    """What a restoration shows and saves at its end."""

    result: Signal
    """The signal that the field decodes to."""
    baseline_name: str
    baseline: Callable[[], Tensor]
    """(height, width, channels) values, 0 to 1, of the classical method."""
    reference: Tensor | None
    measured: Tensor | None = None
    """The measurement, where it is a picture of the result's size."""


def field_path(output: Path, options: RestoreOptions) -> Path:
    """Where the field file goes."""
    return options.field if options.field is not None else output.with_suffix(".safetensors")


def check_outputs(output: Path, options: RestoreOptions) -> None:
    """Raise before any work if an output exists or is one the picture cannot be written to, or options clash."""
    from lg_field.files import refuse_existing
    from lg_field.signals.kinds import kind_named

    images = (*kind_named("image").writes, ".npy")
    if output.suffix.lower() not in images:
        raise ValueError(f"{output}: write the picture to {' '.join(images)}")
    if options.simulate and options.reference is not None:
        raise ValueError("with --simulate the input is the reference: leave out --reference")
    if options.save_input is not None and not options.simulate:
        raise ValueError("--save-input is for what --simulate makes")
    flags = options.flags
    check_flags(flags, field_path(output, options))
    for path in (output, options.save_input):
        if path is not None:
            refuse_existing(path, flags.overwrite or flags.resume)


def reference_values(options: RestoreOptions, grey: bool = False) -> Tensor | None:
    """The reference picture as values, 0 to 1."""
    from lg_field.restoration import pictures

    if options.reference is None:
        return None
    data = pictures.read_picture(options.reference)
    return pictures.values_of(pictures.to_grey(data) if grey else data)


def check_reference(task: Task) -> None:
    """Raise ValueError, before any work, if the reference is no picture of the result's shape."""
    wanted = (*task.result.shape, task.result.channels)
    if task.reference is not None and tuple(task.reference.shape) != wanted:
        raise ValueError(
            f"the result will have (height, width, channels) {wanted}, the reference has {tuple(task.reference.shape)}"
        )


def save_input(options: RestoreOptions, data: SignalData) -> None:
    """Write a simulated picture: an image clipped to 8 bits, or .npy with its values as they are."""
    from lg_field.files import atomic_write
    from lg_field.restoration import pictures
    from lg_field.signals.kinds.image import write_image

    path, values = options.save_input, pictures.values_of(data)
    if path is None:
        return
    if path.suffix.lower() == ".npy":
        write_array(values, path)
        return
    with atomic_write(path, overwrite=True) as temporary:
        write_image(pictures.to_samples(values, data.signal), temporary)


def write_array(values: Tensor, path: Path) -> None:
    """Write numbers as .npy."""
    import numpy as np

    from lg_field.files import atomic_write

    if path.suffix.lower() != ".npy":
        raise ValueError(f"{path}: an array is written to .npy")
    with atomic_write(path, overwrite=True) as temporary:
        np.save(temporary, values.numpy())


def run_restoration(fit: Fit, task: Task, output: Path, options: RestoreOptions) -> None:
    """Train, then write picture and field, and say how good they are."""

    def finish(console: Console, fit: Fit, path: Path, flags: FitFlags) -> None:
        import torch

        from lg_field.cli.decode import write_decoded
        from lg_field.files import save
        from lg_field.restoration.pictures import compare
        from lg_field.signals.decode import decode

        field, again = fit.field, flags.overwrite or flags.resume
        field.description, field.history = task.result, history_of(fit)
        if task.reference is not None:
            figures = compare(task.result.traits.unit_values(torch.cat(list(decode(field, raw=True)))), task.reference)
            field.history |= {name: round(value, 6) for name, value in figures.items()}
            classical = compare(task.baseline(), task.reference) if options.baseline else None
            console.print(comparison(task, figures, classical))
            if classical is not None and classical["psnr"] > figures["psnr"]:
                ahead = classical["psnr"] - figures["psnr"]
                console.print(f"{task.baseline_name} is {ahead:.2f} dB ahead: more --steps or --parameters may help")
        size = save(field, path, dtype=flags.dtype, overwrite=again)
        write_decoded(field, output, 1.0, None, again)
        console.print(
            f"{output}: {' x '.join(map(str, task.result.shape))} pixels, {fit.seconds:.1f} s of training\n"
            f"{path}: {size:,} bytes, {field.num_parameters()['total']:,} parameters ({flags.dtype})",
            highlight=False,
            soft_wrap=True,
        )

    run_fit(fit, field_path(output, options), options.flags, Console(), finish)


def comparison(task: Task, figures: dict[str, float], classical: dict[str, float] | None) -> Table:
    """A table of PSNR and SSIM: the measurement, the classical method, the network."""
    from lg_field.restoration.pictures import compare

    assert task.reference is not None
    rows = [("network", figures)]
    if classical is not None:
        rows.insert(0, (task.baseline_name, classical))
    if task.measured is not None:
        rows.insert(0, ("input", compare(task.measured, task.reference)))
    table = Table("", "PSNR dB", "SSIM")
    for name, row in rows:
        table.add_row(name, f"{row['psnr']:.2f}", f"{row['ssim']:.4f}" if "ssim" in row else "-")
    return table
