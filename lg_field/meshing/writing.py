"""Meshes out to files, in coordinates as fine as the mesh needs them: far from the origin, 32 bits are too few."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from lg_field.errors import notice
from lg_field.files import atomic_write, refuse_existing
from lg_field.meshing.mesh import Mesh

SUFFIXES = (".ply", ".obj", ".glb", ".stl")
TOLERANCE = 1e-3
"""Rounding may move a vertex by this part of the mean length of an edge."""


def check_suffix(path: Path) -> None:
    """Raise ValueError unless the file's suffix names a format that can be written."""
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path}: cannot write {path.suffix or 'a file without suffix'}; use {', '.join(SUFFIXES)}")


def write_mesh(mesh: Mesh, path: Path, overwrite: bool = False) -> Mesh:
    """Write a PLY, OBJ, GLB or STL file (STL without colours).

    Where 32-bit coordinates would move vertices (`needs_doubles`), a PLY holds 64-bit ones, a GLB the mesh less an
    offset and the offset as its node's translation, an STL the mesh less an offset that a JSON file beside it holds.

    Returns:
        The mesh as the file holds it: vertices rounded as they are there, the offset added.

    Raises:
        ValueError: another suffix.
        FileExistsError: a file exists and overwrite is False.
    """
    check_suffix(path)
    suffix, far = path.suffix.lower(), needs_doubles(mesh)
    if suffix == ".ply":
        return _write_ply(mesh, path, overwrite, far)
    if suffix == ".obj":
        return _write_obj(mesh, path, overwrite)
    offset = np.round((mesh.vertices.min(0) + mesh.vertices.max(0)) / 2) if far else np.zeros(3)
    near = (mesh.vertices - offset).astype(np.float32).astype(np.float64)
    if suffix == ".stl":
        _write_stl(near, mesh, path, overwrite, offset)
    else:
        _write_glb(near, mesh, path, overwrite, offset)
    return replace(mesh, vertices=near + offset)


def needs_doubles(mesh: Mesh) -> bool:
    """Whether rounding coordinates to 32 bits moves vertices by more than `TOLERANCE` of an edge."""
    return rounding(mesh.vertices) > TOLERANCE * edge_length(mesh)


def rounding(vertices: Float[np.ndarray, "v 3"]) -> float:
    """The furthest that rounding to 32 bits moves a coordinate."""
    with np.errstate(over="ignore"):
        return float(np.abs(vertices - vertices.astype(np.float32)).max(initial=0.0))


def edge_length(mesh: Mesh) -> float:
    """Mean length of the faces' first edges."""
    ends = mesh.vertices[mesh.faces[:, :2]]
    return float(np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1).mean()) if len(ends) else 0.0


def offset_path(path: Path) -> Path:
    """Where the offset of a file that holds none itself is written."""
    return path.with_name(path.name + ".offset.json")


def _trimesh(vertices: np.ndarray, mesh: Mesh) -> Any:
    """The mesh as trimesh's, with these vertices instead."""
    options: dict[str, Any] = {} if mesh.colors is None else {"vertex_colors": mesh.colors}
    return _library().Trimesh(vertices, mesh.faces, process=False, **options)


def _library() -> Any:
    """The module trimesh."""
    try:
        import trimesh
    except ImportError as error:
        raise ImportError("writing .obj, .stl and .glb needs trimesh: pip install 'lg-field[mesh]'") from error
    return trimesh


def _write_ply(mesh: Mesh, path: Path, overwrite: bool, double: bool) -> Mesh:
    """Binary PLY with coordinates of 64 or of 32 bits, and red, green, blue, alpha if there are colours."""
    real, named = ("<f8", "double") if double else ("<f4", "float")
    columns: list[tuple[str, str]] = [(axis, real) for axis in "xyz"]
    header = [f"property {named} {axis}" for axis in "xyz"]
    if mesh.colors is not None:
        columns += [(name, "u1") for name in ("red", "green", "blue", "alpha")]
        header += [f"property uchar {name}" for name, _ in columns[3:]]
    rows = np.zeros(len(mesh.vertices), dtype=columns)
    for k, axis in enumerate("xyz"):
        rows[axis] = mesh.vertices[:, k]
    if mesh.colors is not None:
        for k, name in enumerate(("red", "green", "blue")):
            rows[name] = mesh.colors[:, k]
        rows["alpha"] = 255
    faces = np.zeros(len(mesh.faces), dtype=[("count", "u1"), ("corners", "<i4", (3,))])
    faces["count"], faces["corners"] = 3, mesh.faces
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(rows)}", *header]
    lines += [f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header", ""]
    with atomic_write(path, overwrite) as temporary, open(temporary, "wb") as file:
        file.write("\n".join(lines).encode())
        file.write(rows.tobytes())
        file.write(faces.tobytes())
    return replace(mesh, vertices=np.stack([rows[axis].astype(np.float64) for axis in "xyz"], axis=1))


def _write_obj(mesh: Mesh, path: Path, overwrite: bool) -> Mesh:
    """Text with as many decimals as leave vertices where they are."""
    edge = edge_length(mesh)
    digits = min(300, max(8, int(np.ceil(-np.log10(TOLERANCE * edge))))) if edge > 0 else 8
    with atomic_write(path, overwrite) as temporary:
        _trimesh(mesh.vertices, mesh).export(str(temporary), digits=digits)
    return replace(mesh, vertices=np.char.mod(f"%.{digits}f", mesh.vertices).astype(np.float64))


def _write_stl(near: np.ndarray, mesh: Mesh, path: Path, overwrite: bool, offset: np.ndarray) -> None:
    beside, far = offset_path(path), bool(offset.any())
    if far:
        refuse_existing(beside, overwrite)
    with atomic_write(path, overwrite) as temporary:
        _trimesh(near, mesh).export(str(temporary))
    if far:
        with atomic_write(beside, overwrite) as temporary:
            temporary.write_text(json.dumps({"file": path.name, "offset": offset.tolist()}) + "\n")
        notice(
            f"{path}: .stl holds 32-bit coordinates, too coarse so far from the origin; {_words(offset)} was taken "
            f"away from them, see {beside}; .ply and .obj hold them as they are"
        )
    elif overwrite:
        beside.unlink(missing_ok=True)  # of the file that was replaced


def _write_glb(near: np.ndarray, mesh: Mesh, path: Path, overwrite: bool, offset: np.ndarray) -> None:
    scene, place = _library().Scene(), np.eye(4)
    place[:3, 3] = offset
    scene.add_geometry(_trimesh(near, mesh), transform=place)
    with atomic_write(path, overwrite) as temporary:
        scene.export(str(temporary))
    if offset.any():
        notice(
            f"{path}: .glb holds 32-bit coordinates, too coarse so far from the origin; {_words(offset)} is its node's "
            "translation instead"
        )


def _words(offset: np.ndarray) -> str:
    return "(" + ", ".join(f"{v:.0f}" for v in offset) + ")"
