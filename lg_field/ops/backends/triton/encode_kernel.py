"""The kernels of what the chain reads of points: the grid of the point's row, frequencies of its position, the levels
of the shared grid; and backward, from gradients of that to those of both grids.

Lines of the inputs are as in ../cpu/encode.cpp. `W` is `encode.Layout`. A program has W.block points. Gradients are
added atomically: neighbours read the same nodes. Where a gradient is 0, nothing is added: most samples are not seen.
"""

from typing import no_type_check

import triton
import triton.language as tl

from lg_field.ops.backends.triton.functions import cosine, row_of, sine, zeros


@triton.jit
@no_type_check
def clamped(x):
    """x in [0, 1]; 0 for NaN."""
    return tl.minimum(tl.maximum(x, 0.0), 1.0)


@triton.jit
@no_type_check
def neighbour(place, low, UPPER: tl.constexpr):
    """Index and weight of the lower or upper neighbour along an axis."""
    part = place - low
    return low.to(tl.int32) + UPPER, part if UPPER else 1.0 - part


@triton.jit
@no_type_check
def cell_corner(place_x, place_y, place_z, low_x, low_y, low_z, row, CORNER: tl.constexpr, NODES: tl.constexpr):
    """Line and weight of one of the 8 nodes around points in their rows' grids."""
    i, u = neighbour(place_x, low_x, CORNER // 4)
    j, v = neighbour(place_y, low_y, CORNER // 2 % 2)
    k, w = neighbour(place_z, low_z, CORNER % 2)
    return ((row.to(tl.int64) * NODES + i) * NODES + j) * NODES + k, u * v * w


@triton.jit
@no_type_check
def entries(NODES: tl.constexpr, LOG2: tl.constexpr):
    """Lines of the shared grid that a level has."""
    MOST: tl.constexpr = 1 << LOG2
    return (NODES * NODES * NODES + 7) // 8 * 8 if NODES * NODES * NODES <= MOST else MOST


@triton.jit
@no_type_check
def level_corner(place_x, place_y, place_z, CORNER: tl.constexpr, NODES: tl.constexpr, LOG2: tl.constexpr):
    """Entry in its level and weight of one of the 8 nodes around points in the shared grid."""
    i, u = neighbour(place_x, tl.floor(place_x), CORNER // 4)
    j, v = neighbour(place_y, tl.floor(place_y), CORNER // 2 % 2)
    k, w = neighbour(place_z, tl.floor(place_z), CORNER % 2)
    MOST: tl.constexpr = 1 << LOG2
    if NODES * NODES * NODES <= MOST:
        line = i + j * NODES + k * (NODES * NODES)
        line = tl.where(line >= entries(NODES, LOG2), line - entries(NODES, LOG2), line)
    else:
        line = i ^ (j * (2654435761 & (MOST - 1))) ^ (k * (805459861 & (MOST - 1)))
        line = line & (MOST - 1)
    return line, u * v * w


@triton.jit
@no_type_check
def unit_at(unit, p, count, AXIS: tl.constexpr):
    """One coordinate of points; 0 beyond the last."""
    return tl.load(unit + p * 3 + AXIS, mask=p < count, other=0.0)


@triton.jit
@no_type_check
def cell_place(unit, corners, p, count, row, cells, AXIS: tl.constexpr, W: tl.constexpr):
    """Place of points among the nodes of their row's grid along an axis, and the lower of the two nodes."""
    corner = tl.load(corners + row * 3 + AXIS)
    place = clamped(unit_at(unit, p, count, AXIS) * cells - corner) * (W.nodes - 1)
    return place, tl.minimum(tl.floor(place), W.nodes - 2.0)


@triton.jit
@no_type_check
def level_places(unit, p, count, NODES: tl.constexpr):
    """Places of points among the nodes of a level."""
    x = clamped(unit_at(unit, p, count, 0)) * (NODES - 1) + 0.5
    y = clamped(unit_at(unit, p, count, 1)) * (NODES - 1) + 0.5
    z = clamped(unit_at(unit, p, count, 2)) * (NODES - 1) + 0.5
    return x, y, z


@triton.jit
@no_type_check
def put_frequencies(out, unit, p, count, COUNT: tl.constexpr, LINE: tl.constexpr, W: tl.constexpr):
    """[x; sines; cosines] of COUNT frequencies into lines of LINE numbers."""
    a = tl.arange(0, 4)[None, :]
    inside = (p < count)[:, None]
    x = tl.load(unit + p[:, None] * 3 + a, mask=inside & (a < 3), other=0.0)
    tl.store(out + p[:, None].to(tl.int64) * LINE + a, x, mask=inside & (a < 3))
    if COUNT:
        j = tl.arange(0, W.phases)[None, :]
        q = tl.load(unit + p[:, None] * 3 + j % 3, mask=inside & (j < 3 * COUNT), other=0.0)
        q = q * (1 << (j // 3)).to(tl.float32)
        at = out + p[:, None].to(tl.int64) * LINE + 3 + j
        tl.store(at, sine(q), mask=inside & (j < 3 * COUNT))
        tl.store(at + 3 * COUNT, cosine(q), mask=inside & (j < 3 * COUNT))


@triton.jit
@no_type_check
def put_grid(grids, local_x, global_x, p, count, x, y, z, low_x, low_y, low_z, row, W: tl.constexpr):
    """Features of the rows' grids into the lines of the inputs."""
    f = tl.arange(0, W.features)[None, :]
    wanted = (p < count)[:, None] & (f < W.grid_features)
    total = zeros(W.block, W.features)
    for corner in tl.static_range(8):
        line, weight = cell_corner(x, y, z, low_x, low_y, low_z, row, corner, W.nodes)
        total += weight[:, None] * tl.load(grids + line[:, None] * W.grid_features + f, mask=wanted, other=0.0)
    tl.store(local_x + p[:, None].to(tl.int64) * W.local_in + f, total, mask=wanted)
    if W.grid_in_global:
        tl.store(global_x + p[:, None].to(tl.int64) * W.global_in + f, total, mask=wanted)


@triton.jit
@no_type_check
def put_levels(table, global_x, unit, p, count, LEVELS: tl.constexpr, BASE: tl.constexpr, W: tl.constexpr):
    """Features of the shared grid into the lines of the global inputs."""
    inside, f = (p < count)[:, None], tl.arange(0, W.level_features)[None, :]
    at = global_x + p[:, None].to(tl.int64) * W.global_in + W.levels_at + f
    for level in tl.static_range(LEVELS):
        x, y, z = level_places(unit, p, count, BASE << level)
        total = zeros(W.block, W.level_features)
        for corner in tl.static_range(8):
            line, weight = level_corner(x, y, z, corner, BASE << level, W.log2_size)
            total += weight[:, None] * tl.load(table + line[:, None] * W.level_features + f, mask=inside, other=0.0)
        tl.store(at + level * W.level_features, total, mask=inside)
        table += entries(BASE << level, W.log2_size) * W.level_features


@triton.jit
@no_type_check
def encode_forward(
    unit, offsets, corners, grids, table, local_x, global_x, count, rows, cells_x, cells_y, cells_z, W: tl.constexpr
):
    """Inputs of the chain at W.block of `count` points. `cells_x`...: cells per axis of the box of unit coordinates."""
    p = tl.program_id(0) * W.block + tl.arange(0, W.block)
    if W.nodes:
        row = row_of(offsets, p, rows, W.steps)
        x, low_x = cell_place(unit, corners, p, count, row, cells_x, 0, W)
        y, low_y = cell_place(unit, corners, p, count, row, cells_y, 1, W)
        z, low_z = cell_place(unit, corners, p, count, row, cells_z, 2, W)
        put_grid(grids, local_x, global_x, p, count, x, y, z, low_x, low_y, low_z, row, W)
    put_frequencies(local_x + W.grid_features, unit, p, count, W.local_frequencies, W.local_in, W)
    if W.has_global:
        put_frequencies(global_x + W.global_at, unit, p, count, W.global_frequencies, W.global_in, W)
        put_levels(table, global_x, unit, p, count, W.levels, W.base_res, W)


@triton.jit
@no_type_check
def learn_grid(dlocal, dglobal, dgrids, p, count, x, y, z, low_x, low_y, low_z, row, W: tl.constexpr):
    """Add the gradients of the rows' grids."""
    f = tl.arange(0, W.features)[None, :]
    wanted = (p < count)[:, None] & (f < W.grid_features)
    d = tl.load(dlocal + p[:, None].to(tl.int64) * W.local_in + f, mask=wanted, other=0.0)
    if W.grid_in_global:
        d += tl.load(dglobal + p[:, None].to(tl.int64) * W.global_in + f, mask=wanted, other=0.0)
    for corner in tl.static_range(8):
        line, weight = cell_corner(x, y, z, low_x, low_y, low_z, row, corner, W.nodes)
        at = dgrids + line[:, None] * W.grid_features + f
        tl.atomic_add(at, weight[:, None] * d, mask=wanted & (d != 0.0), sem="relaxed")


@triton.jit
@no_type_check
def learn_levels(dglobal, dtable, unit, p, count, LEVELS: tl.constexpr, BASE: tl.constexpr, W: tl.constexpr):
    """Add the gradients of the shared grid."""
    inside, f = (p < count)[:, None], tl.arange(0, W.level_features)[None, :]
    of = dglobal + p[:, None].to(tl.int64) * W.global_in + W.levels_at + f
    for level in tl.static_range(LEVELS):
        x, y, z = level_places(unit, p, count, BASE << level)
        d = tl.load(of + level * W.level_features, mask=inside, other=0.0)
        for corner in tl.static_range(8):
            line, weight = level_corner(x, y, z, corner, BASE << level, W.log2_size)
            at = dtable + line[:, None] * W.level_features + f
            tl.atomic_add(at, weight[:, None] * d, mask=inside & (d != 0.0), sem="relaxed")
        dtable += entries(BASE << level, W.log2_size) * W.level_features


@triton.jit
@no_type_check
def encode_backward(
    unit, offsets, corners, dlocal, dglobal, dgrids, dtable, count, rows, cells_x, cells_y, cells_z, W: tl.constexpr
):
    """Add the gradients of both grids, those that W wants."""
    p = tl.program_id(0) * W.block + tl.arange(0, W.block)
    if W.want_grids:
        row = row_of(offsets, p, rows, W.steps)
        x, low_x = cell_place(unit, corners, p, count, row, cells_x, 0, W)
        y, low_y = cell_place(unit, corners, p, count, row, cells_y, 1, W)
        z, low_z = cell_place(unit, corners, p, count, row, cells_z, 2, W)
        learn_grid(dlocal, dglobal, dgrids, p, count, x, y, z, low_x, low_y, low_z, row, W)
    if W.want_table:
        learn_levels(dglobal, dtable, unit, p, count, W.levels, W.base_res, W)
