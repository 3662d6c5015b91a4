"""Optimizers follow when a table's rows are replaced: their moments are rows, too."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

RowTransform = Callable[[Tensor], Tensor]
"""From an old (P, ...) tensor to the new one."""


def replace_parameter(
    optimizer: torch.optim.Optimizer, old: nn.Parameter, new: nn.Parameter, transform: RowTransform
) -> None:
    """Let an optimizer go on with `new` where it had `old`.

    Args:
        optimizer: changed in place; one that does not hold `old` stays as it is.
        old: the parameter before.
        new: the one after.
        transform: what made `new` of `old`; it is applied to state of the old parameter's shape (Adam's moments).
    """
    for group in optimizer.param_groups:
        group["params"] = [new if p is old else p for p in group["params"]]
    state = optimizer.state.pop(old, None)
    if state is not None:
        moved = {k: transform(v) if torch.is_tensor(v) and v.shape == old.shape else v for k, v in state.items()}
        optimizer.state[new] = moved
