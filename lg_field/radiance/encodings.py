"""Encodings of position and direction, in plain torch."""

from __future__ import annotations

import math

from jaxtyping import Float

from lg_field.arrays import Tensor, torch
from lg_field.constants import constant


def frequency_encoding(points: Tensor, num_frequencies: int) -> Tensor:
    """(M, d) in [0, 1] -> (M, d + 2 d n): the points and sin/cos of 2 pi 2^k x / 2, k = 0..n-1 (NeRF, eq. 4)."""
    return torch.cat(frequency_parts(points, num_frequencies), dim=1)


def frequency_parts(points: Tensor, num_frequencies: int) -> list[Tensor]:
    """`frequency_encoding` in parts, to be joined with others: (M, d) points, (M, d n) sines, (M, d n) cosines."""
    if num_frequencies == 0:
        return [points]
    bands = constant(tuple(math.pi * 2.0**k for k in range(num_frequencies)), points)
    phases = (points[:, None, :] * bands[:, None]).flatten(1)
    return [points, phases.sin(), phases.cos()]


def frequency_features(dim: int, num_frequencies: int) -> int:
    """Width of `frequency_encoding`."""
    return dim * (1 + 2 * num_frequencies)


def spherical_harmonics(directions: Tensor) -> Tensor:
    """(M, 3) unit vectors -> (M, 9) real spherical harmonics of degrees 0, 1, 2 (orthonormal)."""
    if not directions.is_cpu:  # where the number of operations counts
        return _products(directions)
    x, y, z = directions.unbind(-1)
    return torch.stack(
        [
            torch.full_like(x, 0.28209479177387814),
            0.4886025119029199 * y,
            0.4886025119029199 * z,
            0.4886025119029199 * x,
            1.0925484305920792 * x * y,
            1.0925484305920792 * y * z,
            0.31539156525252005 * (3.0 * z * z - 1.0),
            1.0925484305920792 * x * z,
            0.5462742152960396 * (x * x - y * y),
        ],
        dim=-1,
    )


def _products(directions: Tensor) -> Tensor:
    """`spherical_harmonics` as products of two factors each, of these: x, y, z, 1, x - y, x + y."""
    x, y = directions[:, :1], directions[:, 1:2]
    factors = torch.cat([directions, constant(1.0, directions).expand_as(x), x - y, x + y], dim=1)
    first, second = (factors.index_select(1, constant(which, factors, torch.int64)) for which in FACTORS)
    return torch.addcmul(constant(OFFSETS, directions), first * constant(SCALES, directions), second)


FACTORS = (3, 1, 2, 0, 0, 1, 2, 0, 4), (3, 3, 3, 3, 1, 2, 2, 2, 5)
DEGREES = 0.28209479177387814, 0.4886025119029199, 1.0925484305920792
SCALES = (DEGREES[0], *DEGREES[1:2] * 3, *DEGREES[2:] * 2, 0.9461746957575601, DEGREES[2], 0.5462742152960396)
OFFSETS = (0.0,) * 6 + (-0.31539156525252005, 0.0, 0.0)


def view_dependence(features: Float[Tensor, "points features"]) -> Float[Tensor, " points"]:
    """Mean square of the harmonics above degree 0 of colours that are `SH_FEATURES` harmonics each: 0 for colours that
    are the same from everywhere."""
    return features.unflatten(1, (-1, SH_FEATURES))[..., 1:].square().mean((1, 2))


SH_FEATURES = 9
