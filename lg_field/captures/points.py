"""Sparse points of a capture, from a .ply file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

Points = tuple[np.ndarray | None, np.ndarray | None, list[str]]


def read_points(path: Path) -> Points:
    """(n, 3) float64 points and (n, 3) uint8 colours of a .ply, and notes; None and a note where it cannot be read."""
    try:
        import trimesh
    except ImportError:
        return None, None, [f"{path} is not used: reading points needs trimesh: pip install 'lg-field[mesh]'"]
    try:
        cloud: Any = trimesh.load(path, process=False)
        points = np.asarray(cloud.vertices, dtype=np.float64)
    except Exception as error:  # whatever a reader of many formats raises
        return None, None, [f"{path} is not used, it cannot be read: {str(error).splitlines()[0][:100]}"]
    kept = np.isfinite(points).all(1) if points.ndim == 2 else np.zeros(0, bool)
    if not kept.any():
        return None, None, [f"{path} is not used: it holds no points"]
    colors = getattr(getattr(cloud, "visual", None), "vertex_colors", None)
    colors = getattr(cloud, "colors", None) if colors is None else colors
    rgb = None if colors is None or len(colors) != len(points) else np.asarray(colors, dtype=np.uint8)[kept, :3]
    return points[kept], rgb, []
