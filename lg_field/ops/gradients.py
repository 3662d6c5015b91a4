"""The gradients of a fit's loss, by the backend that does it best."""

from __future__ import annotations

from collections.abc import Mapping

from jaxtyping import Float, Int
from torch import Tensor

from lg_field.ops.backends import choose_backend
from lg_field.ops.chain import check_inputs
from lg_field.ops.sizes import ChainSizes


def accumulate_gradients(
    x: Float[Tensor, "points features"],
    offsets: Int[Tensor, " edges"],
    target: Float[Tensor, "points out"],
    table: Float[Tensor, "rows K"],
    shared: Mapping[str, Tensor],
    sizes: ChainSizes,
    chunk: int,
    backend: str = "auto",
) -> float:
    """Add the gradients of the mean squared error to `.grad` of table and shared, those that require one.

    Activations are kept for one chunk of points only, and computed once.

    Args:
        x: (M, in_features) points sorted by row.
        offsets: (P + 1,) int64, first point of each row, then M.
        target: (M, out_features) values.
        table: (P, K) rows.
        shared: the tensors of `ChainSizes.shared_shapes`.
        sizes: widths and wiring; the global part reads x too.
        chunk: points at a time; a fused backend has tiles of its own.
        backend: see `local_global_chain`.

    Returns:
        The mean squared error.

    Raises:
        ValueError: an unknown backend, or one that cannot run here; tensors that do not fit.
    """
    check_inputs(x, offsets, table, sizes, x)
    chosen = choose_backend(backend, sizes, x, target, table, *shared.values())
    return chosen.step(x, offsets, target, table, shared, sizes, chunk)
