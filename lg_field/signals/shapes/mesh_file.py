"""Triangle meshes from files: read, checked, and what is odd about them said in a line each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

MESHES = (".obj", ".ply", ".stl", ".glb", ".gltf", ".off")


@dataclass(frozen=True)
class SourceMesh:
    """A triangle mesh as it lies in its file."""

    vertices: np.ndarray
    """(V, 3) float64, in the file's own units and pose; corners in the same place are one vertex."""
    faces: np.ndarray
    """(F, 3) int64."""
    closed: bool
    """Every edge belongs to exactly two faces."""
    consistent: bool
    """Neighbouring faces are wound the same way round."""
    warnings: tuple[str, ...]
    """What a user should know."""

    @property
    def diagonal(self) -> float:
        """Length of the bounding box's diagonal."""
        return float(np.linalg.norm(self.vertices.max(0) - self.vertices.min(0)))


def read_mesh(path: Path) -> SourceMesh:
    """Read a .obj, .ply, .stl, .glb, .gltf or .off file; the parts of a scene become one mesh.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a mesh, or one without faces, with NaN vertices, or flat.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    if path.suffix.lower() not in MESHES:
        raise ValueError(f"{path}: cannot read {path.suffix or 'files without a suffix'}; use {' '.join(MESHES)}")
    vertices, faces = _load(path)
    if len(faces) == 0:
        raise ValueError(f"{path} has no faces ({len(vertices):,} points): a surface of triangles is needed")
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise ValueError(f"{path} is broken: its faces name vertices that it does not have")
    used, place = np.unique(faces, return_inverse=True)
    vertices, faces = vertices[used], place.reshape(faces.shape)
    bad = int((~np.isfinite(vertices)).any(1).sum())
    if bad:
        raise ValueError(f"{path}: {bad:,} vertices are NaN or infinite; repair the mesh first")
    extent = vertices.max(0) - vertices.min(0)
    if not extent.min() > 1e-9 * extent.max():
        size = " x ".join(f"{e:g}" for e in extent)
        raise ValueError(f"{path} has no volume: it measures {size}; a closed surface is needed")
    return _checked(vertices, faces)


def _load(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        import trimesh
    except ImportError as error:
        raise ImportError("reading meshes needs trimesh: pip install 'lg-field[mesh]'") from error
    options: dict[str, Any] = {"skip_materials": True} if path.suffix.lower() == ".obj" else {}
    try:
        loaded: Any = trimesh.load(path, process=False, **options)
        if isinstance(loaded, trimesh.Scene):
            loaded = loaded.to_mesh() if len(loaded.geometry) else trimesh.Trimesh()
        faces = np.asarray(getattr(loaded, "faces", np.zeros((0, 3))), dtype=np.int64)
        return np.asarray(loaded.vertices, dtype=np.float64), faces
    except Exception as error:  # whatever trimesh's many readers raise on a file that is none
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise ValueError(f"{path} is not a mesh or is broken: {reason}") from error


def _checked(vertices: np.ndarray, faces: np.ndarray) -> SourceMesh:
    """Corners in one place joined, faces without area dropped, edges counted."""
    vertices, place = np.unique(vertices, axis=0, return_inverse=True)
    faces = place.reshape(-1)[faces]
    proper = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    faces = faces[proper]
    ends = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    forward = ends[:, 0] < ends[:, 1]
    key = ends.min(1) * len(vertices) + ends.max(1)
    _, index, count = np.unique(key, return_inverse=True, return_counts=True)
    balance = np.bincount(index, np.where(forward, 1.0, -1.0), minlength=len(count))
    once, many = int((count % 2).sum()), int((count > 2).sum())
    against = int(((count % 2 == 0) & (balance != 0)).sum())
    warnings = []
    if once:
        warnings.append(
            f"the mesh is open ({once:,} edges without a partner): inside is what lines along two of the three axes "
            "find inside, so holes are closed as seen along the axes"
        )
    if many:
        warnings.append(f"the mesh is not a manifold ({many:,} edges with more than two faces): taken as it is")
    if against:
        warnings.append(
            f"{against:,} edges join faces wound in opposite directions: inside is where a line has crossed the "
            "surface an odd number of times, so overlapping parts become holes"
        )
    return SourceMesh(vertices, faces, once == 0, against == 0, tuple(warnings))
