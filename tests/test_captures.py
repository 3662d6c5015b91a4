"""Captures are read as their files mean them, or refused in one line; whatever is guessed or left out is said."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lg_field.captures import CaptureError, Lens, read_capture
from lg_field.captures.capture import check_pose
from lg_field.captures.colmap import MODELS, lens_of, pose_of
from lg_field.captures.photo_file import read_photo
from lg_field.captures.splits import by_fraction, by_interval, by_lists, never_empty

WIDTH, HEIGHT = 24, 16
LENS: dict[str, Any] = {"fl_x": 20.0, "fl_y": 21.0, "cx": 12.0, "cy": 8.0, "w": WIDTH, "h": HEIGHT}


def pose(k: int) -> np.ndarray:
    """A camera on a circle, looking at its middle."""
    angle = k * 0.5
    back = np.array([np.cos(angle), np.sin(angle), 0.3])
    back /= np.linalg.norm(back)
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    matrix = np.eye(4)
    matrix[:3] = np.stack([right, np.cross(back, right), back, 3 * back], axis=1)
    return matrix


def pixels(k: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 9, y * 13, np.full_like(x, 20 * k)], -1).astype(np.uint8)


def frames(count: int, ending: str = ".png") -> list[dict[str, Any]]:
    return [{"file_path": f"images/{k}{ending}", "transform_matrix": pose(k).tolist()} for k in range(count)]


def transforms(folder: Path, count: int = 12, images: bool = True, ending: str = ".png", **meta: Any) -> Path:
    """A scene folder with a transforms.json."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for k in range(count if images else 0):
        Image.fromarray(pixels(k)).save(folder / f"images/{k}{ending}")
    data = {**LENS, "frames": frames(count, ending)} | meta
    (folder / "transforms.json").write_text(json.dumps({k: v for k, v in data.items() if v is not None}))
    return folder


def test_a_plain_capture_is_read_whole(tmp_path):
    capture = read_capture(transforms(tmp_path))
    assert (capture.format, len(capture.photos), capture.alpha, capture.notes) == ("nerfstudio", 12, False, ())
    assert len(capture.part("train")) == 11 and len(capture.part("test")) == 1
    for k in range(12):
        photo = next(p for p in capture.photos if p.image.stem == str(k))
        assert np.array_equal(photo.pose, pose(k)) and np.array_equal(read_photo(photo, False), pixels(k))
        assert photo.lens == Lens(WIDTH, HEIGHT, 20.0, 21.0, 12.0, 8.0)
    named = read_capture(str(tmp_path / "transforms.json"))
    assert [p.image for p in named.photos] == [p.image for p in capture.photos]


def test_pictures_with_and_without_alpha_go_together(tmp_path):
    transforms(tmp_path)
    Image.fromarray(np.dstack([pixels(4), np.full((HEIGHT, WIDTH), 9, np.uint8)])).save(tmp_path / "images/4.png")
    capture = read_capture(tmp_path)
    assert capture.alpha
    shapes = {read_photo(p, capture.alpha).shape for p in capture.photos}
    assert shapes == {(HEIGHT, WIDTH, 4)}
    alphas = sorted(int(read_photo(p, True)[..., 3].min()) for p in capture.photos)
    assert alphas == [9] + [255] * 11


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_stand_as_their_cameras_say(tmp_path, orientation):
    """Whatever the stored way, a photo whose camera has the upright size comes upright; else as stored."""
    upright = Image.fromarray(pixels(2))
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # PIL's transpositions that undo an orientation
    stored = upright if orientation == 1 else upright.transpose(Image.Transpose(back[orientation]))
    exif = Image.Exif()
    exif[274] = orientation
    (tmp_path / "images").mkdir()
    for k in range(3):
        stored.save(tmp_path / f"images/{k}.png", exif=exif)
    for lens in (LENS, LENS | {"w": stored.width, "h": stored.height, "cx": 5.0}):
        (tmp_path / "transforms.json").write_text(json.dumps({**lens, "frames": frames(3)}))
        capture = read_capture(tmp_path)
        found = read_photo(capture.photos[0], False)
        if (lens["w"], lens["h"]) == (WIDTH, HEIGHT):
            assert np.array_equal(found, pixels(2))
            assert any("turned upright" in note for note in capture.notes) == (orientation != 1)
        else:
            assert np.array_equal(found, np.asarray(stored))


@given(factor=st.sampled_from([0.5, 2.0, 3.0]))
def test_intrinsics_follow_the_size_of_the_images(tmp_path_factory, factor):
    folder = transforms(tmp_path_factory.mktemp("sizes"), 3, images=False)
    for k in range(3):
        image = Image.fromarray(pixels(k)).resize((int(WIDTH * factor), int(HEIGHT * factor)))
        image.save(folder / f"images/{k}.png")
    capture = read_capture(folder)
    lens = capture.photos[0].lens
    assert (lens.fx, lens.fy, lens.cx, lens.cy) == (20 * factor, 21 * factor, 12 * factor, 8 * factor)
    assert any("intrinsics are scaled" in note for note in capture.notes)


def test_another_shape_is_refused(tmp_path):
    transforms(tmp_path, 3)
    Image.fromarray(pixels(0, 24, 24)).save(tmp_path / "images/1.png")
    with pytest.raises(CaptureError, match=r"1\.png has 24 x 24 pixels, its camera is for 24 x 16"):
        read_capture(tmp_path)


def test_missing_images_and_masks_are_counted(tmp_path):
    transforms(tmp_path)
    (tmp_path / "images/3.png").unlink()
    capture = read_capture(tmp_path)
    assert (
        len(capture.photos) == 11 and "1 of 12 images are missing and left out (e.g. images/3.png)" in capture.notes[0]
    )
    for k in range(12):
        (tmp_path / f"images/{k}.png").unlink(missing_ok=True)
    with pytest.raises(CaptureError, match="lists 12 images and none of them exists"):
        read_capture(tmp_path)


@given(
    turn=st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: sum(v * v for v in q) > 0.1),
    shift=st.lists(st.floats(-9, 9), min_size=3, max_size=3),
)
def test_rigid_poses_pass_unchanged_and_others_are_named(turn, shift):
    matrix = pose_of(turn, shift)
    assert np.allclose(check_pose(matrix, "x"), matrix, atol=1e-12)
    assert np.allclose(check_pose(matrix[:3], "x"), matrix, atol=1e-12)
    for broken, word in (
        (matrix.T, "last row"),
        (matrix @ np.diag([1, 1, -1, 1.0]), "mirrors"),
        (matrix @ np.diag([1, 2, 1, 1.0]), "right angles"),
        (matrix * np.nan, "finite"),
        (matrix[:2], "4 x 4"),
    ):
        if word != "last row" or np.abs(shift).max() > 1e-3:
            with pytest.raises(CaptureError, match=word):
                check_pose(broken, "x")


def test_poses_far_from_the_origin_keep_their_digits(tmp_path):
    transforms(tmp_path)
    data = json.loads((tmp_path / "transforms.json").read_text())
    for frame in data["frames"]:
        for axis, offset in enumerate((500_000.0, 5_400_000.0, 100.0)):
            frame["transform_matrix"][axis][3] += offset
    (tmp_path / "transforms.json").write_text(json.dumps(data))
    photos = read_capture(tmp_path).photos
    for photo in photos:
        k = int(photo.image.stem)
        assert np.allclose(photo.pose[:3, 3] - (5e5, 5.4e6, 100), pose(k)[:3, 3], atol=1e-8)


def test_one_point_of_view_is_refused_and_one_photo_is_not(tmp_path):
    transforms(tmp_path, 4)
    data = json.loads((tmp_path / "transforms.json").read_text())
    one = data | {"frames": data["frames"][:1]}
    for frame in data["frames"]:
        frame["transform_matrix"] = pose(1).tolist()
    (tmp_path / "transforms.json").write_text(json.dumps(data))
    with pytest.raises(CaptureError, match="all 4 cameras stand at"):
        read_capture(tmp_path)
    (tmp_path / "transforms.json").write_text(json.dumps(one))
    capture = read_capture(tmp_path)
    assert capture.splits["train"] == capture.splits["test"] == (0,) and "used for both" in capture.notes[-1]


def test_per_frame_intrinsics_win_and_angles_stand_in(tmp_path):
    transforms(tmp_path, 3, fl_x=None, fl_y=None, camera_angle_x=1.0, aabb_scale=4)
    data = json.loads((tmp_path / "transforms.json").read_text())
    data["frames"][1] |= {"fl_x": 33.0, "cx": 11.0}
    (tmp_path / "transforms.json").write_text(json.dumps(data))
    capture = read_capture(tmp_path)
    assert capture.format == "instant-ngp"
    by_angle = 0.5 * WIDTH / np.tan(0.5)
    assert [p.lens.fx for p in capture.photos] == pytest.approx([by_angle, 33.0, by_angle])
    assert capture.photos[1].lens.cx == 11.0 and capture.photos[0].lens.cx == 12.0
    transforms(tmp_path, 3, fl_x=None, fl_y=None)
    with pytest.raises(CaptureError, match="no focal length"):
        read_capture(tmp_path)


@given(scale=st.floats(1e-3, 3.0), offset=st.lists(st.floats(-1, 2), min_size=3, max_size=3), side=st.integers(1, 64))
def test_the_cube_of_instant_ngp(tmp_path_factory, scale, offset, side):
    """A point p of the file lies in the cube if scale p + offset is within side / 2 of its middle, 0.5."""
    folder = transforms(tmp_path_factory.mktemp("cube"), 2, aabb_scale=side, scale=scale, offset=offset)
    cube = read_capture(folder).cube
    assert cube is not None and cube.sides == side
    for corner in (-0.5, 0.5):
        point = cube.middle + corner * side / cube.scale
        assert np.allclose(point * scale + offset, 0.5 + corner * side, atol=1e-6 * side)


def test_world_units_are_those_before_the_applied_transform(tmp_path):
    applied = np.array([[0, 2.0, 0, 1], [0, 0, 2.0, -3], [2.0, 0, 0, 4], [0, 0, 0, 1]])
    applied[:3, :3] /= 2
    capture = read_capture(transforms(tmp_path, 3, applied_transform=applied[:3].tolist(), applied_scale=0.4))
    original = np.array([1.0, 2.0, 3.0, 1.0])
    saved = np.diag([0.4, 0.4, 0.4, 1.0]) @ applied @ original
    assert np.allclose(capture.to_world @ saved, original)


def blender(folder: Path, splits: dict[str, int], ending: str = ".png", written: str = "") -> Path:
    for split, count in splits.items():
        (folder / split).mkdir(parents=True)
        found = []
        for k in range(count):
            Image.fromarray(pixels(k)).save(folder / split / f"r_{k}{ending}")
            found.append({"file_path": f"./{split}/r_{k}{written}", "transform_matrix": pose(k).tolist()})
        meta = {"camera_angle_x": 0.7, "frames": found}
        (folder / f"transforms_{split}.json").write_text(json.dumps(meta))
    return folder


@pytest.mark.parametrize("ending", [".png", ".jpg"])
@pytest.mark.parametrize("named", [True, False])
def test_blender_files_with_and_without_endings(tmp_path, ending, named):
    capture = read_capture(blender(tmp_path, {"train": 3, "test": 2}, ending, ending if named else ""))
    assert capture.format == "blender" and len(capture.part("train")) == 3 and len(capture.part("test")) == 2
    assert capture.part("val") == capture.part("test")
    assert capture.photos[0].lens.fx == pytest.approx(0.5 * WIDTH / np.tan(0.35))


def test_blender_without_test_photos_holds_some_out(tmp_path):
    capture = read_capture(blender(tmp_path, {"train": 16}))
    assert len(capture.part("train")) == 14 and len(capture.part("test")) == 2
    assert not set(capture.splits["train"]) & set(capture.splits["test"]) and "every 8th" in capture.notes[0]


@given(count=st.integers(1, 200))
def test_splits_part_the_photos(count):
    for splits in (by_fraction(count), by_interval(count)):
        assert sorted((*splits["train"], *splits["test"])) == list(range(count))
        whole, notes = never_empty(splits)
        assert whole["train"] and whole["test"] and bool(notes) == (not (splits["train"] and splits["test"]))


def test_lists_of_photos_may_be_partial():
    names = [f"{k}.png" for k in range(6)]
    splits, notes = by_lists(names, {"train": names[:4], "test": names[4:5]})
    assert splits == {"train": (0, 1, 2, 3), "val": (4,), "test": (4,)} and not notes
    splits, notes = by_lists(names, {"test": ["4.png", "no.png"]})
    assert splits["train"] == (0, 1, 2, 3, 5) and len(notes) == 2


def colmap(folder: Path, text: bool, names: list[str], model: str = "PINHOLE", points: int = 5) -> Path:
    """A reconstruction of photos with these names, all by one camera."""
    values = [20.0, 21.0, 12.0, 8.0, *[0.01] * 20][: MODELS[model]]
    sparse = folder / "sparse" / "0"
    sparse.mkdir(parents=True)
    flip = np.diag([1, -1, -1, 1.0])
    quaternions = []
    for k, name in enumerate(names):
        (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(k)).save(folder / "images" / name)
        view = np.linalg.inv(pose(k) @ flip)
        w = 0.5 * np.sqrt(max(1e-12, 1 + np.trace(view[:3, :3])))
        skew = (view[:3, :3] - view[:3, :3].T) / (4 * w)
        quaternions.append(((w, skew[2, 1], skew[0, 2], skew[1, 0]), view[:3, 3]))
    if text:
        numbers = " ".join(map(str, values))
        (sparse / "cameras.txt").write_text(f"# cameras\n1 {model} {WIDTH} {HEIGHT} {numbers}\n")
        lines = ["# images"]
        for k, (q, t) in enumerate(quaternions):
            lines += [
                f"{k + 1} {' '.join(map(repr, map(float, (*q, *t))))} 1 {names[k]}",
                "" if k % 2 else "1 2 -1 3 4 2 12 8 0",
            ]
        (sparse / "images.txt").write_text("\n".join(lines) + "\n")
        (sparse / "points3D.txt").write_text("".join(f"{k} {k}.5 1 2 9 8 7 0.1 1 2\n" for k in range(points)))
        return folder
    data = struct.pack("<Q", 1) + struct.pack("<iiQQ", 1, list(MODELS).index(model), WIDTH, HEIGHT)
    (sparse / "cameras.bin").write_bytes(data + struct.pack(f"<{len(values)}d", *values))
    data = struct.pack("<Q", len(names))
    for k, (q, t) in enumerate(quaternions):
        features = () if k % 2 else ((1, 2, -1), (3, 4, 2), (12, 8, 0))
        data += struct.pack("<i7di", k + 1, *q, *t, 1) + names[k].encode() + b"\0" + struct.pack("<Q", len(features))
        data += b"".join(struct.pack("<2dq", *feature) for feature in features)
    (sparse / "images.bin").write_bytes(data)
    data = struct.pack("<Q", points)
    for k in range(points):
        data += struct.pack("<Q3d3BdQii", k, k + 0.5, 1, 2, 9, 8, 7, 0.1, 1, 1, 2)
    (sparse / "points3D.bin").write_bytes(data)
    return folder


@pytest.mark.parametrize("text", [True, False])
def test_colmap_text_and_binary_say_the_same(tmp_path, text):
    names = [f"a photo {k}.png" if k % 3 else f"in/side {k}.png" for k in range(9)]
    capture = read_capture(colmap(tmp_path, text, names))
    assert capture.format == "colmap" and [p.image.name for p in capture.photos] == [Path(n).name for n in names]
    for k, photo in enumerate(capture.photos):
        assert np.allclose(photo.pose, pose(k), atol=1e-9)
        assert photo.lens == Lens(WIDTH, HEIGHT, 20.0, 21.0, 12.0, 8.0)
    assert capture.points is not None and capture.points[:, 0].tolist() == [0.5, 1.5, 2.5, 3.5, 4.5]
    assert capture.colors is not None and capture.colors[0].tolist() == [9, 8, 7]
    for k, photo in enumerate(capture.photos):  # every second one has features; the first of them is no point
        assert (photo.seen is None) == (k % 2 == 1)
        if photo.seen is not None:
            assert photo.seen.points.tolist() == [2, 0]
            assert np.allclose(photo.seen.places * (WIDTH, HEIGHT), [[3, 4], [12, 8]])


@pytest.mark.parametrize("text", [True, False])
def test_a_reconstruction_without_points_is_one(tmp_path, text):
    capture = read_capture(colmap(tmp_path, text, [f"{k}.png" for k in range(3)], points=0))
    assert capture.points is None and "no points" in " ".join(capture.notes)


@pytest.mark.parametrize("model", MODELS)
def test_every_camera_model_is_read_or_named(model):
    values = [20.0, 21.0, 12.0, 8.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8][: MODELS[model]]
    if model in ("FOV", "THIN_PRISM_FISHEYE"):
        with pytest.raises(CaptureError, match=f"{model} is not read: undistort"):
            lens_of(model, 24, 16, values, "x")
        return
    lens = lens_of(model, 24, 16, values, "x")
    assert lens.fisheye == ("FISHEYE" in model) and lens.fx == 20.0
    with pytest.raises(CaptureError, match="parameters"):
        lens_of(model, 24, 16, values[:-1], "x")


@pytest.mark.parametrize(
    "spoil, word",
    [
        (lambda d: (d / "transforms.json").write_text("{"), "not JSON"),
        (lambda d: (d / "transforms.json").write_text('{"frames": []}'), "list of 'frames'"),
        (lambda d: (d / "transforms.json").write_text('{"frames": [{}]}'), "no file_path"),
        (lambda d: (d / "images/0.png").write_bytes(b"x"), "not an image"),
        (lambda d: transforms(d, 3, fl_x="wide"), "must be a number"),
        (lambda d: transforms(d, 3, fl_x=-1.0), "must be positive"),
        (lambda d: transforms(d, 3, camera_model="EQUIRECTANGULAR"), "is not read"),
        (lambda d: (d / "transforms.json").unlink(), "3 photos but no cameras"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path, spoil, word):
    transforms(tmp_path, 3)
    spoil(tmp_path)
    with pytest.raises(CaptureError, match=word) as caught:
        read_capture(tmp_path)
    assert "\n" not in str(caught.value)


def test_damaged_reconstructions_are_one_line(tmp_path):
    colmap(tmp_path, False, ["0.png", "1.png"])
    path = tmp_path / "sparse/0/images.bin"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(CaptureError, match="damaged"):
        read_capture(tmp_path)


def test_paths_of_other_machines_are_found_by_their_end(tmp_path):
    transforms(tmp_path, 3)
    data = json.loads((tmp_path / "transforms.json").read_text())
    for k, frame in enumerate(data["frames"]):
        frame["file_path"] = ["/home/someone/scene/images/0.png", "images\\1.png", "images/2"][k]
    (tmp_path / "transforms.json").write_text(json.dumps(data))
    assert sorted(p.image.name for p in read_capture(tmp_path).photos) == ["0.png", "1.png", "2.png"]
