"""Write a small procedural scene in the blender format: a globe, a torus and a brick tower, each on a disc of its own.

    python scripts/demo_scene.py demo/scene
    python scripts/demo_scene.py --print-box torus

The objects are signed distance functions, sphere-traced on the CPU; pictures are RGBA with straight alpha on a
transparent background. The scene is z-up and lies within +-1.2, cameras look at its origin.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import track

from lg_field.errors import entry_point
from lg_field.files import refuse_existing

Array = NDArray[np.floating]
Corner = tuple[float, float, float]

CAMERA_ANGLE_X = 0.69
"""Horizontal field of view, radians."""
DISTANCE = 4.0
"""From the cameras to the origin, scene units."""
OBJECTS: dict[str, tuple[Corner, Corner]] = {
    "globe": ((-0.49, 0.19, -0.53), (0.49, 1.17, 0.53)),
    "torus": ((-1.12, -0.85, -0.53), (-0.14, 0.13, 0.53)),
    "tower": ((0.14, -0.85, -0.53), (1.12, 0.13, 0.53)),
}
"""Lower and upper corner of a box around each object, scene units, with a small margin. The boxes do not overlap."""
MIDDLE = np.array((0, 0, 0.04))
"""Centre of every body in its object's own coordinates, whose origin is the middle of the box."""


# -- shapes: (N, 3) points in an object's own coordinates -> (N,) signed distance, and -> (N, 3) colour in [0, 1]


def length(vectors: Array) -> Array:
    """(N, d) -> (N,) Euclidean length."""
    return np.sqrt(np.einsum("nd,nd->n", vectors, vectors))


def disc_distance(points: Array) -> Array:
    """Signed distance (N,) to the disc every object stands on: radius 0.44, height 0.09, rounded rim."""
    radial = np.hypot(points[:, 0], points[:, 1]) - 0.41
    vertical = np.abs(points[:, 2] + 0.435) - 0.015
    outside = np.hypot(np.maximum(radial, 0), np.maximum(vertical, 0))
    return outside + np.minimum(np.maximum(radial, vertical), 0) - 0.03


def globe_distance(points: Array) -> Array:
    """Signed distance (N,) to a sphere."""
    return length(points - MIDDLE) - 0.43


def torus_distance(points: Array) -> Array:
    """Signed distance (N,) to a torus that stands upright, turned towards its neighbours."""
    p = turned(points - MIDDLE, 0.9)
    return np.hypot(np.hypot(p[:, 0], p[:, 2]) - 0.31, p[:, 1]) - 0.13


def tower_distance(points: Array) -> Array:
    """Signed distance (N,) to a tall box with round edges."""
    p = turned(points - MIDDLE, 0.45)
    q = np.abs(p) - (0.21, 0.21, 0.38)
    return length(np.maximum(q, 0)) + np.minimum(q.max(1), 0) - 0.06


def disc_color(points: Array) -> Array:
    """Rings around the middle."""
    radius = np.hypot(points[:, 0], points[:, 1])
    return pick(np.floor(radius / 0.11) % 2 == 0, (0.80, 0.76, 0.70), (0.42, 0.40, 0.44))


def globe_color(points: Array) -> Array:
    """Checks by longitude and latitude, golden at the equator."""
    p = points - MIDDLE
    longitude = np.floor(np.arctan2(p[:, 1], p[:, 0]) * 6 / np.pi)
    height = np.arcsin(np.clip(p[:, 2] / 0.43, -1, 1)) * 3.5 / np.pi * 2
    check = (longitude + np.round(height)) % 2 == 0
    colors = pick(check, (0.06, 0.50, 0.55), (0.96, 0.92, 0.80))
    colors[np.abs(p[:, 2]) < 0.035] = (0.95, 0.68, 0.18)
    return colors


def torus_color(points: Array) -> Array:
    """Candy stripes that wind around the tube."""
    p = turned(points - MIDDLE, 0.9)
    around = np.arctan2(p[:, 2], p[:, 0])
    tube = np.arctan2(p[:, 1], np.hypot(p[:, 0], p[:, 2]) - 0.31)
    stripe = np.floor((around * 4 + tube) / (2 * np.pi) * 4) % 4
    colors = pick(stripe == 0, (0.87, 0.20, 0.26), (0.98, 0.94, 0.90))
    colors[stripe == 2] = (0.97, 0.62, 0.24)
    return colors


def tower_color(points: Array) -> Array:
    """Bricks in running bond on the sides, each of its own shade, and rings on top."""
    p = turned(points - MIDDLE, 0.45)
    on_x = np.abs(p[:, 0]) > np.abs(p[:, 1])
    along = np.where(on_x, p[:, 1], p[:, 0]) + 0.27
    v = (p[:, 2] + 0.44) / 0.125
    row = np.floor(v)
    u = along / 0.21 + 0.5 * (row % 2)
    shade = np.sin(np.floor(u) * 12.9898 + row * 78.233 + on_x * 37.7 + (p[:, 0] + p[:, 1] > 0) * 11.3) * 43758.5453
    bricks = np.array((0.46, 0.30, 0.62)) + (shade % 1)[:, None] * (0.28, 0.20, 0.24)
    mortar = (u % 1 < 0.13) | (v % 1 < 0.22)
    bricks[mortar] = (0.90, 0.88, 0.92)
    rings = pick(np.floor(np.hypot(p[:, 0], p[:, 1]) / 0.065) % 2 == 0, (0.99, 0.80, 0.30), (0.33, 0.20, 0.47))
    return np.where((p[:, 2] > 0.42)[:, None], rings, bricks)


def turned(points: Array, angle: float) -> Array:
    """(N, 3) points in axes turned by `angle` radians about z."""
    c, s = np.cos(angle), np.sin(angle)
    return points @ np.array(((c, -s, 0), (s, c, 0), (0, 0, 1)))


def pick(condition: NDArray[np.bool_], yes: Corner, no: Corner) -> Array:
    """(N,) bool -> (N, 3) one of two colours."""
    return np.where(condition[:, None], np.array(yes), np.array(no))


BODIES: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "globe": (globe_distance, globe_color),
    "torus": (torus_distance, torus_color),
    "tower": (tower_distance, tower_color),
}


def distance(name: str, points: Array) -> Array:
    """(N, 3) scene points -> (N,) signed distance to one object and its disc, negative inside."""
    own = points - np.mean(OBJECTS[name], axis=0)
    return np.minimum(BODIES[name][0](own), disc_distance(own))


def albedo(name: str, points: Array) -> Array:
    """(N, 3) scene points on an object -> (N, 3) colour in [0, 1]."""
    own = points - np.mean(OBJECTS[name], axis=0)
    body, color = BODIES[name]
    return np.where((body(own) < disc_distance(own))[:, None], color(own), disc_color(own))


# -- rendering


def ray_box(origins: Array, directions: Array, box: tuple[Corner, Corner]) -> tuple[Array, Array]:
    """Where rays enter and leave a box.

    Args:
        origins: (N, 3).
        directions: (N, 3).
        box: lower and upper corner.

    Returns:
        (N,) and (N,) distances; the ray misses the box where the first is not below the second.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        ends = (np.array(box)[:, None] - origins) / directions
    return np.maximum(ends.min(0).max(1), 0), ends.max(0).min(1)


def trace(name: str, origins: Array, directions: Array, tolerance: float = 1e-4) -> Array:
    """(N,) distance along unit (N, 3) rays to the first hit with one object; infinite where there is none."""
    near, far = ray_box(origins, directions, OBJECTS[name])
    hit, alive = np.full(len(origins), np.inf), (near < far).nonzero()[0]
    t = near[alive]
    for _ in range(200):
        gap = distance(name, origins[alive] + t[:, None] * directions[alive])
        done = gap < tolerance
        hit[alive[done]] = t[done]
        t = t + gap
        going = ~done & (t < far[alive])
        alive, t = alive[going], t[going]
        if len(alive) == 0:
            break
    return hit


def normals(name: str, points: Array, step: float = 1e-3) -> Array:
    """(N, 3) unit outward normals at surface points, by finite differences."""
    offsets = np.array(((1, -1, -1), (-1, -1, 1), (-1, 1, -1), (1, 1, 1)))
    gradient = sum(distance(name, points + step * o)[:, None] * o for o in offsets)
    return gradient / np.maximum(length(gradient), 1e-9)[:, None]


def shade(name: str, points: Array, directions: Array) -> Array:
    """Colour of surface points: ambient and diffuse light, darker in crevices, with a small highlight.

    Args:
        name: the object.
        points: (N, 3) on its surface.
        directions: (N, 3) unit, from the camera into the scene.

    Returns:
        (N, 3) in [0, 1].
    """
    light = np.array((0.42, -0.38, 0.82))
    light /= np.linalg.norm(light)
    normal = normals(name, points)
    openness = np.clip(distance(name, points + 0.12 * normal) / 0.12, 0, 1)
    diffuse = 0.50 + 0.14 * normal[:, 2] + 0.40 * np.maximum(normal @ light, 0)
    halfway = light - directions
    halfway /= length(halfway)[:, None]
    highlight = 0.30 * np.maximum(np.einsum("nd,nd->n", normal, halfway), 0) ** 48
    colors = albedo(name, points) * (diffuse * (0.55 + 0.45 * openness))[:, None] + highlight[:, None]
    return np.clip(colors, 0, 1)


def camera_rays(pose: Array, size: int, samples: int) -> tuple[Array, Array]:
    """Rays of a square picture, `samples` x `samples` a pixel.

    Args:
        pose: (4, 4) camera-to-world, OpenGL axes (x right, y up, looking along -z).
        size: pixels a side.
        samples: rays along each side of a pixel.

    Returns:
        Origins and unit directions, (size^2 samples^2, 3) each, row by row from the top left.
    """
    count = size * samples
    focal = 0.5 * count / np.tan(0.5 * CAMERA_ANGLE_X)
    x, y = np.meshgrid(np.arange(count) + 0.5 - count / 2, np.arange(count) + 0.5 - count / 2)
    local = np.stack([x / focal, -y / focal, -np.ones_like(x)], axis=-1).reshape(-1, 3)
    directions = local @ pose[:3, :3].T
    directions /= length(directions)[:, None]
    return np.broadcast_to(pose[:3, 3], directions.shape), directions


def render(pose: Array, size: int = 100, samples: int = 2) -> NDArray[np.uint8]:
    """Picture of the scene.

    Args:
        pose: (4, 4) camera-to-world, OpenGL axes.
        size: pixels a side.
        samples: rays along each side of a pixel.

    Returns:
        (size, size, 4) RGBA, straight alpha: the colour is that of the covered part of a pixel, alpha how much it is.
    """
    origins, directions = camera_rays(pose, size, samples)
    depths = np.stack([trace(name, origins, directions) for name in OBJECTS])
    rgba = np.zeros((len(origins), 4))
    for i, name in enumerate(OBJECTS):
        mine = ((depths.argmin(0) == i) & np.isfinite(depths[i])).nonzero()[0]
        points = origins[mine] + depths[i, mine, None] * directions[mine]
        rgba[mine, :3] = shade(name, points, directions[mine])
        rgba[mine, 3] = 1
    mean = rgba.reshape(size, samples, size, samples, 4).mean((1, 3))
    mean[..., :3] /= np.maximum(mean[..., 3:], 1e-9)
    return np.round(mean * 255).astype(np.uint8)


# -- cameras


def camera_poses(count: int, seed: int, lowest: float = -0.25, highest: float = 0.95) -> Array:
    """Cameras spread evenly (Fibonacci) over a part of the sphere around the origin, looking at it.

    Args:
        count: number of cameras.
        seed: of the turn of the whole pattern and of the small differences in distance.
        lowest: sine of the lowest elevation; below 0 is under the horizon.
        highest: sine of the highest elevation.

    Returns:
        (count, 4, 4) camera-to-world, OpenGL axes.
    """
    random = np.random.default_rng(seed)
    z = lowest + (np.arange(count) + 0.5) / count * (highest - lowest)
    turn = np.pi * (3 - np.sqrt(5)) * np.arange(count) + random.uniform(0, 2 * np.pi)
    ring = np.sqrt(1 - z**2)
    back = np.stack([ring * np.cos(turn), ring * np.sin(turn), z], axis=1)
    right = np.cross((0.0, 0.0, 1.0), back)
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    poses = np.tile(np.eye(4), (count, 1, 1))
    radius = DISTANCE * random.uniform(0.97, 1.03, (count, 1))
    poses[:, :3] = np.stack([right, np.cross(back, right), back, back * radius], axis=2)
    return poses


# -- files


def write_demo_scene(
    path: Path, size: int = 100, train: int = 60, test: int = 8, seed: int = 0, overwrite: bool = False
) -> None:
    """Render the scene and write it as a blender data set; validation views are the test views.

    Everything goes to a temporary folder beside `path`, which is renamed at the end.

    Args:
        path: the scene's folder.
        size: pixels a side.
        train: number of training views.
        test: number of test views, from other positions.
        seed: of the camera positions.
        overwrite: replace an existing scene.

    Raises:
        FileExistsError: `path` exists and `overwrite` is False, or it is not a scene.
        ValueError: a size or count below 1.
    """
    for name, value in (("size", size), ("train", train), ("test", test)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    with new_folder(Path(path), overwrite) as folder:
        views = {"train": camera_poses(train, seed), "test": camera_poses(test, seed + 1, lowest=0.05, highest=0.8)}
        frames = [(split, i, pose) for split, poses in views.items() for i, pose in enumerate(poses)]
        console = Console(stderr=True)
        for split, i, pose in track(frames, "rendering the demo scene", console=console, transient=True):
            (folder / split).mkdir(exist_ok=True)
            Image.fromarray(render(pose, size)).save(folder / split / f"r_{i}.png")
        for split, source in (("train", "train"), ("val", "test"), ("test", "test")):
            poses = [pose.tolist() for pose in views[source]]
            listed = [{"file_path": f"./{source}/r_{i}", "transform_matrix": pose} for i, pose in enumerate(poses)]
            meta = {"camera_angle_x": CAMERA_ANGLE_X, "frames": listed}
            (folder / f"transforms_{split}.json").write_text(json.dumps(meta, indent=1) + "\n")


@contextmanager
def new_folder(path: Path, overwrite: bool) -> Iterator[Path]:
    """Yield an empty folder that becomes `path` on success; on failure nothing is left and `path` is as it was."""
    refuse_existing(path, overwrite)
    if path.exists() and not (path / "transforms_train.json").exists():
        raise FileExistsError(f"{path} exists and is not a scene: it is not replaced, give another path")
    path.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        new = work / "new"
        new.mkdir()
        yield new
        replace_folder(new, path, work / "old")
    finally:
        shutil.rmtree(work, ignore_errors=True)


def replace_folder(new: Path, path: Path, old: Path) -> None:
    """Rename `new` to `path`; what was there becomes `old`, and comes back if the renaming fails."""
    if path.exists():
        os.replace(path, old)
    try:
        os.replace(new, path)
    except OSError:
        if old.exists():
            os.replace(old, path)
        raise


def demo_scene(
    path: Annotated[Path | None, tyro.conf.Positional] = None,
    size: int = 100,
    train: int = 60,
    test: int = 8,
    seed: int = 0,
    overwrite: bool = False,
    print_box: Literal["globe", "torus", "tower", "all"] | None = None,
) -> None:
    """Write the demo scene, or print the boxes of its objects.

    Args:
        path: folder to write.
        size: pixels a side.
        train: number of training views.
        test: number of test views.
        seed: of the camera positions.
        overwrite: replace an existing scene.
        print_box: print the box of one object as X0 Y0 Z0 X1 Y1 Z1, or of all with their names.
    """
    if (path is None) == (print_box is None):
        raise ValueError("give either a folder to write or --print-box")
    for name, (lower, upper) in OBJECTS.items():
        if print_box in (name, "all"):
            print(*([name] if print_box == "all" else []), *lower, *upper)
    if path is not None:
        write_demo_scene(path, size, train, test, seed, overwrite)
        print(f"{path}: {train} training and {test} test views of {size} x {size} pixels")


def main() -> None:
    """Run the command; expected errors are one line and exit code 1."""
    with entry_point("demo_scene"):
        tyro.cli(demo_scene)


if __name__ == "__main__":
    main()
