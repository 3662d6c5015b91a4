"""Scans: volumes that lie in the world, as scanners and their file formats give them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Shaped
from torch import Tensor

from lg_field.errors import notice
from lg_field.signals.kinds.base import Kind
from lg_field.signals.kinds.volume import Volume
from lg_field.signals.signal import Signal

EXTRA: dict[str, float] = {"slope": 1.0, "intercept": 0.0, "qform": 0, "sform": 2, "units": 2}
"""Entries of `Signal.extra`, and what is written where there are none: value = slope * stored number + intercept, and
NIfTI's codes of the two affines and of the units (2: millimetres)."""
SPACE = "space"
"""Entry of `Signal.extra`: the name of an NRRD file's space, "" where it named none."""
WRITERS: dict[str, Callable[[Tensor, Path, Signal], None]] = {}
"""Suffix -> writer of (x, y, z, 1) samples; the formats' own modules add theirs."""


class Scan(Volume):
    """A volume with an affine from voxels to world units, millimetres as a rule, x to the right, y to the front and z
    up. Meshes of it are in these units. Written to any format of scans, whichever it came from."""

    sample = "voxel"
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

    def check_extra(self, extra: Mapping[str, Any]) -> None:
        """`EXTRA`, all of it or nothing, and the name of a space."""
        rest = {name: value for name, value in extra.items() if name != SPACE}
        numbers = [isinstance(v, (int, float)) and math.isfinite(v) for v in rest.values()]
        space = extra.get(SPACE, "")
        named = isinstance(space, str) and len(space) < 80 and space.isprintable()
        if not named or (rest and not (rest.keys() == EXTRA.keys() and all(numbers) and rest["slope"])):
            raise ValueError(f"extra of {self.name} needs finite numbers {', '.join(EXTRA)}, got {dict(extra)}")
