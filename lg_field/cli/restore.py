"""`lg-field super-resolve`, `denoise`, `reconstruct-ct`: a picture from a measurement of it, and its field file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table

from lg_field.cli.fitting import FitFlags, check_flags, history_of, run_fit
from lg_field.cli.options import Input, Output, pick_device
from lg_field.cli.presets import Settings

if TYPE_CHECKING:
    from torch import Tensor

    from lg_field.description import Signal
    from lg_field.signals.data import SignalData
    from lg_field.signals.encode import NetworkConfig
    from lg_field.training import Fit


@dataclass(frozen=True)
class RestoreFlags:
    """Around a restoration."""

    reference: Path | None = None
    """The true picture, if there is one: PSNR and SSIM are taken against it."""
    simulate: bool = False
    """INPUT is the true picture: make the measurement from it, restore, compare."""
    save_input: Path | None = None
    """Where to write the simulated measurement."""
    field: Path | None = None
    """The field file to write; default: beside OUTPUT, .safetensors. Crop it, decode it at another scale, ..."""
    baseline: bool = True
    """Compute the classical method too, to compare."""


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


Network = Annotated[Settings, tyro.conf.arg(name="")]
Flags = Annotated[FitFlags, tyro.conf.arg(name="")]
Restore = Annotated[RestoreFlags, tyro.conf.arg(name="")]
NO_FLAGS, NO_RESTORE = FitFlags(), RestoreFlags()


def super_resolve_command(settings: Settings) -> Callable[..., None]:
    """`lg-field super-resolve` with these settings as defaults."""

    def super_resolve(
        input: Input,
        output: Output,
        scale: float = 4.0,
        settings: Network = settings,
        restore: Restore = NO_RESTORE,
        flags: Flags = NO_FLAGS,
        preset: str | None = None,
        config: Path | None = None,
    ) -> None:
        """Enlarge a picture: fit a network to it, and decode that at more pixels.

        Args:
            input: the coarse picture; with --simulate the true one, which is averaged down first.
            output: the fine picture to write.
            scale: pixels of the result for each of the input, per axis; more than 1.
            settings: network and training.
            restore: reference, simulation, field file.
            flags: device, pictures, logs, resuming.
            preset: settings of configs/NAME.yaml (super-resolution, super-resolution-incode, ...); flags win over it.
            config: settings of this YAML file; flags win over it.
        """
        from lg_field.restoration import pictures
        from lg_field.restoration.super_resolution import bicubic, check_scale, downsample
        from lg_field.signals.decode import decoded_shape
        from lg_field.signals.encode import build_fit

        check_scale(scale)
        check_outputs(output, restore, flags)
        data, reference = pictures.read_picture(input), reference_values(restore)
        if restore.simulate:
            coarse, reference = downsample(pictures.values_of(data), scale)
            height, width, _ = coarse.shape
            data = pictures.from_values(coarse)
            save_input(restore, data)
        height, width = decoded_shape([(0, n) for n in data.signal.shape], scale)
        task = Task(
            replace(data.signal, shape=(height, width)),
            "bicubic",
            lambda: bicubic(pictures.values_of(data), (height, width)),
            reference,
        )
        check_reference(task)
        network = same_detail(settings.network, data.signal.shape, 504)
        fit = build_fit(data, network, settings.fit, pick_device(flags.device))
        run_restoration(fit, task, output, restore, flags)

    return super_resolve


def denoise_command(settings: Settings) -> Callable[..., None]:
    """`lg-field denoise` with these settings as defaults."""

    def denoise(
        input: Input,
        output: Output,
        tau: float = 40.0,
        readout_noise: float = 2.0,
        settings: Network = settings,
        restore: Restore = NO_RESTORE,
        flags: Flags = NO_FLAGS,
        preset: str | None = None,
        config: Path | None = None,
    ) -> None:
        """Denoise a picture: a network learns the picture before the noise; fewer --steps smooth more.

        Args:
            input: the noisy picture, or a .npy of (height, width, channels) values around 0 to 1; with --simulate the
                true one, to which sensor noise is added.
            output: the clean picture to write.
            tau: --simulate: photons that a white pixel collects.
            readout_noise: --simulate: standard deviation of the read-out noise, in photons ("SNR" in the papers).
            settings: network and training.
            restore: reference, simulation, field file.
            flags: device, pictures, logs, resuming.
            preset: settings of configs/NAME.yaml (denoising, denoising-incode, ...); flags win over it.
            config: settings of this YAML file; flags win over it.
        """
        import torch

        from lg_field.restoration import pictures
        from lg_field.restoration.denoising import add_sensor_noise, non_local_means
        from lg_field.signals.encode import build_fit

        check_outputs(output, restore, flags)
        data, reference = pictures.read_picture(input), reference_values(restore)
        if restore.simulate:
            reference = pictures.values_of(data)
            generator = torch.Generator().manual_seed(settings.fit.seed)
            data = pictures.from_values(add_sensor_noise(reference, tau, readout_noise, generator))
            save_input(restore, data)
        values = pictures.values_of(data)
        task = Task(data.signal, "non-local means", lambda: non_local_means(values), reference, values)
        check_reference(task)
        network = same_detail(settings.network, data.signal.shape, 512)
        fit = build_fit(data, network, settings.fit, pick_device(flags.device))
        run_restoration(fit, task, output, restore, flags)

    return denoise


def reconstruct_ct_command(settings: Settings) -> Callable[..., None]:
    """`lg-field reconstruct-ct` with these settings as defaults."""

    def reconstruct_ct(
        input: Input,
        output: Output,
        angles: int = 150,
        angle_range: tuple[float, float] = (0.0, 180.0),
        settings: Network = settings,
        restore: Restore = NO_RESTORE,
        flags: Flags = NO_FLAGS,
        preset: str | None = None,
        config: Path | None = None,
    ) -> None:
        """Reconstruct a slice from its parallel-beam projections.

        Args:
            input: sinogram .npy of (angles, detectors), the transpose of scikit-image's; with --simulate a square
                picture of the true slice, which is projected first.
            output: the slice to write: a picture, or .npy in the sinogram's units per pixel.
            angles: how many, evenly over the range, its end left out.
            angle_range: first and last angle in degrees.
            settings: network and training.
            restore: reference, simulation, field file.
            flags: device, pictures, logs, resuming.
            preset: settings of configs/NAME.yaml (ct, ct-incode, ...); flags win over it.
            config: settings of this YAML file; flags win over it.
        """
        from lg_field.restoration import pictures, tomography

        check_outputs(output, restore, flags)
        turns, reference = tomography.projection_angles(angles, *angle_range), reference_values(restore, grey=True)
        signal = None
        if restore.simulate:
            truth = pictures.to_grey(pictures.read_picture(input))
            reference = pictures.values_of(truth)
            sinogram, signal = tomography.project(reference[..., 0], turns)
            if restore.save_input is not None:
                write_array(sinogram, restore.save_input, flags.overwrite)
        else:
            sinogram = read_sinogram(input)
        tomography.check_sinogram(sinogram, angles)
        network = same_detail(settings.network, sinogram.shape[1:], 256)
        device = pick_device(flags.device)
        fit, estimate = tomography.build_fit(sinogram, turns, network, settings.fit, device, signal)
        low, high = fit.data.signal.value_range
        scaled = ((estimate - low) / (high - low))[..., None]
        task = Task(fit.data.signal, "filtered back-projection", lambda: scaled, reference)
        check_reference(task)
        run_restoration(fit, task, output, restore, flags)

    return reconstruct_ct


def field_path(output: Path, restore: RestoreFlags) -> Path:
    """Where the field file goes."""
    return restore.field if restore.field is not None else output.with_suffix(".safetensors")


def same_detail(network: NetworkConfig, shape: Sequence[int], published: int) -> NetworkConfig:
    """The same frequencies per pixel in a picture smaller than the published one, where the domain would otherwise
    squeeze them together: what lies between samples would be noise. --coordinate-scale wins."""
    if network.coordinate_scale:
        return network
    return replace(network, coordinate_scale=min(1.0, max(shape) / published))


def check_outputs(output: Path, restore: RestoreFlags, flags: FitFlags) -> None:
    """Raise before any work if an output exists or is one the picture cannot be written to."""
    from lg_field.files import refuse_existing
    from lg_field.signals.data import IMAGES

    if output.suffix.lower() not in (*IMAGES, ".npy"):
        raise ValueError(f"{output}: write the picture to {' '.join((*IMAGES, '.npy'))}")
    if restore.simulate and restore.reference is not None:
        raise ValueError("with --simulate the input is the reference: leave out --reference")
    if restore.save_input is not None and not restore.simulate:
        raise ValueError("--save-input is for what --simulate makes")
    check_flags(flags, field_path(output, restore))
    for path in (output, restore.save_input):
        if path is not None:
            refuse_existing(path, flags.overwrite or flags.resume)


def read_sinogram(path: Path) -> Tensor:
    """(angles, detectors) numbers."""
    from lg_field.signals.data import ARRAYS, read_array

    if path.suffix.lower() not in ARRAYS:
        raise ValueError(f"{path}: a sinogram is an array, .npy or .npz; a picture of the slice needs --simulate")
    return read_array(path)


def reference_values(restore: RestoreFlags, grey: bool = False) -> Tensor | None:
    """The reference picture as values, 0 to 1."""
    from lg_field.restoration import pictures

    if restore.reference is None:
        return None
    data = pictures.read_picture(restore.reference)
    return pictures.values_of(pictures.to_grey(data) if grey else data)


def check_reference(task: Task) -> None:
    """Raise ValueError, before any work, if the reference is no picture of the result's shape."""
    wanted = (*task.result.shape, task.result.channels)
    if task.reference is not None and tuple(task.reference.shape) != wanted:
        raise ValueError(
            f"the result will have (height, width, channels) {wanted}, the reference has {tuple(task.reference.shape)}"
        )


def save_input(restore: RestoreFlags, data: SignalData) -> None:
    """Write a simulated picture: an image clipped to 8 bits, or .npy with its values as they are."""
    from lg_field.files import atomic_write
    from lg_field.restoration import pictures
    from lg_field.signals.image import write_image

    path = restore.save_input
    if path is None:
        return
    values = pictures.values_of(data)
    if path.suffix.lower() == ".npy":
        write_array(values, path, overwrite=True)
        return
    with atomic_write(path, overwrite=True) as temporary:
        write_image(pictures.to_samples(values, data.signal), temporary)


def write_array(values: Tensor, path: Path, overwrite: bool) -> None:
    """Write numbers as .npy."""
    import numpy as np

    from lg_field.files import atomic_write

    if path.suffix.lower() != ".npy":
        raise ValueError(f"{path}: an array is written to .npy")
    with atomic_write(path, overwrite) as temporary:
        np.save(temporary, values.numpy())


def run_restoration(fit: Fit, task: Task, output: Path, restore: RestoreFlags, flags: FitFlags) -> None:
    """Train, then write picture and field, and say how good they are."""

    def finish(console: Console, fit: Fit, path: Path, flags: FitFlags) -> None:
        import torch

        from lg_field.cli.decode import write_decoded
        from lg_field.files import save
        from lg_field.metrics import unit_values
        from lg_field.restoration import pictures
        from lg_field.signals.decode import decode

        fit.field.description = task.result
        field = fit.field
        values = unit_values(torch.cat(list(decode(field, raw=True))), "image")
        figures: dict[str, Any] = {}
        if task.reference is not None:
            figures = pictures.compare(values, task.reference)
        field.history = history_of(fit) | {k: round(v, 6) for k, v in figures.items()}
        again = flags.overwrite or flags.resume
        size = save(field, path, dtype=flags.dtype, overwrite=again)
        write_decoded(field, output, 1.0, None, again)
        if task.reference is not None:
            console.print(comparison(task, figures, restore.baseline))
        shape = " x ".join(map(str, task.result.shape))
        console.print(
            f"{output}: {shape} pixels, {fit.seconds:.1f} s of training\n"
            f"{path}: {size:,} bytes, {field.num_parameters()['total']:,} parameters ({flags.dtype})",
            highlight=False,
            soft_wrap=True,
        )

    run_fit(fit, field_path(output, restore), flags, Console(), finish)


def comparison(task: Task, figures: dict[str, float], baseline: bool) -> Table:
    """A table of PSNR and SSIM: the measurement, the classical method, the network."""
    from lg_field.restoration import pictures

    assert task.reference is not None
    rows = [("network", figures)]
    if baseline:
        rows.insert(0, (task.baseline_name, pictures.compare(task.baseline(), task.reference)))
    if task.measured is not None:
        rows.insert(0, ("input", pictures.compare(task.measured, task.reference)))
    table = Table("", "PSNR dB", "SSIM")
    for name, row in rows:
        table.add_row(name, f"{row['psnr']:.2f}", f"{row['ssim']:.4f}" if "ssim" in row else "-")
    return table
