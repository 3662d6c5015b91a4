"""Training a field whose rows are in host memory or on disk: a step gathers those that it asks, and no others."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal
from weakref import WeakSet

import torch
from torch import Tensor

from lg_field.radiance.field import RadianceField
from lg_field.radiance.training import RadianceTrainer, TrainingSettings
from lg_field.stored.disk import on_disk
from lg_field.stored.field import ROWS
from lg_field.stored.late import NewTensor
from lg_field.stored.training_field import TrainingField

Elsewhere = Literal["host", "disk"]
PLACES: dict[Elsewhere, Callable[[Path], NewTensor]] = {
    "host": lambda folder: torch.zeros,
    "disk": lambda folder: functools.partial(on_disk, folder),
}
"""Where rows may be: from the folder for files to what makes tensors there."""


class StoredTrainer(RadianceTrainer):
    """`RadianceTrainer` of a field whose rows are elsewhere: `trainer.field`, whose parameters are to be optimized.

    The optimizers take their steps as ever; rows follow by hooks, so that they must be optimizers that work number by
    number (Adam and its like) and their options must not depend on all gradients (no clipping by norm). What they save
    and load has the rows' state in it, as if these were in memory.
    """

    field: TrainingField

    def __init__(
        self,
        field: RadianceField,
        settings: TrainingSettings,
        teacher: RadianceField | None = None,
        where: Elsewhere = "host",
        folder: Path = Path(),
    ) -> None:
        """
        Args:
            field: gives its rows away.
            settings: what happens when.
            teacher: as in `RadianceTrainer`.
            where: rows and their optimizers' state are in host memory, or in files.
            folder: for these files, which have no names.

        Raises:
            ValueError: rows that must not be trained.
            OSError: no room for the rows.
        """
        if field.extending:
            raise ValueError("a scene with frozen cells (extend-scene) is trained with its rows on the device")
        super().__init__(TrainingField.of(field, PLACES[where](folder)), settings, teacher)
        self._followed: WeakSet[torch.optim.Optimizer] = WeakSet()

    def begin(self, step: int, optimizers: Iterable[torch.optim.Optimizer] = ()) -> bool:
        """As `RadianceTrainer.begin`.

        Raises:
            OSError: no room for the rows of a split.
        """
        optimizers = list(optimizers)
        self.follow(optimizers)
        self.field.forget()
        return super().begin(step, optimizers)

    def follow(self, optimizers: Iterable[torch.optim.Optimizer]) -> None:
        """Let rows follow optimizers; to be called before one of them loads its state."""
        for optimizer in optimizers:
            if optimizer not in self._followed:
                self._followed.add(optimizer)
                optimizer.register_step_post_hook(self._step)
                optimizer.register_state_dict_post_hook(self._with_moments)
                optimizer.register_load_state_dict_pre_hook(self._without_moments)

    def _rows_of(self, optimizer: torch.optim.Optimizer) -> Iterator[tuple[int, str, dict[str, Any]]]:
        """Of each row tensor that an optimizer has: its number there, its name and its group."""
        names = {id(getattr(self.field, name)): name for name in ROWS}
        index = 0
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if id(parameter) in names:
                    yield index, names[id(parameter)], group
                index += 1

    def _step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        for _index, name, group in self._rows_of(optimizer):
            if getattr(self.field, name).grad is not None:
                self.field.step_rows(name, optimizer, group)

    def _with_moments(self, optimizer: torch.optim.Optimizer, told: dict[str, Any]) -> dict[str, Any]:
        """What an optimizer says of its state, with that of all rows."""
        state = dict(told["state"])
        for index, name, _ in self._rows_of(optimizer):
            if index in state:
                late = self.field.source.late[name]
                late.flush()
                state[index] = {**state[index], **late.moments}
        return {**told, "state": state}

    def _without_moments(self, optimizer: torch.optim.Optimizer, told: dict[str, Any]) -> dict[str, Any]:
        """The same without that of rows, which they get."""
        state = dict(told["state"])
        for index, name, _ in self._rows_of(optimizer):
            late, whole = self.field.source.late[name], state.get(index)
            if whole is not None:
                moments = {key: value for key, value in whole.items() if _has_lines(value, late.values)}
                late.load(None, moments, torch.as_tensor(whole["step"]))
                state[index] = {key: value[:0] if key in moments else value for key, value in whole.items()}
        return {**told, "state": state}


def _has_lines(value: Any, rows: Tensor) -> bool:
    return torch.is_tensor(value) and value.shape == rows.shape
