"""How close a mesh is to its source: distances in units of the source's box diagonal, normals, F-score."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from lg_field.meshing.mesh import Mesh

POINTS = 100_000
"""Samples of each surface."""
CLOSE = 0.002
"""F-score: distance, in diagonals, below which a point counts as found."""


def compare(
    mesh: Mesh, vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"], points: int = POINTS
) -> dict[str, float]:
    """Compare a mesh with the one it should be, by points drawn evenly from each surface and their nearest place on
    the other.

    Args:
        mesh: the result.
        vertices: (V, 3) of the source, in the same units.
        faces: (F, 3) of the source.
        points: drawn from each surface.

    Returns:
        `chamfer_to_source` and `chamfer_from_source` (mean distance each way) and `chamfer` (their mean), in diagonals
        of the source's box; `normal_consistency` (mean |cosine| between the normals of both places, both ways);
        `f_score` at `CLOSE` diagonals.

    Raises:
        ImportError: open3d is not installed.
    """
    diagonal = float(np.linalg.norm(vertices.max(0) - vertices.min(0)))
    ours, theirs = (mesh.vertices, mesh.faces), (vertices, faces)
    there, back = nearest(*ours, *theirs, points), nearest(*theirs, *ours, points)
    to_source, from_source = (float(d[0].mean()) / diagonal for d in (there, back))
    precision, recall = (float((d[0] < CLOSE * diagonal).mean()) for d in (there, back))
    return {
        "chamfer_to_source": to_source,
        "chamfer_from_source": from_source,
        "chamfer": (to_source + from_source) / 2,
        "normal_consistency": float((there[1].mean() + back[1].mean()) / 2),
        "f_score": 2 * precision * recall / max(1e-12, precision + recall),
    }


def nearest(
    vertices: Float[np.ndarray, "v 3"],
    faces: Int[np.ndarray, "f 3"],
    other_vertices: Float[np.ndarray, "w 3"],
    other_faces: Int[np.ndarray, "g 3"],
    points: int,
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"], Float[np.ndarray, "n 3"]]:
    """Points drawn from a surface: (n,) distance to another surface, (n,) |cosine| of the normals, (n, 3) places."""
    try:
        import open3d as o3d
    except ImportError as error:
        raise ImportError("comparing meshes needs open3d: pip install 'lg-field[mesh]'") from error
    tensor: Any = o3d.core.Tensor
    center = (other_vertices.min(0) + other_vertices.max(0)) / 2  # rays are traced in 32 bits
    vertices, other_vertices = vertices - center, other_vertices - center
    places, normals = sample_surface(vertices, faces, points)
    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(tensor(other_vertices.astype(np.float32)), tensor(other_faces.astype(np.uint32)))
    found = scene.compute_closest_points(tensor(places.astype(np.float32)))
    distance = np.linalg.norm(found["points"].numpy() - places, axis=1)
    beside = face_normals(other_vertices, other_faces[found["primitive_ids"].numpy().astype(np.int64)])
    return distance, np.abs((beside * normals).sum(1)), places + center


def sample_surface(
    vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"], points: int
) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 3"]]:
    """(points, 3) places drawn evenly by area, always the same ones, and (points, 3) unit normals there."""
    random = np.random.default_rng(0)
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    pick = np.searchsorted(np.cumsum(area), random.random(points) * area.sum()).clip(0, len(faces) - 1)
    u, v = np.sqrt(random.random((points, 1))), random.random((points, 1))
    places = (1 - u) * a[pick] + u * (1 - v) * b[pick] + u * v * c[pick]
    return places, face_normals(vertices, faces[pick])


def face_normals(vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]) -> Float[np.ndarray, "f 3"]:
    """(F, 3) unit normals; faces without area have none (0)."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    return normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-300)
