"""Train methods on captures by their defaults for the same time, and compare them.

    python scripts/tables/captures.py
    python scripts/tables/captures.py --captures cattoy fruit ~/my_photos --methods lg-field-tiny --minutes 10

Every capture is trained as a new user would train it: the format recognised by its files, nothing else said. Images
are scaled so that their longer side has about `--pixels`; the clock starts at the first training step. `hash-global`
and the other names of `radiance.VARIANTS` are lg-field-tiny with other sizes. Learning rates decay over the time.
Scores are of at most `--views` test views, on white: over all pixels, over all pixels after the affine change of colour
that fits the photo best (a photo of another exposure is no fault of the field), over those inside the alpha or mask
where the capture has one, and, of lg-field's methods, from where each test photo says that its camera is. Files are
weighed whole and with a twentieth of the cells. Writes results.md, .csv and .json and CAPTURE.png (a row of views for
the truth and for each method) in `--output`. `--set pipeline.model.seam_loss_mult=0.0` changes a setting of every
method: what a part is worth.
"""

from __future__ import annotations

import ast
import json
import platform
import subprocess
import sys
from dataclasses import FrozenInstanceError, dataclass, field, replace
from pathlib import Path
from typing import Any

import radiance
import report
import tyro

SHARED = Path(__file__).parents[3] / "shared" / "data" / "nerf"
CAPTURES = ("lego_400", "fox", "fruit", "can", "cattoy", "bronze_head", "drone")


@dataclass
class Runs:
    """What is asked of runs on captures."""

    minutes: float = 2.0
    """Training time of each, start-up not counted."""
    steps: int = 0
    """Steps to train instead, however long they take; 0 = until the time is spent."""
    pixels: int = 200
    """Longer side of the images."""
    views: int = 8
    """Test views scored, evenly spaced."""
    set: list[str] = field(default_factory=list)
    """Settings changed, each a path into the method's configuration = a Python value."""
    seed: int = 42
    """Random seed."""


@dataclass
class Args(Runs):
    """Compare methods on captures."""

    captures: list[str] = field(default_factory=lambda: list(CAPTURES))
    """Scene folders; a name alone is one of ../shared/data/nerf."""
    methods: list[str] = field(default_factory=lambda: ["lg-field-tiny", "hash-global"])
    """nerfstudio method names, or those of radiance.VARIANTS."""
    output: Path = Path("outputs/tables/captures")
    """Folder for results."""
    one: tuple[str, str] | None = None
    """(internal) train this method on this capture in this process."""


def folder(capture: str) -> Path:
    """The scene folder of a capture."""
    return Path(capture) if Path(capture).exists() else SHARED / capture


def image_scale(data: Path, pixels: int) -> float:
    """By how much to scale the images of a scene."""
    from PIL import Image

    first = next(p for p in sorted(data.rglob("*")) if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    return min(1.0, pixels / max(Image.open(first).size))


def make_config(args: Args, capture: str, method: str) -> Any:
    """The method's configuration with data, length, output and what `--set` says changed."""
    data = folder(capture)
    output = args.output / data.name
    config = radiance.make_config(
        radiance.Args(data, [method], scale=image_scale(data, args.pixels), output=output, seed=args.seed), method
    )
    if hasattr(config.pipeline.model, "sizes"):
        from lg_field.nerfstudio.dataparser import AutoDataParserConfig

        config.pipeline.datamanager.dataparser = AutoDataParserConfig(data=data)
    config.max_num_iterations = args.steps or 10**9
    for group in config.optimizers.values():
        if getattr(group["scheduler"], "max_steps", None) == 0:
            group["scheduler"].max_steps = args.steps
    for setting in args.set:
        change(config, setting)
    return config


def change(config: Any, setting: str) -> None:
    """Set one value of a configuration, `path.to.name=value`."""
    path, text = setting.split("=", 1)
    *owners, name = path.split(".")
    chain = [config]
    for owner in owners:
        chain.append(chain[-1][owner] if isinstance(chain[-1], dict) else getattr(chain[-1], owner))
    if not hasattr(chain[-1], name):
        raise SystemExit(f"--set {setting}: there is no {name} in {'.'.join(owners)}")
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    try:
        setattr(chain[-1], name, value)
    except FrozenInstanceError:  # sizes are never changed but replaced
        setattr(chain[-2], owners[-1], replace(chain[-1], **{name: value}))


def truth(outputs: Any, scale: float, index: int) -> tuple[Any, Any]:
    """What an image of a data parser's outputs shows, whatever a method makes of it.

    Returns:
        (H, W, 3) picture on white, and (H, W) how far each pixel is inside its alpha or mask, 1 without.
    """
    import torch

    from lg_field.nerfstudio.dataset import CaptureDataset

    image = CaptureDataset(outputs, scale, "empty")[index]["image"]
    alpha = image[..., 3] if image.shape[-1] == 4 else torch.ones_like(image[..., 0])
    return image[..., :3] * alpha[..., None] + 1 - alpha[..., None], alpha


def score(args: Args, pipeline: Any) -> tuple[dict[str, Any], list[Any], list[Any]]:
    """Mean PSNR of test views over all pixels, these with fitted colours, over inside ones, and, of our models, from
    where test photos say that their cameras are; the true and the rendered pictures."""
    import numpy as np

    from lg_field.training.scores import image_scores

    pipeline.eval()
    dataset = pipeline.datamanager.eval_dataset
    indices = np.linspace(0, len(dataset) - 1, min(args.views, len(dataset))).round().astype(int).tolist()
    scores, true, rendered, seconds = [], [], [], 0.0
    for i in indices:
        picture, alpha = truth(dataset._dataparser_outputs, dataset.scale_factor, i)
        begin = report.now()
        camera = dataset.cameras[i : i + 1].to(pipeline.device)
        outputs = pipeline.model.get_outputs_for_camera(camera)
        rgb = outputs["rgb" if "rgb" in outputs else "rgb_fine"].cpu().clamp(0, 1)
        seconds += report.now() - begin
        scores.append(image_scores(rgb, picture, alpha))
        if hasattr(pipeline.model, "render_fitted"):
            photo = dataset[i]
            counted = photo["mask"][..., 0].bool() if "mask" in photo else None
            fitted = pipeline.model.render_fitted(camera, photo["image"], counted).cpu().clamp(0, 1)
            found = image_scores(fitted, picture, alpha)
            scores[-1] |= {f"{name}_camera_fitted": found[name] for name in ("psnr", "psnr_inside") if name in found}
        true.append(picture)
        rendered.append(rgb)
    columns = {"PSNR": "psnr", "PSNR, colors fitted": "psnr_color_fitted", "PSNR inside": "psnr_inside"}
    columns |= {f"{column}, camera fitted": f"{columns[column]}_camera_fitted" for column in ("PSNR", "PSNR inside")}
    row: dict[str, Any] = {"views": len(indices)}
    for column, name in columns.items():
        values = [one[name] for one in scores if name in one]
        row[column] = round(float(np.mean(values)), 2) if values else ""
    row["render seconds"] = round(seconds / len(indices), 2)
    return row, true, rendered


def weigh(args: Args, trainer: Any, path: Path) -> dict[str, Any]:
    """Bytes of the scene file, whole and with a twentieth of its cells; nothing for methods without cells."""
    from lg_field import crop, load, save
    from lg_field.nerfstudio.runs import load_run, pack

    if not hasattr(trainer.pipeline.model, "table"):
        return {"cells": "", "file bytes": "", "file bytes, 5 %": ""}
    size = save(pack(load_run(trainer.config.get_base_dir())), path, overwrite=True)
    whole: Any = load(path)
    small = crop(whole, cells=whole.cells[: max(1, round(0.05 * whole.num_rows))])
    twentieth = save(small, path.with_name("crop.safetensors"), overwrite=True)
    return {"cells": whole.num_rows, "file bytes": size, "file bytes, 5 %": twentieth}


def train_one(args: Args, capture: str, method: str) -> dict[str, Any]:
    """Train a method on a capture and score it; its row of the table. Pictures are kept for the comparison."""
    config = make_config(args, capture, method)
    trainer, row = radiance.train(config, 1e9 if args.steps else args.minutes, by_time=not args.steps)
    scores, true, rendered = score(args, trainer.pipeline)
    output = args.output / folder(capture).name
    strip(true[:4], output / "truth.png")
    strip(rendered[:4], output / f"{method}.png")
    row = {"capture": folder(capture).name, "method": method} | row | scores
    row |= weigh(args, trainer, output / f"{method}.safetensors")
    return row


def strip(pictures: list[Any], path: Path) -> None:
    """Write pictures of one size side by side."""
    import torch
    from PIL import Image

    height = min(len(p) for p in pictures)
    side_by_side = torch.cat([p[:height] for p in pictures], dim=1)
    Image.fromarray((side_by_side * 255).round().byte().numpy()).save(path)


def compare(capture: str, methods: list[str], output: Path) -> None:
    """One picture of a capture: the truth above the methods."""
    import numpy as np
    from PIL import Image

    strips = [np.array(Image.open(output / capture / f"{name}.png")) for name in ("truth", *methods)]
    width = min(s.shape[1] for s in strips)
    Image.fromarray(np.concatenate([s[:, :width] for s in strips])).save(output / f"{capture}.png")


def main(args: Args) -> None:
    if args.one is not None:
        row = train_one(args, *args.one)
        (args.output / row["capture"] / f"{row['method']}.json").write_text(json.dumps(row))
        return
    rows = []
    for capture in args.captures:
        name = folder(capture).name
        (args.output / name).mkdir(parents=True, exist_ok=True)
        for method in args.methods:
            subprocess.run([sys.executable, __file__, *sys.argv[1:], "--one", capture, method], check=True)
            rows.append(json.loads((args.output / name / f"{method}.json").read_text()))
        compare(name, args.methods, args.output)
        length = f"{args.steps} steps" if args.steps else f"{args.minutes} minutes"
        what = f"{args.pixels} pixels, {length} each, seed {args.seed}, {platform.machine()} {' '.join(args.set)}"
        print(report.write(args.output, rows, what, rows))


if __name__ == "__main__":
    main(tyro.cli(Args))
