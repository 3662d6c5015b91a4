"""The kernels of the Local-Global chain: forward, and backward from the gradient of the outputs.

A program computes tiles of up to `block` points of one row; a tile stays on chip through all layers. Of row r the tiles
are edges[r]..edges[r + 1] - 1. Weights lie as `ChainSizes` has them: those of a row in a line of `table`, the shared
ones one after the other in `shared`; every bias follows its weight. `W` is the chain's `Widths`.

Backward computes a tile forward once more and keeps the activations f(p) of its layers and their slopes s = rate f'(p)
in `scratch`, which is the program's own and small enough to stay in the L2 cache. Then gradients of linear outputs are
kept beside them; with merged features m:
    dm = dy W_out^T,  dg = dy V_out^T (0 without a shared head)
    for k = depth - 1 ... 0:
        concat: dP = dm s;  dl = dP W_l^T;  dg += dP W_g^T
        add:    dP = dm s;  dl = dm;        dg += dP W_k^T
        dl *= s;  dg *= s;  dm = dl W_k^T;  dg = dg V_k^T
and at last every weight learns from what is kept: activations^T gradients. Gradients of a row are added atomically,
since programs share rows; those of the shared part go to a line of `slices` per program, whose sum the caller takes:
too many programs would wait for the same numbers.
"""

from typing import no_type_check

import triton
import triton.language as tl

from lg_field.ops.backends.triton.functions import (
    CONCAT,
    activate,
    learn,
    line,
    linear,
    matrix,
    points,
    product,
    pull,
    put_points,
    row_of,
    slope,
    zeros,
)


@triton.jit
@no_type_check
def tile_edges(offsets, edges, rows, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """First tile of each row, and the number of tiles, by one program that takes ROWS rows at a time."""
    r, total = tl.arange(0, ROWS), tl.load(offsets)
    tl.store(edges, total)
    for first in range(0, rows, ROWS):
        mask = first + r < rows
        begin = tl.load(offsets + first + r, mask=mask, other=0)
        tiles = (tl.load(offsets + first + r + 1, mask=mask, other=0) - begin + (BLOCK - 1)) // BLOCK
        tl.store(edges + first + r + 1, total + tl.cumsum(tiles, axis=0), mask=mask)
        total += tl.sum(tiles, axis=0)


@triton.jit
@no_type_check
def local_at(k, W: tl.constexpr):
    """Place of layer k >= 1 in a row."""
    return W.i * W.h + W.h + (k - 1) * (W.h * W.h + W.h)


@triton.jit
@no_type_check
def global_at(k, W: tl.constexpr):
    """Place of layer k >= 1 among the shared numbers."""
    return W.j * W.g + W.g + (k - 1) * (W.g * W.g + W.g)


@triton.jit
@no_type_check
def merged_phase(m, g, shared, k, W: tl.constexpr):
    """Linear output of the merge after layer k."""
    at = shared + W.merge_at
    if W.merge == CONCAT:
        result = product(m, matrix(at, W.h, W.h, W.hp, W.hp), W) + line(at + (W.h + W.g) * W.h, W.h, W.hp)
        result += product(g, matrix(at + W.h * W.h, W.g, W.h, W.gp, W.hp), W)
    else:
        result = linear(g, at + k * (W.g * W.h + W.h), W.g, W.h, W.gp, W.hp, W)
    return result


@triton.jit
@no_type_check
def put(at, layer, values, WIDTH: tl.constexpr, W: tl.constexpr):
    """Keep a layer's tile in an area of the scratch."""
    i, o = tl.arange(0, W.block)[:, None], tl.arange(0, WIDTH)[None, :]
    tl.store(at + layer * (W.block * WIDTH) + i * WIDTH + o, values)


@triton.jit
@no_type_check
def kept(at, layer, WIDTH: tl.constexpr, W: tl.constexpr):
    """Inverse of `put`."""
    i, o = tl.arange(0, W.block)[:, None], tl.arange(0, WIDTH)[None, :]
    return tl.load(at + layer * (W.block * WIDTH) + i * WIDTH + o)


@triton.jit
@no_type_check
def area(scratch, KIND: tl.constexpr, W: tl.constexpr):
    """Areas 0 to 2: global activations, slopes, gradients of phases; 3 to 5: local ones; 6 to 8: merged features,
    slopes, gradients."""
    ONE: tl.constexpr = W.depth * W.block
    return scratch + ONE * (KIND * W.gp if KIND < 3 else 3 * W.gp + (KIND - 3) * W.hp)


@triton.jit
@no_type_check
def activated(p, scratch, k, scale, rate, KIND: tl.constexpr, WIDTH: tl.constexpr, KEEP: tl.constexpr, W: tl.constexpr):
    """f(scale p) of linear outputs; if wanted, that and the slopes are kept."""
    a = activate(scale * p, W.activation)
    if KEEP:
        put(area(scratch, KIND, W), k, a, WIDTH, W)
        put(area(scratch, KIND + 1, W), k, rate * slope(scale * p, W.activation), WIDTH, W)
    return a


@triton.jit
@no_type_check
def merged(m, g, shared, scratch, k, scale, rate, KEEP: tl.constexpr, W: tl.constexpr):
    """Local features after layer k with the global ones mixed in."""
    if W.g:
        p = scale * merged_phase(m, g, shared, k, W)
        a = activate(p, W.activation)
        m = a if W.merge == CONCAT else m + a
        if KEEP:
            put(area(scratch, 6, W), k, m, W.hp, W)
            put(area(scratch, 7, W), k, rate * slope(p, W.activation), W.hp, W)
    return m


@triton.jit
@no_type_check
def features(x_ptr, gx_ptr, first, count, weights, shared, scratch, scale, rate, KEEP: tl.constexpr, W: tl.constexpr):
    """Local and global features after the last layer; a part that is not there gives zeros."""
    m = zeros(W.block, W.hp)
    g = zeros(W.block, W.gp)
    if W.g:
        p = linear(points(gx_ptr, first, count, W.j, W.jp, W.block), shared, W.j, W.g, W.jp, W.gp, W)
        g = activated(p, scratch, 0, scale, rate, 0, W.gp, KEEP, W)
    if W.h:
        p = linear(points(x_ptr, first, count, W.i, W.ip, W.block), weights, W.i, W.h, W.ip, W.hp, W)
        m = activated(p, scratch, 0, scale, rate, 3, W.hp, KEEP, W)
        m = merged(m, g, shared, scratch, 0, scale, rate, KEEP, W)
    for k in range(1, W.depth):
        if W.g:
            p = linear(g, shared + global_at(k, W), W.g, W.g, W.gp, W.gp, W)
            g = activated(p, scratch, k, scale, rate, 0, W.gp, KEEP, W)
        if W.h:
            p = linear(m, weights + local_at(k, W), W.h, W.h, W.hp, W.hp, W)
            m = activated(p, scratch, k, scale, rate, 3, W.hp, KEEP, W)
            m = merged(m, g, shared, scratch, k, scale, rate, KEEP, W)
    return m, g


@triton.jit
@no_type_check
def chain_forward(x_ptr, gx_ptr, offsets, edges, table, shared, y_ptr, rows, scale, W: tl.constexpr):
    """One tile a program. `scale`: of a linear output in its phase."""
    tile = tl.program_id(0)
    if tile < tl.load(edges + rows):
        row = row_of(edges, tile, rows, W.steps)
        first = tl.load(offsets + row) + (tile - tl.load(edges + row)) * W.block
        count = tl.load(offsets + row + 1) - first
        weights = table + row.to(tl.int64) * W.row
        m, g = features(x_ptr, gx_ptr, first, count, weights, shared, y_ptr, scale, 1.0, False, W)
        y = zeros(W.block, W.op)
        if W.h:
            y += linear(m, weights + local_at(W.depth, W), W.h, W.o, W.hp, W.op, W)
        if W.head:
            y += linear(g, shared + W.head_at, W.g, W.o, W.gp, W.op, W)
        put_points(y_ptr, first, count, y, W.o, W.op, W.block)


@triton.jit
@no_type_check
def merge_back(dm, dg, k, shared, scratch, W: tl.constexpr):
    """Gradients of what layer k gives to the merge, from that of the merged features."""
    dp = dm * kept(area(scratch, 7, W), k, W.hp, W)
    if W.want_shared:
        put(area(scratch, 8, W), k, dp, W.hp, W)
    if W.merge == CONCAT:
        at = shared + W.merge_at
        dg += pull(dp, at + W.h * W.h, W.g, W.h, W.gp, W.hp, W)
        dm = pull(dp, at, W.h, W.h, W.hp, W.hp, W)
    else:
        dg += pull(dp, shared + W.merge_at + k * (W.g * W.h + W.h), W.g, W.h, W.gp, W.hp, W)
    return dm, dg


@triton.jit
@no_type_check
def layers_back(dm, dg, weights, shared, scratch, W: tl.constexpr):
    """Gradients of the first layer's linear outputs, from those of the last features; all are kept."""
    for j in range(W.depth):
        k = W.depth - 1 - j
        if W.h and W.g:
            dm, dg = merge_back(dm, dg, k, shared, scratch, W)
        if W.h:
            dm = dm * kept(area(scratch, 4, W), k, W.hp, W)
            put(area(scratch, 5, W), k, dm, W.hp, W)
            if k > 0:
                dm = pull(dm, weights + local_at(k, W), W.h, W.h, W.hp, W.hp, W)
        if W.g:
            dg = dg * kept(area(scratch, 1, W), k, W.gp, W)
            put(area(scratch, 2, W), k, dg, W.gp, W)
            if k > 0:
                dg = pull(dg, shared + global_at(k, W), W.g, W.g, W.gp, W.gp, W)
    return dm, dg


@triton.jit
@no_type_check
def learn_row(x, dy, count, dweights, scratch, W: tl.constexpr):
    """Add a tile's gradients of its row."""
    before, d = area(scratch, 6 if W.g else 3, W), area(scratch, 5, W)
    SIZE: tl.constexpr = W.block * W.hp
    learn(dweights, x, d, count, W.i, W.h, W.ip, W.hp, W.i, W.hp, True, True, W)
    for k in range(1, W.depth):
        at, m, dl = dweights + local_at(k, W), before + (k - 1) * SIZE, d + k * SIZE
        learn(at, m, dl, count, W.h, W.h, W.hp, W.hp, W.hp, W.hp, True, True, W)
    at, m = dweights + local_at(W.depth, W), before + (W.depth - 1) * SIZE
    learn(at, m, dy, count, W.h, W.o, W.hp, W.op, W.hp, W.o, True, True, W)


@triton.jit
@no_type_check
def learn_merge(count, slices, scratch, W: tl.constexpr):
    """Add a tile's gradients of the merges."""
    for k in range(W.depth):
        g = area(scratch, 0, W) + k * (W.block * W.gp)
        dp = area(scratch, 8, W) + k * (W.block * W.hp)
        if W.merge == CONCAT:
            m, at = area(scratch, 3, W) + k * (W.block * W.hp), slices + W.merge_at
            learn(at, m, dp, count, W.h, W.h, W.hp, W.hp, W.hp, W.hp, False, False, W)
            learn(at + W.h * W.h, g, dp, count, W.g, W.h, W.gp, W.hp, W.gp, W.hp, False, True, W)
            tl.debug_barrier()  # the next layer adds to the same numbers
        else:
            at = slices + W.merge_at + k * (W.g * W.h + W.h)
            learn(at, g, dp, count, W.g, W.h, W.gp, W.hp, W.gp, W.hp, False, True, W)


@triton.jit
@no_type_check
def learn_shared(gx, dy, count, slices, scratch, W: tl.constexpr):
    """Add a tile's gradients of the shared part."""
    g, d = area(scratch, 0, W), area(scratch, 2, W)
    SIZE: tl.constexpr = W.block * W.gp
    learn(slices, gx, d, count, W.j, W.g, W.jp, W.gp, W.j, W.gp, False, True, W)
    for k in range(1, W.depth):
        at = slices + global_at(k, W)
        learn(at, g + (k - 1) * SIZE, d + k * SIZE, count, W.g, W.g, W.gp, W.gp, W.gp, W.gp, False, True, W)
    if W.h:
        learn_merge(count, slices, scratch, W)
    if W.head:
        at, last = slices + W.head_at, g + (W.depth - 1) * SIZE
        learn(at, last, dy, count, W.g, W.o, W.gp, W.op, W.gp, W.o, False, True, W)


@triton.jit
@no_type_check
def inputs_back(dx_ptr, dgx_ptr, first, count, dm, dg, weights, shared, W: tl.constexpr):
    """Gradients of the inputs, those that are wanted."""
    if W.want_x:
        put_points(dx_ptr, first, count, pull(dm, weights, W.i, W.h, W.ip, W.hp, W), W.i, W.ip, W.block)
    if W.want_gx:
        put_points(dgx_ptr, first, count, pull(dg, shared, W.j, W.g, W.jp, W.gp, W), W.j, W.jp, W.block)


@triton.jit
@no_type_check
def chain_backward(
    x_ptr,
    gx_ptr,
    offsets,
    edges,
    table,
    shared_ptr,
    dy_ptr,
    dx_ptr,
    dgx_ptr,
    dtable,
    slices_ptr,
    scratch_ptr,
    rows,
    scale,
    rate,
    W: tl.constexpr,
):
    """Tiles program, program + programs, ...; see `chain_forward`. `rate`: of a linear output, phases in radians."""
    program = tl.program_id(0)
    slices_ptr += program.to(tl.int64) * W.shared
    scratch_ptr += program.to(tl.int64) * (3 * W.depth * W.block * (W.gp + 2 * W.hp))
    for tile in range(program, tl.load(edges + rows).to(tl.int32), tl.num_programs(0)):
        row = row_of(edges, tile, rows, W.steps)
        first = tl.load(offsets + row) + (tile - tl.load(edges + row)) * W.block
        count = tl.load(offsets + row + 1) - first
        nothing = tl.multiple_of(
            tl.load(edges, volatile=True), 16
        )  # 0: or the compiler keeps all addresses in registers
        shared, slices, scratch = shared_ptr + nothing, slices_ptr + nothing, scratch_ptr + nothing
        weights, dweights = table + row.to(tl.int64) * W.row, dtable + row.to(tl.int64) * W.row
        _ = features(x_ptr, gx_ptr, first, count, weights, shared, scratch, scale, rate, True, W)
        tl.debug_barrier()  # what is kept is read by other threads than wrote it
        dy = points(dy_ptr, first, count, W.o, W.op, W.block)
        dm, dg = zeros(W.block, W.hp), zeros(W.block, W.gp)
        if W.h:
            dm = pull(dy, weights + local_at(W.depth, W), W.h, W.o, W.hp, W.op, W)
        if W.head:
            dg = pull(dy, shared + W.head_at, W.g, W.o, W.gp, W.op, W)
        dm, dg = layers_back(dm, dg, weights, shared, scratch, W)
        inputs_back(dx_ptr, dgx_ptr, first, count, dm, dg, weights, shared, W)
        tl.debug_barrier()
        if W.want_table:
            learn_row(x_ptr + first * W.i, dy_ptr + first * W.o, count, dweights, scratch, W)
        if W.want_shared:
            learn_shared(gx_ptr + first * W.j, dy_ptr + first * W.o, count, slices, scratch, W)
        tl.debug_barrier()  # slices and scratch are the next tile's, too
