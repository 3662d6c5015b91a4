"""Rows with their optimizer's state of which a step touches few: the others take their steps when they are looked at.

An optimizer changes a row that had no gradient, too (Adam's moments decay, and move it). Such steps are put off, and
taken one after the other before the row is read: by the same optimizer, with gradients of zeros and the options that
each step had. So every row goes through the same numbers as if all rows had been in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

BLOCK_BYTES = 1 << 26
"""Of rows that are worked on at a time, about."""
NewTensor = Callable[..., Tensor]
"""Makes zeros of a shape and a `dtype`."""


def take_step(
    kind: type[torch.optim.Optimizer],
    options: Mapping[str, Any],
    values: Float[Tensor, "n width"],
    gradient: Float[Tensor, "n width"],
    state: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """A step of an optimizer that works number by number, in place.

    Args:
        kind: its class, one whose state begins with zeros.
        options: of its parameter group.
        values: (n, width) changed.
        gradient: (n, width).
        state: of these values, changed; empty before the first step.

    Returns:
        The state afterwards.
    """
    parameter = nn.Parameter(values)
    parameter.grad = gradient
    optimizer: Any = kind([parameter], lr=options["lr"])  # type: ignore[call-arg]
    optimizer.param_groups[0].update(options)
    if state:
        optimizer.state[parameter] = dict(state)
    optimizer.step()
    return dict(optimizer.state[parameter])


class LateRows:
    """A row tensor, (P, width), with the state that an optimizer has of it."""

    def __init__(self, values: Float[Tensor, "rows width"], new: NewTensor) -> None:
        """
        Args:
            values: (P, width) at first; copied.
            new: makes the tensors in which rows and state are kept.

        Raises:
            OSError: no room for them.
        """
        self.new = new
        self.values = self._copy(values)
        self.moments: dict[str, Tensor] = {}
        """State with a line for each row."""
        self.taken = 0
        """Steps that all rows have taken, before"""
        self.history: list[dict[str, Any]] = []
        """the options of those that some have not."""
        self.kind: type[torch.optim.Optimizer] = torch.optim.Adam
        self._step = torch.zeros(())
        self._forget(len(values))

    def _forget(self, rows: int) -> None:
        """All rows have taken all steps."""
        self.taken, self.history = self.taken + len(self.history), []
        self.done = torch.zeros(rows, dtype=torch.int64)

    def _copy(self, values: Tensor) -> Tensor:
        """A new tensor with the same lines, a block at a time."""
        made = self.new(values.shape, dtype=values.dtype)
        for first, last in self.blocks(values):
            made[first:last] = values[first:last].detach()
        return made

    @staticmethod
    def blocks(values: Tensor) -> list[tuple[int, int]]:
        """First lines of blocks of a tensor, and those after their last ones."""
        step = max(1, BLOCK_BYTES // max(1, values[:1].numel() * values.element_size()))
        return [(first, min(first + step, len(values))) for first in range(0, len(values), step)]

    def read(self, rows: Int64[Tensor, " n"]) -> Float[Tensor, "n width"]:
        """Copies of (n,) rows, after all steps so far."""
        self.catch_up(rows)
        return self.values[rows]

    def catch_up(self, rows: Int64[Tensor, " n"]) -> None:
        """Let (n,) rows take the steps that were put off."""
        late = rows[self.done[rows] < len(self.history)]
        if self.moments:
            step = max(1, BLOCK_BYTES // max(1, self.values[:1].nbytes))
            idle = not any(options.get("weight_decay") for options in self.history)
            for some in late[self.done[late].argsort(stable=True)].split(step):
                if idle:  # what never had a gradient stays as it is
                    some = some[torch.stack([kept[some].any(1) for kept in self.moments.values()]).any(0)]
                if len(some):
                    self._catch_up(some)
        self.done[late] = len(self.history)

    def _catch_up(self, rows: Tensor) -> None:
        """The same of rows that are sorted by how many steps they have taken."""
        done = self.done[rows]
        values, moments = self.values[rows], {key: kept[rows] for key, kept in self.moments.items()}
        zeros = torch.zeros_like(values)
        for number in range(int(done[0]), len(self.history)):
            count = int(torch.searchsorted(done, number, right=True))
            state = {key: some[:count] for key, some in moments.items()}
            state["step"] = torch.full_like(self._step, self.taken + number)
            take_step(self.kind, self.history[number], values[:count], zeros[:count], state)
        self._write(rows, values, moments)

    def _write(self, rows: Tensor, values: Tensor, moments: Mapping[str, Tensor]) -> None:
        self.values[rows] = values
        for key, some in moments.items():
            self.moments[key][rows] = some

    def step(
        self,
        optimizer: torch.optim.Optimizer,
        group: Mapping[str, Any],
        step: Tensor,
        touched: Sequence[tuple[Tensor, Tensor]],
    ) -> None:
        """A step of all rows; those without a gradient put it off.

        Args:
            optimizer: of which class.
            group: its options.
            step: its count of steps, of the type that it keeps it in.
            touched: (n,) rows and their (n, width) gradients; rows in several of these have the sum.
        """
        options = {name: value for name, value in group.items() if name != "params"}
        before, self.kind, self._step = len(self.history), type(optimizer), step.detach().cpu()
        if not self.moments:
            self._make_moments(options)
        self.history.append(options)
        if not touched:
            return
        rows, places = torch.cat([rows for rows, _ in touched]).unique(return_inverse=True)
        gradient = self.values.new_zeros(len(rows), *self.values.shape[1:])
        gradient.index_add_(0, places, torch.cat([part.cpu() for _, part in touched]))
        assert bool((self.done[rows] == before).all()), "rows were asked before others were told to wait"
        values, moments = self.values[rows], {key: kept[rows] for key, kept in self.moments.items()}
        state = moments | {"step": torch.full_like(self._step, self.taken + before)}
        after = take_step(self.kind, options, values, gradient, state)
        self._write(rows, values, {key: after[key] for key in moments})
        self.done[rows] = len(self.history)

    def _make_moments(self, options: Mapping[str, Any]) -> None:
        """Make the state as it is before the first step: zeros of the names that the optimizer has."""
        line = torch.zeros(1, *self.values.shape[1:], dtype=self.values.dtype)
        state = take_step(self.kind, options, line, torch.zeros_like(line), {})
        for key in [key for key, value in state.items() if value.shape == line.shape]:
            self.moments[key] = self.new(self.values.shape, dtype=self.values.dtype)

    # -- all rows

    def flush(self) -> None:
        """Let all rows take all steps."""
        self.catch_up(torch.arange(len(self.values)))
        self._forget(len(self.values))

    def keep_(self, rows: Int64[Tensor, " kept"]) -> None:
        """Keep only (n,) sorted rows.

        Raises:
            OSError: no room while they are moved.
        """
        self.values = self._moved(self.values, rows)
        for key in list(self.moments):
            self.moments[key] = self._moved(self.moments[key], rows)
        self.done = self.done[rows]

    def _moved(self, old: Tensor, rows: Tensor) -> Tensor:
        made = self.new((len(rows), *old.shape[1:]), dtype=old.dtype)
        for first, last in self.blocks(made):
            made[first:last] = old[rows[first:last]]
        return made

    def split_(self, children: Callable[[Tensor], Tensor], places: Int64[Tensor, " children"]) -> None:
        """Put 8 rows in the place of each.

        Args:
            children: (n, width) rows -> (8 n, width) those of their children; linear.
            places: (8 P,) place of each child among all.

        Raises:
            OSError: no room for them.
        """
        self.flush()
        self.values = self._split(self.values, children, places)
        for key in list(self.moments):
            self.moments[key] = self._split(self.moments[key], children, places)
        self._forget(len(self.values))

    def _split(self, old: Tensor, children: Callable[[Tensor], Tensor], places: Tensor) -> Tensor:
        made = self.new((8 * len(old), *old.shape[1:]), dtype=old.dtype)
        for first, last in self.blocks(made):
            first, last = first // 8, -(-last // 8)
            made[places[8 * first : 8 * last]] = children(old[first:last])
        return made

    def load(self, values: Tensor | None, moments: Mapping[str, Tensor], step: Tensor | None) -> None:
        """Take other rows, or another state of the optimizer: None leaves what there is."""
        if values is not None:
            self.values, self.moments = self._copy(values), {}
        if step is not None:
            self.moments = {key: self._copy(value) for key, value in moments.items()}
            self._step, self.taken, self.history = step.detach().cpu(), int(step), []
        self._forget(len(self.values))
