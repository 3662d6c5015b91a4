"""Colours of surface points, looked at from several places, by one kernel (colors.cpp)."""

from __future__ import annotations

import ctypes

import torch
from jaxtyping import Float
from torch import Tensor

from lg_field.ops.backends.cpu.native import as_they_lie, native, why_not_kernel

ABI = 1
"""`COLORS_ABI` of colors.cpp."""
WIDTH = 27
"""Features of a point: nine spherical harmonics for each of red, green and blue."""


class ColorsTask(ctypes.Structure):
    """`ColorsTask` of colors.cpp."""

    _fields_ = [
        *[(name, ctypes.c_int64) for name in ("points", "places")],
        ("threads", ctypes.c_int32),
        ("grazing", ctypes.c_float),
        *[(name, ctypes.c_void_p) for name in ("features", "at", "inward", "from", "rgb")],
    ]


def why_not(features: Tensor, *others: Tensor) -> str | None:
    """Why the kernel cannot find colours of these (n, features) features, in one line; None if it can."""
    if features.shape[1:] != (WIDTH,):
        return f"it takes {WIDTH} features"
    if torch.is_grad_enabled() and any(t.requires_grad for t in (features, *others)):
        return "it gives no gradients"
    return why_not_kernel("colors", ABI, ColorsTask, features, *others)


def facing_colors(
    features: Float[Tensor, "points 27"],
    points: Float[Tensor, "points 3"],
    inward: Float[Tensor, "points 3"],
    places: Float[Tensor, "places 3"],
    grazing: float,
) -> Float[Tensor, "points 3"]:
    """Mean colours over the places that are in front of a surface; called only where `why_not` is None.

    Args:
        features: harmonics of red, then green, then blue.
        points: scene units.
        inward: unit directions from straight above the surface.
        places: where it is looked at from, at least one.
        grazing: cosine between the way to a place and straight above from which on the place counts as in front.
    """
    rgb = torch.empty(len(points), 3)
    kept = as_they_lie({"features": features, "at": points, "inward": inward, "from": places, "rgb": rgb})
    built = native("colors", ABI, ctypes.sizeof(ColorsTask))
    assert isinstance(built, ctypes.CDLL)
    task = ColorsTask(
        points=len(points),
        places=len(places),
        threads=torch.get_num_threads(),
        grazing=grazing,
        **{name: t.data_ptr() for name, t in kept.items()},
    )
    built.lg_field_colors(ctypes.byref(task))
    return rgb
