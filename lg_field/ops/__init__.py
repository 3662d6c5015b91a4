"""The Local-Global chain as one operation on points sorted by row. Takes tensors and offsets, never a grid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from lg_field.ops.backends import cpu
from lg_field.ops.backends.blocks import block_chain
from lg_field.ops.backends.reference import reference_chain
from lg_field.ops.sizes import ChainSizes as ChainSizes
from lg_field.ops.sorting import RowSort as RowSort
from lg_field.ops.sorting import sort_by_row as sort_by_row

Backend = Literal["auto", "cpu", "torch", "reference"]


def local_global_chain(
    x: Tensor,
    offsets: Tensor,
    table: Tensor,
    shared: Mapping[str, Tensor],
    sizes: ChainSizes,
    *,
    global_x: Tensor | None = None,
    chunk: int | None = None,
    backend: Backend = "auto",
) -> Tensor:
    """Local sub-networks of all rows, the global sub-network and their merges, in one call (paper, section 3.2).

    Args:
        x: (M, in_features) inputs of the local part, sorted by row.
        offsets: (P + 1,) int64; points of row r are x[offsets[r]:offsets[r + 1]]. Uniform and ragged alike.
        table: (P, K) rows, see `ChainSizes.views`.
        shared: the tensors of `ChainSizes.shared_shapes`.
        sizes: widths and wiring.
        global_x: (M, global_in) inputs of the global part; None = x.
        chunk: points at a time; bounds activation memory, costs one more forward in training.
        backend: "cpu" (one fused kernel; float32 on the CPU, once differentiable, ignores chunk), "torch" (fast),
            "reference" (slow, any dtype, twice differentiable) or "auto": "cpu" where it can run, else "torch".

    Returns:
        (M, out_features), in the order of x. Differentiable in table and shared, and in x if x requires grad.

    Raises:
        ValueError: shapes that do not fit each other; backend "cpu" where it cannot run (the message says why).
    """
    global_x = x if global_x is None else global_x
    if x.shape[1:] != (sizes.in_features,) or table.shape != (len(offsets) - 1, sizes.row_size):
        raise ValueError(
            f"x {tuple(x.shape)} and table {tuple(table.shape)} do not fit in_features {sizes.in_features}, "
            f"{len(offsets) - 1} rows and row size {sizes.row_size}"
        )
    if global_x.shape != (len(x), sizes.global_in):
        raise ValueError(f"global_x must be {(len(x), sizes.global_in)}, got {tuple(global_x.shape)}")
    if backend == "reference":
        return reference_chain(x, offsets, table, shared, sizes, global_x)
    if backend == "cpu" or (backend == "auto" and cpu.why_not(x, global_x, table, *shared.values()) is None):
        return cpu.fused_chain(x, offsets, table, shared, sizes, global_x)
    return block_chain(x, offsets, table, shared, sizes, global_x, chunk)
