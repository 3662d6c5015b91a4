"""The figures of nerfbaselines' protocol beside ours, of one training through its adapter.

    python scripts/tables/protocol.py SCENE --steps 4000 --preset tiny

SCENE is a blender data set. nerfbaselines compares 8-bit sRGB on white, image by image, and takes the mean; its SSIM
leaves out windows that reach over the border of an image. LPIPS is left out: its weights would be downloaded.
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table

from lg_field.errors import entry_point
from lg_field.quality import mean_squared_error, psnr, ssim


def blender_split(folder: Path, split: str, most: int) -> Any:
    """A split of a blender data set as nerfbaselines holds it, at the images' own size; `most` images of it."""
    from nerfbaselines import camera_model_to_int, new_cameras, new_dataset
    from PIL import Image

    meta = json.loads((folder / f"transforms_{split}.json").read_text())
    frames = meta["frames"][:: max(1, len(meta["frames"]) // most)][:most]
    paths = [str(folder / f"{frame['file_path']}.png") for frame in frames]
    images = [np.array(Image.open(path)) for path in paths]
    height, width = images[0].shape[:2]
    focal = 0.5 * width / math.tan(0.5 * meta["camera_angle_x"])
    poses = np.array([frame["transform_matrix"] for frame in frames], np.float32)[:, :3]
    poses[:, :, 1:3] *= -1
    count = len(frames)
    cameras = new_cameras(
        poses=poses,
        intrinsics=np.array([[focal, focal, width / 2, height / 2]], np.float32).repeat(count, 0),
        camera_models=np.full(count, camera_model_to_int("pinhole"), np.int32),
        image_sizes=np.array([[width, height]], np.int32).repeat(count, 0),
    )
    white = {"color_space": "srgb", "background_color": np.array([255] * 3, np.uint8)}
    return new_dataset(cameras=cameras, image_paths=paths, images=images, metadata=white)


def protocol(scene: Path, steps: int = 4000, preset: str = "tiny", views: int = 8) -> None:
    """Train, and print both.

    Args:
        scene: folder of a blender data set.
        steps: of training.
        preset: of the method's spec.
        views: test views.
    """
    from nerfbaselines import metrics
    from nerfbaselines.datasets import dataset_index_select
    from nerfbaselines.evaluation import build_evaluation_protocol

    from lg_field.nerfbaselines.method import LGFieldMethod
    from lg_field.nerfbaselines.spec import SPEC

    metrics.lpips = lambda a, b: np.zeros(len(a))
    overrides = {k: v for k, v in SPEC["presets"][preset].items() if not k.startswith("@")} | {"steps": steps}
    method = LGFieldMethod(train_dataset=blender_split(scene, "train", 10**6), config_overrides=overrides)
    begin = time.process_time()
    for step in range(steps):
        method.train_iteration(step)
    seconds, judge, rows = time.process_time() - begin, build_evaluation_protocol("default"), []
    test = blender_split(scene, "test", views)
    for number in range(len(test["images"])):
        one = dataset_index_select(test, [number])
        shown = judge.render(method, one)
        theirs = judge.evaluate(shown, one)
        rgba = torch.from_numpy(one["images"][0]).float() / 255
        truth = rgba[..., :3] * rgba[..., 3:] + 1 - rgba[..., 3:]
        color = torch.from_numpy(shown["color"])
        rows.append((theirs["psnr"], theirs["ssim"], psnr(mean_squared_error(color, truth)), ssim(color, truth)))
    table = Table("", "PSNR", "SSIM", title=f"{scene}: {steps} steps, {seconds:.0f} s of processor time")
    mean = np.mean(rows, 0)
    table.add_row("nerfbaselines (8 bits, without borders)", f"{mean[0]:.2f}", f"{mean[1]:.4f}")
    table.add_row("lg-field (float, with borders)", f"{mean[2]:.2f}", f"{mean[3]:.4f}")
    Console().print(table)


if __name__ == "__main__":
    with entry_point("protocol"):
        tyro.cli(protocol, config=(tyro.conf.PositionalRequiredArgs,))
