"""A picture of a mesh, by ray casting on the CPU: no GPU, no display."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lg_field.files import atomic_write
from lg_field.meshing.mesh import Mesh


def render_mesh(
    mesh: Mesh,
    path: Path,
    azimuth: float = 35.0,
    elevation: float = 25.0,
    size: int = 512,
    overwrite: bool = True,
    samples: int = 2,
    beside: Mesh | None = None,
    up: int = 2,
    sides: int = 1,
) -> None:
    """Render a mesh to a PNG on white.

    Args:
        mesh: vertex colours are used if it has them.
        path: the PNG.
        azimuth: degrees around the upward axis, 0 looks along the axis after it, backwards.
        elevation: degrees above the horizon.
        size: pixels of a side.
        overwrite: replace an existing file.
        samples: super-sampling per axis.
        beside: another mesh, drawn to the right of the first by the same camera, which sees all of it.
        up: axis that points up.
        sides: views from so many sides, evenly around the upward axis from `azimuth` on; two in a row.

    Raises:
        ValueError: no side.
        ImportError: open3d is not installed.
    """
    from PIL import Image

    if sides < 1:
        raise ValueError(f"a mesh is seen from at least one side, got {sides}")
    turn = np.eye(3)[[(up + 1) % 3, (up + 2) % 3, up]]
    center = (mesh.vertices.min(0) + mesh.vertices.max(0)) / 2  # rays are traced in 32 bits
    shown = [replace(m, vertices=m.vertices - center) for m in (mesh, beside) if m is not None]
    images = []
    for k in range(sides):
        rays = _camera_rays(shown[-1].vertices @ turn.T, azimuth + 360.0 * k / sides, elevation, size * samples)
        pictures = [_shade(m, *(r @ turn for r in rays)) for m in shown]
        images.append([i.reshape(size, samples, size, samples, 3).mean((1, 3)) for i in pictures])
    image = _in_rows([np.concatenate(views, axis=1) for views in images])
    with atomic_write(path, overwrite) as temporary:
        Image.fromarray((image * 255).round().astype(np.uint8)).save(temporary, format="PNG")


def _in_rows(images: list[np.ndarray]) -> np.ndarray:
    """Pictures of one size, two in a row, white where there is none."""
    if len(images) == 1:
        return images[0]
    padded = [*images, np.ones_like(images[0])][: len(images) + len(images) % 2]
    return np.concatenate([np.concatenate(padded[k : k + 2], axis=1) for k in range(0, len(padded), 2)])


def _camera_rays(vertices: np.ndarray, azimuth: float, elevation: float, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Rays of a perspective camera that sees all vertices, z up: (size^2, 3) origins and unit directions."""
    low, high = vertices.min(0), vertices.max(0)
    a, e = math.radians(azimuth), math.radians(elevation)
    back = np.array([math.cos(e) * math.cos(a), math.cos(e) * math.sin(a), math.sin(e)])
    right = np.array([-math.sin(a), math.cos(a), 0.0])
    up = np.cross(back, right)
    half_angle = math.radians(15.0)
    eye = (low + high) / 2 + back * np.linalg.norm(high - low) / 2 / math.sin(half_angle)
    steps = (np.arange(size) + 0.5) / size * 2 - 1
    x, y = np.meshgrid(steps, -steps)
    directions = -back + math.tan(half_angle) * (x.reshape(-1, 1) * right + y.reshape(-1, 1) * up)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return np.broadcast_to(eye, directions.shape), directions


def _shade(mesh: Mesh, origins: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """(n, 3) colours in [0, 1]: vertex colours (or grey) with a head light, white where nothing is hit."""
    try:
        import open3d as o3d
    except ImportError as error:
        raise ImportError("render_mesh needs open3d: pip install 'lg-field[mesh]'") from error
    scene = o3d.t.geometry.RaycastingScene()
    tensor: Any = o3d.core.Tensor
    scene.add_triangles(tensor(mesh.vertices.astype(np.float32)), tensor(mesh.faces.astype(np.uint32)))
    hits = scene.cast_rays(tensor(np.concatenate([origins, directions], 1).astype(np.float32)))
    hit = np.isfinite(hits["t_hit"].numpy())
    corners = mesh.faces[hits["primitive_ids"].numpy()[hit].astype(np.int64)]
    uv = hits["primitive_uvs"].numpy()[hit]
    weights = np.stack([1 - uv.sum(1), uv[:, 0], uv[:, 1]], axis=1)
    normals = (mesh.normals()[corners] * weights[:, :, None]).sum(1)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    light = 0.35 + 0.65 * np.abs((normals * directions[hit]).sum(1))
    colors = np.full((len(mesh.vertices), 3), 190) if mesh.colors is None else mesh.colors
    image = np.ones((len(origins), 3))
    image[hit] = (colors[corners] / 255 * weights[:, :, None]).sum(1) * light[:, None]
    return image
