"""A mesh file seen from all around, as one picture.

    python scripts/mesh_sides.py thing.ply -o thing.png
    python scripts/mesh_sides.py bunny.obj -o bunny.png --up y --sides 6

Draws what `lg-field mesh --report` does, of any mesh that trimesh reads, with the colours of its vertices, and says how
many pieces it has and what part of the enclosed volume the largest one has.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import trimesh
import tyro

from lg_field.meshing.mesh import Mesh
from lg_field.meshing.render import render_mesh
from lg_field.meshing.tools import pieces_of_faces, volume


@dataclass
class Args:
    """Draw a mesh from all around."""

    mesh: tyro.conf.Positional[Path]
    """.ply, .obj, .glb, .stl or .off file."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """PNG to write."""
    sides: int = 4
    """Views around the upward axis."""
    up: Literal["x", "y", "z"] = "z"
    """Axis that points up."""
    size: int = 400
    """Pixels of a view, along each side."""
    elevation: float = 25.0
    """Degrees above the horizon."""
    overwrite: bool = False
    """Replace an existing picture."""


def read(path: Path) -> Mesh:
    """Vertices, faces and the colours of vertices, if there are any."""
    found = trimesh.load(path, force="mesh", process=False)
    if not isinstance(found, trimesh.Trimesh) or not len(found.faces):
        raise SystemExit(f"{path} has no faces: a triangle mesh is expected")
    colors = np.asarray(found.visual.vertex_colors)[:, :3] if found.visual.kind == "vertex" else None
    return Mesh(np.asarray(found.vertices, dtype=np.float64), np.asarray(found.faces, dtype=np.int64), colors)


def shares(mesh: Mesh) -> list[float]:
    """Of each piece the part of the enclosed volume, the largest first; holes count as pieces of their own."""
    pieces = pieces_of_faces(mesh)
    volumes = [abs(volume(Mesh(mesh.vertices, mesh.faces[pieces == k]))) for k in np.unique(pieces)]
    return sorted((v / sum(volumes) for v in volumes), reverse=True)


def main(args: Args) -> None:
    mesh, up = read(args.mesh), "xyz".index(args.up)
    how = {"elevation": args.elevation, "size": args.size, "overwrite": args.overwrite, "up": up, "sides": args.sides}
    render_mesh(mesh, args.output, **how)
    parts = shares(mesh)
    pieces = f"{len(parts)} pieces, the largest has {parts[0]:.1%} of the volume"
    print(f"{args.output}: {len(mesh.faces):,} faces, {pieces}")


if __name__ == "__main__":
    main(tyro.cli(Args))
