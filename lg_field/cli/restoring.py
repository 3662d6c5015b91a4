"""What the restoration commands share: their options, checks before any work, and what they say and save at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console
from rich.table import Table

from lg_field.cli.console import say
from lg_field.cli.decode import write_decoded
from lg_field.cli.fitting import NO_FLAGS, FitFlags, check_flags, run_fit
from lg_field.cli.options import check_outputs
from lg_field.cli.presets import chosen_settings
from lg_field.cli.reports import history_of

if TYPE_CHECKING:
    from torch import Tensor

    from lg_field.signals.data import SignalData
    from lg_field.signals.fit import Fit
    from lg_field.signals.settings import CompleteSettings, Settings
    from lg_field.signals.signal import Signal


@dataclass(frozen=True)
class RestoreOptions:
    """Around a restoration."""

    flags: Annotated[FitFlags, tyro.conf.arg(name="")] = NO_FLAGS
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


NO_OPTIONS = RestoreOptions()


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


def settings_for(task: Settings, said: Settings, options: RestoreOptions) -> CompleteSettings:
    """The settings of a restoration: of the flags, else of a preset or config, else of the task, else of pictures."""
    from lg_field.restoration.pictures import PICTURE
    from lg_field.signals.settings import resolve

    return resolve(PICTURE, said, chosen_settings(options.preset, options.config), task)


def check_paths(input: Path, output: Path, options: RestoreOptions) -> None:
    """Raise before any work if an output exists, is an input, or is one that no picture is written to, or options
    clash."""
    from lg_field.restoration.pictures import PICTURE
    from lg_field.signals.registry import kind_named
    from lg_field.signals.writing import check_output

    check_output(kind_named(PICTURE), output)
    if options.simulate and options.reference is not None:
        raise ValueError("with --simulate the input is the reference: leave out --reference")
    if options.save_input is not None and not options.simulate:
        raise ValueError("--save-input is for what --simulate makes")
    field, inputs = field_path(output, options), [input, options.reference, options.config]
    check_flags(options.flags, field, inputs)
    check_outputs(options.flags.replaces, [output, options.save_input, field], inputs)


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
        from lg_field.files import save

        field, result = fit.field, " x ".join(map(str, task.result.shape))
        field.description, field.history = task.result, history_of(fit)
        if task.reference is not None:
            field.history |= compared(console, fit, task, options.baseline)
        size = save(field, path, dtype=flags.dtype, overwrite=flags.replaces)
        write_decoded(field, output, 1.0, None, flags.replaces)
        say(
            console,
            f"{output}: {result} pixels, {fit.seconds:.1f} s of training\n"
            f"{path}: {size:,} bytes, {field.num_parameters()['total']:,} parameters ({flags.dtype})",
        )

    run_fit(fit, field_path(output, options), options.flags, Console(), finish)


def compared(console: Console, fit: Fit, task: Task, baseline: bool) -> dict[str, float]:
    """Show how close the network, and the classical method, come to the reference; the network's figures."""
    import torch

    from lg_field.restoration.pictures import compare
    from lg_field.signals.decode import decode

    assert task.reference is not None
    values = task.result.traits.unit_values(torch.cat(list(decode(fit.field, raw=True))))
    figures = compare(values, task.reference)
    classical = compare(task.baseline(), task.reference) if baseline else None
    console.print(comparison(task, figures, classical))
    if classical is not None and classical["psnr"] > figures["psnr"]:
        ahead = classical["psnr"] - figures["psnr"]
        say(console, f"{task.baseline_name} is {ahead:.2f} dB ahead: more --steps or --parameters may help")
    return {name: round(value, 6) for name, value in figures.items()}


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
