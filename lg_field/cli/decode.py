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
    import numpy as np
    import torch

    from lg_field.files import atomic_write
    from lg_field.signals import data as names
    from lg_field.signals.decode import decode, decoded_shape, sample_window, signal_of

    signal, suffix = signal_of(field), output.suffix.lower()
    suits = {"image": names.IMAGES, "audio": names.SOUNDS, "video": names.VIDEOS}.get(signal.kind, ())
    if suffix not in (*suits, ".npy"):
        raise ValueError(f"{output}: write a decoded {signal.kind} to {' '.join((*suits, '.npy'))}")
    window = sample_window(signal, box)
    shape = decoded_shape(window, scale)
    if signal.kind == "video":
        shape = (window[0][1] - window[0][0], *shape[1:])
    slabs = decode(field, scale, box, progress)
    with atomic_write(output, overwrite) as temporary:
        if suffix == ".npy":
            first = next(slabs)
            kind = np.dtype(signal.dtype)
            file = np.lib.format.open_memmap(temporary, "w+", kind, (*shape, signal.channels))
            at = 0
            for slab in (first, *slabs):
                file[at : at + len(slab)] = slab.numpy().astype(kind)
                at += len(slab)
            file.flush()
        elif signal.kind == "image":
            from lg_field.signals.kinds.image import to_pixels, write_image

            write_image(to_pixels(torch.cat(list(slabs)), signal), temporary)
        elif signal.kind == "audio":
            from lg_field.signals.kinds.audio import write_audio

            write_audio(slabs, temporary, signal, round(signal.rate * scale))
        else:
            from lg_field.signals.kinds.video import write_video

            write_video(slabs, temporary, signal.rate)
    return shape
