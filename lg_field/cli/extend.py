"""`lg-field extend`: a field over a larger signal, or a crop with its removed cells back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console

from lg_field.cli.console import say
from lg_field.cli.fitting import NO_FLAGS, FitFlags, check_flags, run_fit
from lg_field.cli.options import Address, Output, pick_device
from lg_field.cli.presets import NOTHING_SAID
from lg_field.cli.setting_flags import hinted
from lg_field.errors import doing
from lg_field.signal_settings import FitConfig

if TYPE_CHECKING:
    from torch import Tensor

    from lg_field.networks import LocalGlobalNetwork
    from lg_field.signals.data import Samples
    from lg_field.signals.signal import Signal


def extend(
    input: Address,
    target: Annotated[Path, tyro.conf.arg(name="with")],
    output: Output,
    at: tuple[float, ...] = (),
    fit: Annotated[FitConfig, tyro.conf.arg(name="", constructor=hinted("fit"))] = NOTHING_SAID.fit,
    flags: Annotated[FitFlags, tyro.conf.arg(name="")] = NO_FLAGS,
) -> None:
    """Grow a field over a larger signal, or give a crop its removed cells back: only new rows are trained.

    Args:
        input: field file of the old signal, or of a crop.
        target: the larger signal: it holds the old one.
        output: the file to write.
        at: where in the target the old signal begins, in the units of --box of other commands (image: x y; video:
            frame x y; sound: seconds), 0 by default.
        fit: training of the new rows; everything else stays as it is to the bit.
        flags: device, pictures, logs, resuming.
    """
    from lg_field.files import load
    from lg_field.networks import LocalGlobalNetwork
    from lg_field.signals.centering import center
    from lg_field.signals.encode import check_fit, fitting
    from lg_field.signals.fit import Fit
    from lg_field.signals.settings import resolve_fit

    check_flags(flags, output, [input, target])
    console = Console()
    with doing(f"extending {input}"):
        field = load(input)
        if not isinstance(field, LocalGlobalNetwork):
            raise ValueError(f"{input} is a scene; this extends images, sounds, videos and volumes")
        larger, data, fresh = extended(field, target, at)
        complete = fitting(resolve_fit(data.signal.traits, fit), data.signal, fit)
        check_fit(data.signal, complete)
        say(
            console,
            f"{field.num_rows} old cells stay as they are; training {len(fresh)} new ones on "
            f"{' x '.join(map(str, data.signal.shape))} samples",
        )
        if complete.center_cells:
            center(larger, fresh)
        larger = larger.to(pick_device(flags.device))
        run_fit(Fit(larger, data, complete, fresh), output, flags, console)
        say_old_and_new(console, larger, data, fresh)


def say_old_and_new(console: Console, larger: LocalGlobalNetwork, data: Samples, fresh: Tensor) -> None:
    """How close the old and the new cells are to the signal."""
    import torch

    from lg_field.signals.metrics import psnr_of_rows

    new = fresh.to(larger.cells.device)
    kept = torch.isin(torch.arange(larger.num_rows, device=new.device), new, invert=True).nonzero()[:, 0]
    say(
        console,
        f"PSNR of the old cells {psnr_of_rows(larger, data, kept):.2f} dB, of the new ones "
        f"{psnr_of_rows(larger, data, new):.2f} dB",
    )


def extended(
    field: LocalGlobalNetwork, target: Path, at: tuple[float, ...]
) -> tuple[LocalGlobalNetwork, Samples, Tensor]:
    """The field with rows for the whole of the target, the data to train them on, and which rows are new.

    Raises:
        ValueError: the target is another kind of signal, does not hold the old one, or there is nothing to add.
    """
    from lg_field.signals import read_signal
    from lg_field.signals.decode import signal_of
    from lg_field.signals.settings import ShapeConfig

    signal = signal_of(field)
    kind = signal.kind if signal.traits.can_read(target) else ""
    data = read_signal(target, ShapeConfig(resolution=max(signal.shape)), kind)
    if data.signal.kind != signal.kind:
        raise ValueError(f"the field is of {signal.kind}, the target {target} of {data.signal.kind}")
    return data.signal.traits.extend(field, data, first_sample(at, data.signal))


def first_sample(at: tuple[float, ...], signal: Signal) -> tuple[int, ...]:
    """The sample, in the domain's order of axes, that lies at a place in the user's units and order; () if not said.

    Raises:
        ValueError: another number of numbers than the signal has axes, or a place between samples.
    """
    if not at:
        return ()
    if len(at) != len(signal.shape):
        units = signal.traits.units
        raise ValueError(f"--at of a {signal.kind} ({units}) needs {len(signal.shape)} numbers, got {len(at)}")
    exact = signal.traits.to_samples(signal, at)
    nearest = tuple(round(v) for v in exact)
    if any(abs(v - n) > 0.1 for v, n in zip(exact, nearest)):
        raise ValueError(f"--at {' '.join(f'{v:g}' for v in at)} lies between samples; the old signal begins at one")
    return nearest
