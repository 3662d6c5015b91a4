"""What of a field a training step changes: all but frozen rows, the entries they read, and what waits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from lg_field.radiance.coarse_first import FIRST_LAYER, silence_, waiting

if TYPE_CHECKING:
    from lg_field.radiance.field import RadianceField


def trainable_rows(field: RadianceField, rows: Float[Tensor, "rows width"]) -> Float[Tensor, "rows width"]:
    """(P, K) one of the field's row tensors, without gradients to frozen rows, nor to grids that wait."""
    if not torch.is_grad_enabled():
        return rows
    if field.waiting is not None and rows is field.features:
        return field.waiting.rows(rows)
    return torch.where(field.frozen[:, None], rows.detach(), rows) if field.extending else rows


def trainable_lines(field: RadianceField, table: Float[Tensor, "lines width"]) -> Float[Tensor, "lines width"]:
    """(N, F) the entries of the shared part's grid, without gradients to those that frozen rows read, nor to those that
    wait."""
    if not torch.is_grad_enabled():
        return table
    if field.waiting is not None:
        return field.waiting.lines(table)
    if not field.extending:
        return table
    frozen = field._frozen_lines
    if frozen is None or frozen.device != table.device or len(frozen) != len(table):
        kept = field.kept_lines["hash_table"]
        field._frozen_lines = frozen = field.lines_of_frozen()["hash_table"][kept.mask().cpu()].to(table.device)
    return torch.where(frozen[:, None], table.detach(), table)


def shared_tensors(field: RadianceField) -> dict[str, Tensor]:
    """The shared part's tensors by name; `ParameterDict` looks each of them up at length."""
    found = field.shared._parameters
    return found if len(found) == len(field.shared) else dict(field.shared)  # type: ignore[return-value]


def trainable_shared(field: RadianceField) -> dict[str, Tensor]:
    """The shared network's tensors by name, without gradients to what waits."""
    shared = shared_tensors(field)
    return shared if field.waiting is None or not torch.is_grad_enabled() else field.waiting.weights(shared)


def wait_(field: RadianceField, step: int, until: int) -> None:
    """Let a field learn coarse first: see `coarse_first.waiting`. Where rows are frozen nothing waits."""
    field.waiting = None if field.extending else waiting(field.sizes, step, until)
    if step == 0 and field.waiting is not None and field.waiting.frequency_lines:
        silence_(field.shared[FIRST_LAYER], field.waiting.frequency_lines)
