"""What the Triton kernels share: activations, matrix products on padded tiles, the row of a tile.

Tiles have powers of two as sizes, at least 16; lanes beyond the true width hold zeros in everything that is read.
`no_type_check` keeps checkers of annotations, which wrap functions, away from code that Triton reads as text.
"""

from typing import no_type_check

import triton
import triton.language as tl

RELU, SINE, GAUSS = (tl.constexpr(code) for code in range(3))
NO_MERGE, CONCAT, ADD = (tl.constexpr(code) for code in range(3))


@triton.jit
@no_type_check
def sine(q):
    """sin(pi q): reduced to half a turn, which is exact, then a polynomial; within 1.2e-7."""
    n = tl.floor(q + 0.5)
    x = (q - n) * 3.14159265358979
    y = x * x
    p = 2.75573192e-6 + y * (-2.50521084e-8 + y * 1.60590438e-10)
    p = x * (1.0 + y * (-1.66666667e-1 + y * (8.33333333e-3 + y * (-1.98412698e-4 + y * p))))
    return p * (1.0 - 2.0 * (n - 2.0 * tl.floor(n * 0.5)))


@triton.jit
@no_type_check
def cosine(q):
    """cos(pi q), as `sine`."""
    n = tl.floor(q + 0.5)
    x = (q - n) * 3.14159265358979
    y = x * x
    p = 2.48015873e-5 + y * (-2.75573192e-7 + y * (2.08767570e-9 - y * 1.14707456e-11))
    p = 1.0 + y * (-0.5 + y * (4.16666667e-2 + y * (-1.38888889e-3 + y * p)))
    return p * (1.0 - 2.0 * (n - 2.0 * tl.floor(n * 0.5)))


@triton.jit
@no_type_check
def activate(p, ACTIVATION: tl.constexpr):
    """f(p) of phases; those of a sine are counted in half turns."""
    if ACTIVATION == SINE:
        result = sine(p)
    elif ACTIVATION == GAUSS:
        result = tl.exp(-p * p)
    else:
        result = tl.maximum(p, 0.0)
    return result


@triton.jit
@no_type_check
def slope(p, ACTIVATION: tl.constexpr):
    """Derivative of f by the phase, which a sine takes in radians."""
    if ACTIVATION == SINE:
        result = cosine(p)
    elif ACTIVATION == GAUSS:
        result = -2.0 * p * tl.exp(-p * p)
    else:
        result = tl.where(p > 0.0, 1.0, 0.0)
    return result


@triton.jit
@no_type_check
def zeros(ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """(ROWS, COLUMNS) tile of them."""
    return tl.zeros((ROWS, COLUMNS), tl.float32)


@triton.jit
@no_type_check
def matrix(pointer, FAN_IN: tl.constexpr, FAN_OUT: tl.constexpr, IN: tl.constexpr, OUT: tl.constexpr):
    """(FAN_IN, FAN_OUT) numbers in memory -> (IN, OUT) tile."""
    i, o = tl.arange(0, IN)[:, None], tl.arange(0, OUT)[None, :]
    if FAN_IN == IN and FAN_OUT == OUT:
        result = tl.load(pointer + i * FAN_OUT + o)
    else:
        result = tl.load(pointer + i * FAN_OUT + o, mask=(i < FAN_IN) & (o < FAN_OUT), other=0.0)
    return result


@triton.jit
@no_type_check
def line(pointer, WIDTH: tl.constexpr, PADDED: tl.constexpr):
    """(WIDTH,) numbers in memory -> (1, PADDED) tile."""
    o = tl.arange(0, PADDED)[None, :]
    return tl.load(pointer + o, mask=o < WIDTH, other=0.0)


@triton.jit
@no_type_check
def points(pointer, first, count, WIDTH: tl.constexpr, PADDED: tl.constexpr, BLOCK: tl.constexpr):
    """Lines first..first + count - 1 of a (., WIDTH) matrix -> (BLOCK, PADDED) tile."""
    i, o = tl.arange(0, BLOCK)[:, None], tl.arange(0, PADDED)[None, :]
    return tl.load(pointer + (first + i) * WIDTH + o, mask=(i < count) & (o < WIDTH), other=0.0)


@triton.jit
@no_type_check
def put_points(pointer, first, count, values, WIDTH: tl.constexpr, PADDED: tl.constexpr, BLOCK: tl.constexpr):
    """Inverse of `points`."""
    i, o = tl.arange(0, BLOCK)[:, None], tl.arange(0, PADDED)[None, :]
    tl.store(pointer + (first + i) * WIDTH + o, values, mask=(i < count) & (o < WIDTH))


@triton.jit
@no_type_check
def product(a, b, W: tl.constexpr):
    """a b in the precision of W, accumulated in float32."""
    return tl.dot(a, b, input_precision=W.precision)


@triton.jit
@no_type_check
def linear(x, at, FAN_IN: tl.constexpr, FAN_OUT: tl.constexpr, IN: tl.constexpr, OUT: tl.constexpr, W: tl.constexpr):
    """x A + b of a layer whose bias follows its weight in memory."""
    return product(x, matrix(at, FAN_IN, FAN_OUT, IN, OUT), W) + line(at + FAN_IN * FAN_OUT, FAN_OUT, OUT)


@triton.jit
@no_type_check
def pull(d, at, FAN_IN: tl.constexpr, FAN_OUT: tl.constexpr, IN: tl.constexpr, OUT: tl.constexpr, W: tl.constexpr):
    """d A^T: gradient of a layer's inputs."""
    return product(d, tl.trans(matrix(at, FAN_IN, FAN_OUT, IN, OUT)), W)


@triton.jit
@no_type_check
def add_to(at, values, mask, ATOMIC: tl.constexpr, WHOLE: tl.constexpr):
    """Add to numbers in memory; ATOMIC where other programs add to the same ones, WHOLE where the mask is true."""
    if ATOMIC and WHOLE:
        tl.atomic_add(at, values, sem="relaxed")
    elif WHOLE:
        tl.store(at, tl.load(at) + values)
    elif ATOMIC:
        tl.atomic_add(at, values, mask=mask, sem="relaxed")
    else:
        tl.store(at, tl.load(at, mask=mask, other=0.0) + values, mask=mask)


@triton.jit
@no_type_check
def learn(
    at,
    x,
    d,
    count,
    FAN_IN: tl.constexpr,
    FAN_OUT: tl.constexpr,
    IN: tl.constexpr,
    OUT: tl.constexpr,
    X_LINE: tl.constexpr,
    D_LINE: tl.constexpr,
    ATOMIC: tl.constexpr,
    BIAS: tl.constexpr,
    W: tl.constexpr,
):
    """Add x^T d, gradient of a weight, and the sum of d, that of the bias behind it; a few columns at a time.

    x and d lie in memory, `count` lines of X_LINE and D_LINE numbers.
    """
    COLUMNS: tl.constexpr = 32 if OUT > 32 else OUT
    n, i = tl.arange(0, W.block), tl.arange(0, IN)
    inputs = tl.load(x + n[None, :] * X_LINE + i[:, None], mask=(n < count)[None, :] & (i < FAN_IN)[:, None], other=0.0)
    for first in range(0, OUT, COLUMNS):
        o = first + tl.arange(0, COLUMNS)
        some = tl.load(
            d + n[:, None] * D_LINE + o[None, :], mask=(n < count)[:, None] & (o < FAN_OUT)[None, :], other=0.0
        )
        values = product(inputs, some, W)
        mask = (i < FAN_IN)[:, None] & (o < FAN_OUT)[None, :]
        add_to(at + i[:, None] * FAN_OUT + o[None, :], values, mask, ATOMIC, FAN_IN == IN and FAN_OUT == OUT)
        if BIAS:
            add_to(at + FAN_IN * FAN_OUT + o, tl.sum(some, axis=0), o < FAN_OUT, ATOMIC, FAN_OUT == OUT)


@triton.jit
@no_type_check
def row_of(edges, item, rows, STEPS: tl.constexpr):
    """The row r with edges[r] <= item < edges[r + 1], by STEPS halvings; `item` may be a tile."""
    low = item * 0
    high = low + rows
    for _ in range(STEPS):
        middle = (low + high) // 2
        reached = tl.load(edges + middle) <= item
        low = tl.where(reached, middle, low)
        high = tl.where(reached, high, middle)
    return low
