"""`lg-field super-resolve`, `denoise`, `reconstruct-ct`: a picture from a measurement of it, and its field file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from lg_field.cli.options import Input, Output, pick_device
from lg_field.cli.presets import NOTHING_SAID, Settings
from lg_field.cli.restoring import (
    NO_OPTIONS,
    RestoreOptions,
    Task,
    check_paths,
    check_reference,
    reference_values,
    run_restoration,
    save_input,
    settings_for,
    write_array,
)
from lg_field.cli.setting_flags import setting_flags
from lg_field.errors import doing
from lg_field.restoration.tasks import (
    DENOISING,
    PRIORS,
    PUBLISHED_SIDE,
    SUPER_RESOLUTION,
    TOMOGRAPHY,
    same_detail,
)

if TYPE_CHECKING:
    from torch import Tensor

    from lg_field.signals.fit import Fit

Options = Annotated[RestoreOptions, tyro.conf.arg(name="")]
SuperResolution = Annotated[Settings, tyro.conf.arg(name="", constructor=setting_flags(SUPER_RESOLUTION))]
Denoising = Annotated[Settings, tyro.conf.arg(name="", constructor=setting_flags(DENOISING))]
Tomography = Annotated[Settings, tyro.conf.arg(name="", constructor=setting_flags(TOMOGRAPHY))]


def super_resolve(
    input: Input,
    output: Output,
    scale: float = 4.0,
    averages: bool = False,
    smoothness: float = PRIORS["super-resolve"].smoothness,
    settings: SuperResolution = NOTHING_SAID,
    options: Options = NO_OPTIONS,
) -> None:
    """Enlarge a picture: fit a network to it, and decode that at more pixels. With --averages it is closer to the truth
    than bicubic enlargement where pixels are means, as cameras make them. Without, use it for the field, which can be
    cropped and decoded at any scale: where only the picture counts, bicubic enlargement is then closer in our tests.

    Args:
        input: the coarse picture; with --simulate the true one, which is averaged down first.
        output: the fine picture to write.
        scale: pixels of the result for each of the input, per axis; more than 1.
        averages: take a pixel of the input for the mean of those of the result that it covers; the defaults are then a
            plain sine network of 13 parameters for a pixel of the input, cells of 32 x 32 of these and 600 steps on the
            whole picture at a rate of 1e-3. Time follows the pixels of the result.
        smoothness: --averages: how much neighbours should be alike; more for noisy pictures.
        settings: network and training.
        options: reference, simulation, field file.
    """
    from lg_field.restoration import averages as by_averages
    from lg_field.restoration import pictures
    from lg_field.restoration.super_resolution import bicubic, check_scale, downsample
    from lg_field.signals.decode import decoded_signal
    from lg_field.signals.encode import build_fit, fitting

    check_scale(scale)
    if not averages and smoothness != PRIORS["super-resolve"].smoothness:
        raise ValueError("--smoothness is of --averages: give that, too, or leave it out")
    check_paths(input, output, options)
    chosen = settings_for(PRIORS["super-resolve"].settings if averages else SUPER_RESOLUTION, settings, options)
    with doing(f"enlarging {input}"):
        data, reference = pictures.read_picture(input), reference_values(options)
        if options.simulate:
            coarse, reference = downsample(pictures.values_of(data), scale)
            data = pictures.from_values(coarse, data.signal)
        result = decoded_signal(data.signal, scale)
        task = Task(result, "bicubic", lambda: bicubic(pictures.values_of(data), result.shape), reference)
        check_reference(task)
        config, device = fitting(chosen.fit, data.signal, settings.fit), pick_device(options.flags.device)
        if averages:
            fit: Fit = by_averages.build_fit(
                data, result, scale, chosen.network, config, PRIORS["super-resolve"], smoothness, device
            )
        else:
            network = same_detail(chosen.network, data.signal.shape, PUBLISHED_SIDE["super-resolve"])
            fit = build_fit(data, network, config, device)
        save_input(options, data)
        run_restoration(fit, task, output, options)


def denoise(
    input: Input,
    output: Output,
    tau: float = 40.0,
    readout_noise: float = 2.0,
    smoothness: float = 0.0,
    settings: Denoising = NOTHING_SAID,
    options: Options = NO_OPTIONS,
) -> None:
    """Denoise a picture: a network learns the picture before the noise; fewer --steps smooth more. That is for strong
    sensor noise on pictures of about 512 pixels; on smaller ones it is worse than non-local means (scikit-image) in our
    tests, and --smoothness 0.1 is better. Weak noise (a third of that and less) is better left to non-local means. Try
    yours with --simulate, which compares them.

    Args:
        input: the noisy picture, or a .npy of (height, width, channels) values around 0 to 1; with --simulate the
            true one, to which sensor noise is added.
        output: the clean picture to write.
        tau: --simulate: photons that a white pixel collects.
        readout_noise: --simulate: standard deviation of the read-out noise, in photons ("SNR" in the papers).
        smoothness: how much neighbours should be alike: about the noise's standard deviation in values from 0 to 1, 0.1
            for strong noise. Above 0 the defaults are a plain sine network of 1.6 parameters for a pixel, cells of 64 x
            64 pixels and 300 steps on the whole picture at a rate of 1e-3. Time follows its pixels.
        settings: network and training.
        options: reference, simulation, field file.
    """
    import torch

    from lg_field.restoration import averages, pictures
    from lg_field.restoration.denoising import add_sensor_noise, non_local_means
    from lg_field.signals.encode import build_fit, fitting

    check_paths(input, output, options)
    chosen = settings_for(PRIORS["denoise"].settings if smoothness else DENOISING, settings, options)
    with doing(f"denoising {input}"):
        data, reference = pictures.read_picture(input), reference_values(options)
        if options.simulate:
            reference = pictures.values_of(data)
            generator = torch.Generator().manual_seed(chosen.fit.seed)
            data = pictures.from_values(add_sensor_noise(reference, tau, readout_noise, generator), data.signal)
        values = pictures.values_of(data)
        task = Task(data.signal, "non-local means", lambda: non_local_means(values), reference, values)
        check_reference(task)
        config, device = fitting(chosen.fit, data.signal, settings.fit), pick_device(options.flags.device)
        if smoothness:
            prior = PRIORS["denoise"]
            fit: Fit = averages.build_fit(data, data.signal, 1, chosen.network, config, prior, smoothness, device)
        else:
            network = same_detail(chosen.network, data.signal.shape, PUBLISHED_SIDE["denoise"])
            fit = build_fit(data, network, config, device)
        save_input(options, data)
        run_restoration(fit, task, output, options)


def reconstruct_ct(
    input: Input,
    output: Output,
    angles: int = 150,
    angle_range: tuple[float, float] = (0.0, 180.0),
    settings: Tomography = NOTHING_SAID,
    options: Options = NO_OPTIONS,
) -> None:
    """Reconstruct a slice from its parallel-beam projections.

    Args:
        input: sinogram .npy of (angles, detectors), the transpose of scikit-image's; with --simulate a square
            picture of the true slice, which is projected first.
        output: the slice to write: a picture, or .npy in the sinogram's units per pixel.
        angles: how many, evenly over the range, its end left out.
        angle_range: first and last angle in degrees.
        settings: network and training.
        options: reference, simulation, field file.
    """
    from lg_field.restoration import pictures, tomography

    check_paths(input, output, options)
    chosen = settings_for(TOMOGRAPHY, settings, options)
    with doing(f"reconstructing {input}"):
        turns, reference = tomography.projection_angles(angles, *angle_range), reference_values(options, grey=True)
        signal = None
        if options.simulate:
            reference = pictures.values_of(pictures.to_grey(pictures.read_picture(input)))
            sinogram, signal = tomography.project(reference[..., 0], turns)
        else:
            sinogram = read_sinogram(input)
        tomography.check_sinogram(sinogram, angles)
        network = same_detail(chosen.network, sinogram.shape[1:], PUBLISHED_SIDE["reconstruct-ct"])
        device = pick_device(options.flags.device)
        fit, estimate = tomography.build_fit(sinogram, turns, network, chosen.fit, device, signal)
        low, high = fit.data.signal.value_range
        values = ((estimate - low) / (high - low))[..., None]
        task = Task(fit.data.signal, "filtered back-projection", lambda: values, reference)
        check_reference(task)
        if options.save_input is not None:
            write_array(sinogram, options.save_input)
        run_restoration(fit, task, output, options)


def read_sinogram(path: Path) -> Tensor:
    """(angles, detectors) numbers.

    Raises:
        ValueError: no array of numbers.
    """
    from lg_field.signals.arrays import is_array, read_array
    from lg_field.signals.inputs import as_file

    with as_file(path) as given:
        if not is_array(given):
            raise ValueError(f"{given}: a sinogram is an array, .npy or .npz; a picture of the slice needs --simulate")
        return read_array(given)
