"""`lg-field decode`: from a field file back to an image, sound, video or array."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.console import Console

from lg_field.cli.console import progress_bar, say
from lg_field.cli.kind_facts import ARRAY, FACTS
from lg_field.cli.options import (
    NO_REGION,
    Address,
    RegionFlags,
    check_outputs,
    pick_device,
    sample_corners,
)
from lg_field.errors import doing

if TYPE_CHECKING:
    from lg_field.networks import LocalGlobalNetwork
    from lg_field.signals.kinds.base import Bounds
    from lg_field.signals.signal import Signal


WRITES = "; ".join(f"{kind.name}: {' '.join((*kind.writes, ARRAY))}" for kind in FACTS)
Decoded = Annotated[Path, tyro.conf.arg(aliases=["-o"], help=f"The file to write. {WRITES}.")]


def decode(
    input: Address,
    output: Decoded,
    scale: float = 1.0,
    region: Annotated[RegionFlags, tyro.conf.arg(name="")] = NO_REGION,
    device: str = "auto",
    max_size: float = 4.0,
    overwrite: bool = False,
) -> None:
    """Decode a field file to an image, sound, video or array.

    Args:
        input: field file, or an address fsspec reads.
        output: the file to write.
        scale: samples per original sample: 2 doubles the resolution.
        region: only this part (boxes only); only its rows are read from the file.
        device: auto, cpu, cuda, ...
        max_size: GB of decoded samples; what is larger is refused before it is decoded.
        overwrite: replace an existing output.
    """
    from lg_field.files import FieldFile
    from lg_field.signals.decode import signal_of
    from lg_field.signals.writing import check_output

    check_outputs(overwrite, [output], [input])
    if replace(region, box=()).given or region.invert:
        raise ValueError("decode takes a --box; crop the file first for other regions")
    begin = time.perf_counter()
    console = Console()
    with doing(f"decoding {input}"):
        with FieldFile.open(input) as file:
            signal = signal_of(file.skeleton)  # type: ignore[arg-type]
            check_output(signal.traits, output)
            box = sample_corners(region.box, signal) if region.box else None
            say(console, f"decoding {check_decoding(output, signal, max_size, scale, box)}")
            field: Any = file.load(region.resolve(file.skeleton)[0]) if box else file.load()
            read = file.reader.bytes_read
        field.region = file.header.region if box else field.region
        field = field.to(pick_device(device))
        with progress_bar(console) as progress:
            task = progress.add_task("decoding")
            decoded = write_decoded(
                field, output, scale, box, overwrite, lambda done, n: progress.update(task, completed=done, total=n)
            )
    say(
        console,
        f"{output}: {signal.kind} {' x '.join(map(str, decoded.shape))}, {output.stat().st_size:,} bytes, "
        f"{read:,} bytes read, {time.perf_counter() - begin:.1f} s",
    )


def check_decoding(output: Path, signal: Signal, max_size: float, scale: float, box: Bounds | None) -> str:
    """How large decoding is, in words; ValueError where the limit, the file's format or the machine is too small."""
    from lg_field.signals.decode import check_size, decoded_signal
    from lg_field.signals.writing import check_fits

    size = check_size(signal, max_size, scale, box)
    check_fits(output, decoded_signal(signal, scale, box))
    check_room(output, signal, scale, box)
    return size


def check_room(output: Path, signal: Signal, scale: float, box: Bounds | None) -> None:
    """Raise ValueError if memory, or for arrays, which are written as they are decoded, the disk is too small."""
    from lg_field.memory import check_memory
    from lg_field.signals.decode import decoded_bytes

    shape, size = decoded_bytes(signal, scale, box)
    folder = next(parent for parent in output.absolute().parents if parent.is_dir())
    free = shutil.disk_usage(folder).free
    if output.suffix.lower() == ARRAY and size > free:
        raise ValueError(
            f"{output} would take {size / 1e9:,.1f} GB, {free / 1e9:,.1f} are free on its disk: use a smaller "
            "--scale or a --box"
        )
    needed = 100 * sum(shape) + (0 if output.suffix.lower() == ARRAY else size)
    check_memory(needed, f"decoding {' x '.join(f'{n:,}' for n in shape)} samples", "use a smaller --scale or a --box")


def write_decoded(
    field: LocalGlobalNetwork,
    output: Path,
    scale: float,
    box: Bounds | None,
    overwrite: bool,
    progress: Callable[[int, int], None] | None = None,
) -> Signal:
    """Decode into a file, as its suffix says.

    Args:
        field: of a signal.
        output: a file that signals of its kind are written to.
        scale: samples per original sample and axis.
        box: lower and upper corner in sample units; None = everything.
        overwrite: replace an existing output.
        progress: called with samples done and in all.

    Returns:
        What was written.

    Raises:
        ValueError: a suffix whose files cannot hold it, a box without samples, or a scale that is not positive.
    """
    from lg_field.files import atomic_write
    from lg_field.signals.decode import decode, decoded_signal, signal_of
    from lg_field.signals.writing import check_fits, write_samples

    signal = signal_of(field)
    check_fits(output, decoded_signal(signal, scale, box))
    decoded, slabs = decoded_signal(signal, scale, box), decode(field, scale, box, progress)
    with atomic_write(output, overwrite) as temporary:
        write_samples(slabs, temporary, decoded)
    return decoded
