"""How thin a body is, measured along lines through it, and what resolution that needs."""

from __future__ import annotations

import numpy as np

from lg_field.signals.shapes.mesh_file import SourceMesh
from lg_field.signals.shapes.voxelize import Rule, crossings

LINES = 96
"""Lines along the longest side."""
FINE = 1 << 12
"""Parts of the distance between lines that lengths are measured in."""
SHARE = 0.05
"""Part of the lines that pass through a thinner place than is reported: every body ends somewhere."""
WANTED = 2.0
"""Voxels that a part needs to be thick."""


def thinnest(mesh: SourceMesh) -> float:
    """Thickness of the thinnest part of a body that is more than an edge, in the mesh's units.

    Lines along each axis enter and leave the body; of the lengths in between the one that `SHARE` of them stay below
    counts, and of the three axes the one where that is least. A sheet that lies askew is somewhat thinner.
    """
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    step = float((high - low).max()) / LINES
    counts = np.maximum(1, np.ceil((high - low) / step - 1e-6)).astype(int)
    middle = (low + high) / 2 - counts * step / 2
    vertices = (mesh.vertices - middle) / step
    rule: Rule = "winding" if mesh.consistent else "parity"
    found = []
    for order in ((0, 1, 2), (0, 2, 1), (1, 2, 0)):
        turned = vertices[:, list(order)] * [1.0, 1.0, FINE]
        nx, ny, nz = (int(counts[k]) for k in order)
        lengths = chords(turned[mesh.faces], (nx, ny, nz * FINE), rule)
        if len(lengths):
            found.append(float(np.quantile(lengths, SHARE)) / FINE * step)
    return min(found, default=float((high - low).min()))


def chords(triangles: np.ndarray, shape: tuple[int, int, int], rule: Rule) -> np.ndarray:
    """Lengths along the last axis, at least 1, of the pieces of lines through voxel centres that lie inside.

    Args:
        triangles: (F, 3, 3) float64 corners, in voxels.
        shape: voxels per axis.
        rule: what is inside, see `voxelize`. Lines that enter and do not leave are left out.
    """
    cross = crossings(triangles, shape, rule)
    line = cross.line[:, 0].astype(np.int64) * shape[1] + cross.line[:, 1]
    sign = cross.sign.astype(np.int64)
    order = np.lexsort((-sign, cross.z, line))
    line, z, sign = line[order], cross.z[order].astype(np.int64), sign[order]
    total = np.bincount(line, sign, minlength=1)
    sound = (total[line] % 2 == 0) if rule == "parity" else (total[line] == 0)
    line, z, sign = line[sound], z[sound], sign[sound]
    after = np.cumsum(sign)
    if rule == "parity":
        after %= 2
    before = np.concatenate([[0], after[:-1]]) if len(after) else after
    return np.maximum(1, z[(after == 0) & (before != 0)] - z[(before == 0) & (after != 0)])


def thin_warning(mesh: SourceMesh, spacing: float, margin: int) -> str | None:
    """What to say of a mesh that voxels of this size are too coarse for; None if they are fine enough.

    Args:
        mesh: the body.
        spacing: side of a voxel, in its units.
        margin: empty voxels at either end.
    """
    thickness = thinnest(mesh)
    if thickness >= WANTED * spacing:
        return None
    side = float((mesh.vertices.max(0) - mesh.vertices.min(0)).max())
    enough = int(np.ceil(WANTED * side / thickness)) + 2 * margin
    return (
        f"it is about {thickness:.3g} thick at its thinnest, {thickness / spacing:.2g} of a voxel: such parts come out "
        f"thicker, or not at all; --resolution {enough} makes them {WANTED:.0f} voxels thick"
    )
