"""Train methods on one scene for the same wall-clock time and compare them.

    python scripts/tables/radiance.py --data SCENE --methods lg-field-tiny nerfacto vanilla-nerf --minutes 10
    python scripts/tables/radiance.py --data SCENE --methods lg-field-tiny per-partition global --minutes 5

Each method trains in a process of its own, one after the other, through nerfstudio's own `Trainer`; the clock
starts at the first training step and stops the run between two steps. Learning rates fall with the time that is spent,
those of nerfstudio's own methods, too, or lg-field's over `--steps`. Then `--views` evenly spaced test views
(0 = all) are rendered and scored. Beside nerfstudio's methods there are the baselines of `VARIANTS`; `distilled`
imitates the field of `--teacher`, trained before it, for a third of its steps (the teacher's own time not
counted). Fields with cells are also cropped to parts of their cells. Writes the table to results.md, .csv and .json,
that of the crops to `crops/`, and METHOD_view.png (ground truth left, render right), in `--output`. Numbers are
comparable only within one run. With `OMP_NUM_THREADS=1` on a CPU all times are processor time, so that other programs
on the machine count less.
"""

from __future__ import annotations

import copy
import json
import platform
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import report
import tyro

# What nerfstudio's documentation recommends for the synthetic (blender) scenes, and the pure torch implementation,
# so that the comparison runs on machines without tiny-cuda-nn.
BLENDER_NERFACTO = {
    "background_color": "white",
    "proposal_initial_sampler": "uniform",
    "near_plane": 2.0,
    "far_plane": 6.0,
    "use_average_appearance_embedding": False,
    "distortion_loss_mult": 0.0,
    "disable_scene_contraction": True,
}


PLAIN: dict[str, Any] = {"network": "global", "hash_levels": 0, "hidden_layers": 3, "global_frequencies": 10}
VARIANTS: dict[str, dict[str, Any]] = {
    "per-partition": {"network": "per-partition"},
    "global": PLAIN | {"global_width": 512},
    "small-global": PLAIN | {"global_width": 128},
    "distilled": {"network": "per-partition"},
    # A hash grid for the whole scene and nothing local, as instant-ngp has it: a crop keeps the entries its cells read.
    "hash-global": {"network": "global", "hash_levels": 5, "log2_hashmap_size": 17},
    # Less in the cells and more in the shared part: better where images are few for the space they show.
    "more-shared": {"grid_nodes": 7, "hash_levels": 5, "log2_hashmap_size": 14},
    "large-shared": {"grid_nodes": 5, "local_width": 8, "hash_levels": 5, "log2_hashmap_size": 17},
    # The cells alone with a colour layer that is shared, so that weights of all cells decode what a cell says.
    "per-partition-color": {"network": "per-partition", "color_width": 32, "color_features": 15},
    # What the parts of lg-field-tiny are worth.
    "color-layer": {"color_width": 32, "color_features": 15},
    "no-shared-grid": {"hash_levels": 0},
    "dense-shared-grid": {"hash_levels": 1, "hash_base_res": 24, "log2_hashmap_size": 14, "hash_features": 4},
    "blind-global": {"global_reads_grid": False},
    "half-global": {"global_width": 32},
    "half-local": {"local_width": 8},
    "coarse-grid": {"grid_nodes": 9},
}
"""lg-field-tiny with these sizes. The baselines, but small-global, have about as many parameters as lg-field-tiny keeps
of lego."""
GLOBAL_RATE = 2e-3
"""Learning rate of the global networks without a grid: at lg-field's own, 5e-3, all neurons of theirs die."""
DECAY = 0.05
"""Learning rates at the end of a run whose length is a time, as a part of the first ones: lg-field's own."""
CROPS = (0.5, 0.25, 0.05)
"""Parts of the cells kept."""


class TimeUp(Exception):
    """Raised between two training steps when the time is spent."""


@dataclass
class Args:
    """Compare methods at equal training time."""

    data: Path
    """Scene folder."""
    methods: list[str] = field(default_factory=lambda: ["lg-field", "nerfacto", "vanilla-nerf"])
    """nerfstudio method names, trained one after the other."""
    format: Literal["blender-data", "instant-ngp-data", "nerfstudio-data"] = "blender-data"
    """Data parser used for every method."""
    minutes: float = 10.0
    """Training time per method, start-up not counted."""
    scale: float = 0.25
    """Image scale (`camera_res_scale_factor`)."""
    views: int = 4
    """Test views scored, evenly spaced; 0 = all. Methods that render slowly on a CPU need few."""
    steps: tuple[int, ...] = ()
    """Steps over which lg-field's learning rate decays, one number for all methods or one for each; none: all rates
    fall with the time."""
    rays: int = 0
    """Rays a step for nerfstudio's own methods (0 = their default)."""
    teacher: str = "global"
    """Method whose field in `--output` distilled imitates: global or small-global (that learns faster on a CPU)."""
    overlap: float = 0.0
    """lg-field's overlap across borders (0 = the method's default)."""
    output: Path = Path("outputs/tables/radiance")
    """Folder for results."""
    seed: int = 42
    """Random seed."""
    one: str = ""
    """(internal) train this method in this process."""


def stub_lpips() -> None:
    """nerfstudio's built-in models download LPIPS weights when built; replace it so that they start offline."""
    import torch
    import torchmetrics.image.lpip as lpip

    class NoLPIPS(torch.nn.Module):
        def __init__(self, **_: Any) -> None:
            super().__init__()

        def forward(self, *_: Any) -> torch.Tensor:
            return torch.tensor(float("nan"))

    lpip.LearnedPerceptualImagePatchSimilarity = NoLPIPS  # type: ignore[assignment,misc]


def make_config(args: Args, method: str) -> Any:
    """The method's own configuration with only data, output and logging changed."""
    from nerfstudio.configs.dataparser_configs import all_dataparsers
    from nerfstudio.configs.method_configs import all_methods

    variant = VARIANTS.get(method)
    config = copy.deepcopy(all_methods["lg-field-tiny" if variant else method])
    model = config.pipeline.model
    if variant:
        model.sizes = replace(model.sizes, **variant)
        if model.sizes.network == "global" and not model.sizes.hash_levels:
            config.optimizers["fields"]["optimizer"].lr = GLOBAL_RATE
    if method == "distilled":
        model.teacher = args.output / f"{args.teacher}.safetensors"
    config.pipeline.datamanager.dataparser = copy.deepcopy(all_dataparsers[args.format])
    config.data = config.pipeline.datamanager.data = args.data
    config.pipeline.datamanager.camera_res_scale_factor = args.scale
    config.output_dir, config.experiment_name, config.timestamp = args.output, "runs", "run"
    config.vis, config.machine.seed = "tensorboard", args.seed
    config.steps_per_eval_batch = config.steps_per_eval_image = config.steps_per_eval_all_images = 10**9
    config.steps_per_save = 10**9
    config.machine.device_type = device_type()
    if method == "nerfacto":
        config.pipeline.model.implementation = "torch"
        if args.format == "blender-data":
            for name, value in BLENDER_NERFACTO.items():
                setattr(config.pipeline.model, name, value)
            config.pipeline.model.camera_optimizer.mode = "off"
    ours = bool(variant) or method.startswith("lg-field")
    if args.steps and ours:
        steps = args.steps[args.methods.index(method) if len(args.steps) > 1 else 0]
        config.max_num_iterations, model.distill_steps = steps, steps // 3
    if not args.steps:
        config.max_num_iterations = 10**9
    if args.overlap and ours:
        model.overlap = args.overlap
    if args.rays and not ours:
        config.pipeline.datamanager.train_num_rays_per_batch = args.rays
    return config


def device_type() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def train_one(args: Args, method: str) -> dict[str, Any]:
    """Train one method for the given time, score it, return its row of the table."""
    config = make_config(args, method)
    trainer, row = train(config, args.minutes, by_time=not args.steps)
    row = {"method": method} | row | score(args, trainer.pipeline, args.output / f"{method}_view.png")
    return row | cells_of(args, method, trainer)


def train(config: Any, minutes: float, by_time: bool = False) -> tuple[Any, dict[str, Any]]:
    """Train a configuration through nerfstudio's trainer until the time or its steps are spent.

    Args:
        config: of nerfstudio's trainer.
        minutes: training time.
        by_time: learning rates fall with the time that is spent, not with the steps.

    Returns:
        The trainer, its last checkpoint saved, and what the table says of the training.
    """
    stub_lpips()
    from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackLocation
    from nerfstudio.scripts.train import _set_random_seed

    _set_random_seed(config.machine.seed)
    config.save_config()
    trainer = config.setup()
    trainer.setup(test_mode="test")
    clock = {"start": 0.0}

    def start(step: int) -> None:
        clock["start"] = clock["start"] or report.now()

    def stop(step: int) -> None:
        if report.now() - clock["start"] > minutes * 60:
            raise TimeUp

    for scheduler in trainer.optimizers.schedulers.values() if by_time else ():
        scheduler.lr_lambdas = [
            lambda step: DECAY ** min(1.0, (report.now() - clock["start"]) / (minutes * 60)) if clock["start"] else 1.0
        ]
    for where, func in (("BEFORE", start), ("AFTER", stop)):
        location = TrainingCallbackLocation[f"{where}_TRAIN_ITERATION"]
        trainer.callbacks.append(TrainingCallback([location], func, update_every_num_iters=1))
    try:
        trainer.config.viewer.quit_on_train_completion = True
        trainer.train()
    except TimeUp:
        trainer.save_checkpoint(trainer.step)
    seconds = report.now() - clock["start"]
    rays = trainer.pipeline.datamanager.get_train_rays_per_batch()
    return trainer, {
        "steps": trainer.step + 1,
        "rays/s": round((trainer.step + 1) * rays / seconds),
        "train seconds": round(seconds, 1),
        "parameters": sum(p.numel() for p in trainer.pipeline.model.parameters()),
    }


def cells_of(args: Args, method: str, trainer: Any) -> dict[str, Any]:
    """Bytes of the scene file, seams seen by test cameras, and what crops do; nothing for methods without cells."""
    from lg_field import load, save
    from lg_field.nerfstudio.runs import load_run, pack
    from lg_field.radiance.seams import measure_seams

    if method not in VARIANTS and not method.startswith("lg-field"):
        return {"file bytes": "", "cells": "", "seam ratio": "", "crops": []}
    path = args.output / f"{method}.safetensors"
    size = save(pack(load_run(trainer.config.get_base_dir())), path, overwrite=True)
    field: Any = load(path)
    cameras = test_cameras(trainer.pipeline.datamanager.eval_dataset.cameras, 8)
    seams = measure_seams(field, field.description, cameras).ratio if field.sizes.network != "global" else 1.0
    crops = [{"method": method, **crop_row(args, field, part, cameras[0])} for part in CROPS]
    return {"file bytes": size, "cells": field.num_rows, "seam ratio": round(seams, 2), "crops": crops}


def test_cameras(cameras: Any, count: int, width: int = 128) -> list[Any]:
    """So many of nerfstudio's cameras, evenly spaced, as cameras of the core; pictures of this width."""
    import numpy as np
    import torch

    from lg_field.radiance.render import Camera

    found = []
    for i in np.linspace(0, len(cameras) - 1, min(count, len(cameras))).round().astype(int).tolist():
        to_scene = torch.eye(4, dtype=torch.float64)
        to_scene[:3] = cameras.camera_to_worlds[i]
        height = round(width * int(cameras.height[i]) / int(cameras.width[i]))
        found.append(Camera(to_scene, float(cameras.fy[i] / cameras.height[i]), width, height))
    return found


def crop_row(args: Args, field: Any, part: float, camera: Any) -> dict[str, Any]:
    """Crop a field to a part of its cells: bytes, render time, and the picture beside that of the whole field with the
    other cells only hidden, as a viewer's crop box does."""
    import torch

    from lg_field import crop, save
    from lg_field.radiance.render import render

    count = max(1, round(part * field.num_rows))
    small = crop(field, cells=field.cells[:count])
    hidden = field.selected(torch.arange(field.num_rows))
    hidden.occupied[count:] = False
    pictures, seconds = [], []
    for shown in (hidden, small):
        begin = report.now()
        pictures.append(render(shown, field.description, camera).rgb)
        seconds.append(round(report.now() - begin, 3))
    return {
        "cells": f"{count} of {field.num_rows}",
        "file bytes": save(small, args.output / "crop.safetensors", overwrite=True),
        "render seconds, hidden / cropped": f"{seconds[0]} / {seconds[1]}",
        "largest difference of a pixel": f"{float((pictures[0] - pictures[1]).abs().max()):.1e}",
    }


def score(args: Args, pipeline: Any, picture: Path) -> dict[str, Any]:
    """Mean PSNR and SSIM over evenly spaced test views, and the seconds a picture takes."""
    import numpy as np
    import torch
    from PIL import Image

    from lg_field.quality import mean_squared_error, psnr, ssim

    pipeline.eval()
    dataset = pipeline.datamanager.eval_dataset
    count = len(dataset) if args.views == 0 else min(args.views, len(dataset))
    indices = np.linspace(0, len(dataset) - 1, count).round().astype(int).tolist()
    psnrs, ssims, seconds = [], [], 0.0
    for k, i in enumerate(indices):
        gt = dataset[i]["image"]
        if gt.shape[-1] == 4:
            gt = gt[..., :3] * gt[..., 3:] + (1 - gt[..., 3:])
        begin = report.now()
        outputs = pipeline.model.get_outputs_for_camera(dataset.cameras[i : i + 1].to(pipeline.device))
        rgb = outputs["rgb" if "rgb" in outputs else "rgb_fine"].cpu().clamp(0, 1)
        seconds += report.now() - begin
        psnrs.append(psnr(mean_squared_error(rgb, gt)))
        ssims.append(ssim(rgb, gt))
        if k == count // 2:
            both = (torch.cat([gt, rgb], dim=1) * 255).round().byte().numpy()
            Image.fromarray(both).save(picture)
    return {
        "views": count,
        "PSNR": round(float(np.mean(psnrs)), 2),
        "SSIM": round(float(np.mean(ssims)), 4),
        "render seconds": round(seconds / count, 2),
    }


def main(args: Args) -> None:
    args.output.mkdir(parents=True, exist_ok=True)
    if args.one:
        row = train_one(args, args.one)
        (args.output / f"{args.one}.json").write_text(json.dumps(row))
        return
    before = args.methods[: args.methods.index("distilled")] if "distilled" in args.methods else [args.teacher]
    if args.teacher not in before and not (args.output / f"{args.teacher}.safetensors").exists():
        raise SystemExit(f"distilled imitates the {args.teacher} field: name {args.teacher} before it")
    if len(args.steps) not in (0, 1, len(args.methods)):
        raise SystemExit(f"--steps takes one number, or one for each of the {len(args.methods)} methods")
    rows = []
    for method in args.methods:
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--one", method], check=True)
        rows.append(json.loads((args.output / f"{method}.json").read_text()))
    crops = [row for each in rows for row in each.pop("crops")]
    what = f"{args.data.name}, scale {args.scale}, {args.minutes} minutes each, seed {args.seed}, {platform.machine()}"
    print(report.write(args.output, rows, what, rows))
    if crops:
        print(report.write(args.output / "crops", crops, what, crops))


if __name__ == "__main__":
    main(tyro.cli(Args))
