"""What the chain reads of points, by Triton kernels (encode_kernel.py): grids of rows, frequencies, the shared grid."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable

from lg_field.ops.backends.cpu.encode import MOST_FEATURES, MOST_FREQUENCIES, EncodeSizes
from lg_field.ops.backends.triton.runtime import launch, why_not_these

BLOCK, WARPS = 64, 4
"""Points and warps of a program."""


class Layout(NamedTuple):
    """What the kernels know of the inputs when they are compiled; see `EncodeSizes`."""

    nodes: int
    grid_features: int
    features: int
    """`grid_features`, padded to a power of two."""
    local_frequencies: int
    global_frequencies: int
    phases: int
    """A power of two that is at least three times the frequencies of either."""
    has_global: bool
    grid_in_global: bool
    levels: int
    level_features: int
    log2_size: int
    base_res: int
    local_in: int
    global_in: int
    global_at: int
    """Where frequencies begin in a line of the global inputs."""
    levels_at: int
    """Where levels begin in it."""
    steps: int
    """Halvings that find a row among all."""
    block: int = BLOCK
    want_grids: bool = False
    want_table: bool = False


def why_not(sizes: EncodeSizes, unit: Tensor, *tables: Tensor) -> str | None:
    """Why the kernels cannot encode these points with these tables, in one line; None if they can."""
    if max(sizes.local_frequencies, sizes.global_frequencies) > MOST_FREQUENCIES:
        return f"it knows {MOST_FREQUENCIES} frequencies at most"
    if sizes.grid_features > MOST_FEATURES or (sizes.grid_features and not sizes.nodes):
        return f"it takes grids of up to {MOST_FEATURES} features"
    if sizes.level_features not in (0, 1, 2, 4, 8):
        return "it takes 1, 2, 4 or 8 features per level"
    if unit.requires_grad:
        return "it gives no gradients to points"
    return why_not_these(unit, *tables)


def encode(
    unit: Float[Tensor, "points 3"],
    offsets: Int64[Tensor, " edges"],
    corners: Float[Tensor, "rows 3"],
    grids: Float[Tensor, "rows K"],
    table: Float[Tensor, "entries features"],
    sizes: EncodeSizes,
) -> tuple[Float[Tensor, "points local_in"], Float[Tensor, "points global_in"]]:
    """Inputs of the chain at points; called only where `why_not` is None. Once differentiable, in both tables.

    Arguments and results are those of the CPU's `encode`.
    """
    local, everywhere = _Encode.apply(unit, offsets, corners, grids, table, sizes)
    return local, everywhere


def layout(sizes: EncodeSizes, rows: int) -> Layout:
    """The kernels' constants."""
    most = 3 * max(sizes.local_frequencies, sizes.global_frequencies, 1)
    grid_in_global = sizes.grid_in_global and sizes.has_global
    levels = sizes.levels if sizes.has_global else 0
    global_at = sizes.grid_features if grid_in_global else 0
    return Layout(
        nodes=sizes.nodes,
        grid_features=sizes.grid_features,
        features=_power(sizes.grid_features),
        local_frequencies=sizes.local_frequencies,
        global_frequencies=sizes.global_frequencies,
        phases=_power(most),
        has_global=sizes.has_global,
        grid_in_global=grid_in_global,
        levels=levels,
        level_features=max(1, sizes.level_features),
        log2_size=sizes.log2_size,
        base_res=sizes.base_res,
        local_in=sizes.local_in,
        global_in=sizes.global_in,
        global_at=global_at,
        levels_at=global_at + 3 + 6 * sizes.global_frequencies,
        steps=max(1, rows.bit_length()),
    )


def _power(number: int) -> int:
    """The least power of two that is not below a number of at least 1."""
    return 1 << (max(1, number) - 1).bit_length()


class _Encode(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, unit: Tensor, offsets: Tensor, corners: Tensor, grids: Tensor, table: Tensor, sizes: EncodeSizes
    ) -> tuple[Tensor, Tensor]:
        unit, offsets, corners = (t.detach().contiguous() for t in (unit, offsets, corners))
        ctx.save_for_backward(unit, offsets, corners)
        ctx.sizes, ctx.shapes, w = sizes, (grids.shape, table.shape), layout(sizes, len(corners))
        local = unit.new_empty(len(unit), sizes.local_in)
        everywhere = unit.new_empty(len(unit), sizes.global_in if sizes.has_global else 0)
        tables = grids.detach().contiguous(), table.detach().contiguous()
        _start("encode_forward", (unit, offsets, corners, *tables, local, everywhere), sizes, w)
        return local, everywhere

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dlocal: Tensor, dglobal: Tensor) -> tuple[Tensor | None, ...]:
        unit, offsets, corners = ctx.saved_tensors
        sizes, (grids, table) = ctx.sizes, ctx.shapes
        wants_grids, wants_table = ctx.needs_input_grad[3:5]
        dgrids, dtable = (unit.new_zeros(shape) for shape in (grids, table))
        w = layout(sizes, len(corners))
        w = w._replace(want_grids=wants_grids and w.nodes > 0, want_table=wants_table and w.levels > 0)
        if w.want_grids or w.want_table:
            given = unit, offsets, corners, dlocal.contiguous(), dglobal.contiguous(), dgrids, dtable
            _start("encode_backward", given, sizes, w)
        return None, None, None, dgrids if wants_grids else None, dtable if wants_table else None, None


def _start(name: str, tensors: tuple[Tensor, ...], sizes: EncodeSizes, w: Layout) -> None:
    points, rows = len(tensors[0]), len(tensors[2])
    cells = (float(n) for n in sizes.counts)
    launch("encode_kernel", name, -(-points // BLOCK), *tensors, points, rows, *cells, W=w, num_warps=WARPS)
