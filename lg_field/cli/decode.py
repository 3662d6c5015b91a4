"""`lg-field decode`: from a field file back to an image, sound, video or array."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.console import Console

from lg_field.cli.options import NO_REGION, Address, Output, RegionFlags, halves, pick_device, progress_bar

if TYPE_CHECKING:
    from lg_field.networks import LocalGlobalNetwork


def decode(
    input: Address,
    output: Output,
    scale: float = 1.0,
    region: Annotated[RegionFlags, tyro.conf.arg(name="")] = NO_REGION,
    device: str = "auto",
    overwrite: bool = False,
) -> None:
    """Decode a field file to an image, sound, video or array.

    Args:
        input: field file, or an address fsspec reads.
        output: .png .jpg ..., .wav .flac .ogg, .mp4 ... or .npy (any kind).
        scale: samples per original sample: 2 doubles the resolution.
        region: only this part (boxes only); only its rows are read from the file.
        device: auto, cpu, cuda, ...
        overwrite: replace an existing output.
    """
    from lg_field.files import FieldFile, refuse_existing
    from lg_field.signals.decode import signal_of

    refuse_existing(output, overwrite)
    if region.cells or region.sphere or region.region or region.obb or region.invert:
        raise ValueError("decode takes a --box; crop the file first for other regions")
    begin = time.perf_counter()
    with FieldFile.open(input) as file:
        signal = signal_of(file.skeleton)  # type: ignore[arg-type]
        box = halves(region.box, signal) if region.box else None
        field: Any = file.load(region.resolve(file.skeleton)[0]) if box else file.load()
        read = file.reader.bytes_read
    field.region = file.region if box else field.region
    field = field.to(pick_device(device))
    console = Console()
    with progress_bar(console) as progress:
        task = progress.add_task("decoding")
        shape = write_decoded(
            field, output, scale, box, overwrite, lambda done, n: progress.update(task, completed=done, total=n)
        )
    console.print(
        f"{output}: {signal.kind} {' x '.join(map(str, shape))}, {output.stat().st_size:,} bytes, "
        f"{read:,} bytes read, {time.perf_counter() - begin:.1f} s",
        highlight=False,
        soft_wrap=True,
    )


def write_decoded(
    field: LocalGlobalNetwork,
    output: Path,
    scale: float,
    box: Any,
    overwrite: bool,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[int, ...]:
    """Decode into a file, as its suffix says; returns the decoded shape."""
    from lg_field.files import atomic_write
    from lg_field.signals.decode import decode, decoded_signal, signal_of
    from lg_field.signals.writing import check_output, write_samples

    signal = signal_of(field)
    check_output(signal.traits, output)
    decoded = decoded_signal(signal, scale, box)
    slabs = decode(field, scale, box, progress)
    with atomic_write(output, overwrite) as temporary:
        write_samples(slabs, temporary, decoded)
    return decoded.shape
