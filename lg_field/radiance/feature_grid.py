"""The cell's own feature grid: dense, trilinear, one row per cell, cropped with the row."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def corner_weights(local: Tensor, nodes: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights of trilinear interpolation.

    Args:
        local: (M, 3) position in the cell, [0, 1] per axis (clamped).
        nodes: nodes per axis R, the borders included.

    Returns:
        (M, 8) int64 node numbers in 0..R^3 - 1 and (M, 8) weights that sum to 1.
    """
    scaled = local.clamp(0.0, 1.0) * (nodes - 1)
    low = scaled.floor().clamp_max(nodes - 2)
    frac = scaled - low
    i = low.long()
    base = (i[:, 0] * nodes + i[:, 1]) * nodes + i[:, 2]
    steps = torch.tensor([0, 1, nodes, nodes + 1], device=local.device)
    steps = torch.cat([steps, steps + nodes * nodes])
    wx, wy, wz = (torch.stack([1.0 - frac[:, k], frac[:, k]], dim=1) for k in range(3))
    weights = (wx[:, :, None, None] * wy[:, None, :, None] * wz[:, None, None, :]).flatten(1)
    return base[:, None] + steps, weights


def interpolate(table: Tensor, rows: Tensor, local: Tensor, nodes: int, features: int) -> Tensor:
    """Features at points.

    Args:
        table: (P, R^3 F) one grid per row.
        rows: (M,) row of each point.
        local: (M, 3) position in the cell, [0, 1].
        nodes: R.
        features: F.

    Returns:
        (M, F).
    """
    index, weights = corner_weights(local, nodes)
    return weighted_sum(table.view(-1, features), rows[:, None] * nodes**3 + index, weights)


def weighted_sum(lines: Tensor, index: Tensor, weights: Tensor) -> Tensor:
    """(R, F) lines, (M, 8) numbers of lines, (M, 8) weights -> (M, F)."""
    result: Tensor = _WeightedSum.apply(lines, index, weights)
    return result


class _WeightedSum(torch.autograd.Function):
    """Unlike embedding_bag, its backward does not sort."""

    @staticmethod
    def forward(ctx: Any, lines: Tensor, index: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(lines, index, weights)
        return torch.nn.functional.embedding_bag(index, lines, mode="sum", per_sample_weights=weights)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        lines, index, weights = ctx.saved_tensors
        to_lines = to_weights = None
        if ctx.needs_input_grad[0]:
            parts = (weights[..., None] * grad[:, None]).flatten(0, 1)
            to_lines = torch.zeros_like(lines).index_add_(0, index.flatten(), parts)
        if ctx.needs_input_grad[2]:
            to_weights = torch.einsum("mkf,mf->mk", lines[index], grad)
        return to_lines, None, to_weights


def split_grid(table: Tensor, nodes: int, features: int) -> Tensor:
    """Grids of the 8 children of each cell: the same function, sampled twice as finely.

    Args:
        table: (P, R^3 F).

    Returns:
        (P, 8, R^3 F), children in row-major order (z fastest).
    """
    rows = len(table)
    grid = table.view(rows, nodes, nodes, nodes, features).permute(0, 4, 1, 2, 3)
    fine = torch.nn.functional.interpolate(grid, size=(2 * nodes - 1,) * 3, mode="trilinear", align_corners=True)
    halves = [slice(0, nodes), slice(nodes - 1, 2 * nodes - 1)]
    children = [fine[:, :, a, b, c] for a in halves for b in halves for c in halves]
    return torch.stack([c.permute(0, 2, 3, 4, 1).reshape(rows, -1) for c in children], dim=1)
