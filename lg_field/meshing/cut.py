"""Vertices on the border of what is evaluated: they go to the border itself, wherever it passes between two nodes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Int, Num

HALVINGS = 6
"""A border is found to 2^-7 of a voxel; no vertex comes nearer to a node than that, so none coincide."""
PART = 1 << 18
"""Vertices at a time."""
Test = Callable[[Num[np.ndarray, "n 3"]], Bool[np.ndarray, " n"]]


def placed_on_cuts(vertices: Float[np.ndarray, "v 3"], kept: Test, solid: Test) -> Float[np.ndarray, "v 3"]:
    """Move the vertices of lattice edges that leave what is kept to where they leave it.

    Beyond the border values count as 0, whatever they are inside, so interpolation between the nodes would put the
    surface anywhere along the edge, mostly next to the outer node.

    Args:
        vertices: lattice coordinates, each on one edge between neighbouring nodes.
        kept: places -> whether they are evaluated at all.
        solid: places -> whether they are kept and lie inside the surface.

    Returns:
        The vertices in the same order; those on other edges stay where they are.
    """
    parts = [_placed(vertices[i : i + PART], kept, solid) for i in range(0, len(vertices), PART)]
    return np.concatenate(parts) if parts else vertices


def _placed(vertices: np.ndarray, kept: Test, solid: Test) -> np.ndarray:
    base, axis = edges_of(vertices)
    along = np.eye(3, dtype=np.int64)[axis]
    first, last = kept(base), kept(base + along)
    cut = np.flatnonzero(first != last)
    turn = np.where(first[cut], 1, -1)[:, None] * along[cut]
    inner = base[cut] + np.where(first[cut, None], 0, along[cut])
    low, high = np.zeros(len(cut)), np.ones(len(cut))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        inside = solid(inner + middle[:, None] * turn)
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    placed = vertices.copy()
    placed[cut] = inner + ((low + high) / 2)[:, None] * turn
    return placed


def edges_of(vertices: Float[np.ndarray, "v 3"]) -> tuple[Int[np.ndarray, "v 3"], Int[np.ndarray, " v"]]:
    """The lattice edge each vertex lies on: its lower node and its axis. Two coordinates at least are whole."""
    base = np.round(vertices)
    axis = np.abs(vertices - base).argmax(1)
    rows = np.arange(len(vertices))
    base[rows, axis] = np.floor(vertices[rows, axis])
    return base.astype(np.int64), axis
