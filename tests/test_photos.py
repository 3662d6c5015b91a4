"""Photos to a scene: a rendered room is placed where it was rendered from; nothing is lost, guessed or half done."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from commands import lg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from small_capture import FOCAL, HEIGHT, WIDTH, aligned_errors, arc_cameras, look_at, render, textures, write_photos
from test_photo_inputs import photo as write_photo

from lg_field.photos.capture import STATE, CaptureSettings, make_scene, open_work
from lg_field.photos.frame import apply, focus_point, scene_transform, turn_to_z, up_direction
from lg_field.photos.pairs import EXHAUSTIVE_UP_TO, blocks, near_pairs, pairs_to_compare
from lg_field.photos.picture import MARGIN, PANEL, report_picture
from lg_field.photos.poses import Placed, PoseSettings, camera_groups
from lg_field.photos.prepare import Photo
from lg_field.photos.scene import new_folder, transforms, write_points
from lg_field.photos.view_graph import components, strong_pairs

PHOTO_COUNT = 9
SIDEWAYS = (2, 5)
SETTINGS = CaptureSettings(poses=PoseSettings(threads=1))


def nothing(*_: object) -> None:
    """Told, and not said."""


def need_pycolmap() -> None:
    """Skip where it is missing; never import it here, for it breaks Pillow in the process that does."""
    if importlib.util.find_spec("pycolmap") is None:
        pytest.skip("needs pycolmap: pip install lg-field[photos]")


# -- the whole way, once


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    """A scene made of rendered photos, in two runs: the first is interrupted after features.

    Returns:
        its folder, the folder of photos, what was said, and the true poses.
    """
    need_pycolmap()
    root = tmp_path_factory.mktemp("capture")
    source, target, poses = root / "my photos", root / "scene", arc_cameras(PHOTO_COUNT)
    write_photos(source, poses, SIDEWAYS)
    shutil.move(source / "000.jpg", source / "shot 0.jpg")  # a blank in a name
    (source / "broken.jpg").write_bytes((source / "001.jpg").read_bytes()[:3000])
    (source / "notes.txt").write_text("no photo")
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:, 40:] = 255
    (source / "masks").mkdir()
    Image.fromarray(mask).save(source / "masks" / "003.png")
    before = contents(source)
    said: list[str] = []

    def interrupt(doing: str, done: int, total: int) -> None:
        if doing == "pairs compared":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_scene(source, target, SETTINGS, said.append, interrupt)
    assert not target.exists() and sorted(p.name for p in root.iterdir()) == [".scene.work", "my photos"]
    make_scene(source, target, SETTINGS, said.append, nothing)
    assert sorted(p.name for p in root.iterdir()) == ["my photos", "scene"]
    assert contents(source) == before
    true = {f"{i:03d}.jpg" if i else "shot_0.jpg": pose for i, pose in enumerate(poses)}
    return target, source, said, true


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def frames_of(scene: Path) -> dict[str, dict]:
    return {Path(f["file_path"]).name: f for f in json.loads((scene / "transforms.json").read_text())["frames"]}


def test_cameras_are_placed_where_the_pictures_were_rendered_from(capture):
    scene, _, _, true = capture
    frames = frames_of(scene)
    assert sorted(frames) == sorted(true)
    found = np.stack([np.array(frames[name]["transform_matrix"]) for name in true])
    degrees, distance = aligned_errors(found, np.stack(list(true.values())))
    assert degrees.max() < 1.0 and distance.max() < 0.02, (degrees, distance)
    meta = json.loads((scene / "transforms.json").read_text())
    assert abs(meta["fl_x"] / FOCAL - 1) < 0.03 and (meta["w"], meta["h"]) == (WIDTH, HEIGHT)


def test_pycolmap_stays_in_a_process_of_its_own(capture):
    assert capture and "pycolmap" not in sys.modules


def test_up_is_z_and_the_focus_is_the_origin(capture):
    scene, _, _, _ = capture
    poses = np.stack([np.array(f["transform_matrix"]) for f in frames_of(scene).values()])
    assert up_direction(poses) @ [0, 0, 1] > 0.999
    spread = np.linalg.norm(poses[:, :3, 3], axis=1).mean()
    assert np.linalg.norm(focus_point(poses, np.zeros((0, 3)))) < 1e-6 * spread


def test_what_happened_is_said_in_plain_lines(capture):
    _, source, said, _ = capture
    text = "\n".join(said)
    assert f"{source / 'broken.jpg'} is not a picture or is broken" in text
    assert "2 photos were turned upright" in text and "1 of 9 photos have a mask" in text
    assert "the same command goes on" in text and "going on with the features" in text
    assert "all 9 photos placed" in text and "notes" not in text


def test_the_scene_reads_as_a_capture_with_masks_and_points(capture):
    from lg_field.captures import read_capture

    found, frames = read_capture(capture[0]), frames_of(capture[0])
    assert [photo.image.name for photo in found.photos] == sorted(frames)
    for photo in found.photos:
        assert np.allclose(photo.pose, frames[photo.image.name]["transform_matrix"], atol=1e-6)
        assert photo.mask is not None and photo.mask.exists() and not photo.upright
    assert found.points is not None and found.colors is not None and len(found.points) == len(found.colors) > 300


def test_points_are_seen_where_cameras_show_them_and_on_the_room(capture):
    from lg_field.captures import read_capture

    found = read_capture(capture[0])
    for photo in found.photos:
        assert photo.seen is not None and len(photo.seen.points) > 50
        local = (found.points[photo.seen.points] - photo.pose[:3, 3]) @ photo.pose[:3, :3]
        lens = photo.lens
        x, y = lens.fx * local[:, 0] / -local[:, 2] + lens.cx, lens.fy * local[:, 1] / local[:, 2] + lens.cy
        off = np.linalg.norm(np.stack([x, y], 1) - photo.seen.places * (lens.width, lens.height), axis=1)
        assert (local[:, 2] < 0).all() and np.median(off) < 1.5, np.median(off)  # distortion is small here


def test_nerfstudios_own_parser_keeps_its_turn(capture):
    pytest.importorskip("nerfstudio", reason="the plugin needs nerfstudio")
    from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig

    parser = NerfstudioDataParserConfig(data=capture[0]).setup()
    train, test = (parser.get_dataparser_outputs(split) for split in ("train", "test"))
    assert len(train.image_filenames) + len(test.image_filenames) == PHOTO_COUNT
    applied = np.array(json.loads((capture[0] / "transforms.json").read_text())["applied_transform"])
    assert np.allclose(train.dataparser_transform[:, :3].numpy(), applied[:, :3], atol=1e-5)


def test_upright_photos_are_copied_and_turned_ones_are_as_rendered(capture):
    scene, source, _, true = capture
    assert (scene / "images" / "001.jpg").read_bytes() == (source / "001.jpg").read_bytes()
    with Image.open(scene / "images" / "002.jpg") as image:
        assert image.getexif().get(0x0112, 1) == 1
        difference = np.abs(np.asarray(image, float) - render(true["002.jpg"], textures()))
    assert difference.mean() < 6.0


def test_every_frame_has_a_mask_where_one_has(capture):
    scene, _, _, _ = capture
    for name, frame in frames_of(scene).items():
        mask = np.asarray(Image.open(scene / frame["mask_path"]))
        assert mask.shape == (HEIGHT, WIDTH) and (mask[:, 60:] == 255).all()
        assert (mask[:, :20] == 0).all() == (name == "003.jpg")


def test_points_and_picture_are_written(capture):
    scene, _, _, _ = capture
    head, _, body = (scene / "sparse_pc.ply").read_bytes().partition(b"end_header\n")
    count = int(head.split(b"element vertex ")[1].split()[0])
    assert count > 300 and len(body) == 15 * count
    with Image.open(scene / "cameras.png") as picture:
        assert picture.size == (2 * PANEL, PANEL + MARGIN)


def test_the_command_says_that_photos_of_nothing_cannot_be_placed(tmp_path):
    need_pycolmap()
    for index in range(3):
        write_photo(tmp_path / "p" / f"{index}.png", size=(96, 64))
    printed = lg("photos", "p", "-o", "scene", "--threads", 1, cwd=tmp_path, fails=True)
    assert "no photo could be placed" in printed and "texture" in printed and "Traceback" not in printed
    assert not (tmp_path / "scene").exists()


# -- gathering


@given(data=st.data(), count=st.integers(2, 12))
@settings(max_examples=60)
def test_strong_pairs_join_what_all_pairs_join_and_leave_weak_shortcuts_out(data, count):
    every = list(combinations(range(count), 2))
    chosen = data.draw(st.lists(st.sampled_from(every), unique=True, min_size=1))
    matches = {pair: data.draw(st.integers(1, 1000)) for pair in chosen}
    strong = strong_pairs(matches)
    photos = {photo for pair in matches for photo in pair}
    assert strong <= set(matches)
    assert sorted(map(sorted, components(photos, strong))) == sorted(map(sorted, components(photos, matches)))
    for photo in photos:
        best = max(matches[pair] for pair in matches if photo in pair)
        assert any(photo in pair and matches[pair] == best for pair in strong)
    chain = {(i, i + 1): 500 for i in range(count)}
    assert strong_pairs(chain | {(0, count): 60}) == set(chain)


def test_photos_share_a_camera_only_if_size_folder_and_lens_are_the_same():
    photos = [Photo(f"{i}", 4, 3, camera) for i, camera in enumerate(["a", "b", "a", "a"])]
    assert [[p.name for p in group] for group in camera_groups(photos, "auto")] == [["0", "2", "3"], ["1"]]
    assert len(camera_groups(photos, "per-image")) == 4 and len(camera_groups(photos, "single")) == 1
    with pytest.raises(ValueError, match="--camera single needs photos of one size"):
        camera_groups([*photos, Photo("4", 3, 4, "a")], "single")


@given(count=st.integers(2, 300))
@settings(max_examples=30)
def test_sequential_pairs_join_all_photos_and_groups_keep_every_pair_once(count):
    found = near_pairs(count)
    assert all(0 <= a < b < count for a, b in found) and len(set(found)) == len(found)
    assert {(i, i + 1) for i in range(count - 1)} <= set(found) and (0, count - 1) in found
    assert sorted(pair for group in blocks(found) for pair in group) == found
    every = pairs_to_compare(count, "exhaustive", False)
    assert len(every) == count * (count - 1) // 2 and set(found) <= set(every)
    assert pairs_to_compare(count, "auto", False) == (every if count <= EXHAUSTIVE_UP_TO else found)


vectors = st.lists(st.floats(-1, 1), min_size=3, max_size=3).map(np.array).filter(lambda v: np.linalg.norm(v) > 0.1)


@given(up=vectors)
def test_the_turn_to_z_is_a_rotation(up):
    up = up / np.linalg.norm(up)
    turn = turn_to_z(up)
    assert np.allclose(turn @ up, [0, 0, 1], atol=1e-6)
    assert np.allclose(turn @ turn.T, np.eye(3), atol=1e-9) and np.linalg.det(turn) > 0


@given(axis=vectors, shift=vectors, pitch=st.floats(-1.1, 1.1))
@settings(max_examples=40)
def test_up_and_focus_are_found_in_any_frame(axis, shift, pitch):
    """Level cameras on an arc, looking up or down as much as they like, in a world that is turned and shifted."""
    target = np.array([0.3, -0.2, 0.1])
    angles = np.linspace(0, 1.5, 6)
    around = np.stack([np.cos(angles), np.sin(angles), np.full(6, np.tan(pitch))], axis=1)
    poses = np.stack([look_at(target + 2 * a, target) for a in around])
    turn = turn_to_z(axis / np.linalg.norm(axis))
    moved = np.concatenate([turn, shift[:, None]], axis=1)
    there = apply(moved, poses)
    assert np.allclose(up_direction(there), turn[:, 2], atol=1e-6)
    assert np.allclose(focus_point(there, np.zeros((0, 3))), turn @ target + shift, atol=1e-6)
    back = apply(scene_transform(there, np.zeros((0, 3))), there)
    assert np.allclose(focus_point(back, np.zeros((0, 3))), 0, atol=1e-6)


def test_cameras_that_look_straight_down_have_up_behind_them_and_look_at_the_points():
    poses = np.tile(np.eye(4), (8, 1, 1))  # OpenGL's camera at rest looks along -z: down
    for index, angle in enumerate(np.linspace(0, 2 * np.pi, 8, endpoint=False)):
        poses[index, :2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        poses[index, :3, 3] = [index, 0.5 * index, 10.0]
    points = np.random.default_rng(0).normal([3.0, 2.0, 0.0], 0.1, (100, 3))
    assert np.allclose(up_direction(poses), [0, 0, 1], atol=1e-6)
    assert np.allclose(focus_point(poses, points), np.median(points, axis=0))


# -- writing


def small_placed(intrinsics: list[dict[str, float]]) -> Placed:
    photos = [Photo(f"{i}.jpg", 4, 3, "c") for i in range(len(intrinsics))]
    points, colors = np.zeros((2, 3)), np.zeros((2, 3), np.uint8)
    return Placed(photos, arc_cameras(len(intrinsics)), intrinsics, points, colors)


def test_intrinsics_are_written_once_only_if_all_frames_have_the_same():
    one, other = ({"fl_x": f, "fl_y": f, "cx": 2.0, "cy": 1.5, "k1": 0.0, "w": 4, "h": 3} for f in (4.0, 5.0))
    same, differ = (small_placed(list(pair)) for pair in ((one, one), (one, other)))
    shared, own = (transforms(p, np.eye(3, 4), p.camera_to_world) for p in (same, differ))
    assert shared["fl_x"] == 4.0 and not any("fl_x" in frame for frame in shared["frames"])
    assert not {"fl_x", "k1", "w"} & set(own) and [frame["fl_x"] for frame in own["frames"]] == [4.0, 5.0]


def test_points_read_back_as_written(tmp_path):
    rng = np.random.default_rng(1)
    points, colors = rng.normal(size=(7, 3)), rng.integers(0, 256, (7, 3), dtype=np.uint8)
    write_points(tmp_path / "p.ply", points, colors)
    trimesh = pytest.importorskip("trimesh", reason="needs trimesh: pip install lg-field[mesh]")
    cloud = trimesh.load(tmp_path / "p.ply")
    assert np.array_equal(cloud.vertices, points.astype(np.float32)) and np.array_equal(cloud.colors[:, :3], colors)


@pytest.mark.parametrize("count", [0, 1, 50])
def test_the_picture_shows_every_camera(count):
    rng = np.random.default_rng(2)
    points = rng.normal(size=(count, 3)) * np.where(np.arange(count) == 3, 1e6, 1.0)[:, None]
    colors = rng.integers(0, 256, (count, 3), dtype=np.uint8)
    picture = np.asarray(report_picture(arc_cameras(5), points, colors, "five"))
    blue = (picture == (20, 90, 200)).all(axis=-1)
    assert blue[:, :PANEL].any() and blue[:, PANEL:].any()


def test_a_failed_scene_leaves_what_was_there(tmp_path):
    target = tmp_path / "scene"
    with pytest.raises(FileNotFoundError), new_folder(target, False) as new:
        (new / "a").write_text("a")
        raise FileNotFoundError
    assert list(tmp_path.iterdir()) == []
    with new_folder(target, False) as new:
        (new / "transforms.json").write_text("1")
    with pytest.raises(FileExistsError, match="--overwrite"), new_folder(target, False):
        pass
    with pytest.raises(KeyboardInterrupt), new_folder(target, True) as new:
        raise KeyboardInterrupt
    assert contents(target) == {"transforms.json": b"1"}
    with new_folder(target, True) as new:
        (new / "transforms.json").write_text("2")
    assert contents(tmp_path) == {"scene/transforms.json": b"2"}


def test_overwrite_replaces_scenes_only(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    with pytest.raises(FileExistsError, match="no scene folder"), new_folder(tmp_path / "home", True):
        pass
    assert contents(tmp_path) == {"home/letter.txt": b"dear"}


def test_a_work_folder_of_other_things_is_refused_and_one_of_other_photos_begun_anew(tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(FileExistsError, match="no work folder"):
        open_work(tmp_path, "s", nothing)
    work = tmp_path / "w"
    assert open_work(work, "s", nothing) is None
    (work / STATE).write_text(json.dumps({"signature": "s", "photos": [vars(Photo("1.jpg", 4, 3, "c"))]}))
    assert open_work(work, "s", nothing) == [Photo("1.jpg", 4, 3, "c")]
    assert open_work(work, "t", nothing) is None and contents(work) == {STATE: b"{}"}


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("nowhere", "-o", "s"), "does not exist"),
        (("empty", "-o", "s"), "holds no photo"),
        (("p/0.png", "-o", "s"), "is no video"),
        (("p", "-o", "p/s"), "must lie outside"),
        (("p", "-o", "s", "--work", "p/w"), "must lie outside"),
        (("p", "-o", "taken"), "--overwrite"),
        (("p", "-o", "s", "--masks", "nowhere"), "is no folder"),
        (("p", "-o", "s", "--frames", "1"), "at least 3"),
        (("p", "-o", "s"), "at least 3 are needed"),
        (("broken.mp4", "-o", "s"), "is not a video or is broken"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_changes_nothing(tmp_path, arguments, word):
    (tmp_path / "empty").mkdir()
    write_photo(tmp_path / "p" / "0.png")
    write_photo(tmp_path / "taken" / "0.png")
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    before = contents(tmp_path)
    printed = lg("photos", *arguments, cwd=tmp_path, fails=True)
    last = printed.strip().splitlines()[-1]
    assert last.startswith("lg-field: ") and word in last and "Traceback" not in printed
    assert contents(tmp_path) == before


# -- videos


def test_the_package_is_imported_without_what_only_its_runs_need():
    code = (
        "import sys, lg_field.photos; print([m for m in ('pycolmap', 'PIL', 'av', 'nerfstudio') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_a_folder_of_photos_named_as_a_scene_is_told_which_command_makes_one(tmp_path):
    from lg_field.captures import CaptureError, read_capture

    write_photo(tmp_path / "images" / "1.jpg")
    with pytest.raises(CaptureError, match="lg-field photos"):
        read_capture(tmp_path)
    assert os.listdir(tmp_path) == ["images"]
