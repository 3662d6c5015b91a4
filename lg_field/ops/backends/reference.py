"""The Local-Global chain, written to be read: the definition every fast path is compared with."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from lg_field.ops.backends.base import Backend
from lg_field.ops.sizes import ChainSizes


class Reference(Backend):
    """Any type and device, twice differentiable, slow; ignores chunk."""

    name = "reference"

    def why_not(self, sizes: ChainSizes, *tensors: Tensor) -> str | None:
        """Always None."""
        return None

    def chain(
        self,
        x: Tensor,
        offsets: Tensor,
        table: Tensor,
        shared: Mapping[str, Tensor],
        sizes: ChainSizes,
        global_x: Tensor,
        chunk: int | None = None,
    ) -> Tensor:
        """`reference_chain`."""
        return reference_chain(x, offsets, table, shared, sizes, global_x)


def reference_chain(
    x: Tensor, offsets: Tensor, table: Tensor, shared: Mapping[str, Tensor], sizes: ChainSizes, global_x: Tensor
) -> Tensor:
    """`local_global_chain` with per-point weights and no tricks.

    l_k = act(m_{k-1} W_k[row] + b_k[row]),  g_k = act(g_{k-1} V_k + c_k),  m_k = merge(l_k, g_k),
    output = m_last W_out[row] + b_out[row] (+ g_last V_out + c_out if residual).
    """
    counts = offsets.diff()
    rows = torch.repeat_interleave(torch.arange(len(counts), device=x.device), counts)
    layers = [(w[rows], b[rows, 0]) for w, b in sizes.views(table)]
    m, g = x, global_x
    for k in range(sizes.depth):
        if sizes.global_width:
            g = activate(g @ shared[f"global_weight_{k}"] + shared[f"global_bias_{k}"], sizes)
        if sizes.local_width:
            weight, bias = layers[k]
            m = activate(torch.einsum("mi,mio->mo", m, weight) + bias, sizes)
        if sizes.merges and sizes.merge == "concat":
            m = activate(torch.cat([m, g], dim=-1) @ shared["merge_weight"] + shared["merge_bias"], sizes)
        elif sizes.merges:
            m = m + activate(g @ shared[f"merge_weight_{k}"] + shared[f"merge_bias_{k}"], sizes)
    out = x.new_zeros(len(x), sizes.out_features)
    if sizes.local_width:
        out = torch.einsum("mi,mio->mo", m, layers[-1][0]) + layers[-1][1]
    if sizes.shared_head:
        out = out + g @ shared["head_weight"] + shared["head_bias"]
    return out


def activate(x: Tensor, sizes: ChainSizes) -> Tensor:
    """f(s x), see `ops.activations`."""
    return sizes.act.function(sizes.rate * x)
