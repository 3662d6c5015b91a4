"""What the chain reads of points, by one kernel (encode.cpp): the rows' grids, frequencies, the shared grid."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable

from lg_field.ops.backends.cpu.native import as_they_lie, native, why_not_kernel

ABI = 4
"""`ENCODE_ABI` of encode.cpp."""
MOST_FREQUENCIES, MOST_FEATURES = 24, 64


@dataclass(frozen=True)
class EncodeSizes:
    """What a point's inputs consist of."""

    counts: tuple[int, int, int]
    """Cells per axis of the box of unit coordinates."""
    nodes: int
    """Nodes per axis of a row's grid; 0 = there is none."""
    grid_features: int
    """Features per node of it."""
    local_frequencies: int
    """Of the local inputs."""
    global_frequencies: int
    """Of the global inputs."""
    has_global: bool
    """Whether there are global inputs."""
    grid_in_global: bool
    """Whether they begin with the grid's features."""
    levels: int = 0
    """Of the shared grid; 0 = there is none."""
    level_features: int = 0
    """Features per entry of it."""
    log2_size: int = 0
    """A level has at most 2^this entries."""
    base_res: int = 0
    """Nodes per axis of its first level; each level has twice as many."""

    @property
    def local_in(self) -> int:
        """Width of the local inputs."""
        return self.grid_features + 3 + 6 * self.local_frequencies

    @property
    def global_in(self) -> int:
        """Width of the global inputs."""
        grid = self.grid_features if self.grid_in_global else 0
        return grid + 3 + 6 * self.global_frequencies + self.levels * self.level_features

    @property
    def local_learned(self) -> tuple[int, int]:
        """So many first and so many last local inputs come from grids."""
        return self.grid_features, 0

    @property
    def global_learned(self) -> tuple[int, int]:
        """The same of the global inputs."""
        return self.grid_features if self.grid_in_global else 0, self.levels * self.level_features


class EncodeTask(ctypes.Structure):
    """`EncodeTask` of encode.cpp."""

    _fields_ = [
        *[(name, ctypes.c_int64) for name in ("points", "rows")],
        *[(name, ctypes.c_int32) for name in ("nodes", "grid_features", "local_frequencies", "global_frequencies")],
        *[(name, ctypes.c_int32) for name in ("grid_in_global", "levels", "level_features", "log2_size", "base_res")],
        *[(name, ctypes.c_int32) for name in ("local_in", "global_in", "threads")],
        ("counts", ctypes.c_float * 3),
        *[(name, ctypes.c_void_p) for name in ("unit", "corners", "offsets", "order")],
        *[(name, ctypes.c_void_p) for name in ("grids", "table", "local_x", "global_x")],
        *[(name, ctypes.c_void_p) for name in ("dlocal_x", "dglobal_x", "dgrids", "dtable")],
    ]


def why_not(sizes: EncodeSizes, unit: Tensor, *tables: Tensor) -> str | None:
    """Why the kernel cannot encode these points with these tables, in one line; None if it can."""
    if max(sizes.local_frequencies, sizes.global_frequencies) > MOST_FREQUENCIES:
        return f"it knows {MOST_FREQUENCIES} frequencies at most"
    if sizes.grid_features > MOST_FEATURES or (sizes.grid_features and not sizes.nodes):
        return f"it takes grids of up to {MOST_FEATURES} features"
    if unit.requires_grad:
        return "it gives no gradients to points"
    return why_not_kernel("encode", ABI, EncodeTask, unit, *tables)


def encode(
    unit: Float[Tensor, "points 3"],
    offsets: Int64[Tensor, " edges"],
    corners: Float[Tensor, "rows 3"],
    grids: Float[Tensor, "rows K"],
    table: Float[Tensor, "entries features"],
    sizes: EncodeSizes,
) -> tuple[Float[Tensor, "points local_in"], Float[Tensor, "points global_in"]]:
    """Inputs of the chain at points; called only where `why_not` is None. Once differentiable, in both tables.

    Args:
        unit: (M, 3) unit coordinates of points sorted by row.
        offsets: (P + 1,) points of row r are unit[offsets[r]:offsets[r + 1]].
        corners: (P, 3) lower corner of each row's cell, in cells from that of the box of unit coordinates.
        grids: (P, nodes^3 grid_features).
        table: (E, level_features) entries of the shared grid, level by level; (0, 0) without one.
        sizes: what the inputs consist of.

    Returns:
        (M, local_in) and (M, global_in); (M, 0) without a global part.
    """
    local, everywhere = _Encode.apply(unit, offsets, corners, grids, table, sizes)
    return local, everywhere


class _Encode(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, unit: Tensor, offsets: Tensor, corners: Tensor, grids: Tensor, table: Tensor, sizes: EncodeSizes
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(unit, offsets, corners)
        ctx.sizes, ctx.shapes = sizes, (grids.shape, table.shape)
        local = unit.new_empty(len(unit), sizes.local_in)
        everywhere = unit.new_empty(len(unit), sizes.global_in if sizes.has_global else 0)
        tensors = {"grids": grids, "table": table, "local_x": local}
        run("lg_field_encode", sizes, unit, offsets, corners, tensors | _global_part(sizes, "global_x", everywhere))
        return local, everywhere

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dlocal: Tensor, dglobal: Tensor) -> tuple[Tensor | None, ...]:
        sizes, (grids, table) = ctx.sizes, ctx.shapes
        wanted = ctx.needs_input_grad[3] and sizes.nodes, ctx.needs_input_grad[4] and sizes.levels
        dgrids, dtable = (torch.empty(s) if wants else None for s, wants in zip((grids, table), wanted))
        learned = (
            join_lines(d, *lines) for d, lines in ((dlocal, sizes.local_learned), (dglobal, sizes.global_learned))
        )
        tensors = {"dlocal_x": next(learned)} | _global_part(sizes, "dglobal_x", next(learned))
        tensors |= {name: t for name, t in (("dgrids", dgrids), ("dtable", dtable)) if t is not None}
        unit, offsets, corners = ctx.saved_tensors
        run("lg_field_encode_back", sizes, unit, offsets, corners, tensors)
        return None, None, None, dgrids, dtable, None


def sort_points(rows: Int64[Tensor, " points"], num_rows: int) -> tuple[Tensor, Tensor]:
    """Points sorted by row; called only where `why_not` is None.

    Args:
        rows: (M,) row of each in 0..num_rows - 1, -1 for points to be left out.
        num_rows: P.

    Returns:
        (n,) numbers of the points, those of a row as they were; (P + 1,) first one of each row, then n.
    """
    rows = rows.contiguous()  # the pointer needs the copy to stay
    assert rows.dtype == torch.int64, f"rows are int64, got {rows.dtype}"
    order, offsets = torch.empty(len(rows), dtype=torch.int64), torch.empty(num_rows + 1, dtype=torch.int64)
    pointers = [ctypes.c_void_p(t.data_ptr()) for t in (rows, order, offsets)]
    built().lg_field_encode_sort(pointers[0], ctypes.c_int64(len(rows)), ctypes.c_int64(num_rows), *pointers[1:])
    return order[: int(offsets[-1])], offsets


def built() -> ctypes.CDLL:
    """The kernel; called only where `why_not` is None."""
    found = native("encode", ABI, ctypes.sizeof(EncodeTask))
    assert isinstance(found, ctypes.CDLL)
    return found


def join_lines(values: Float[Tensor, "points width"], first: int, last: int) -> Float[Tensor, "points fewer"]:
    """So many first and so many last columns."""
    return torch.cat([values[:, :first], values[:, values.shape[1] - last :]], dim=1)


def _global_part(sizes: EncodeSizes, name: str, values: Tensor) -> dict[str, Tensor]:
    return {name: values} if sizes.has_global else {}


def run(
    call: str, sizes: EncodeSizes, unit: Tensor, offsets: Tensor, corners: Tensor, tensors: dict[str, Tensor]
) -> None:
    """One call of the kernel, on the points of `order` if there is one among the tensors, else on all."""
    what, _kept = task(sizes, unit, offsets, corners, tensors)
    built()[call](ctypes.byref(what))


def task(
    sizes: EncodeSizes, unit: Tensor, offsets: Tensor, corners: Tensor, tensors: dict[str, Tensor]
) -> tuple[EncodeTask, dict[str, Tensor]]:
    """What to do, and the tensors that it points into."""
    fixed = {"unit": unit, "offsets": offsets, "corners": corners}
    kept = as_they_lie(fixed | tensors)
    what = EncodeTask(
        points=len(tensors.get("order", unit)),
        rows=len(offsets) - 1,
        nodes=sizes.nodes,
        grid_features=sizes.grid_features,
        local_frequencies=sizes.local_frequencies,
        global_frequencies=sizes.global_frequencies,
        grid_in_global=sizes.grid_in_global and sizes.has_global,
        levels=sizes.levels if sizes.has_global else 0,
        level_features=sizes.level_features,
        log2_size=sizes.log2_size,
        base_res=sizes.base_res,
        local_in=sizes.local_in,
        global_in=sizes.global_in,
        threads=torch.get_num_threads(),
        counts=(ctypes.c_float * 3)(*sizes.counts),
        **{name: t.data_ptr() for name, t in kept.items()},
    )
    return what, kept
