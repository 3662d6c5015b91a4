"""The whole main job as a user runs it: nerfstudio's own commands and lg-field's, each in a process of its own.

Of each command one is a program that is started (`started`); the others are `forked`, which saves their imports.
"""

from __future__ import annotations

import json
import math
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from demo_scene import OBJECTS, write_demo_scene
from forked import BIN, forked, started
from PIL import Image

import lg_field
from lg_field.radiance.render import Camera, orbit, render

pytest.importorskip("nerfstudio", reason="the plugin needs nerfstudio")

from lg_field.nerfstudio.runs import load_run, pack


def checkpoint_of(run: Path) -> dict:
    return torch.load(sorted((run / "nerfstudio_models").glob("*.ckpt"))[-1], weights_only=True)


def psnr_of(work: Workspace, run: Path) -> float:
    """PSNR of a run's first test view, rendered without nerfstudio's evaluation."""
    field = pack(load_run(run))
    data = json.loads((work.scene / "transforms_test.json").read_text())
    image = np.asarray(Image.open(work.scene / f"{data['frames'][0]['file_path']}.png")) / 255.0
    pose = torch.tensor(data["frames"][0]["transform_matrix"], dtype=torch.float64)
    camera = Camera(pose, 0.5 / math.tan(data["camera_angle_x"] / 2), image.shape[1], image.shape[0])
    true = image[..., :3] * image[..., 3:] + 1.0 - image[..., 3:]
    return -10.0 * math.log10(float(np.square(render(field, field.description, camera).rgb.numpy() - true).mean()))


class Workspace:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.scene = root / "scene"
        self.run = root / "outputs/e2e/lg-field-tiny/full"
        self.crop = root / "crop"

    def train(self, run: Callable[..., str], *extra: object, timestamp: str = "full", steps: int = 260) -> Path:
        """`run` is `started` or `forked`."""
        options = ("--output-dir", "outputs", "--experiment-name", "e2e", "--timestamp", timestamp)
        run(
            *("ns-train", "lg-field-tiny", "--data", "scene", *options, "--max-num-iterations", steps),
            *("--vis", "tensorboard", "--pipeline.model.grid-nodes", 5, "--steps-per-eval-image", 200, *extra),
            cwd=self.root,
        )
        return self.root / "outputs/e2e/lg-field-tiny" / timestamp


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Workspace:
    """A trained run and a crop of it."""
    work = Workspace(tmp_path_factory.mktemp("e2e"))
    write_demo_scene(work.scene, size=40, train=20, test=2)
    work.train(started)
    lower, upper = OBJECTS["globe"]
    started(
        "crop-scene", "--load-config", work.run / "config.yml", "--box", *lower, *upper, "-o", work.crop, cwd=work.root
    )
    return work


def test_training_learns_splits_and_evaluates(work):
    started("ns-eval", "--load-config", work.run / "config.yml", "--output-path", "eval.json", cwd=work.root)
    results = json.loads((work.root / "eval.json").read_text())["results"]
    assert results["psnr"] > 17 and 0 < results["ssim"] <= 1 and "lpips" not in results
    extra = checkpoint_of(work.run)["pipeline"]["_model.field.table._extra_state"]
    assert extra["grid"]["counts"] == [8, 8, 8]


def test_the_crop_is_smaller_and_every_command_works_on_it(work):
    full, crop = checkpoint_of(work.run)["pipeline"], checkpoint_of(work.crop)["pipeline"]
    table = "_model.field.table."
    kept = torch.isin(full[table + "cells"], crop[table + "cells"])
    assert 0 < kept.sum() < 0.6 * len(kept)
    assert torch.equal(full[table + "local"][kept], crop[table + "local"])
    assert torch.equal(full[table + "features"][kept], crop[table + "features"])
    config = work.crop / "config.yml"
    forked("ns-eval", "--load-config", config, "--output-path", "crop.json", cwd=work.root)
    options = ("--rendered-output-names", "rgb", "rgba", "--image-format", "png", "--split", "test")
    for name, path in (("full", work.run / "config.yml"), ("crop", config)):
        forked("ns-render", "dataset", "--load-config", path, "--output-path", name, *options, cwd=work.root)
    full_image, crop_image = (
        np.asarray(Image.open(next((work.root / n / "test/rgb").glob("*.png")))) for n in ("full", "crop")
    )
    painted = [(i < 250).any(-1) for i in (full_image, crop_image)]
    assert 0 < painted[1].sum() < painted[0].sum()
    rgba = np.asarray(Image.open(next((work.root / "crop/test/rgba").glob("*.png"))))
    assert rgba.shape[-1] == 4 and rgba[..., 3].min() == 0


def test_a_video_and_a_point_cloud_of_the_crop(work):
    config = work.crop / "config.yml"
    started(
        *("ns-render", "interpolate", "--load-config", config, "--output-path", "path.mp4"),
        *("--pose-source", "eval", "--interpolation-steps", 3, "--downscale-factor", 2),
        cwd=work.root,
    )
    assert (work.root / "path.mp4").stat().st_size > 500
    started(
        *("ns-export", "pointcloud", "--load-config", config, "--output-dir", "points", "--num-points", 2000),
        *("--normal-method", "open3d", "--remove-outliers", "False", "--save-world-frame", "False"),
        cwd=work.root,
    )
    points = np.asarray(trimesh.load(work.root / "points/point_cloud.ply").vertices)
    lower, upper = (np.array(c) for c in OBJECTS["globe"])
    assert ((points > lower - 0.1) & (points < upper + 0.1)).all(1).mean() > 0.95


def test_training_resumes_on_the_run_and_on_the_crop(work):
    for name, run in (("again", work.run), ("crop-again", work.crop)):
        resumed = work.train(forked, "--load-dir", run / "nerfstudio_models", timestamp=name, steps=3)
        before, after = checkpoint_of(run), checkpoint_of(resumed)
        assert after["step"] == before["step"] + 3
        cells = "_model.field.table.cells"
        assert torch.isin(after["pipeline"][cells], before["pipeline"][cells]).all()
        extra = "_model.field.table._extra_state"
        assert after["pipeline"][extra]["region"] == before["pipeline"][extra]["region"]


def test_a_crop_grows_back_and_nothing_old_changes(work):
    config, lower, upper = work.crop / "config.yml", *OBJECTS["torus"]
    box = ("--box", *(f"{v:g}" for v in (*lower, *upper)))
    options = ("extend-scene", "--load-config", config, "-o", "grown", *box)
    assert "new ones" in started(*options, "--dry-run", cwd=work.root) and not (work.root / "grown").exists()
    text = forked(*options, "--steps", 120, cwd=work.root)
    assert "every number that old cells read is the same to the bit" in text
    before, after = checkpoint_of(work.crop)["pipeline"], checkpoint_of(work.root / "grown")["pipeline"]
    table = "_model.field.table."
    old = torch.isin(after[table + "cells"], before[table + "cells"])
    assert 0 < old.sum() < len(old)
    for name in ("cells", "local", "features", "occupied"):
        assert torch.equal(after[table + name][old], before[table + name]), name
    assert psnr_of(work, work.root / "grown") > psnr_of(work, work.crop) + 0.3
    text = forked(*options, cwd=work.root, fails=True)
    assert "--overwrite" in text and "Traceback" not in text
    text = forked(*options[:-7], *("--box", -9, -9, -9, -8, -8, -8), "-o", "no", cwd=work.root, fails=True)
    assert "nothing to add" in text and "Traceback" not in text and not (work.root / "no").exists()


def test_a_mesh_of_the_crop(work):
    started(
        *("lg-field", "mesh", "--load-config", work.crop / "config.yml", "-o", "globe.ply", "--resolution", 48),
        *("--world", "--picture", "globe.png"),
        cwd=work.root,
    )
    mesh = trimesh.load(work.root / "globe.ply", process=False)
    assert mesh.is_watertight and len(mesh.faces) > 100 and mesh.visual.vertex_colors.std() > 5
    lower, upper = (np.array(c) for c in OBJECTS["globe"])
    assert (mesh.bounds[0] > lower - 0.1).all() and (mesh.bounds[1] < upper + 0.1).all()
    assert Image.open(work.root / "globe.png").size == (512, 512)
    text = forked(
        "lg-field", "mesh", "--load-config", work.crop / "config.yml", "-o", "globe.ply", cwd=work.root, fails=True
    )
    assert "--overwrite" in text and "Traceback" not in text


def test_scripts_are_the_commands_and_bad_data_is_one_line(work):
    scripts = Path(__file__).parents[1] / "scripts"
    for name in ("crop_scene.py", "export_mesh.py"):
        assert "--load-config" in forked(scripts / name, "--help", cwd=work.root)
    text = forked("ns-train", "lg-field-tiny", "--data", "nowhere", "--vis", "tensorboard", cwd=work.root, fails=True)
    assert "nowhere does not exist" in text and "Traceback" not in text


def test_the_viewer_serves_the_crop_on_this_machine_only(work):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ("--load-config", str(work.crop / "config.yml"), "--viewer.websocket-port", str(port))
    local = ("--viewer.websocket-host", "127.0.0.1")
    with open(work.root / "viewer.log", "w") as log:
        viewer = subprocess.Popen([str(BIN / "ns-viewer"), *options, *local], cwd=work.root, stdout=log, stderr=log)
    try:
        page = ""
        while not page:
            assert viewer.poll() is None, (work.root / "viewer.log").read_text()[-2000:]
            try:
                page = urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=5).read().decode()
            except OSError:
                time.sleep(0.2)
        assert "<html" in page.lower()
    finally:
        viewer.kill()
        viewer.wait()


def test_a_scene_file_needs_nothing_else(work):
    """Pack, then render, crop and mesh from the one file: the pixels are those of ns-render."""
    config, scene = work.run / "config.yml", work.root / "scene.safetensors"
    forked("lg-field", "pack", "--load-config", config, "-o", scene, cwd=work.root)
    assert scene.stat().st_size < 0.5 * next((work.run / "nerfstudio_models").glob("*.ckpt")).stat().st_size
    field = lg_field.load(scene)
    assert np.allclose(field.description.scene_to_world, np.eye(4)) and field.description.camera is not None
    path = {
        "camera_type": "perspective",
        "render_height": 48,
        "render_width": 64,
        "fps": 1,
        "seconds": 1,
        "is_cycle": False,
        "smoothness_value": 0,
        "camera_path": [
            {"camera_to_world": [v for row in c.to_scene.tolist() for v in row], "fov": 40.0, "aspect": 64 / 48}
            for c in orbit(field, field.description, 2, 64, 48)
        ],
    }
    (work.root / "path.json").write_text(json.dumps(path))
    lower, upper = OBJECTS["globe"]
    box = ("--box", *lower, *upper)
    forked("lg-field", "crop", scene, *box, "-o", "globe.safetensors", cwd=work.root)
    same = (
        (scene, work.run / "config.yml", "all"),
        (work.root / "globe.safetensors", work.crop / "config.yml", "globe"),
    )
    for file, run, name in same:
        forked("lg-field", "render", file, "--camera", "path.json", "-o", f"ours-{name}", cwd=work.root)
        forked(
            *("ns-render", "camera-path", "--load-config", run, "--camera-path-filename", "path.json"),
            *("--output-path", f"theirs-{name}", "--output-format", "images", "--image-format", "png"),
            cwd=work.root,
        )
        theirs = sorted((work.root / f"theirs-{name}").glob("*.png"))
        assert len(theirs) == 2
        for k, path_ in enumerate(theirs):
            a, b = (
                np.asarray(Image.open(p).convert("RGB")).astype(int)
                for p in (work.root / f"ours-{name}/{k:05d}.png", path_)
            )
            assert a.shape == b.shape == (48, 64, 3) and abs(a - b).max() <= 1 and a.std() > 5
    text = forked("lg-field", "render", scene, "--orbit", 1, *box, "-o", "one.png", "--transparent", cwd=work.root)
    assert int(text.split(" bytes read")[0].split()[-1].replace(",", "")) < 0.7 * scene.stat().st_size
    film = ("--orbit", 3, "-o", "orbit.mp4", "--width", 64, "--height", 48)
    forked("lg-field", "render", "globe.safetensors", *film, cwd=work.root)
    forked("lg-field", "mesh", "globe.safetensors", "-o", "globe-file.ply", "--resolution", 40, cwd=work.root)
    mesh = trimesh.load(work.root / "globe-file.ply")
    assert mesh.is_watertight and (mesh.bounds[0] > np.array(lower) - 0.1).all()
    assert "sound" in forked("lg-field", "validate", "globe.safetensors", cwd=work.root)
    forked("lg-field", "prune", scene, "-o", "pruned.safetensors", cwd=work.root)
    forked("lg-field", "render", "pruned.safetensors", "--camera", "path.json", "-o", "pruned", cwd=work.root)
    assert (work.root / "pruned/00000.png").read_bytes() == (work.root / "ours-all/00000.png").read_bytes()
