"""From triangles to voxels: which voxel centres lie inside a mesh, by rays along the grid's lines.

A line of voxel centres is cut by the triangles it passes through; between an entry and an exit it is inside. Each edge
decides for both of its triangles at once on which side of it a line passes, so that no line of a closed mesh slips
through a seam or is counted twice, and nothing depends on the order of the triangles.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lg_field.signals.shapes.voxels import BitGrid

Rule = Literal["winding", "parity"]
PAIRS = 1 << 19
"""Pairs of triangle and line looked at together."""


@dataclass(frozen=True)
class Crossings:
    """Where the lines along the last axis cross the mesh."""

    line: np.ndarray
    """(n, 2) int32 x and y of the line."""
    z: np.ndarray
    """(n,) int32 first voxel whose centre is beyond the crossing, nz if none is."""
    sign: np.ndarray
    """(n,) int8: 1 enters, -1 leaves (parity: always 1)."""


def voxelize(
    vertices: np.ndarray, faces: np.ndarray, shape: tuple[int, int, int], *, closed: bool, rule: Rule = "winding"
) -> BitGrid:
    """Voxels whose centre is inside a mesh.

    Args:
        vertices: (V, 3) float64 in voxels: voxel i on an axis reaches from i to i + 1.
        faces: (F, 3) vertex numbers.
        shape: voxels per axis.
        closed: the mesh has no holes: lines along z decide. Otherwise lines along all three axes vote; a line that
            enters and does not leave abstains, and without a majority a voxel is outside.
        rule: "winding" (inside = wound around at least once: overlapping bodies are united; needs consistently
            wound faces) or "parity" (inside = an odd number of crossings: overlaps are holes).
    """
    along_z = _Fill(crossings(vertices[faces], shape, rule), shape, rule)
    if closed and not along_z.broken.any():
        return BitGrid.from_slabs(shape, along_z.slab)
    votes = [(along_z.packed(), along_z.broken, (0, 1, 2))]
    for order in ((0, 2, 1), (1, 2, 0)):  # lines along y, then along x; mirroring turns windings round, but not to 0
        turned = (shape[order[0]], shape[order[1]], shape[order[2]])
        fill = _Fill(crossings(vertices[faces][:, :, list(order)], turned, rule), turned, rule)
        votes.append((fill.packed(), fill.broken, order))

    def slab(first: int, last: int) -> np.ndarray:
        return np.sum([_vote(*vote, first, last) for vote in votes], axis=0, dtype=np.int8) > 0

    return BitGrid.from_slabs(shape, slab)


def _vote(grid: BitGrid, broken: np.ndarray, order: tuple[int, ...], first: int, last: int) -> np.ndarray:
    """(last - first, ny, nz) int8: 1 inside, -1 outside, 0 no vote, of a grid whose axes are in this order."""
    if order[0] == 0:
        inside, valid = grid.slab(first, last), ~broken[first:last, :, None]
    else:  # x is the last axis: its planes are bits of every byte
        low = first // 8
        inside = np.unpackbits(grid.bits[:, :, low : -(-last // 8)], axis=2).view(bool)
        inside, valid = inside[:, :, first - 8 * low : last - 8 * low], ~broken[:, :, None]
    vote = np.where(valid, np.where(inside, np.int8(1), np.int8(-1)), np.int8(0))
    return vote.transpose(np.argsort(order))


class _Fill:
    """Inside and outside along the lines of the last axis."""

    def __init__(self, found: Crossings, shape: tuple[int, int, int], rule: Rule) -> None:
        order = np.argsort(found.line[:, 0], kind="stable")
        self.line, self.z, self.sign = found.line[order], found.z[order], found.sign[order]
        self.shape, self.rule = shape, rule
        total = np.zeros(shape[:2], dtype=np.int32)
        np.add.at(total, (self.line[:, 0], self.line[:, 1]), self.sign)
        self.broken = total % 2 != 0 if rule == "parity" else total != 0
        """(nx, ny) bool: lines that enter and do not leave."""

    def slab(self, first: int, last: int) -> np.ndarray:
        """(last - first, ny, nz) bool."""
        low, high = np.searchsorted(self.line[:, 0], [first, last])
        change = np.zeros((last - first, self.shape[1], self.shape[2] + 1), dtype=np.int8)
        where = self.line[low:high, 0] - first, self.line[low:high, 1], self.z[low:high]
        np.add.at(change, where, self.sign[low:high])
        around = np.cumsum(change[:, :, :-1], axis=2, dtype=np.int8)
        return (around & 1).astype(bool) if self.rule == "parity" else around != 0

    def packed(self) -> BitGrid:
        """All of it."""
        return BitGrid.from_slabs(self.shape, self.slab)


def crossings(triangles: np.ndarray, shape: tuple[int, int, int], rule: Rule) -> Crossings:
    """Where lines through voxel centres along the last axis cross triangles.

    Args:
        triangles: (F, 3, 3) float64 corners, in voxels.
        shape: voxels per axis.
        rule: sign of a crossing, see `Crossings`.
    """
    parts = [_cross(triangles[rows], x, y, shape, rule) for rows, x, y in _pairs(triangles, shape)]
    lines, z, sign = (np.concatenate(column) for column in zip(*parts)) if parts else (np.zeros((0, 2)),) * 3
    return Crossings(lines.astype(np.int32), z.astype(np.int32).reshape(-1), sign.astype(np.int8).reshape(-1))


def _pairs(triangles: np.ndarray, shape: tuple[int, int, int]) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Triangle numbers and the lines (x, y) within their bounds, about `PAIRS` at a time."""
    limits = np.asarray(shape[:2])
    first = np.clip(np.ceil(triangles[:, :, :2].min(1) - 0.5), 0, limits).astype(np.int64)
    last = np.clip(np.floor(triangles[:, :, :2].max(1) - 0.5) + 1, 0, limits).astype(np.int64)
    size = np.maximum(last - first, 0)
    count = size.prod(1)
    rows = np.flatnonzero(count)
    ends = np.cumsum(count[rows])
    begin = 0
    while begin < len(rows):
        done = ends[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, done + PAIRS, side="right")))
        some = rows[begin:end]
        pair = np.repeat(some, count[some])
        within = np.arange(len(pair)) - np.repeat(np.cumsum(count[some]) - count[some], count[some])
        across = size[pair, 1]
        yield pair, first[pair, 0] + within // across, first[pair, 1] + within % across
        begin = end


def _cross(
    corners: np.ndarray, x: np.ndarray, y: np.ndarray, shape: tuple[int, int, int], rule: Rule
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of pairs of a triangle (n, 3, 3) and a line, those that meet: line (m, 2), first voxel beyond (m,), sign (m,)."""
    px, py = x + 0.5, y + 0.5
    left, weights = [], []
    for k in range(3):
        side, area = _side(corners[:, (k + 1) % 3], corners[:, (k + 2) % 3], px, py)
        left.append(side)
        weights.append(area)
    hit = (left[0] == left[1]) & (left[1] == left[2])
    weight = np.stack(weights, axis=1)[hit]
    depth, total = corners[hit][:, :, 2], weight.sum(1, keepdims=True)
    even = np.full_like(weight, 1.0 / 3.0)
    weight = np.divide(weight, total, out=even, where=np.abs(total) > 0.0)
    z = np.clip((weight * depth).sum(1), depth.min(1), depth.max(1))
    beyond = np.clip(np.floor(z + 0.5), 0, shape[2]).astype(np.int64)
    sign = np.ones(len(beyond)) if rule == "parity" else np.where(left[0][hit], -1, 1)
    return np.stack([x[hit], y[hit]], axis=1), beyond, sign


def _side(a: np.ndarray, b: np.ndarray, px: np.ndarray, py: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n,) bool: the line passes left of the edge from a to b, and (n,) the signed area that says so.

    Computed from the lesser end to the greater one whichever way the triangle goes round, so both triangles of an edge
    agree to the bit.
    """
    swap = (a[:, 0] > b[:, 0]) | ((a[:, 0] == b[:, 0]) & (a[:, 1] > b[:, 1]))
    low, high = np.where(swap[:, None], b, a), np.where(swap[:, None], a, b)
    area = (high[:, 0] - low[:, 0]) * (py - low[:, 1]) - (high[:, 1] - low[:, 1]) * (px - low[:, 0])
    return (area > 0.0) != swap, np.where(swap, -area, area)
