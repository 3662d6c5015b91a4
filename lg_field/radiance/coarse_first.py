"""Coarse first: what tells fine things apart begins to learn later.

Few photos leave a choice: fine grids explain each photo by something before its camera, long before the shape that all
of them agree on is found. What low frequencies of the shared network alone can say has to agree; higher ones and grids
then begin one after the other where it is right (FreeNeRF, Yang et al. 2023, lets frequencies in so). A grid that waits
keeps its numbers, which are nearly 0 at first; a frequency that waits has weights of 0.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable

from lg_field.constants import constant
from lg_field.radiance.sizes import RadianceSizes

FIRST_LAYER = "global_weight_0"
"""Of the shared network: it reads the frequencies."""
ALL = slice(None)


class Waiting(NamedTuple):
    """What of a field does not learn yet: its cells' grids, and of its shared part these."""

    first_line: int
    """Lines of the shared grid from this one on."""
    frequency_lines: tuple[int, ...]
    """Lines of the first layer's weights, those of high frequencies."""

    def rows(self, values: Float[Tensor, "rows width"]) -> Float[Tensor, "rows width"]:
        """The cells' grids (P, K) as they are; their gradients are 0."""
        return held(values, ALL)

    def lines(self, values: Float[Tensor, "lines width"]) -> Float[Tensor, "lines width"]:
        """All lines (N, F) of the shared grid as they are; gradients of those that wait are 0."""
        return held(values, slice(self.first_line, None))

    def weights(self, shared: dict[str, Tensor]) -> dict[str, Tensor]:
        """The shared network's tensors as they are; gradients of weights that wait are 0."""
        if not self.frequency_lines:
            return shared
        first = shared[FIRST_LAYER]
        return shared | {FIRST_LAYER: held(first, constant(self.frequency_lines, first, torch.int64))}


def waiting(sizes: RadianceSizes, step: int, until: int) -> Waiting | None:
    """What waits at a step. Until all learn there are equal stages; the lower half of the shared network's frequencies
    learns from the start, and each stage after the first lets in another frequency and another level of its grid. The
    last of the levels and the cells' grids begin when all learn.

    Args:
        sizes: of the field.
        step: number of the step, from 0.
        until: step from which on everything learns.

    Returns:
        None where nothing waits.
    """
    if step >= until:
        return None
    grid, count = sizes.hash_grid(), sizes.global_frequencies if sizes.parts.shared else 0
    stages = max(1, sizes.hash_levels, count - count // 2 + 1)
    stage = step * stages // until
    first_line = 0 if grid is None else sum(map(grid.entries, range(min(grid.levels, stage))))
    return Waiting(first_line, lines_of_frequencies(sizes, min(count, count // 2 + stage)))


def lines_of_frequencies(sizes: RadianceSizes, first: int) -> tuple[int, ...]:
    """Lines of the first layer's weights that read sines and cosines of a frequency from number `first` on, as
    `RadianceField` puts its inputs together: cell's grid, position, sines, cosines (frequency by frequency), shared
    grid."""
    rows, shared = sizes.parts
    count = sizes.global_frequencies if shared else 0
    before = 3 + (sizes.grid_features if rows and sizes.grid_nodes and sizes.global_reads_grid else 0)
    axes = [before + 3 * (wave * count + k) for wave in (0, 1) for k in range(first, count)]
    return tuple(line + axis for line in axes for axis in range(3))


@torch.no_grad()
def silence_(weights: Float[Tensor, "inputs width"], lines: tuple[int, ...]) -> None:
    """Set some lines of the first layer's weights to 0, in place: those frequencies say nothing until they learn."""
    weights[list(lines)] = 0.0


def held(values: Float[Tensor, "lines width"], lines: slice | Int64[Tensor, " some"]) -> Float[Tensor, "lines width"]:
    """(N, K) values as they are; gradients of some lines are 0. They are 0, not missing, so that optimizers and
    processes that add up gradients have one of every parameter in every step."""
    if not torch.is_grad_enabled():
        return values
    result: Tensor = _Held.apply(values, lines)
    return result


class _Held(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, lines: Any) -> Tensor:
        ctx.lines = lines
        return values.view_as(values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        if ctx.lines is ALL:
            return torch.zeros_like(grad), None
        grad = grad.clone()
        grad[ctx.lines] = 0.0
        return grad, None
