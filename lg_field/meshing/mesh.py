"""Marching cubes of any `points -> values`, in blocks: bounded memory, no seams, closed where it is cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from lg_field.errors import EXTRAS
from lg_field.meshing.cut import edges_of, placed_on_cuts
from lg_field.meshing.narrow_band import STRIDE, NarrowBand

Values = Callable[[Tensor], Tensor]


class EmptyMeshError(ValueError):
    """No value reaches the threshold."""


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh."""

    vertices: Float[np.ndarray, "v 3"]
    """(V, 3) float64."""
    faces: Int[np.ndarray, "f 3"]
    """(F, 3) int64, counter-clockwise seen from outside."""
    colors: UInt8[np.ndarray, "v 3"] | None = None
    """(V, 3) uint8, or None."""

    def transformed(self, matrix: Float[np.ndarray, "4 4"]) -> Mesh:
        """The mesh moved by an affine (4, 4) matrix; a mirroring one turns the faces round."""
        vertices = self.vertices @ matrix[:3, :3].T + matrix[:3, 3]
        faces = self.faces[:, ::-1].copy() if np.linalg.det(matrix[:3, :3]) < 0 else self.faces
        return replace(self, vertices=vertices, faces=faces)

    def normals(self) -> Float[np.ndarray, "v 3"]:
        """(V, 3) unit normals, outward, averaged over the faces by area."""
        a, b, c = (self.vertices[self.faces[:, k]] for k in range(3))
        per_face = np.cross(b - a, c - a)
        total = np.zeros_like(self.vertices)
        for k in range(3):
            np.add.at(total, self.faces[:, k], per_face)
        return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)


def marching_cubes(
    values: Values,
    lower: Sequence[float],
    upper: Sequence[float],
    resolution: int,
    threshold: float,
    *,
    active: Values | None = None,
    mask: Values | None = None,
    zero_outside: bool = False,
    band: bool = False,
    cuts: bool = True,
    block: int = 64,
    max_points: int = 2**18,
    progress: Callable[[int, int], None] | None = None,
) -> Mesh:
    """The surface where `values` crosses `threshold`, larger values inside.

    Nodes outside the box, in inactive blocks only, or not in the mask count as 0, so the surface is closed; with `cuts`
    it lies on the border of the box or the mask itself where that cuts through a solid part.

    Args:
        values: (n, 3) float32 points -> (n,) values, at least 0 (densities, occupancies).
        lower: (3,) corner of the box.
        upper: (3,) corner.
        resolution: voxels along the longest side.
        threshold: value of the surface, above 0.
        active: (B, 2, 3) block boxes -> (B,) bool; other blocks are never evaluated.
        mask: (n, 3) points -> (n,) bool; other points are never evaluated.
        zero_outside: `values` says 0 of points outside the mask, and may be asked about them.
        band: evaluate only near the surface, many times faster: the same mesh, but for separate pieces of it that
            pass between all nodes of every fourth (see `narrow_band`).
        cuts: box and mask are a part that was cut out: find where their border passes between two nodes (`cut`).
        block: voxels per block and axis, a multiple of 4 with `band`.
        max_points: points per call of `values`.
        progress: called with blocks done and blocks in all.

    Raises:
        ValueError: bad box, resolution or threshold, or values that are not finite.
        EmptyMeshError: no value reaches the threshold.
    """
    lattice = _Lattice.make(lower, upper, resolution, block)
    if not np.isfinite(threshold) or threshold <= 0:
        raise ValueError(f"threshold must be a positive number, got {threshold}")
    if band and block % STRIDE:
        raise ValueError(f"block must be a multiple of {STRIDE} with band, got {block}")
    evaluator = _Evaluator(values, mask, lattice, max_points, active, zero_outside)
    near = NarrowBand(evaluator.at, lattice.voxels + 1, threshold, progress) if band else None
    grid_vertices, faces = _weld(_block_meshes(evaluator, near, threshold, progress))
    if cuts:
        grid_vertices = placed_on_cuts(grid_vertices, evaluator.kept, lambda at: evaluator.at(at) >= threshold)
    return Mesh(lattice.lower + grid_vertices * lattice.step, faces)


def _block_meshes(
    evaluator: _Evaluator, near: NarrowBand | None, threshold: float, progress: Callable[[int, int], None] | None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Vertices in lattice coordinates and faces of all blocks that the surface passes through.

    Raises:
        EmptyMeshError: there is none.
    """
    block = evaluator.lattice.block
    todo = evaluator.blocks() if near is None else near.blocks(block)
    parts, seen = [], (0.0, 0.0) if near is None else (float(near.coarse.min()), float(near.coarse.max()))
    for done, index in enumerate(todo):
        origin = np.asarray(index) * block
        nodes = evaluator.nodes(origin) if near is None else near.block(origin, block)
        seen = min(seen[0], float(nodes.min())), max(seen[1], float(nodes.max()))
        if nodes.min() < threshold <= nodes.max():
            parts.append(_block_mesh(nodes, origin, threshold))
        if progress is not None:
            progress(done + 1, len(todo))
    if not any(len(faces) for _, faces in parts):
        raise EmptyMeshError(f"no surface: threshold {threshold:g}, but values go from {seen[0]:.4g} to {seen[1]:.4g}")
    return parts


@dataclass(frozen=True)
class _Lattice:
    """Voxels of the whole box; nodes have integer coordinates 0..voxels, one layer of empty voxels lies around."""

    lower: np.ndarray
    step: np.ndarray
    voxels: np.ndarray
    block: int

    @staticmethod
    def make(lower: Sequence[float], upper: Sequence[float], resolution: int, block: int) -> _Lattice:
        low, up = np.asarray(lower, dtype=np.float64), np.asarray(upper, dtype=np.float64)
        if low.shape != (3,) or up.shape != (3,) or not np.isfinite([low, up]).all() or not (low < up).all():
            raise ValueError(f"lower must be below upper on all three axes, got {lower} and {upper}")
        if resolution < 1 or block < 1:
            raise ValueError(f"resolution and block must be at least 1, got {resolution} and {block}")
        size = up - low
        voxels = np.maximum(1, np.round(size / size.max() * resolution)).astype(int)
        return _Lattice(low, size / voxels, voxels, block)

    @property
    def blocks(self) -> np.ndarray:
        """(3,) blocks per axis, the layer of empty voxels not counted."""
        return -(-self.voxels // self.block)

    def box(self, index: np.ndarray) -> np.ndarray:
        """(2, 3) corners of a block."""
        first = np.asarray(index) * self.block
        last = np.minimum(first + self.block, self.voxels)
        return np.stack([self.lower + first * self.step, self.lower + last * self.step])


class _Evaluator:
    """Node values. A node has one position and one value, whichever block asks."""

    def __init__(
        self,
        values: Values,
        mask: Values | None,
        lattice: _Lattice,
        max_points: int,
        active: Values | None,
        zero_outside: bool,
    ) -> None:
        self.values, self.mask, self.lattice, self.max_points = values, mask, lattice, max_points
        self.zero_outside = zero_outside
        self.alive = np.zeros(lattice.blocks + 2, dtype=bool)  # with a layer of dead blocks around
        indices = np.stack(np.meshgrid(*map(np.arange, lattice.blocks), indexing="ij"), -1).reshape(-1, 3)
        boxes = torch.from_numpy(np.stack([lattice.box(i) for i in indices]))
        hit = torch.ones(len(indices), dtype=torch.bool) if active is None else active(boxes)
        self.alive[tuple(indices[hit.numpy()].T + 1)] = True
        self.all_alive = bool(hit.all())

    def blocks(self) -> list[tuple[int, ...]]:
        """Alive blocks and all around them, sorted: their voxels share nodes, so the surface may pass through them."""
        alive = np.argwhere(self.alive) - 1
        around = alive[:, None] + np.stack(np.meshgrid(*[(-1, 0, 1)] * 3, indexing="ij"), -1).reshape(-1, 3)
        return [tuple(b) for b in np.unique(around.reshape(-1, 3), axis=0).tolist()]

    def nodes(self, origin: np.ndarray) -> np.ndarray:
        """(block + 1)^3 values from a first node."""
        size = self.lattice.block + 1
        out = np.zeros((size,) * 3, dtype=np.float32)
        low, high = np.maximum(0, -origin), np.minimum(size, self.lattice.voxels + 1 - origin)
        if (low < high).all():
            part = tuple(map(slice, low, high))
            out[part] = self._box([np.arange(a, b) + first for a, b, first in zip(low, high, origin)])
        return out

    @torch.no_grad()
    def _box(self, axes: list[np.ndarray]) -> np.ndarray:
        """Values of all nodes of the lattice with these coordinates along each axis."""
        grid, lattice = tuple(map(len, axes)), self.lattice
        places = [lattice.lower[a] + at * lattice.step[a] for a, at in enumerate(axes)]
        points = np.stack(np.broadcast_arrays(*np.ix_(*(at.astype(np.float32) for at in places))), axis=-1)
        kept = np.ones(grid, dtype=bool) if self.all_alive else self._alive(axes, np.ix_)
        return self._found(kept.reshape(-1), torch.from_numpy(points.reshape(-1, 3)[kept.reshape(-1)])).reshape(grid)

    @torch.no_grad()
    def at(self, coordinates: np.ndarray) -> np.ndarray:
        """(n, 3) nodes, or places between them -> (n,) float32; 0 where they are not `kept`."""
        owned = self._owned(coordinates)
        return self._found(owned, self._points(coordinates[owned]))

    def _found(self, owned: np.ndarray, points: Tensor) -> np.ndarray:
        """(n,) values, from the (m, 3) points of those that are in or on an alive block."""
        if self.mask is not None and not self.zero_outside:
            inside = self.mask(points)
            points, owned = points[inside], owned.copy()
            owned[owned] = inside.numpy()
        found = torch.cat([self.values(part).float() for part in points.split(self.max_points)]).numpy()
        if not np.isfinite(found).all():
            raise ValueError("values must be finite, got NaN or infinity")
        if len(found) == len(owned):
            return found
        out = np.zeros(len(owned), dtype=np.float32)
        out[owned] = found
        return out

    @torch.no_grad()
    def kept(self, coordinates: np.ndarray) -> np.ndarray:
        """(n, 3) nodes, or places between them -> (n,) bool: in or on an alive block of the lattice, and in the
        mask."""
        kept = self._owned(coordinates)
        if self.mask is not None:
            kept[kept] = self.mask(self._points(coordinates[kept])).numpy()
        return kept

    def _points(self, coordinates: np.ndarray) -> Tensor:
        """(n, 3) places of the lattice -> (n, 3) float32."""
        return torch.from_numpy((self.lattice.lower + coordinates * self.lattice.step).astype(np.float32))

    def _owned(self, coordinates: np.ndarray) -> np.ndarray:
        """(n,) bool: the place is in the lattice and in or on an alive block."""
        lattice = self.lattice
        axes = [(at >= 0) & (at <= most) for at, most in zip(coordinates.T, lattice.voxels)]
        inside = axes[0] & axes[1] & axes[2]
        return inside if self.all_alive else inside & self._alive(list(coordinates.T), lambda *numbers: numbers)

    def _alive(self, axes: list[np.ndarray], joined: Callable[..., tuple[np.ndarray, ...]]) -> np.ndarray:
        """Whether places with these coordinates along each axis are in or on an alive block; `joined` makes an index of
        numbers along each axis."""
        within = [np.clip(at, 0, most) for at, most in zip(axes, self.lattice.voxels)]
        after = [np.floor(at).astype(np.int64) // self.lattice.block + 1 for at in within]
        before = [(np.ceil(at).astype(np.int64) - 1) // self.lattice.block + 1 for at in within]
        found = False
        for pick in np.ndindex(2, 2, 2):
            found = found | self.alive[joined(*((before if p else after)[axis] for axis, p in enumerate(pick)))]
        return np.asarray(found)


def _block_mesh(nodes: np.ndarray, origin: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Vertices in lattice coordinates and faces of one block."""
    try:
        import mcubes
    except ImportError as error:
        missing, _ = EXTRAS.get((error.name or "").split(".")[0], EXTRAS["mcubes"])  # or what PyMCubes imports
        raise ImportError(f"marching_cubes needs {missing}: pip install 'lg-field[mesh]'") from error
    # A node exactly at the threshold would put the vertices of all its edges in one place: nudge it inside.
    nodes = np.where(nodes == threshold, np.nextafter(np.float32(threshold), np.float32(np.inf)), nodes)
    vertices, faces = mcubes.marching_cubes(nodes.astype(np.float64), float(threshold))
    return vertices + origin, faces.astype(np.int64)


def _weld(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """One mesh of the blocks' meshes. Every vertex lies on one lattice edge; the edge is its identity."""
    counts = np.cumsum([0] + [len(v) for v, _ in parts])
    vertices = np.concatenate([v for v, _ in parts])
    faces = np.concatenate([f + n for (_, f), n in zip(parts, counts)])
    _, first, inverse = np.unique(_edge_keys(vertices), return_index=True, return_inverse=True)
    faces = inverse.reshape(-1)[faces]
    proper = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    return vertices[first], faces[proper]


def _edge_keys(vertices: np.ndarray) -> np.ndarray:
    """(V,) int64: number of the lattice edge each vertex lies on."""
    base, axis = edges_of(vertices)
    base = base + 2
    return ((base[:, 0] * (1 << 20) + base[:, 1]) * (1 << 20) + base[:, 2]) * 3 + axis


def touching(boxes: Float[Tensor, "b 2 3"], others: Float[Tensor, "n 2 3"]) -> Bool[Tensor, " b"]:
    """(B, 2, 3) and (n, 2, 3) boxes -> (B,) bool: True where the box touches one of the others."""
    hit = [
        ((others[None, :, 0] <= part[:, None, 1]) & (others[None, :, 1] >= part[:, None, 0])).all(-1).any(1)
        for part in boxes.split(256)
    ]
    return torch.cat(hit) if hit else torch.zeros(0, dtype=torch.bool)


def color_vertices(mesh: Mesh, colors: Callable[[Tensor, Tensor], Tensor], max_points: int = 2**18) -> Mesh:
    """The mesh with vertex colours.

    Args:
        mesh: any mesh.
        colors: (n, 3) points and (n, 3) unit directions from a viewer straight above the surface -> (n, 3) in [0, 1].
        max_points: points per call.
    """
    points = torch.from_numpy(mesh.vertices.astype(np.float32))
    directions = torch.from_numpy(-mesh.normals().astype(np.float32))
    with torch.no_grad():
        parts = [colors(p, d) for p, d in zip(points.split(max_points), directions.split(max_points))]
    rgb = (torch.cat(parts).clamp(0, 1) * 255).round().byte().numpy()
    return replace(mesh, colors=rgb)
