"""The Local-Global chain by Triton kernels: chain_kernel.py, whose head says how they work."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lg_field.ops.backends.triton.runtime import launch, padded, precision, processors
from lg_field.ops.sizes import ChainSizes

ACTIVATIONS = {"relu": 0, "sine": 1, "gauss": 2}
"""Activation -> its code in functions.py."""
MERGES = {"concat": 1, "add": 2}
"""Merge -> its code; 0 = there is none."""
WIDEST = {"tf32": 128, "tf32x3": 64}
"""Of all widths, by precision: beyond it registers of a tile would spill."""
WIDE = 64
"""Widths above this take more threads a program, and fewer points."""
TILES = {
    ("tf32", False): ((64, 4), (32, 2)),
    ("tf32", True): ((16, 8), (16, 8)),
    ("tf32x3", False): ((64, 4), (32, 4)),
}
"""Points and warps of a tile, forward and backward, by precision and whether the chain is wide."""
PROGRAMS = 4
"""Programs of a backward pass for each multiprocessor."""


class Widths(NamedTuple):
    """What the kernels know of a chain when they are compiled."""

    i: int
    """Local inputs."""
    j: int
    """Global inputs."""
    o: int
    """Outputs."""
    h: int
    """Local features; 0 = there is no local part."""
    g: int
    """Global features; 0 = there is no global part."""
    ip: int
    """The same, padded to sizes of tiles."""
    jp: int
    op: int
    hp: int
    gp: int
    depth: int
    activation: int
    merge: int
    head: bool
    """Whether the shared part has an output layer."""
    row: int
    """Numbers in a row."""
    merge_at: int
    """Place of the merge's weights among the shared numbers."""
    head_at: int
    """Place of the head's."""
    shared: int
    """Shared numbers in all."""
    steps: int
    """Halvings that find a row among all."""
    block: int
    """Points of a tile."""
    warps: int
    """Of a program."""
    precision: str
    """Of products, a key of `WIDEST`."""
    want_x: bool = False
    """Which gradients are wanted."""
    want_gx: bool = False
    want_table: bool = False
    want_shared: bool = False

    @property
    def scratch(self) -> int:
        """Numbers that a program of the backward pass keeps of a tile."""
        return 3 * self.depth * self.block * (self.gp + 2 * self.hp)


def why_not_sizes(sizes: ChainSizes) -> str | None:
    """Why the kernels cannot compute a chain of these sizes, in one line; None if they can."""
    if sizes.activation not in ACTIVATIONS:
        return f"it does not know the activation {sizes.activation!r}"
    if sizes.merge not in MERGES:
        return f"it does not know the merge {sizes.merge!r}"
    parts = {"local_width": sizes.local_width, "global_width": sizes.global_width, "out_features": sizes.out_features}
    parts |= {"in_features": sizes.in_features, "global_in_features": sizes.global_in}
    for name, width in parts.items():
        if width > WIDEST[precision()]:
            most = f"{WIDEST[precision()]} with float32 matmul precision {torch.get_float32_matmul_precision()!r}"
            return f"it takes widths of up to {most}, {name} is {width}"
    return None


def widths(sizes: ChainSizes, rows: int, backward: bool = False) -> Widths:
    """The kernels' constants for a chain, a number of rows and a direction."""
    i, j, o, h, g = sizes.in_features, sizes.global_in, sizes.out_features, sizes.local_width, sizes.global_width
    shapes = {name: math.prod(shape) for name, shape in sizes.shared_shapes().items()}
    merge_at = sum(n for name, n in shapes.items() if name.startswith("global_"))
    head_at = merge_at + sum(n for name, n in shapes.items() if name.startswith("merge_"))
    ip, jp, op, hp, gp = (padded(n) for n in (i, j, o, h, g))
    block, warps = TILES[precision(), max(ip, jp, op, hp, gp) > WIDE][backward]
    return Widths(
        *(i, j, o, h, g, ip, jp, op, hp, gp),  # type: ignore[arg-type]
        depth=sizes.depth,
        activation=ACTIVATIONS[sizes.activation],
        merge=MERGES[sizes.merge] if sizes.merges else 0,
        head=sizes.shared_head,
        row=sizes.row_size,
        merge_at=merge_at,
        head_at=head_at,
        shared=sum(shapes.values()),
        steps=max(1, rows.bit_length()),
        block=block,
        warps=warps,
        precision=precision(),
    )


def triton_chain(
    x: Tensor, offsets: Tensor, table: Tensor, shared: Sequence[Tensor], sizes: ChainSizes, global_x: Tensor
) -> Tensor:
    """`local_global_chain` by the kernels. Backward computes each tile once more; once differentiable.

    Args:
        x: (M, in_features) sorted by row.
        offsets: (P + 1,) int64.
        table: (P, K) rows.
        shared: the tensors of `ChainSizes.shared_shapes`, in their order.
        sizes: widths and wiring.
        global_x: (M, global_in).
    """
    result: Tensor = _Chain.apply(x, global_x, offsets, table, sizes, *shared)
    return result


def tile_edges(offsets: Tensor, block: int) -> Tensor:
    """(P + 1,) points -> (P + 1,) int64 first tile of each row, then the number of tiles."""
    edges, rows = torch.empty_like(offsets), len(offsets) - 1
    launch("chain_kernel", "tile_edges", 1, offsets, edges, rows, ROWS=1024, BLOCK=block, num_warps=4)
    return edges


def most_tiles(points: int, rows: int, block: int) -> int:
    """No batch of so many points and rows has more tiles; known without a look at the device."""
    return points // block + min(points, rows)


def phase_scale(sizes: ChainSizes) -> float:
    """Factor of a linear output in its phase, as the kernels count it: a sine's in half turns."""
    return sizes.rate / math.pi if sizes.activation == "sine" else sizes.rate


class _Chain(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, global_x: Tensor, offsets: Tensor, table: Tensor, sizes: ChainSizes, *shared: Tensor
    ) -> Tensor:
        x, global_x, offsets, table = (t.detach().contiguous() for t in (x, global_x, offsets, table))
        flat = torch.cat([t.detach().flatten() for t in shared]) if shared else table
        w, rows = widths(sizes, len(table)), len(table)
        edges = tile_edges(offsets, w.block)
        ctx.save_for_backward(x, global_x, offsets, table, flat)
        ctx.sizes, ctx.shapes = sizes, [t.shape for t in shared]
        y = x.new_empty(len(x), sizes.out_features)
        arguments = x, global_x, offsets, edges, table, flat, y, rows, phase_scale(sizes)
        tiles = most_tiles(len(x), rows, w.block)
        launch("chain_kernel", "chain_forward", tiles, *arguments, W=w, num_warps=w.warps, num_stages=1)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, global_x, offsets, table, flat = ctx.saved_tensors
        sizes, rows = ctx.sizes, len(table)
        wants_x, wants_global_x, _, wants_table, _, *wants_shared = ctx.needs_input_grad
        w = widths(sizes, rows, backward=True)._replace(
            want_x=wants_x and sizes.local_width > 0,
            want_gx=wants_global_x and sizes.global_width > 0,
            want_table=wants_table and sizes.local_width > 0,
            want_shared=any(wants_shared),
        )
        edges = tile_edges(offsets, w.block)
        programs = min(PROGRAMS * processors(x.device), most_tiles(len(x), rows, w.block))
        dx, dglobal_x = (torch.empty_like(t) if wants else x for t, wants in ((x, w.want_x), (global_x, w.want_gx)))
        dtable = torch.zeros_like(table) if wants_table else table
        slices = x.new_zeros(programs if w.want_shared else 0, w.shared)
        scratch = x.new_empty(programs * w.scratch)
        given = x, global_x, offsets, edges, table, flat, dy.contiguous()
        asked = dx, dglobal_x, dtable, slices, scratch
        numbers = rows, phase_scale(sizes), sizes.rate
        launch(
            "chain_kernel", "chain_backward", programs, *given, *asked, *numbers, W=w, num_warps=w.warps, num_stages=1
        )
        parts = slices.sum(0).split([math.prod(s) for s in ctx.shapes]) if w.want_shared else ()
        dshared = [part.view(s) if wants else None for part, s, wants in zip(parts, ctx.shapes, wants_shared)]
        return (
            dx if w.want_x else None,
            dglobal_x if w.want_gx else None,
            None,
            dtable if wants_table else None,
            None,
            *(dshared or [None] * len(ctx.shapes)),
        )
