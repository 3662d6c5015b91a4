"""Initial weights, by the scheme of the activation."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lg_field.ops import ChainSizes


def init_rows(sizes: ChainSizes, num_rows: int, generator: torch.Generator | None = None) -> Float[Tensor, "rows K"]:
    """(num_rows, K) float32 rows. With `residual` the rows' output layers are zero: they start as no correction."""
    rows = torch.zeros(num_rows, sizes.row_size)
    if rows.is_meta:  # see `uniform`
        return rows
    parts = []
    layers = sizes.local_layers()
    for k, (fan_in, fan_out) in enumerate(layers):
        weight = sizes.act.weight_bound(fan_in, k == 0, sizes.rate)
        bias = sizes.act.bias_bound(fan_in, k == 0, sizes.rate)
        if sizes.residual and k == len(layers) - 1:
            weight = bias = 0.0
        parts.append(uniform((num_rows, fan_in * fan_out), weight, generator))
        parts.append(uniform((num_rows, fan_out), bias, generator))
    return torch.cat(parts, dim=1) if parts else rows


def init_shared(sizes: ChainSizes, generator: torch.Generator | None = None) -> dict[str, Tensor]:
    """The shared tensors of `ChainSizes.shared_shapes`, float32."""
    tensors, fan_in, first = {}, 1, False
    for name, size in sizes.shared_shapes().items():
        if "weight" in name:
            fan_in, first = size[0], name == "global_weight_0"
            bound = sizes.act.weight_bound(fan_in, first, sizes.rate)
        else:
            bound = sizes.act.bias_bound(fan_in, first, sizes.rate)
        tensors[name] = uniform(size, bound, generator)
    return tensors


def uniform(size: tuple[int, ...], bound: float, generator: torch.Generator | None = None) -> Float[Tensor, "..."]:
    """Fresh weights, uniform in +- `bound`, float32. On the meta device nothing is computed: arithmetic there imports
    torch's compiler, which takes longer than opening a file."""
    values = torch.rand(size, generator=generator)
    return values if values.is_meta else (values * 2 - 1) * bound
