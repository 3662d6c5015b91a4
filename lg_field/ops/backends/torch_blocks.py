"""The fast torch path of the Local-Global chain, on any device.

- Points of a row are cut into blocks of `BLOCK`, so that a ragged batch is one `bmm` over blocks with gathered
  weights; a uniform batch needs no blocks at all.
- The merge is split, [l; g] W = l W_l + g W_g: no concatenation, and the global part runs on the unpadded points.
- The activation's rate (w0) is folded into the weights.
- Rows go through in chunks whose activations stay in cache; with gradients each chunk is recomputed in backward, so
  that activation memory does not grow with the batch.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lg_field.constants import counting
from lg_field.ops.backends.base import Backend
from lg_field.ops.sizes import ChainSizes

BLOCK = 32


class Blocks(NamedTuple):
    """How a ragged batch maps to (B, block) slots."""

    rows: Tensor
    """(B,) row of each block."""
    slots: Tensor
    """(M,) slot, in 0..B * block - 1, of each point."""
    block: int


class TorchBlocks(Backend):
    """Any type and device; every activation and merge there is."""

    name = "torch"

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
        """`block_chain`."""
        return block_chain(x, offsets, table, shared, sizes, global_x, chunk)

    def placed(self, offsets: Tensor, device: torch.device) -> Tensor:
        """On the host: rows with equally many points are seen there."""
        return offsets


def block_chain(
    x: Tensor,
    offsets: Tensor,
    table: Tensor,
    shared: Mapping[str, Tensor],
    sizes: ChainSizes,
    global_x: Tensor,
    chunk: int | None = None,
) -> Tensor:
    """`local_global_chain` by block matrix products. `chunk`: points at a time, None = all at once."""
    if chunk is None or len(x) <= chunk or len(offsets) == 2:
        return _chain(x, offsets, table, shared, sizes, global_x)
    starts = offsets[:-1].tolist()
    cuts = [0] + [r for r in range(1, len(starts)) if starts[r] // chunk != starts[r - 1] // chunk] + [len(starts)]
    tables = table.split([b - a for a, b in itertools.pairwise(cuts)])
    edges = offsets.tolist()
    out = []
    for part, first, last in zip(tables, cuts, cuts[1:]):
        span = slice(edges[first], edges[last])
        if span.start == span.stop:
            continue
        inputs = (x[span], offsets[first : last + 1] - edges[first], part, dict(shared), sizes, global_x[span])
        keep = not torch.is_grad_enabled()
        out.append(_chain(*inputs) if keep else checkpoint(_chain, *inputs, use_reentrant=False))
    return torch.cat(out)


def _chain(
    x: Tensor, offsets: Tensor, table: Tensor, shared: Mapping[str, Tensor], sizes: ChainSizes, global_x: Tensor
) -> Tensor:
    scale = sizes.rate
    globals_ = _global_features(global_x, shared, sizes, scale)
    out = torch.addmm(shared["head_bias"], globals_[-1], shared["head_weight"]) if sizes.shared_head else None
    if sizes.local_width:
        per_row = _uniform_count(offsets, len(x))
        offsets = offsets.to(x.device)
        blocks = None if per_row else make_blocks(offsets, len(x))
        local = _local_part(x, per_row, blocks, table, _merge_inputs(globals_, shared, sizes, scale), shared, sizes)
        out = local if out is None else out + local
    assert out is not None
    return out


def _global_features(x: Tensor, shared: Mapping[str, Tensor], sizes: ChainSizes, scale: float) -> list[Tensor]:
    """Activated global features of each layer, (M, g) each."""
    features, act = [], sizes.act.function
    for k in range(sizes.depth if sizes.global_width else 0):
        weight, bias = shared[f"global_weight_{k}"], shared[f"global_bias_{k}"]
        x = act(torch.addmm(times(bias, scale), x, times(weight, scale)))
        features.append(x)
    return features


def _merge_inputs(
    features: list[Tensor], shared: Mapping[str, Tensor], sizes: ChainSizes, scale: float
) -> list[Tensor]:
    """What the global part adds at each merge, (M, h) each."""
    if not sizes.merges:
        return []
    if sizes.merge == "concat":
        weight, bias = times(_merge_parts(shared, sizes)[1], scale), times(shared["merge_bias"], scale)
        return [torch.addmm(bias, g, weight) for g in features]
    return [
        sizes.act.function(
            torch.addmm(times(shared[f"merge_bias_{k}"], scale), g, times(shared[f"merge_weight_{k}"], scale))
        )
        for k, g in enumerate(features)
    ]


def _local_part(
    x: Tensor,
    per_row: int,
    blocks: Blocks | None,
    table: Tensor,
    merges: list[Tensor],
    shared: Mapping[str, Tensor],
    sizes: ChainSizes,
) -> Tensor:
    """Local layers and merges on (B, block, .) tensors; returns (M, out)."""
    scale, act = sizes.rate, sizes.act.function
    if blocks is not None:
        table = table.index_select(0, blocks.rows)
    layers = sizes.views(table)

    def spread(values: Tensor) -> Tensor:
        return values.view(len(table), per_row, values.shape[1]) if blocks is None else to_blocks(values, blocks)

    width = sizes.local_width
    spreads = spread(torch.cat([x, *merges], dim=1) if merges else x)
    m, *added = spreads.split([x.shape[1], *[width] * len(merges)], dim=2)
    mixing = times(_merge_parts(shared, sizes)[0], scale) if sizes.merges and sizes.merge == "concat" else None
    for k in range(sizes.depth):
        weight, bias = layers[k]
        m = act(torch.baddbmm(times(bias, scale), m, times(weight, scale)))
        if mixing is not None:
            m = act(m @ mixing + added[k])
        elif sizes.merges:
            m = m + added[k]
    out = torch.baddbmm(layers[-1][1], m, layers[-1][0]).flatten(0, 1)
    return out if blocks is None else out.index_select(0, blocks.slots)


def times(tensor: Tensor, factor: float) -> Tensor:
    """The product; the tensor itself where nothing changes."""
    return tensor if factor == 1.0 else tensor * factor


def _merge_parts(shared: Mapping[str, Tensor], sizes: ChainSizes) -> tuple[Tensor, ...]:
    """What a concat merge does to local, and to global features: (h, h) and (g, h)."""
    return shared["merge_weight"].split([sizes.local_width, sizes.global_width])


def _uniform_count(offsets: Tensor, total: int) -> int:
    """Points per row when all rows have equally many, else 0; 0, too, where the host would have to wait to know it."""
    rows = len(offsets) - 1
    if total % rows or not offsets.is_cpu:
        return 0
    return total // rows if bool((offsets.diff() == total // rows).all()) else 0


def make_blocks(offsets: Int64[Tensor, " edges"], total: int, block: int = BLOCK) -> Blocks:
    """Cut each row's points into blocks; empty rows get none. Where the host would have to wait for their number there
    are as many as there may be, the last ones without points."""
    counts = offsets.diff()
    per_row = (counts + block - 1) // block
    last = per_row.cumsum(0)
    if offsets.is_cpu:
        rows = torch.repeat_interleave(per_row)
    else:
        most = (total + len(counts) * (block - 1)) // block
        rows = torch.searchsorted(last, counting(most, last), right=True)
        rows = rows.clamp_max(len(counts) - 1)
    back = torch.sub(offsets[:-1], last - per_row, alpha=block)
    slots = counting(total, offsets) - torch.repeat_interleave(back, counts, output_size=total)
    return Blocks(rows, slots, block)


def to_blocks(values: Float[Tensor, "points features"], blocks: Blocks) -> Float[Tensor, "blocks block features"]:
    """(M, c) in row order -> (B, block, c), zero in unused slots."""
    padded = values.new_zeros(len(blocks.rows) * blocks.block, values.shape[1])
    return padded.index_copy_(0, blocks.slots, values).view(len(blocks.rows), blocks.block, values.shape[1])
