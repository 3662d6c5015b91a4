"""Scans: volumes that lie in the world, as scanners and their file formats give them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import ClassVar

import torch
from jaxtyping import Shaped
from torch import Tensor

from lg_field.errors import notice
from lg_field.signals.kinds.base import Kind
from lg_field.signals.kinds.volume import Volume
from lg_field.signals.own_places import EXTRA as EXTRA
from lg_field.signals.own_places import SPACE as SPACE
from lg_field.signals.own_places import ScanPlaces
from lg_field.signals.signal import Signal

WRITERS: dict[str, Callable[[Tensor, Path, Signal], None]] = {}
"""Suffix -> writer of (x, y, z, 1) samples; the formats' own modules add theirs."""


class Scan(ScanPlaces, Volume):
    """A volume with an affine from voxels to world units, millimetres as a rule, x to the right, y to the front and z
    up. Meshes of it are in these units. Written to any format of scans, whichever it came from."""

    reads: ClassVar[tuple[str, ...]] = ()
    on_request: ClassVar[tuple[str, ...]] = ()
    writes: ClassVar[tuple[str, ...]] = (".nii", ".nii.gz", ".nrrd")
    matches = Kind.matches

    def write(self, slabs: Iterable[Shaped[Tensor, "_ *rest channels"]], path: Path, signal: Signal) -> None:
        suffix = next(suffix for suffix in WRITERS if path.name.lower().endswith(suffix))
        WRITERS[suffix](torch.cat(list(slabs)), path, signal)

    def say_array(self, path: Path, signal: Signal) -> None:
        """The numbers of an array are those that are stored: their scale and place are in the other formats."""
        slope, intercept = (float(signal.extra.get(name, EXTRA[name])) for name in ("slope", "intercept"))
        if (slope, intercept) not in ((1.0, 0.0), (0.0, 0.0)):
            notice(f"{path}: numbers as they are stored; values are {slope:g} * number {intercept:+g} (kept in .nii)")
