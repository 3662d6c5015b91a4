"""The Local-Global chain as one operation on points sorted by row."""

from __future__ import annotations

from collections.abc import Mapping

from jaxtyping import Float, Int
from torch import Tensor

from lg_field.ops.backends import choose_backend
from lg_field.ops.sizes import ChainSizes


def local_global_chain(
    x: Float[Tensor, "points features"],
    offsets: Int[Tensor, " edges"],
    table: Float[Tensor, "rows K"],
    shared: Mapping[str, Tensor],
    sizes: ChainSizes,
    *,
    global_x: Float[Tensor, "points global_features"] | None = None,
    chunk: int | None = None,
    backend: str = "auto",
) -> Float[Tensor, "points out"]:
    """Local sub-networks of all rows, the global sub-network and their merges, in one call (paper, section 3.2).

    Args:
        x: (M, in_features) inputs of the local part, sorted by row.
        offsets: (P + 1,) int64; points of row r are x[offsets[r]:offsets[r + 1]]. Uniform and ragged alike.
        table: (P, K) rows, see `ChainSizes.views`.
        shared: the tensors of `ChainSizes.shared_shapes`.
        sizes: widths and wiring.
        global_x: (M, global_in) inputs of the global part; None = x.
        chunk: points at a time; bounds activation memory, costs one more forward in training.
        backend: a name in `backends.BACKENDS`: "cpu" (one fused kernel; float32 on the CPU, once differentiable,
            ignores chunk), "torch" (fast), "reference" (slow, twice differentiable); or "auto": the first that can.

    Returns:
        (M, out_features), in the order of x. Differentiable in table and shared, and in x if x requires grad.

    Raises:
        ValueError: shapes that do not fit each other; a backend that is unknown or cannot run, with the reason.
    """
    global_x = x if global_x is None else global_x
    check_inputs(x, offsets, table, sizes, global_x)
    chosen = choose_backend(backend, sizes, x, global_x, table, *shared.values())
    return chosen.chain(x, offsets, table, shared, sizes, global_x, chunk)


def check_inputs(x: Tensor, offsets: Tensor, table: Tensor, sizes: ChainSizes, global_x: Tensor) -> None:
    """Raise ValueError unless these shapes fit each other and the sizes."""
    if x.shape[1:] != (sizes.in_features,) or table.shape != (len(offsets) - 1, sizes.row_size):
        raise ValueError(
            f"x {tuple(x.shape)} and table {tuple(table.shape)} do not fit in_features {sizes.in_features}, "
            f"{len(offsets) - 1} rows and row size {sizes.row_size}"
        )
    if global_x.shape != (len(x), sizes.global_in):
        raise ValueError(f"global_x must be {(len(x), sizes.global_in)}, got {tuple(global_x.shape)}")
