"""The kernel of steps along rays that lie in occupied voxels: one ray a program, looked at twice.

Step k of a ray begins at s = near + (k + jitter) step in marching coordinates (distance, or beyond `linear` its
disparity) and is kept if its middle lies in an occupied voxel. The first look counts a ray's steps, the second, which
knows how many there are before, puts them where they belong: there is no bound on the steps of a ray. `V` is
`march.Lattice`.
"""

from typing import no_type_check

import triton
import triton.language as tl

STEPS = tl.constexpr(64)
"""Looked at together."""
MOST = tl.constexpr(1 << 20)
"""Steps of a ray."""


@triton.jit
@no_type_check
def from_steps(s, linear, V: tl.constexpr):
    """Distance of marching coordinates."""
    if V.linear:
        s = tl.where(s <= linear, s, linear / tl.maximum(2.0 - s / linear, 1e-4))
    return s


@triton.jit
@no_type_check
def scaled(x, y, z, V: tl.constexpr):
    """What each coordinate of scene points is multiplied with: contraction (mip-NeRF 360, eq. 10, max norm)."""
    result = 0.0 * x + 1.0
    if V.contraction:
        norm = tl.maximum(tl.maximum(tl.abs(x), tl.abs(y)), tl.maximum(tl.abs(z), 1.0))
        result = (2.0 - 1.0 / norm) / norm
    return result


@triton.jit
@no_type_check
def along(x, geometry, AXIS: tl.constexpr, COUNT: tl.constexpr, V: tl.constexpr):
    """Index of points' voxels along an axis, and whether they lie in the grid."""
    lower, width = tl.load(geometry + AXIS), tl.load(geometry + 3 + AXIS)
    place = (x - lower) / width * tl.load(geometry + 6 + AXIS) + tl.load(geometry + 9 + AXIS)
    voxel = tl.minimum(tl.maximum(place * V.per_axis, 0.0), COUNT * V.per_axis - 1.0)
    return voxel.to(tl.int32), (place >= 0.0) & (place <= COUNT)


@triton.jit
@no_type_check
def occupied(origins, directions, geometry, voxels, ray, distance, mask, V: tl.constexpr):
    """Whether a ray is in an occupied voxel at some distances."""
    x = tl.load(origins + ray * 3) + tl.load(directions + ray * 3) * distance
    y = tl.load(origins + ray * 3 + 1) + tl.load(directions + ray * 3 + 1) * distance
    z = tl.load(origins + ray * 3 + 2) + tl.load(directions + ray * 3 + 2) * distance
    scale = scaled(x, y, z, V)
    i, in_x = along(x * scale, geometry, 0, V.count_x, V)
    j, in_y = along(y * scale, geometry, 1, V.count_y, V)
    k, in_z = along(z * scale, geometry, 2, V.count_z, V)
    if not V.contraction:
        mask = mask & in_x & in_y & in_z
    index = (i * (V.count_y * V.per_axis) + j) * (V.count_z * V.per_axis) + k
    return tl.load(voxels + index, mask=mask, other=0) != 0


@triton.jit
@no_type_check
def march(
    origins,
    directions,
    near,
    far,
    jitter,
    geometry,
    voxels,
    counts,
    firsts,
    owners,
    starts,
    ends,
    step,
    linear,
    PUT: tl.constexpr,
    V: tl.constexpr,
):
    """Count the steps of a ray into `counts`; or PUT them behind those of the rays before. `geometry`: (4, 3) lower
    corner of the box of unit coordinates, its width, cells in it, and cells of the grid before it."""
    ray = tl.program_id(0).to(tl.int64)
    begin, last, shift = tl.load(near + ray), tl.load(far + ray), tl.load(jitter + ray)
    found, k, offset = 0, 0, tl.arange(0, STEPS)
    to = tl.load(firsts + ray) if PUT else ray * 0
    while (k < MOST) & (begin + (k + shift) * step + 0.5 * step < last):
        s = begin + ((offset + k).to(tl.float32) + shift) * step
        inside = s + 0.5 * step < last
        s = tl.maximum(s, 0.0)
        start, end = from_steps(s, linear, V), from_steps(s + step, linear, V)
        hit = occupied(origins, directions, geometry, voxels, ray, 0.5 * (start + end), inside, V)
        number = hit.to(tl.int32)
        if PUT:
            at = to + found + tl.cumsum(number, axis=0) - 1
            tl.store(owners + at, ray, mask=hit)
            tl.store(starts + at, start, mask=hit)
            tl.store(ends + at, end, mask=hit)
        found += tl.sum(number, axis=0)
        k += STEPS
    if not PUT:
        tl.store(counts + ray, found)
