"""Photos of a small room with known cameras: three textured planes, looked at from an arc."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT, FOCAL = 320, 240, 300.0
TEXELS, SPAN = 768, 6.0
"""Texels along a plane's side, and its length in units."""


def arc_cameras(count: int) -> np.ndarray:
    """(count, 4, 4) camera to world, OpenGL's axes, z up: on a quarter circle, looking at the room's corner."""
    angles = np.linspace(0.15, np.pi / 2 - 0.15, count)
    radius, heights = 4.2, 1.4 + 0.5 * np.sin(3 * angles)
    origins = np.stack([radius * np.cos(angles), radius * np.sin(angles), heights], axis=1)
    return np.stack([look_at(origin, np.array([0.5, 0.5, 0.6])) for origin in origins])


def look_at(origin: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(4, 4) camera to world of a level camera."""
    backward = (origin - target) / np.linalg.norm(origin - target)
    right = np.cross([0.0, 0.0, 1.0], backward)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3] = np.stack([right, np.cross(backward, right), backward, origin], axis=1)
    return pose


def textures(seed: int = 0) -> np.ndarray:
    """(3, TEXELS, TEXELS, 3) float, 0 to 255: noise of several sizes."""
    rng = np.random.default_rng(seed)
    found = np.zeros((3, TEXELS, TEXELS, 3))
    for cells, weight in ((12, 0.5), (48, 0.7), (192, 0.8)):
        for plane in found:
            noise = rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
            large = Image.fromarray(noise).resize((TEXELS, TEXELS), Image.Resampling.BICUBIC)
            plane += weight * (np.asarray(large, float) - 127.5)
    return (found + 127.5).clip(0, 255)


def render(pose: np.ndarray, planes: np.ndarray, samples: int = 2) -> np.ndarray:
    """(HEIGHT, WIDTH, 3) uint8 picture of the planes x = 0, y = 0 and z = 0, `samples` squared rays a pixel."""
    width, height = WIDTH * samples, HEIGHT * samples
    column, row = np.meshgrid((np.arange(width) + 0.5) / samples, (np.arange(height) + 0.5) / samples)
    local = np.stack([(column - WIDTH / 2) / FOCAL, -(row - HEIGHT / 2) / FOCAL, -np.ones_like(column)], axis=-1)
    rays, origin = local @ pose[:3, :3].T, pose[:3, 3]
    with np.errstate(divide="ignore"):
        distance = np.where(rays < 0, -origin / rays, np.inf)
    nearest = distance.argmin(axis=-1)
    hit = origin + rays * distance.min(axis=-1, keepdims=True)
    picture = np.zeros((height, width, 3))
    for axis in range(3):
        a, b = (k for k in range(3) if k != axis)
        here = nearest == axis
        u, v = (np.clip(hit[here][:, k] / SPAN * TEXELS, 0, TEXELS - 1).astype(int) for k in (a, b))
        picture[here] = planes[axis][v, u]
    return picture.reshape(HEIGHT, samples, WIDTH, samples, 3).mean(axis=(1, 3)).round().astype(np.uint8)


def write_photos(folder: Path, poses: np.ndarray, sideways: tuple[int, ...] = ()) -> list[np.ndarray]:
    """Write photos 000.jpg, ...; those in `sideways` lie turned in the file, and their EXIF says so."""
    folder.mkdir(parents=True)
    planes, pictures = textures(), []
    for index, pose in enumerate(poses):
        pictures.append(render(pose, planes))
        image = Image.fromarray(pictures[-1])
        exif = Image.Exif()
        if index in sideways:
            image = image.transpose(Image.Transpose.ROTATE_90)
            exif[0x0112] = 6
        image.save(folder / f"{index:03d}.jpg", quality=95, subsampling=0, exif=exif)
    return pictures


def aligned_errors(found: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far cameras are from where they should be, after the best similarity (Umeyama 1991).

    Args:
        found: (n, 4, 4) camera to world,
        true: as they should be.

    Returns:
        (n,) degrees of rotation, and (n,) distance as part of the true cameras' root mean square distance from their
        mean.
    """
    a, b = found[:, :3, 3], true[:, :3, 3]
    a0, b0 = a - a.mean(axis=0), b - b.mean(axis=0)
    u, s, vt = np.linalg.svd(b0.T @ a0)
    sign = np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    turn = u @ sign @ vt
    scale = (s * np.diag(sign)).sum() / (a0**2).sum()
    distance = np.linalg.norm(scale * a0 @ turn.T - b0, axis=1) / np.sqrt((b0**2).sum(axis=1).mean())
    between = np.einsum("nji,njk->nik", turn @ found[:, :3, :3], true[:, :3, :3])
    cosine = ((np.trace(between, axis1=1, axis2=2) - 1) / 2).clip(-1, 1)
    return np.degrees(np.arccos(cosine)), distance
