"""What of a field's tables a training step changes: all but frozen rows, the entries they read, and what waits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

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
