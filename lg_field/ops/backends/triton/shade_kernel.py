"""The kernels of what samples look like, and of what rays see of them; forward and backward.

Shading, of the chain's 28 outputs o for samples sorted by row:
    density = exp(min(o_0 + bias, 12))     rgb_c = sigmoid(sum_s o_{1 + 9 c + s} Y_s(direction of the sample's ray))
    dependence = mean over c and s > 0 of o_{1 + 9 c + s}^2
Y are the real spherical harmonics of degrees 0, 1, 2.

Compositing, of the samples of a ray, front to back, with thickness t = density length and T = exp(-sum of t before):
    w = T (1 - exp(-t))     seen = sum of w [rgb, 1, middle]
Backward, with g = d(seen) . [rgb, 1, middle]:  dt_i = g_i (T_i - w_i) - sum_{j > i} g_j w_j, whose sum over all j is
d(seen) . seen.
"""

from typing import no_type_check

import triton
import triton.language as tl

SAMPLES = tl.constexpr(32)
"""Of a ray, composited together."""


@triton.jit
@no_type_check
def harmonics(directions, ray, mask):
    """(n, 16) harmonics of the directions of (n,) rays, the last 7 zeros."""
    x = tl.load(directions + ray * 3, mask=mask, other=0.0)[:, None]
    y = tl.load(directions + ray * 3 + 1, mask=mask, other=0.0)[:, None]
    z = tl.load(directions + ray * 3 + 2, mask=mask, other=0.0)[:, None]
    s = tl.arange(0, 16)[None, :]
    result = tl.where(s == 0, 0.28209479177387814, 0.0 * x)
    result += tl.where(s == 1, 0.4886025119029199 * y, 0.0)
    result += tl.where(s == 2, 0.4886025119029199 * z, 0.0)
    result += tl.where(s == 3, 0.4886025119029199 * x, 0.0)
    result += tl.where(s == 4, 1.0925484305920792 * x * y, 0.0)
    result += tl.where(s == 5, 1.0925484305920792 * y * z, 0.0)
    result += tl.where(s == 6, 0.31539156525252005 * (3.0 * z * z - 1.0), 0.0)
    result += tl.where(s == 7, 1.0925484305920792 * x * z, 0.0)
    result += tl.where(s == 8, 0.5462742152960396 * (x * x - y * y), 0.0)
    return result


@triton.jit
@no_type_check
def shade_forward(out, order, rays, directions, density, rgb, dependence, count, bias, BLOCK: tl.constexpr):
    """BLOCK of `count` samples that have a row."""
    k = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside, s = k < count, tl.arange(0, 16)[None, :]
    at = tl.load(order + k, mask=inside, other=0)
    y = harmonics(directions, tl.load(rays + at, mask=inside, other=0), inside)
    o = tl.load(out + k.to(tl.int64) * 28, mask=inside, other=0.0)
    tl.store(density + at, tl.exp(tl.minimum(o + bias, 12.0)), mask=inside)
    squares = tl.zeros((BLOCK,), tl.float32)
    for c in tl.static_range(3):
        place = out + k[:, None].to(tl.int64) * 28 + (1 + 9 * c) + s
        f = tl.load(place, mask=inside[:, None] & (s < 9), other=0.0)
        tl.store(rgb + at * 3 + c, 1.0 / (1.0 + tl.exp(-tl.sum(f * y, axis=1))), mask=inside)
        squares += tl.sum(tl.where(s > 0, f * f, 0.0), axis=1)
    tl.store(dependence + at, squares / 24.0, mask=inside)


@triton.jit
@no_type_check
def shade_backward(
    out, order, rays, directions, density, rgb, ddensity, drgb, ddependence, dout, count, bias, BLOCK: tl.constexpr
):
    """Gradient of the chain's outputs."""
    k = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside, s = k < count, tl.arange(0, 16)[None, :]
    at = tl.load(order + k, mask=inside, other=0)
    y = harmonics(directions, tl.load(rays + at, mask=inside, other=0), inside)
    o = tl.load(out + k.to(tl.int64) * 28, mask=inside, other=0.0)
    of_density = tl.load(ddensity + at, mask=inside, other=0.0) * tl.load(density + at, mask=inside, other=0.0)
    tl.store(dout + k.to(tl.int64) * 28, tl.where(o + bias <= 12.0, of_density, 0.0), mask=inside)
    of_square = tl.load(ddependence + at, mask=inside, other=0.0) * (2.0 / 24.0)
    for c in tl.static_range(3):
        place, mask = k[:, None].to(tl.int64) * 28 + (1 + 9 * c) + s, inside[:, None] & (s < 9)
        f = tl.load(out + place, mask=mask, other=0.0)
        color = tl.load(rgb + at * 3 + c, mask=inside, other=0.0)
        of_sum = tl.load(drgb + at * 3 + c, mask=inside, other=0.0) * color * (1.0 - color)
        d = of_sum[:, None] * y + tl.where(s > 0, of_square[:, None] * f, 0.0)
        tl.store(dout + place, d, mask=mask)


@triton.jit
@no_type_check
def weighed(density, starts, ends, at, mask, passed):
    """Transmittance, weight, length and middle of some samples, and the thickness passed after them."""
    start, end = tl.load(starts + at, mask=mask, other=0.0), tl.load(ends + at, mask=mask, other=0.0)
    thickness = tl.load(density + at, mask=mask, other=0.0) * (end - start)
    through = tl.exp(-(passed + tl.cumsum(thickness, axis=0) - thickness))
    weight = through * (1.0 - tl.exp(-thickness))
    return through, weight, end - start, 0.5 * (start + end), passed + tl.sum(thickness, axis=0)


@triton.jit
@no_type_check
def composite_forward(density, rgb, starts, ends, firsts, seen):
    """What one ray sees: three colours, accumulation and weighted distance."""
    ray = tl.program_id(0).to(tl.int64)
    first, last = tl.load(firsts + ray), tl.load(firsts + ray + 1)
    passed, i, c = 0.0, tl.arange(0, SAMPLES), tl.arange(0, 4)[None, :]
    colors, accumulation, depth = tl.zeros((4,), tl.float32), 0.0, 0.0
    while first < last:
        at = first + i
        mask = at < last
        _, weight, _, middle, passed = weighed(density, starts, ends, at, mask, passed)
        color = tl.load(rgb + at[:, None] * 3 + c, mask=mask[:, None] & (c < 3), other=0.0)
        colors += tl.sum(weight[:, None] * color, axis=0)
        accumulation += tl.sum(weight, axis=0)
        depth += tl.sum(weight * middle, axis=0)
        first += SAMPLES
    channel = tl.arange(0, 4)
    tl.store(seen + ray * 5 + channel, colors, mask=channel < 3)
    tl.store(seen + ray * 5 + 3, accumulation)
    tl.store(seen + ray * 5 + 4, depth)


@triton.jit
@no_type_check
def composite_backward(density, rgb, starts, ends, firsts, seen, dseen, ddensity, drgb):
    """Gradients of one ray's samples."""
    ray = tl.program_id(0).to(tl.int64)
    first, last = tl.load(firsts + ray), tl.load(firsts + ray + 1)
    passed, i, c = 0.0, tl.arange(0, SAMPLES), tl.arange(0, 4)[None, :]
    channel = tl.arange(0, 8)
    d = tl.load(dseen + ray * 5 + channel, mask=channel < 5, other=0.0)
    behind = tl.sum(d * tl.load(seen + ray * 5 + channel, mask=channel < 5, other=0.0), axis=0)
    dcolor = tl.load(dseen + ray * 5 + c, mask=c < 3, other=0.0)
    daccumulation, ddepth = tl.load(dseen + ray * 5 + 3), tl.load(dseen + ray * 5 + 4)
    while first < last:
        at = first + i
        mask = at < last
        through, weight, length, middle, passed = weighed(density, starts, ends, at, mask, passed)
        wanted = mask[:, None] & (c < 3)
        color = tl.load(rgb + at[:, None] * 3 + c, mask=wanted, other=0.0)
        g = tl.sum(dcolor * color, axis=1) + daccumulation + ddepth * middle
        after = behind - tl.cumsum(g * weight, axis=0)
        tl.store(ddensity + at, (g * (through - weight) - after) * length, mask=mask)
        tl.store(drgb + at[:, None] * 3 + c, dcolor * weight[:, None], mask=wanted)
        behind -= tl.sum(g * weight, axis=0)
        first += SAMPLES
