"""What is done to a mesh before it is printed: facts, loose pieces, smoothing, fewer faces; and where to threshold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, Shaped

from lg_field.meshing.mesh import Mesh


def otsu(values: Shaped[np.ndarray, "*n"], bins: int = 256) -> float:
    """The value that best parts a set in two: the variance between the parts is largest (Otsu, 1979).

    Raises:
        ValueError: fewer than two different values.
    """
    counts, edges = np.histogram(values, bins)
    if (counts > 0).sum() < 2:
        raise ValueError(f"there is no threshold: all values are {float(values.min()):g}; give --threshold")
    centers = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1]
    above = counts.sum() - below
    mean_below = np.cumsum(counts * centers)[:-1] / np.maximum(below, 1)
    mean_above = ((counts * centers).sum() - np.cumsum(counts * centers)[:-1]) / np.maximum(above, 1)
    between = below * above * (mean_below - mean_above) ** 2.0
    best = np.flatnonzero(between >= between.max() * (1 - 1e-12))
    return float(edges[1:-1][best].mean())


def is_watertight(mesh: Mesh) -> bool:
    """Whether every edge joins exactly two faces that are wound the same way."""
    ends = np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]])
    forward = np.unique(ends[:, 0] * len(mesh.vertices) + ends[:, 1])
    backward = np.unique(ends[:, 1] * len(mesh.vertices) + ends[:, 0])
    return len(forward) == len(ends) and np.array_equal(forward, backward)


def volume(mesh: Mesh) -> float:
    """Enclosed volume, in cubed units of the mesh."""
    a, b, c = (mesh.vertices[mesh.faces[:, k]] - mesh.vertices.mean(0) for k in range(3))
    return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6.0)


def without_small_pieces(mesh: Mesh, share: float) -> tuple[Mesh, int]:
    """Drop connected pieces with fewer faces than this share of the largest piece's; also says how many these were."""
    piece = pieces_of_faces(mesh)
    size = np.bincount(piece)
    small = size < share * size.max()
    return used_vertices(replace(mesh, faces=mesh.faces[~small[piece]])), int(small.sum())


class Crumbs(NamedTuple):
    """A mesh without its small pieces."""

    mesh: Mesh
    dropped: int
    """How many pieces were."""
    share: float
    """Part of all that the pieces enclose which these did, 0..1."""


def without_crumbs(mesh: Mesh, share: float) -> Crumbs:
    """Drop connected pieces that enclose less than this share of what the largest one encloses; small cavities, which
    are pieces that enclose less than nothing, are filled."""
    piece = pieces_of_faces(mesh)
    a, b, c = (mesh.vertices[mesh.faces[:, k]] - mesh.vertices.mean(0) for k in range(3))
    size = np.abs(np.bincount(piece, np.einsum("ij,ij->i", a, np.cross(b, c)) / 6.0))
    small = size < share * size.max()
    left = used_vertices(replace(mesh, faces=mesh.faces[~small[piece]]))
    return Crumbs(left, int(small.sum()), float(size[small].sum() / max(size.sum(), 1e-300)))


def pieces_of_faces(mesh: Mesh) -> Int[np.ndarray, " faces"]:
    """(F,) number of the connected piece that each face is of, from 0."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    ends = np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]]])
    graph = coo_matrix((np.ones(len(ends), dtype=bool), ends.T), shape=(len(mesh.vertices),) * 2)
    found: np.ndarray = np.unique(
        connected_components(graph, directed=False)[1][mesh.faces[:, 0]], return_inverse=True
    )[1]
    return found.reshape(-1)


def used_vertices(mesh: Mesh) -> Mesh:
    """The mesh without vertices that no face uses."""
    used, place = np.unique(mesh.faces, return_inverse=True)
    colors = None if mesh.colors is None else mesh.colors[used]
    return Mesh(mesh.vertices[used], place.reshape(mesh.faces.shape), colors)


def smoothed(mesh: Mesh, rounds: int) -> Mesh:
    """Taubin's smoothing, which takes the voxels' steps away and does not shrink.

    Raises:
        ImportError: open3d is not installed.
    """
    return _from_open3d(_to_open3d(mesh).filter_smooth_taubin(number_of_iterations=rounds))


def with_fewer_faces(mesh: Mesh, target: int) -> Mesh:
    """Join vertices, flattest places first, until about `target` faces are left (quadric error).

    Raises:
        ImportError: open3d is not installed.
    """
    if target >= len(mesh.faces):
        return mesh
    return _from_open3d(_to_open3d(mesh).simplify_quadric_decimation(target))


def _to_open3d(mesh: Mesh) -> Any:
    try:
        import open3d as o3d
    except ImportError as error:
        raise ImportError("smoothing and decimation need open3d: pip install 'lg-field[mesh]'") from error
    vector = o3d.utility.Vector3dVector
    result = o3d.geometry.TriangleMesh(vector(mesh.vertices), o3d.utility.Vector3iVector(mesh.faces.astype(np.int32)))
    if mesh.colors is not None:
        result.vertex_colors = vector(mesh.colors / 255.0)
    return result


def _from_open3d(mesh: Any) -> Mesh:
    colors = (np.asarray(mesh.vertex_colors) * 255).round().clip(0, 255).astype(np.uint8)
    return used_vertices(
        Mesh(np.asarray(mesh.vertices), np.asarray(mesh.triangles).astype(np.int64), colors if len(colors) else None)
    )
