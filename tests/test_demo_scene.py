"""Laws of the demo scene: what is drawn is where OBJECTS says, and the files are what nerfstudio reads."""

import itertools
import json
import math
import subprocess
import sys
from pathlib import Path

import demo_scene
import numpy as np
import pytest
from demo_scene import OBJECTS, camera_poses, camera_rays, distance, ray_box, render, write_demo_scene
from PIL import Image

SIZE = 24


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demo") / "scene"
    write_demo_scene(path, size=SIZE, train=5, test=2)
    return path


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# -- geometry


@pytest.mark.parametrize("a, b", itertools.combinations(OBJECTS, 2))
def test_boxes_do_not_overlap(a: str, b: str) -> None:
    (lower_a, upper_a), (lower_b, upper_b) = np.array(OBJECTS[a]), np.array(OBJECTS[b])
    assert ((upper_a <= lower_b) | (upper_b <= lower_a)).any()


@pytest.mark.parametrize("name", OBJECTS)
def test_an_object_fills_its_box_and_nothing_outside(name: str) -> None:
    lower, upper = np.array(OBJECTS[name])
    assert (lower >= -1.2).all() and (upper <= 1.2).all()
    points = np.random.default_rng(0).uniform(-1.5, 1.5, (200_000, 3))
    inside = ((points >= lower) & (points <= upper)).all(1)
    solid = distance(name, points) <= 0
    assert not solid[~inside].any()
    held = points[solid]
    assert (held.min(0) - lower < 0.2).all() and (upper - held.max(0) < 0.2).all(), "the margin is small"


@pytest.mark.parametrize("name", OBJECTS)
def test_distances_never_overshoot(name: str) -> None:
    """A signed distance changes by at most the distance walked: otherwise sphere tracing would step through."""
    random = np.random.default_rng(1)
    a = random.uniform(-1.5, 1.5, (50_000, 3))
    b = a + random.normal(scale=0.1, size=a.shape)
    change = np.abs(distance(name, a) - distance(name, b))
    assert (change <= np.linalg.norm(a - b, axis=1) + 1e-9).all()


@pytest.mark.parametrize("name", OBJECTS)
def test_hits_lie_on_the_surface_and_misses_stay_outside(name: str) -> None:
    origins, directions = camera_rays(camera_poses(7, 0)[3], 40, 1)
    depths = demo_scene.trace(name, origins, directions)
    hit = np.isfinite(depths)
    assert 0 < hit.sum() < len(hit)
    assert np.abs(distance(name, origins[hit] + depths[hit, None] * directions[hit])).max() < 1e-3
    along = np.linspace(2, 6, 200)
    missed = origins[~hit][::7, None] + along[:, None] * directions[~hit][::7, None]
    assert distance(name, missed.reshape(-1, 3)).min() > -1e-2  # a ray may graze between two of these points
    before = origins[hit][:, None] + np.linspace(0, 0.99, 50)[:, None] * (depths[hit, None] * directions[hit])[:, None]
    assert distance(name, before.reshape(-1, 3)).min() > 0


# -- cameras


def test_poses_look_at_the_origin_from_outside() -> None:
    poses = camera_poses(30, seed=3)
    turn, position = poses[:, :3, :3], poses[:, :3, 3]
    assert np.allclose(turn @ turn.transpose(0, 2, 1), np.eye(3))
    assert np.allclose(np.linalg.det(turn), 1)
    radius = np.linalg.norm(position, axis=1)
    assert (abs(radius - 4) < 0.2).all()
    assert np.allclose(turn[:, :, 2], position / radius[:, None]), "-z looks at the origin"
    assert (turn[:, 2, 1] > 0).all(), "up is up"
    assert 0 < (position[:, 2] < 0).sum() < 10, "some cameras are below the horizon"


def test_cameras_are_spread() -> None:
    directions = camera_poses(60, seed=0)[:, :3, 2]
    cosine = directions @ directions.T - 2 * np.eye(60)
    nearest = np.degrees(np.arccos(cosine.max(1)))
    assert nearest.min() > 8


# -- pictures


def test_pixels_are_empty_where_no_box_is() -> None:
    pose = camera_poses(7, 0)[5]
    image = render(pose, size=50)
    assert image.dtype == np.uint8 and image.shape == (50, 50, 4)
    origins, directions = camera_rays(pose, 50, 2)
    hits = [near < far for near, far in (ray_box(origins, directions, box) for box in OBJECTS.values())]
    seen = np.any(hits, axis=0).reshape(50, 2, 50, 2).any((1, 3))
    assert not image[~seen].any()
    assert (image[..., 3] == 255).mean() > 0.1
    assert not image[image[..., 3] == 0].any()


def test_alpha_is_the_covered_part_and_colour_is_straight() -> None:
    pose = camera_poses(7, 0)[5]
    fine, coarse = render(pose, size=40, samples=1) / 255.0, render(pose, size=20, samples=2) / 255.0
    blocks = fine.reshape(20, 2, 20, 2, 4)
    assert np.abs(coarse[..., 3] - blocks[..., 3].mean((1, 3))).max() < 1 / 255
    premultiplied = (blocks[..., :3] * blocks[..., 3:]).mean((1, 3))
    assert np.abs(coarse[..., :3] * coarse[..., 3:] - premultiplied).max() < 2 / 255
    assert set(np.unique(np.round(coarse[..., 3] * 4, 1))) == {0, 1, 2, 3, 4}, "edges are anti-aliased"


def test_every_object_is_seen_where_it_is() -> None:
    """A point computed from the pose alone (OpenGL axes) is covered in the picture."""
    pose, size = camera_poses(9, 0)[7], 60
    image = render(pose, size)
    for lower, upper in np.array(list(OBJECTS.values())):
        center = (lower + upper) / 2 + (0, 0, upper[2] * 0.6)  # high up: nothing in front, the torus's ring
        x, y, z = pose[:3, :3].T @ (center - pose[:3, 3])
        scale = 0.5 * size / math.tan(demo_scene.CAMERA_ANGLE_X / 2) / -z
        column, row = int(size / 2 + x * scale), int(size / 2 - y * scale)
        assert image[row, column, 3] == 255


# -- files


def test_files_are_a_blender_scene(scene: Path) -> None:
    for split, folder, count in (("train", "train", 5), ("val", "test", 2), ("test", "test", 2)):
        meta = json.loads((scene / f"transforms_{split}.json").read_text())
        assert meta["camera_angle_x"] == demo_scene.CAMERA_ANGLE_X
        assert [f["file_path"] for f in meta["frames"]] == [f"./{folder}/r_{i}" for i in range(count)]
        for frame in meta["frames"]:
            pose = np.array(frame["transform_matrix"])
            assert pose.shape == (4, 4) and np.allclose(pose[:3, :3].T @ pose[:3, :3], np.eye(3))
            image = Image.open(scene / f"{frame['file_path']}.png")
            assert image.mode == "RGBA" and image.size == (SIZE, SIZE)
            assert np.array_equal(np.asarray(image), render(pose, SIZE)), "pose and picture belong together"


def test_test_views_are_not_training_views() -> None:
    train, test = camera_poses(60, 0), camera_poses(8, 1, lowest=0.05, highest=0.8)
    gap = np.linalg.norm(train[:, None, :3, 3] - test[None, :, :3, 3], axis=-1)
    assert gap.min() > 0.05


def test_same_seed_same_bytes(scene: Path, tmp_path: Path) -> None:
    write_demo_scene(tmp_path / "again", size=SIZE, train=5, test=2)
    write_demo_scene(tmp_path / "other", size=SIZE, train=5, test=2, seed=7)
    assert files(tmp_path / "again") == files(scene) != files(tmp_path / "other")


def test_nerfstudio_reads_it(scene: Path) -> None:
    from nerfstudio.data.dataparsers.blender_dataparser import BlenderDataParserConfig
    from nerfstudio.data.datasets.base_dataset import InputDataset

    outputs = BlenderDataParserConfig(data=scene, alpha_color=None).setup().get_dataparser_outputs("train")
    dataset = InputDataset(outputs)
    assert len(dataset) == 5
    rays = outputs.cameras.generate_rays(2)
    ours = camera_rays(camera_poses(5, 0)[2], SIZE, 1)[1].reshape(SIZE, SIZE, 3)
    assert np.abs(rays.directions.numpy() - ours).max() < 1e-5
    assert np.allclose(dataset.get_numpy_image(2), render(camera_poses(5, 0)[2], SIZE))


def test_an_existing_target_is_refused_and_untouched(scene: Path, tmp_path: Path) -> None:
    before = files(scene)
    with pytest.raises(FileExistsError, match="--overwrite"):
        write_demo_scene(scene, size=2, train=1, test=1)
    assert files(scene) == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(FileExistsError, match="not a scene"):
        write_demo_scene(tmp_path / "mine", size=2, train=1, test=1, overwrite=True)
    assert files(tmp_path / "mine") == {"thesis.txt": b"precious"}


def test_overwrite_replaces_the_whole_scene(tmp_path: Path) -> None:
    write_demo_scene(tmp_path / "scene", size=2, train=3, test=2)
    write_demo_scene(tmp_path / "scene", size=2, train=1, test=1, overwrite=True)
    assert [p.name for p in (tmp_path / "scene" / "train").iterdir()] == ["r_0.png"]
    assert [p.name for p in tmp_path.iterdir()] == ["scene"], "nothing is left beside it"


@pytest.mark.parametrize("broken", ["render", "replace_folder"])
def test_a_failure_leaves_the_old_scene_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    write_demo_scene(tmp_path / "scene", size=2, train=1, test=1)
    before = files(tmp_path)

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(demo_scene, broken, fail)
    with pytest.raises(OSError, match="disk full"):
        write_demo_scene(tmp_path / "scene", size=2, train=1, test=1, overwrite=True)
    assert files(tmp_path) == before


def test_a_failed_rename_brings_the_old_folder_back(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "a").write_text("a")
    with pytest.raises(FileNotFoundError):
        demo_scene.replace_folder(tmp_path / "missing", tmp_path / "here", tmp_path / "old")
    assert files(tmp_path) == {"here/a": b"a"}


@pytest.mark.parametrize("wrong", [{"size": 0}, {"train": 0}, {"test": -1}])
def test_wrong_sizes_are_named(tmp_path: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        write_demo_scene(tmp_path / "scene", **wrong)
    assert not any(tmp_path.iterdir())


# -- command


def command(*args: object) -> "subprocess.CompletedProcess[str]":
    script = Path(demo_scene.__file__)
    return subprocess.run([sys.executable, script, *map(str, args)], capture_output=True, text=True, timeout=200)


def test_command_prints_boxes() -> None:
    numbers = command("--print-box", "torus").stdout.split()
    assert [float(v) for v in numbers] == [*OBJECTS["torus"][0], *OBJECTS["torus"][1]]
    lines = command("--print-box", "all").stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(OBJECTS)


def test_command_errors_are_one_line(scene: Path) -> None:
    for args in ([scene], [], [scene, "--print-box", "torus"]):
        result = command(*args)
        assert result.returncode == 1 and result.stdout == ""
        assert len(result.stderr.splitlines()) == 1 and result.stderr.startswith("demo_scene: ")
