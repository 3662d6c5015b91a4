"""The cell's own feature grid: dense, trilinear, one row per cell, cropped with the row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lg_field.constants import constant


def corners(pairs: Tensor, join: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """(3, 2, *, M) values of the lower and the upper neighbour along each axis -> (8, *, M) joined, the last axis
    fastest."""
    x, y, z = pairs
    return join(join(x[:, None, None], y[:, None]), z).flatten(0, 2)


def corner_weights(part: Tensor) -> Tensor:
    """(3, *, M) place between the lower and the upper neighbour, [0, 1] -> (8, *, M) weights that sum to 1."""
    return corners(torch.stack([1.0 - part, part], dim=1), torch.mul)


def interpolate(table: Tensor, rows: Tensor, local: Tensor, nodes: int, features: int) -> Tensor:
    """Features at points.

    Args:
        table: (P, R^3 F) one grid per row.
        rows: (M,) row of each point.
        local: (M, 3) position in the cell, [0, 1] per axis (clamped).
        nodes: nodes per axis R, the borders included.
        features: F.

    Returns:
        (M, F).
    """
    scaled = local.clamp(0.0, 1.0).T.contiguous() * (nodes - 1)  # axes first: operations run along the points
    low = scaled.floor().clamp_max(nodes - 2)
    inner = low.long() * constant(((nodes * nodes,), (nodes,), (1,)), rows)
    first = torch.add(inner.sum(0), rows, alpha=nodes**3)
    steps = constant(tuple(((x * nodes + y) * nodes + z,) for x in (0, 1) for y in (0, 1) for z in (0, 1)), first)
    return weighted_sum(table.view(-1, features), first + steps, corner_weights(scaled - low))


def weighted_sum(lines: Tensor, index: Tensor, weights: Tensor) -> Tensor:
    """(R, F) lines, (8, M) numbers of lines, (8, M) weights -> (M, F)."""
    result: Tensor = _WeightedSum.apply(lines, index, weights)
    return result


class _WeightedSum(torch.autograd.Function):
    """Unlike embedding_bag, its backward does not sort."""

    @staticmethod
    def forward(ctx: Any, lines: Tensor, index: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(lines, index, weights)
        per_point = index.T.contiguous(), weights.T.contiguous()
        return torch.nn.functional.embedding_bag(per_point[0], lines, mode="sum", per_sample_weights=per_point[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        lines, index, weights = ctx.saved_tensors
        to_lines = to_weights = None
        if ctx.needs_input_grad[0]:
            to_lines = torch.zeros_like(lines)
            if lines.is_cpu:
                at = index.flatten().long()
                for to_feature, of_feature in zip(to_lines.T, grad.T.contiguous()):  # faster than whole lines
                    to_feature.scatter_add_(0, at, (weights * of_feature).flatten())
            else:
                to_lines.index_add_(0, index.flatten(), (weights[:, :, None] * grad).flatten(0, 1).to(lines.dtype))
        if ctx.needs_input_grad[2]:
            to_weights = torch.einsum("kmf,mf->km", lines[index], grad)
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
