"""Decoded samples out to files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Shaped
from torch import Tensor

from lg_field.signals.kinds.base import Kind
from lg_field.signals.signal import Signal

ARRAY = ".npy"
"""Every kind of signal can be written as an array."""


def check_output(kind: Kind, path: Path) -> None:
    """Raise ValueError if a kind of signal is not written to files of this name."""
    writable = (*kind.writes, ARRAY)
    if not path.name.lower().endswith(writable):
        raise ValueError(f"{path}: write a decoded {kind.name} to {' '.join(writable)}")


def check_fits(path: Path, signal: Signal) -> None:
    """Raise ValueError if a file of this name cannot hold this signal: another suffix, too many channels or samples."""
    check_output(signal.traits, path)
    if path.suffix.lower() != ARRAY:
        signal.traits.check_write(path, signal)


def write_samples(slabs: Iterable[Shaped[Tensor, "_ *rest channels"]], path: Path, signal: Signal) -> None:
    """Write decoded samples, as the file's suffix says.

    Args:
        slabs: (n, ..., channels) samples, along the first axis.
        path: a file of one of the kind's suffixes, or .npy; replaced if it exists.
        signal: what the samples are, see `decoded_signal`.

    Raises:
        ValueError: another suffix, or one whose files cannot hold this signal.
    """
    check_fits(path, signal)
    if path.suffix.lower() != ARRAY:
        signal.traits.write(slabs, path, signal)
        return
    signal.traits.say_array(path, signal)
    dtype, at = np.dtype(signal.dtype), 0
    file = np.lib.format.open_memmap(path, "w+", dtype, (*signal.shape, signal.channels))
    for slab in slabs:
        file[at : at + len(slab)] = signal.traits.stored(slab, signal).numpy().astype(dtype)
        at += len(slab)
    file.flush()
