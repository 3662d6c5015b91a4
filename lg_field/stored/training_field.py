"""A field in training whose rows and their optimizers' state are in host memory or on disk."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from lg_field.radiance.feature_grid import split_grid
from lg_field.radiance.field import RadianceField
from lg_field.radiance.occupancy_grid import OccupancyGrid
from lg_field.stored.field import ROWS, RowSource, StoredField
from lg_field.stored.late import LateRows, NewTensor
from lg_field.table.checkpoint import CheckpointError

ASKED_BYTES = 1 << 28
"""Of rows that are asked at a time without gradients."""


class RowStore(RowSource):
    """All rows, with what optimizers keep of them."""

    def __init__(self, field: RadianceField, new: NewTensor) -> None:
        """
        Args:
            field: its rows are copied.
            new: makes zeros of a shape and `dtype` where rows are to be.
        """
        self.turn = threading.RLock()
        self.late = {name: LateRows(getattr(field, name).detach().cpu(), new) for name in ROWS}
        size = sum(late.values[:1].nbytes for late in self.late.values())
        self.most = max(1, ASKED_BYTES // max(1, size))
        self.widths = {name: late.values.shape[1] for name, late in self.late.items()}

    def gather(self, rows: Int64[Tensor, " n"]) -> dict[str, Tensor]:
        """See `RowSource`."""
        return {name: late.read(rows) for name, late in self.late.items()}

    def selected(self, rows: Int64[Tensor, " n"]) -> RowSource:
        """
        Raises:
            ValueError: always: there is one of each row.
        """
        raise ValueError("a field whose rows are trained on the host or on disk is not copied: pack its checkpoint")


class TrainingField(StoredField):
    """`StoredField` that is trained: remembers which rows were asked with gradients."""

    source: RowStore

    def __init__(self, like: RadianceField, cells: Tensor, source: RowStore) -> None:
        """As `StoredField`."""
        super().__init__(like, cells, source)
        self.touched: dict[str, list[tuple[Tensor, nn.Parameter]]] = {name: [] for name in ROWS}
        """Of each row tensor: (n,) rows that were asked with gradients, and their copies."""
        self._loading = False

    @staticmethod
    def of(field: RadianceField, new: NewTensor) -> TrainingField:
        """A field with the same rows elsewhere; the given one gives its own away.

        Raises:
            OSError: no room for them.
        """
        made = TrainingField(field, field.cells, RowStore(field, new))
        for name in OccupancyGrid.ROWS:
            setattr(made, name, getattr(field, name).cpu().clone())
        for name in ROWS:
            setattr(field, name, nn.Parameter(getattr(field, name).detach()[:0].clone()))
        return made.to(field.cells.device)

    def with_rows(self, rows: Int64[Tensor, " n"]) -> RadianceField:
        """See `StoredField.with_rows`."""
        field = super().with_rows(rows)
        for name in ROWS if torch.is_grad_enabled() else ():
            copy, own = getattr(field, name), getattr(self, name)
            self.touched[name].append((rows.cpu(), copy))
            copy.register_post_accumulate_grad_hook(lambda _, own=own: setattr(own, "grad", torch.zeros_like(own)))
        return field

    def forget(self) -> None:
        """Forget what was asked."""
        for asked in self.touched.values():
            asked.clear()

    def step_rows(self, name: str, optimizer: torch.optim.Optimizer, group: dict[str, Any]) -> None:
        """Let the rows of a tensor take the step that an optimizer has taken."""
        found = [(rows, copy.grad) for rows, copy in self.touched[name] if copy.grad is not None]
        step = optimizer.state[getattr(self, name)]["step"]
        self.source.late[name].step(optimizer, group, torch.as_tensor(step), found)
        self.touched[name].clear()

    # -- rows

    def select_(self, rows: Int64[Tensor, " kept"], optimizers: Iterable[torch.optim.Optimizer] = ()) -> None:
        """See `CellTable.select_`."""
        super().select_(rows, optimizers)
        for late in self.source.late.values():
            late.keep_(rows.cpu())

    def split_(self, optimizers: Iterable[torch.optim.Optimizer] = ()) -> None:
        """See `RadianceField.split_`."""
        nodes, features = self.sizes.grid_nodes, self.sizes.grid_features
        order = self.grid.children(self.cells).flatten().argsort().cpu()
        places = torch.empty_like(order)
        places[order] = torch.arange(len(order))
        local, grids = (self.source.late[name] for name in ROWS)
        local.split_(lambda old: old.repeat_interleave(8, dim=0), places)
        grids.split_(
            lambda old: split_grid(old, nodes, features).flatten(0, 1) if old.shape[1] else old.repeat(8, 1), places
        )
        super().split_(optimizers)

    # -- state

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        """With all rows, where they are."""
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for name, late in self.source.late.items():
            if self._loading:
                destination[prefix + name] = getattr(self, name).detach()
            else:
                late.flush()
                destination[prefix + name] = late.values

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        """Rows go where they are kept, a block at a time.

        Raises:
            CheckpointError: rows that do not fit, or are not finite.
        """
        rows = {name: state_dict[prefix + name] for name in ROWS if prefix + name in state_dict}
        for name, values in rows.items():
            size = (len(state_dict.get(prefix + "cells", ())), *self.source.late[name].values.shape[1:])
            if tuple(values.shape) != size:
                raise CheckpointError(f"{name} in the checkpoint has shape {tuple(values.shape)}, {size} is needed")
            if not all(bool(values[a:b].isfinite().all()) for a, b in LateRows.blocks(values)):
                raise CheckpointError(f"{name} in the checkpoint holds NaN or infinite values")
            state_dict[prefix + name] = getattr(self, name).detach()
        self._loading = True
        try:
            super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        finally:
            self._loading = False
        for name, values in rows.items():
            self.source.late[name].load(values, {}, None)
