"""Extending an encoded signal: new cells are trained on a larger signal, old ones stay as they are to the bit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from lg_field.networks import LocalGlobalNetwork
from lg_field.signals.data import SignalData
from lg_field.signals.decode import signal_of
from lg_field.table.editing import extend, regrow


def extend_to(
    field: LocalGlobalNetwork, target: SignalData, at: Sequence[int] = ()
) -> tuple[LocalGlobalNetwork, SignalData, Int64[Tensor, " fresh"]]:
    """A field for a larger signal, or for the whole of a signal whose field was cropped.

    Args:
        field: encodes part of `target`; untouched.
        target: the larger signal.
        at: where the old signal's first sample lies in the target, per axis; () = at its first sample.

    Returns:
        The field with fresh rows, the target as the field sees it (grown to whole cells by repeating its edge, in the
        old field's value range), and the (n,) fresh rows, to be trained with `Fit(..., rows=...)`.

    Raises:
        ValueError: another kind of signal, a target that does not hold the old one, cells of broken sample counts,
            or nothing to add.
    """
    signal, grid = signal_of(field), field.grid
    new = target.signal
    if (new.kind, new.channels, new.dtype) != (signal.kind, signal.channels, signal.dtype):
        raise ValueError(
            f"the field is of {signal.kind} with {signal.channels} {signal.dtype} channels, the target of {new.kind} "
            f"with {new.channels} {new.dtype}"
        )
    at = tuple(at) or (0,) * len(signal.shape)
    if len(at) != len(signal.shape) or any(not 0 <= a <= n - old for a, n, old in zip(at, new.shape, signal.shape)):
        raise ValueError(f"the old signal {signal.shape} placed at {at} does not lie within the target {new.shape}")
    lower, upper, before, shape = [], [], [], []
    for axis, (first, n, old, count) in enumerate(zip(at, new.shape, signal.shape, grid.counts)):
        if n != old and old % count:
            raise ValueError(
                f"axis {axis} has {count} cells for {old} samples; it can grow only if every cell holds a whole "
                "number: encode with --counts or --cell-size that divide the signal"
            )
        cell = old / count
        unit = (grid.upper[axis] - grid.lower[axis]) / old
        lead, rest = (0, old) if n == old else (round(-(-first // cell) * cell), round(-(-(n - first) // cell) * cell))
        before.append(lead - first)
        shape.append(lead + rest)
        lower.append(grid.lower[axis] - lead * unit)
        upper.append(grid.lower[axis] + rest * unit)
    larger = field if tuple(shape) == signal.shape else extend(field, lower, upper)
    missing = torch.arange(larger.grid.num_cells)
    missing = missing[~torch.isin(missing, larger.cells.cpu())]
    if larger is field and len(missing) == 0:
        raise ValueError("the field has a row for every cell of the target already: there is nothing to add")
    larger = regrow(larger, missing)
    known = larger.grid.locate(field.grid.boxes(field.cells.cpu()).mean(1))
    fresh = (~torch.isin(larger.cells.cpu(), known)).nonzero()[:, 0]
    larger.region = None
    samples = target.samples
    for axis, (lead, n) in enumerate(zip(before, shape)):
        samples = samples.index_select(axis, (torch.arange(n) - lead).clamp(0, new.shape[axis] - 1))
    placed = new.resampled([(-lead, n - lead) for lead, n in zip(before, shape)], shape)
    place: dict[str, Any] = {"origin": placed.origin, "spacing": placed.spacing, "affine": placed.affine}
    description = replace(signal, shape=tuple(shape), **place)
    larger.description = description
    return larger, SignalData(samples, description), fresh
