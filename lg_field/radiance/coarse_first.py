"""Coarse first: grids begin to learn one after the other, from the coarsest of the shared part to the cells' own.

Few photos leave a choice: fine grids explain each photo by something before its camera, long before the shape that all
of them agree on is found. What coarse grids and the shared network alone can say has to agree; finer grids then begin
where it is right (FreeNeRF, Yang et al. 2023, lets frequencies in one after the other). A grid that waits keeps its
numbers, which are nearly 0 at first.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from lg_field.radiance.hash_grid import HashGrid


class Waiting(NamedTuple):
    """What of a field does not learn yet: the cells' grids, and the shared part's from one of its lines on."""

    first_line: int
    """Of the shared part's grid; those before it learn."""

    def rows(self, values: Float[Tensor, "rows width"]) -> Float[Tensor, "rows width"]:
        """The cells' grids (P, K) as they are; their gradients are 0."""
        return held(values, 0)

    def lines(self, values: Float[Tensor, "lines width"]) -> Float[Tensor, "lines width"]:
        """All lines (N, F) of the shared part's grid as they are; gradients of those that wait are 0."""
        return held(values, self.first_line)


def waiting(grid: HashGrid | None, step: int, until: int) -> Waiting | None:
    """What waits at a step: of L levels of the shared part's grid level k learns from step k / L of `until` on, the
    cells' grids from `until` on.

    Args:
        grid: of the shared part; None = it has none.
        step: number of the step, from 0.
        until: step from which on everything learns.

    Returns:
        None where nothing waits.
    """
    if step >= until:
        return None
    learning = 0 if grid is None else min(grid.levels, 1 + step * grid.levels // until)
    return Waiting(0 if grid is None else sum(map(grid.entries, range(learning))))


def held(values: Float[Tensor, "lines width"], first: int) -> Float[Tensor, "lines width"]:
    """(N, K) values as they are; gradients are 0 from line `first` on. They are 0, not missing, so that optimizers and
    processes that add up gradients have one of every parameter in every step."""
    if first >= len(values) or not torch.is_grad_enabled():
        return values
    result: Tensor = _Held.apply(values, first)
    return result


class _Held(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, first: int) -> Tensor:
        ctx.first = first
        return values.view_as(values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        if ctx.first == 0:
            return torch.zeros_like(grad), None
        grad = grad.clone()
        grad[ctx.first :] = 0.0
        return grad, None
