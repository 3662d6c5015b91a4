"""What Adam trains of a field, and how fast each part goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from lg_field.ops.adam import Adam
from lg_field.radiance.field import RadianceField

EPS = 1e-15
"""Adam's."""


def split_by_rate(
    field: RadianceField, module: nn.Module | None = None
) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The networks' parameters, and those of feature grids, which take a larger rate.

    Args:
        field: whose.
        module: that holds the field and perhaps more that belongs to the networks; None = the field itself.
    """
    grids = [p for p in (field.features, field.hash_table) if p is not None and holds_numbers(p)]
    every = (field if module is None else module).parameters()
    return [p for p in every if holds_numbers(p) and not any(p is grid for grid in grids)], grids


def holds_numbers(parameter: nn.Parameter) -> bool:
    """Whether there is something to train, if only in a table that has no row just now."""
    return 0 not in (parameter.shape[1:] if parameter.dim() > 1 else parameter.shape)


def fused_adam(
    field: RadianceField,
    fields_lr: float,
    grids_lr: float,
    others: Mapping[float, Sequence[nn.Parameter]] | None = None,
) -> torch.optim.Optimizer:
    """Adam over a field; each group has its first learning rate as `rate`, from which `set_rates` goes on.

    Args:
        field: what is trained.
        fields_lr: learning rate of its networks at first.
        grids_lr: of its feature grids.
        others: more parameters, by their rates.
    """
    networks, grids = split_by_rate(field)
    groups = [{"params": networks, "rate": fields_lr}, {"params": grids, "rate": grids_lr}]
    groups += [{"params": list(some), "rate": rate} for rate, some in (others or {}).items()]
    return Adam([group for group in groups if group["params"]], lr=fields_lr, eps=EPS)


def set_rates(optimizer: torch.optim.Optimizer, part: float) -> None:
    """Learning rates of a step: this part of each group's first one."""
    for group in optimizer.param_groups:
        group["lr"] = group["rate"] * part
