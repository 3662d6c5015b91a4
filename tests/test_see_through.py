"""What is seen of a backdrop through a thing is empty, and paint of its colour stays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lg_field.captures.backdrop import before_backdrop
from lg_field.captures.capture import Backdrop, Capture, Lens, Photo
from lg_field.captures.cut_out import cut_out
from lg_field.captures.photo_file import read_photo
from lg_field.captures.see_through import FIRST, View, bent, holes_of, looked_at, spread

Rotation = pytest.importorskip("scipy.spatial.transform").Rotation
SIZE, FOCAL, DISTANCE = 120, 150.0, 3.0
WHITE = (255, 255, 255)
BACKDROP = Backdrop(WHITE, 12)
LENS = Lens(SIZE, SIZE, FOCAL, FOCAL, SIZE / 2, SIZE / 2)
BALL, RING, SPOT = np.array([-0.35, 0.0, 0.0]), np.array([0.45, 0.0, 0.0]), np.array([-0.85, 0.0, 0.0])


def distance(points: np.ndarray) -> np.ndarray:
    """To a ball and a ring beside it whose hole is seen along y."""
    ball = np.linalg.norm(points - BALL, axis=1) - 0.5
    local = points - RING
    across = np.hypot(local[:, 0], local[:, 2]) - 0.4
    return np.minimum(ball, np.hypot(across, local[:, 1]) - 0.09)


def camera(angle: float, height: float) -> np.ndarray:
    """(4, 4) pose on a circle around z, looking at the origin."""
    back = np.array([np.cos(angle), np.sin(angle), height])
    back /= np.linalg.norm(back)
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3] = np.stack([right, np.cross(back, right), back, DISTANCE * back], axis=1)
    return pose


class Thing(NamedTuple):
    """What is in the photos: the distance to it, and which points of it are painted in the backdrop's colour."""

    distance: Callable[[np.ndarray], np.ndarray]
    painted: Callable[[np.ndarray], np.ndarray]


BALL_AND_RING = Thing(distance, lambda points: np.linalg.norm(points - SPOT, axis=1) < 0.25)


def to_cuboid(points: np.ndarray, half: np.ndarray) -> np.ndarray:
    """Distances to a cuboid about the origin with these halves of its sides."""
    x, y, z = (np.abs(points) - half).T
    outside = np.sqrt(x.clip(0.0) ** 2 + y.clip(0.0) ** 2 + z.clip(0.0) ** 2)
    distances: np.ndarray = outside + np.maximum(np.maximum(x, y), z).clip(None, 0.0)
    return distances


def box(depth: float, radius: float, open_through: bool) -> Thing:
    """A box, `depth` deep along y, with a round opening from its front to its back, or round labels on both."""
    half = np.array([1.4, depth, 1.2]) / 2

    def to_box(points: np.ndarray) -> np.ndarray:
        solid = to_cuboid(points, half)
        return np.maximum(solid, radius - np.hypot(points[:, 0], points[:, 2])) if open_through else solid

    def label(points: np.ndarray) -> np.ndarray:
        return (np.hypot(points[:, 0], points[:, 2]) < radius) & (np.abs(points[:, 1]) > half[1] - 0.02)

    return Thing(to_box, label)


def pictured(
    pose: np.ndarray, color: tuple[int, int, int], thing: Thing = BALL_AND_RING
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(SIZE, SIZE, 3) picture before a colour; where the thing is, and where paint of that colour is on it."""
    at = (np.arange(SIZE) + 0.5 - SIZE / 2) / FOCAL
    x, y = np.meshgrid(at, -at)
    away = np.stack([x, y, -np.ones_like(x)], axis=-1).reshape(-1, 3) @ pose[:3, :3].T
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    points = pose[:3, 3] + 1.5 * away
    moving = np.arange(len(points))
    for _ in range(60):
        free = thing.distance(points[moving])
        points[moving] += np.minimum(free, 0.5)[:, None] * away[moving]
        moving = moving[(free > 1e-3) & (((points[moving] - pose[:3, 3]) ** 2).sum(1) < 25.0)]
    hit = thing.distance(points) < 0.01
    paint = hit & thing.painted(points)
    own = 90.0 + 50.0 * np.sin(9.0 * points)
    seen = np.where((hit & ~paint)[:, None], own, np.array(color, dtype=np.float64))
    shape = (SIZE, SIZE)
    return seen.round().astype(np.uint8).reshape(*shape, 3), hit.reshape(shape), paint.reshape(shape)


def around_once(count: int) -> np.ndarray:
    """(count,) angles, all different."""
    return np.linspace(0.0, 2.0 * np.pi, count, endpoint=False)


def wobbling(angles: np.ndarray) -> np.ndarray:
    """(n,) heights of cameras at angles: now above, now below."""
    heights: np.ndarray = 0.5 * np.sin(2.4 * np.arange(len(angles)))
    return heights


def two_rings() -> tuple[np.ndarray, np.ndarray]:
    """Angles and heights of a turntable's photos by a camera that is lifted after one turn."""
    return np.tile(around_once(18), 2), np.repeat([0.2, 0.7], 18)


def at_random() -> tuple[np.ndarray, np.ndarray]:
    """Angles and heights of cameras held by hand."""
    generator = np.random.default_rng(0)
    return generator.uniform(0.0, 2.0 * np.pi, 40), generator.uniform(-0.3, 0.9, 40)


PATHS = {
    "wobble": (around_once(28), wobbling(around_once(28))),
    "wobble of 60": (around_once(60), wobbling(around_once(60))),
    **{f"ring at {height}": (around_once(36), np.full(36, height)) for height in (0.2, 0.3, 0.5)},
    "two rings": two_rings(),
    "random": at_random(),
}
"""Paths of cameras: angles and heights."""


class Shown:
    """Photos, and what they truly show."""

    def __init__(
        self,
        folder: Path,
        path: tuple[np.ndarray, np.ndarray],
        color: tuple[int, int, int] = WHITE,
        thing: Thing = BALL_AND_RING,
    ) -> None:
        self.photos, self.solid, self.paint = [], [], []
        for k, (angle, height) in enumerate(zip(*path)):
            pose = camera(angle, height)
            picture, solid, paint = pictured(pose, color, thing)
            Image.fromarray(picture).save(folder / f"{k:03}.png")
            self.photos.append(Photo(folder / f"{k:03}.png", pose, LENS))
            self.solid.append(solid)
            self.paint.append(paint)
        everything = tuple(range(len(self.photos)))
        self.capture = Capture(
            "nerfstudio", folder, tuple(self.photos), {"train": everything, "val": (), "test": ()}, False, np.eye(4)
        )


@pytest.fixture(scope="module", params=[WHITE, (0, 0, 0), (40, 170, 60)], ids=["white", "black", "green"])
def around(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Shown:
    return Shown(tmp_path_factory.mktemp("around"), PATHS["wobble"], request.param)


def test_holes_are_empty_and_paint_is_not(around: Shown) -> None:
    found, lines = before_backdrop(around.capture, "auto", "--background")
    assert "show it through the thing, too" in lines[0]
    left = before = lost = 0
    for photo, solid, paint in zip(found.photos, around.solid, around.paint):
        alpha = read_photo(photo, True)[..., 3]
        plain = read_photo(replace(photo, backdrop=replace(photo.backdrop, holes=None)), True)[..., 3]
        left, before = left + int((alpha[~solid] > 127).sum()), before + int((plain[~solid] > 127).sum())
        lost += int((alpha[paint] < plain[paint]).sum())
        assert (alpha == plain).all() or photo.backdrop.holes is not None
    assert before > 2000 and left < 0.05 * before and lost == 0


def opaque(shown: Shown) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Where photos are opaque with what is found to be holes, and without."""
    photos = [
        (np.asarray(Image.open(photo.image)), hole)
        for photo, hole in zip(shown.photos, holes_of(shown.photos, BACKDROP))
    ]
    after = [cut_out(pixels, replace(BACKDROP, holes=hole))[..., 3] > 127 for pixels, hole in photos]
    return after, [cut_out(pixels, BACKDROP)[..., 3] > 127 for pixels, _ in photos]


def left_of_holes(shown: Shown) -> tuple[float, int]:
    """Part of the pixels of holes that stay opaque, of all that are so where holes are not looked for; and those."""
    after, before = opaque(shown)
    closed = sum(int((was & ~solid).sum()) for was, solid in zip(before, shown.solid))
    left = sum(int((now & ~solid).sum()) for now, solid in zip(after, shown.solid))
    return left / closed, closed


@pytest.mark.parametrize(
    "path, depth, radius",
    [
        *[("wobble", 0.2, 0.35), ("wobble", 0.5, 0.5), ("wobble of 60", 1.0, 0.5), ("wobble of 60", 0.06, 0.35)],
        *[("ring at 0.2", 0.06, 0.35), ("ring at 0.3", 0.1, 0.5), ("ring at 0.5", 0.1, 0.5)],
        *[("two rings", 0.1, 0.35), ("random", 0.1, 0.5)],
    ],
)
def test_paint_on_both_sides_of_a_thing_stays(path: str, depth: float, radius: float, tmp_path: Path) -> None:
    shown = Shown(tmp_path, PATHS[path], thing=box(depth, radius, False))
    after, before = opaque(shown)
    labels = sum(int((was & paint).sum()) for was, paint in zip(before, shown.paint))
    kept = sum(int((now & paint).sum()) for now, paint in zip(after, shown.paint))
    assert labels > 200 * len(shown.photos) and kept >= 0.95 * labels


@pytest.mark.parametrize(
    "path, depth, radius",
    [
        *[("wobble", 0.2, 0.35), ("wobble of 60", 0.5, 0.35), ("wobble", 0.06, 0.35)],
        *[("ring at 0.2", 0.02, 0.35), ("ring at 0.3", 0.06, 0.35)],
        *[("ring at 0.3", 0.1, 0.5), ("ring at 0.5", 0.04, 0.5), ("ring at 0.5", 0.06, 0.5)],
        *[("two rings", 0.04, 0.35), ("random", 0.06, 0.5)],
    ],
)
def test_an_opening_through_a_thing_is_empty(path: str, depth: float, radius: float, tmp_path: Path) -> None:
    left, closed = left_of_holes(shown := Shown(tmp_path, PATHS[path], thing=box(depth, radius, True)))
    assert closed > 150 * len(shown.photos) and left < 0.05


@pytest.mark.parametrize("path, inner", [("ring at 0.5", 0.5), ("two rings", 0.4)])
def test_within_a_frame_it_is_empty(path: str, inner: float, tmp_path: Path) -> None:
    """A square one, so flat that its rim hides nothing, as around paint."""

    def to_frame(points: np.ndarray) -> np.ndarray:
        solid = to_cuboid(points, np.array([0.6, 0.02, 0.6]))
        return np.maximum(solid, inner - np.abs(points[:, ::2]).max(1))

    left, closed = left_of_holes(Shown(tmp_path, PATHS[path], thing=Thing(to_frame, unpainted)))
    assert closed > 20000 and left < 0.05


def unpainted(points: np.ndarray) -> np.ndarray:
    return np.zeros(len(points), dtype=bool)


def wire(thick: float) -> Thing:
    """A ring of radius 0.5 that is looked through along y."""
    return Thing(
        lambda points: np.hypot(np.hypot(points[:, 0], points[:, 2]) - 0.5, points[:, 1]) - thick,
        unpainted,
    )


@pytest.mark.parametrize("path, thick", [("wobble", 0.03), ("wobble", 0.06), ("ring at 0.5", 0.03)])
def test_within_a_wire_it_is_empty(path: str, thick: float, tmp_path: Path) -> None:
    """All of what is within is seen at a slant, too, as paint would be; but light goes through."""
    left, closed = left_of_holes(Shown(tmp_path, PATHS[path], thing=wire(thick)))
    assert closed > 15000 and left < 0.05


def test_poses_that_are_a_little_off_close_no_hole(tmp_path: Path) -> None:
    """They carve away what photos show around it; and along the outline, too."""
    shown, generator = Shown(tmp_path, PATHS["ring at 0.3"], thing=wire(0.03)), np.random.default_rng(3)
    for k, photo in enumerate(shown.photos):
        pose = photo.pose.copy()
        pose[:3, :3] = Rotation.from_rotvec(0.008 * generator.standard_normal(3)).as_matrix() @ pose[:3, :3]
        shown.photos[k] = replace(photo, pose=pose)
    assert left_of_holes(shown)[0] < 0.05


@pytest.mark.parametrize("path", ["wobble", "ring at 0.2"])
def test_paint_beside_an_opening_stays(path: str, tmp_path: Path) -> None:
    """Each is judged by itself."""
    paint, opening, half = np.array([0.35, 0.0, 0.0]), np.array([-0.35, 0.0, 0.0]), np.array([0.75, 0.05, 0.45])

    def to_plate(points: np.ndarray) -> np.ndarray:
        solid = to_cuboid(points, half)
        return np.maximum(solid, 0.28 - np.hypot(*(points - opening)[:, ::2].T))

    plate = Thing(to_plate, lambda points: np.hypot(*(points - paint)[:, ::2].T) < 0.28)
    shown = Shown(tmp_path, PATHS[path], thing=plate)
    after, before = opaque(shown)
    labels, kept, closed, left = (
        sum(int((picture & part).sum()) for picture, part in zip(pictures, parts))
        for pictures, parts in (
            (before, shown.paint),
            (after, shown.paint),
            (before, [~solid for solid in shown.solid]),
            (after, [~solid for solid in shown.solid]),
        )
    )
    assert labels > 150 * len(shown.photos) and kept >= 0.95 * labels
    assert closed > 150 * len(shown.photos) and left < 0.06 * closed


def test_what_no_camera_sees_from_behind_stays(tmp_path: Path) -> None:
    angles = np.linspace(-0.6, 0.6, 12) + np.pi / 2
    shown = Shown(tmp_path, (angles, wobbling(angles)))
    assert sum(int((~solid).sum()) for solid in shown.solid) > 0
    holes = holes_of(shown.photos, Backdrop(WHITE, 12))
    assert all(hole is None for hole in holes), "a wall of paint behind the ring would look the same"


def test_where_nothing_may_be_a_hole_few_photos_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = np.full((SIZE, SIZE, 3), 255, np.uint8)
    picture[30:90, 30:90] = 100
    Image.fromarray(picture).save(tmp_path / "a.png")
    photos = [Photo(tmp_path / "a.png", camera(angle, 0.2), LENS) for angle in np.linspace(0.0, 6.0, 40)]
    read, of = [], View.of
    monkeypatch.setattr(View, "of", staticmethod(lambda *some: read.append(1) or of(*some)))
    assert holes_of(photos, Backdrop(WHITE, 12)) == [None] * 40 and len(read) == FIRST
    assert spread(3, 16) == [0, 1, 2] and spread(100, 3) == [0, 50, 99] and spread(0, 4) == []


def test_a_piece_is_cut_out_where_most_of_it_is_a_hole() -> None:
    pixels = np.full((60, 80, 3), 255, np.uint8)
    pixels[10:50, 10:70] = 100
    pixels[20:40, 15:35] = pixels[20:40, 45:65] = 255
    holes = np.zeros((15, 20), dtype=bool)
    holes[5:10, 4:9] = True
    holes[5:7, 11:13] = True  # a part of the other one
    alpha = cut_out(pixels, Backdrop(WHITE, 12, holes=holes))[..., 3]
    assert not alpha[22:38, 17:33].any() and (alpha[20:40, 45:65] == 255).all()
    assert (cut_out(pixels, Backdrop(WHITE, 12))[20:40, 15:65, 3] == 255).all()


@given(
    st.tuples(*[st.floats(-0.08, 0.08)] * 4, *[st.floats(-0.01, 0.01)] * 2),
    st.integers(0, SIZE - 1),
    st.integers(0, SIZE - 1),
)
def test_pixels_and_directions_belong_together(distortion: tuple[float, ...], row: int, column: int) -> None:
    lens = replace(LENS, distortion=distortion)
    pose, nothing = camera(1.0, 0.3), np.zeros((SIZE, SIZE), dtype=bool)
    view = View(Photo(Path("p"), pose, lens), nothing, nothing.astype(int), nothing, nothing)
    away = view.directions(np.array([row]), np.array([column]))
    assert np.allclose(np.linalg.norm(away, axis=1), 1.0)
    inside, (rows, columns) = view.at(pose[:3, 3] + 2.5 * away)
    assert inside.all() and abs(rows[0] - row) <= 1 and abs(columns[0] - column) <= 1
    assert not view.at(pose[:3, 3] - away)[0].any(), "behind the camera"
    x, y = bent(LENS, np.array([0.3]), np.array([-0.2]))
    assert x[0] == 0.3 and y[0] == -0.2


def test_cameras_look_at_one_point() -> None:
    poses = [camera(angle, 0.4) for angle in np.linspace(0.0, 6.0, 9)]
    for pose in poses:
        pose[:3, 3] += (1.0, 2.0, 3.0)
    assert np.allclose(looked_at(poses), (1.0, 2.0, 3.0), atol=1e-4)
