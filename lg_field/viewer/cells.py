"""What cells look like: all their edges as one set of lines, the outside of a selection as one mesh."""

from __future__ import annotations

import itertools
import json
import struct
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64, UInt8, UInt32
from torch import Tensor

from lg_field.space.partition import PartitionGrid

ToSpace = Callable[[Tensor], Tensor]
"""(n, d) float64 points of a grid's domain -> (n, 3) of the space that is drawn."""

RAMP = np.array([(68, 1, 84), (59, 82, 139), (33, 144, 141), (93, 200, 99), (253, 231, 37)], dtype=np.float64)
"""From low to high values: viridis at five places."""


def wireframe(
    grid: PartitionGrid,
    cells: Int64[Tensor, " n"],
    values: Float[Tensor, " n"],
    to_space: ToSpace,
    segments: int = 1,
) -> tuple[Float32[np.ndarray, "v space"], UInt32[np.ndarray, "m 2"], UInt8[np.ndarray, "v 3"]]:
    """Edges of cells, each once, however many cells share it.

    Args:
        grid: 2D or 3D.
        cells: (n,) cells to draw.
        values: (n,) in [0, 1]: an edge has the colour of the highest value around it.
        to_space: the space to draw in.
        segments: pieces per edge, more than 1 where `to_space` bends them.

    Returns:
        (v, 3) float32 points, (m, 2) uint32 lines between them, (v, 3) uint8 colours.
    """
    start, axis_of, per_cell = _edges(grid, cells.cpu())
    nodes = torch.tensor(grid.counts) + 1
    key = axis_of
    for k in range(grid.dim):
        key = key * nodes[k] + start[:, k]
    unique, inverse = key.unique(return_inverse=True)
    first = torch.empty_like(unique).scatter_(0, inverse, torch.arange(len(key)))
    highest = torch.zeros(len(unique), dtype=torch.float64)
    every = values.double().cpu().repeat(per_cell)
    highest.scatter_reduce_(0, inverse, every, "amax", include_self=False)
    start, axis_of = start[first].double(), axis_of[first]
    t = torch.linspace(0, 1, segments + 1, dtype=torch.float64)
    along = torch.nn.functional.one_hot(axis_of, grid.dim).double()
    points = start[:, None] + t[:, None] * along[:, None]
    space = to_space(_domain(grid, points.flatten(0, 1)))
    number = torch.arange(len(space)).view(-1, segments + 1)
    lines = torch.stack([number[:, :-1], number[:, 1:]], dim=-1).flatten(0, 1)
    colors = np.repeat(ramp(highest.numpy()), segments + 1, axis=0)
    return space.float().numpy(), lines.numpy().astype(np.uint32), colors


def _edges(grid: PartitionGrid, cells: Tensor) -> tuple[Tensor, Tensor, int]:
    """All edges of (n,) cells, edges of the same kind of all cells together: (e, d) first node, (e,) axis, e / n."""
    index = grid.unravel(cells)
    starts, axes = [], []
    for axis in range(grid.dim):
        for corner in itertools.product((0, 1), repeat=grid.dim - 1):
            step = list(corner)
            step.insert(axis, 0)
            starts.append(index + torch.tensor(step))
            axes.append(torch.full((len(index),), axis))
    return torch.cat(starts), torch.cat(axes), len(starts)


def outside(
    grid: PartitionGrid, cells: Int64[Tensor, " n"], to_space: ToSpace, segments: int = 1
) -> tuple[Float32[np.ndarray, "v 3"], UInt32[np.ndarray, "f 3"]]:
    """The faces of a set of cells that no two of them share (2D: the cells themselves).

    Args:
        grid: 2D or 3D.
        cells: (n,).
        to_space: the space to draw in.
        segments: pieces per side of a face.

    Returns:
        (v, 3) float32 vertices, (f, 3) uint32 triangles.
    """
    cells = cells.cpu()
    index, counts = grid.unravel(cells), torch.tensor(grid.counts)
    corners: list[Tensor] = []
    sides = [(2, 0)] if grid.dim == 2 else itertools.product(range(3), (0, 1))
    u = torch.linspace(0, 1, segments + 1, dtype=torch.float64)
    patch = torch.cartesian_prod(u, u)
    for axis, side in sides:
        if grid.dim == 2:
            corners.append(index[:, None].double() + patch)
            continue
        beyond = index.clone()
        beyond[:, axis] += 2 * side - 1
        inside = ((beyond >= 0) & (beyond < counts)).all(1)
        open_side = ~(inside & torch.isin(grid.ravel(beyond), cells))
        step = torch.full((len(patch), 3), float(side), dtype=torch.float64)
        step[:, [k for k in range(3) if k != axis]] = patch
        corners.append(index[open_side][:, None].double() + step)
    points = torch.cat(corners)
    space = to_space(_domain(grid, points.flatten(0, 1)))
    n = segments + 1
    a = (torch.arange(segments)[:, None] * n + torch.arange(segments)).flatten()
    quads = torch.stack([a, a + 1, a + n + 1, a, a + n + 1, a + n], dim=1).view(-1, 3)
    faces = (torch.arange(len(points))[:, None, None] * n * n + quads).flatten(0, 1)
    return space.float().numpy(), faces.numpy().astype(np.uint32)


def _domain(grid: PartitionGrid, lattice: Tensor) -> Tensor:
    """(n, d) positions counted in cells -> domain coordinates."""
    lower = torch.tensor(grid.lower, dtype=torch.float64)
    return lower + lattice * torch.tensor(grid.cell_size, dtype=torch.float64)


def ramp(values: Float[np.ndarray, " n"]) -> UInt8[np.ndarray, "n 3"]:
    """(n,) in [0, 1] -> (n, 3) uint8 colours."""
    at = np.clip(values, 0.0, 1.0) * (len(RAMP) - 1)
    low = np.minimum(at.astype(int), len(RAMP) - 2)
    part = (at - low)[:, None]
    return np.round(RAMP[low] * (1 - part) + RAMP[low + 1] * part).astype(np.uint8)


def line_glb(
    points: Float32[np.ndarray, "v 3"], lines: UInt32[np.ndarray, "m 2"], colors: UInt8[np.ndarray, "v 3"]
) -> bytes:
    """A binary glTF of lines with a colour per point: one object, however many lines.

    Args:
        points: (v, 3) float32.
        lines: (m, 2) uint32.
        colors: (v, 3) uint8.
    """
    rgba = np.concatenate([colors, np.full((len(colors), 1), 255, np.uint8)], axis=1)
    linear = ((rgba / 255.0) ** 2.2 * 65535).astype(np.uint16)  # glTF's vertex colours are linear
    linear[:, 3] = 65535
    parts = [points.astype("<f4").tobytes(), linear.astype("<u2").tobytes(), lines.astype("<u4").tobytes()]
    offsets = np.cumsum([0] + [len(p) for p in parts])
    views = [{"buffer": 0, "byteOffset": int(o), "byteLength": len(p)} for o, p in zip(offsets, parts)]
    low, high = points.min(0).tolist(), points.max(0).tolist()
    accessors = [
        {"bufferView": 0, "componentType": 5126, "count": len(points), "type": "VEC3", "min": low, "max": high},
        {"bufferView": 1, "componentType": 5123, "count": len(points), "type": "VEC4", "normalized": True},
        {"bufferView": 2, "componentType": 5125, "count": int(lines.size), "type": "SCALAR"},
    ]
    primitive = {"attributes": {"POSITION": 0, "COLOR_0": 1}, "indices": 2, "mode": 1, "material": 0}
    document = {
        "asset": {"version": "2.0"},
        "extensionsUsed": ["KHR_materials_unlit"],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [primitive]}],
        "materials": [{"extensions": {"KHR_materials_unlit": {}}}],
        "buffers": [{"byteLength": int(offsets[-1])}],
        "bufferViews": views,
        "accessors": accessors,
    }
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    data = b"".join(parts)
    data += b"\0" * (-len(data) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(data), b"BIN\0") + data
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks
