"""Tracks of a reconstruction beside a transforms.json: each photo gets its own, or a line says why not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_captures import HEIGHT, LENS, WIDTH, colmap, pose

from lg_field.captures import Capture, read_capture
from lg_field.captures.points import read_points

COUNT = 6


def scene(folder: Path, applied: np.ndarray, scale: float = 1.0, text: bool = False) -> Path:
    """A folder as `ns-process-data` leaves it: a reconstruction, and its cameras, moved and scaled, beside it."""
    colmap(folder, text, [f"{k}.png" for k in range(COUNT)])
    (folder / "colmap").mkdir()
    (folder / "sparse").rename(folder / "colmap" / "sparse")
    frames = []
    for k in range(COUNT):
        moved = applied @ pose(k)
        moved[:3, 3] *= scale
        frames.append({"file_path": f"images/{k}.png", "transform_matrix": moved.tolist()})
    data = {**LENS, "applied_transform": applied[:3].tolist(), "applied_scale": scale, "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(data))
    return folder


def changed(folder: Path, **changes: object) -> Capture:
    """What is read when entries of the first frame of transforms.json are others."""
    path = folder / "transforms.json"
    data = json.loads(path.read_text())
    data["frames"][0] |= changes
    path.write_text(json.dumps(data))
    return read_capture(folder)


@given(
    angle=st.floats(-3, 3), shift=st.tuples(*[st.floats(-1e4, 1e4)] * 3), scale=st.floats(0.01, 50), text=st.booleans()
)
@settings(max_examples=8, deadline=None)
def test_points_come_along_into_any_frame(tmp_path_factory, angle, shift, scale, text):
    applied = np.eye(4)
    applied[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    applied[:3, 3] = shift
    capture = read_capture(scene(tmp_path_factory.mktemp("s"), applied, scale, text))
    points = np.array([(k + 0.5, 1.0, 2.0) for k in range(5)])
    assert capture.format == "nerfstudio" and capture.points is not None and capture.colors is not None
    assert np.allclose(capture.points, scale * (points @ applied[:3, :3].T + applied[:3, 3]), rtol=1e-9)
    back = capture.points @ capture.to_world[:3, :3].T + capture.to_world[:3, 3]
    assert np.allclose(back, points, atol=1e-6) and (capture.colors == (9, 8, 7)).all()
    for k, photo in enumerate(capture.photos):  # every second one of these reconstructions has features
        assert (photo.seen is None) == (k % 2 == 1)
        if photo.seen is not None:
            assert photo.seen.points.tolist() == [2, 0]
            assert np.allclose(photo.seen.places * (WIDTH, HEIGHT), [[3, 4], [12, 8]])
    assert not any("colmap" in note for note in capture.notes)


def test_a_photo_that_is_elsewhere_shows_no_point_and_that_is_said(tmp_path):
    moved = pose(0)
    moved[0, 3] += 1.0
    capture = changed(scene(tmp_path, np.eye(4)), transform_matrix=moved.tolist())
    assert [photo.seen is not None for photo in capture.photos] == [False, False, True, False, True, False]
    assert any("1 of 6 photos are not where" in note for note in capture.notes)


def test_a_reconstruction_of_other_cameras_is_left_alone(tmp_path):
    folder = scene(tmp_path, np.eye(4))
    path = folder / "transforms.json"
    data = json.loads(path.read_text())
    del data["applied_transform"]
    for k, frame in enumerate(data["frames"]):
        frame["transform_matrix"] = pose(k + 3).tolist()
    path.write_text(json.dumps(data))
    capture = read_capture(folder)
    assert capture.points is None and all(photo.seen is None for photo in capture.photos)
    assert any("6 of 6 photos are not where" in note for note in capture.notes)


def test_photos_that_it_lacks_and_smaller_ones_are_no_matter(tmp_path):
    folder = scene(tmp_path, np.eye(4))
    with Image.open(folder / "images" / "0.png") as image:
        image.resize((WIDTH // 2, HEIGHT // 2)).save(folder / "new.png")
    capture = changed(folder, file_path="new.png")
    seen = {photo.image.name: photo.seen is not None for photo in capture.photos}
    assert seen["new.png"] is False and seen["2.png"] is True
    for k in range(COUNT):
        Image.new("RGB", (WIDTH // 2, HEIGHT // 2)).save(folder / "images" / f"{k}.png")
    small = [photo for photo in read_capture(folder).photos if photo.seen is not None]
    assert small and np.allclose(small[0].seen.places * (WIDTH, HEIGHT), [[3, 4], [12, 8]])


@pytest.mark.parametrize("name", ["images.bin", "points3D.bin"])
def test_a_damaged_reconstruction_is_not_used_and_named(tmp_path, name):
    folder = scene(tmp_path, np.eye(4))
    path = folder / "colmap/sparse/0" / name
    path.write_bytes(path.read_bytes()[:40])
    capture = read_capture(folder)
    assert len(capture.photos) == COUNT and all(photo.seen is None for photo in capture.photos)
    assert any("are not used" in note and "damaged" in note and "\n" not in note for note in capture.notes)


def test_without_tracks_the_points_of_the_file_stand(tmp_path):
    from lg_field.photos.scene import write_points

    folder = scene(tmp_path, np.eye(4))
    write_points(folder / "p.ply", np.ones((4, 3)), np.zeros((4, 3), np.uint8))
    data = json.loads((folder / "transforms.json").read_text()) | {"ply_file_path": "p.ply"}
    (folder / "transforms.json").write_text(json.dumps(data))
    assert len(read_capture(folder).points) == 5
    (folder / "colmap/sparse/0/points3D.bin").unlink()
    assert np.allclose(read_capture(folder).points, read_points(folder / "p.ply")[0])
