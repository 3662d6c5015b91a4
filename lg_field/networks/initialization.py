"""Initial weights: SIREN's scheme for sine layers (paper, appendix A), Kaiming's for ReLU."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lg_field.ops import ChainSizes


def weight_bound(fan_in: int, first: bool, sizes: ChainSizes) -> float:
    """Weights are uniform in +- this: 1/n in a first sine layer, sqrt(6/n)/w0 in later ones, sqrt(6/n) for ReLU."""
    if sizes.activation == "relu":
        return math.sqrt(6.0 / fan_in)
    return 1.0 / fan_in if first else math.sqrt(6.0 / fan_in) / sizes.w0


def init_rows(sizes: ChainSizes, num_rows: int, generator: torch.Generator | None = None) -> Tensor:
    """(num_rows, K) float32 rows. With `residual` the rows' output layers are zero: they start as no correction."""
    parts = []
    layers = sizes.local_layers()
    for k, (fan_in, fan_out) in enumerate(layers):
        weight = weight_bound(fan_in, k == 0, sizes)
        bias = 1.0 / math.sqrt(fan_in)
        if sizes.residual and k == len(layers) - 1:
            weight = bias = 0.0
        parts.append(_uniform((num_rows, fan_in * fan_out), weight, generator))
        parts.append(_uniform((num_rows, fan_out), bias, generator))
    return torch.cat(parts, dim=1) if parts else torch.zeros(num_rows, 0)


def init_shared(sizes: ChainSizes, generator: torch.Generator | None = None) -> dict[str, Tensor]:
    """The shared tensors of `ChainSizes.shared_shapes`, float32."""
    tensors, fan_in = {}, 1
    for name, size in sizes.shared_shapes().items():
        if "weight" in name:
            fan_in = size[0]
            bound = weight_bound(fan_in, name == "global_weight_0", sizes)
        else:
            bound = 1.0 / math.sqrt(fan_in)
        tensors[name] = _uniform(size, bound, generator)
    return tensors


def _uniform(size: tuple[int, ...], bound: float, generator: torch.Generator | None) -> Tensor:
    return (torch.rand(size, generator=generator) * 2 - 1) * bound
