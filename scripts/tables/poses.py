"""Disturb the poses of captures, train on them, and see whether training finds them again.

    python scripts/tables/poses.py
    python scripts/tables/poses.py --captures fruit ~/my_photos --degrees 1 --share 0.02 --minutes 10

Every training camera is turned by `--degrees` about an axis of its own, and moved by `--share` of the cameras' mean
distance from what they look at, in a direction of its own; both are drawn by the seed. Each capture is trained for the
same time in each of `CASES`, otherwise as `captures.py` does: with its poses as they are and disturbed, without
corrections, as by default, and with corrections that no trial has to ask for. Corrected cameras may be right and yet
all be moved together, so test cameras are aligned: they are moved by the similarity that brings the true training
cameras nearest to where the run believes them. What is left between those two, on average, are `degrees` of turn,
`distance`, and `aside`: degrees by which photos show what cameras look at in another place, for a turn may make up for
a step. No test photo has a say in that, but in the columns `camera fitted`: PSNR from where each test photo says that
its camera is. Writes results.md, .csv and .json in `--output`.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import captures
import numpy as np
import radiance
import report
import torch
import tyro

from lg_field.captures import Capture
from lg_field.captures.capture import SPLITS
from lg_field.nerfstudio.capture_outputs import outputs_of
from lg_field.nerfstudio.dataparser import AutoDataParser, AutoDataParserConfig
from lg_field.nerfstudio.placing import move
from lg_field.photos.frame import focus_point
from lg_field.training.camera_fit import rotations

CASES = {
    "as given": (0.0, "off"),
    "as given, by default": (0.0, "auto"),
    "disturbed": (1.0, "off"),
    "disturbed, by default": (1.0, "auto"),
    "disturbed, corrected": (1.0, "SO3xR3"),
}
"""Name -> how much of the disturbance, and the camera optimizer's mode."""


@dataclass
class Args(captures.Runs):
    """Disturb poses and find them again."""

    captures: list[str] = field(default_factory=lambda: ["lego_400", "fruit"])
    """Scene folders; a name alone is one of ../shared/data/nerf."""
    cases: list[str] = field(default_factory=lambda: list(CASES))
    """Which of `CASES`."""
    method: str = "lg-field-tiny"
    """nerfstudio method name, or one of radiance.VARIANTS."""
    degrees: float = 0.5
    """By how much every training camera is turned."""
    share: float = 0.01
    """By how much it is moved, of the mean distance from what they look at."""
    output: Path = Path("outputs/tables/poses")
    """Folder for results."""
    one: tuple[str, str] | None = None
    """(internal) train this case on this capture in this process."""


@dataclass
class DisturbedConfig(AutoDataParserConfig):
    """A capture whose training cameras are not quite where it says."""

    _target: type = field(default_factory=lambda: Disturbed)
    degrees: float = 0.0
    share: float = 0.0
    seed: int = 0


@dataclass
class Disturbed(AutoDataParser):
    """Disturbs the training cameras of what it reads."""

    config: DisturbedConfig
    given: Capture | None = None
    """The capture as it is."""

    def _generate_dataparser_outputs(self, split: str = "train", **kwargs: Any) -> Any:
        if self.given is None:
            super()._generate_dataparser_outputs(split)
            self.given = self.capture
            self.capture = with_disturbed(self.given, self.config)
        return super()._generate_dataparser_outputs(split, **kwargs)

    def true_outputs(self) -> Any:
        """The training photos with their cameras as they are, in the same space as the disturbed ones."""
        assert self.capture is not None and self.given is not None
        true = replace(self.capture, splits=self.given.splits)
        return outputs_of(true, "train", float(self.downscale_factor or 1))


def with_disturbed(capture: Capture, config: DisturbedConfig) -> Capture:
    """A capture with training photos that are turned and moved, and with its other photos as they are."""
    photos, numbers = list(capture.photos), sorted(capture.splits["train"])
    poses = disturbed(np.stack([photos[k].pose for k in numbers]), config.degrees, config.share, config.seed)
    moved = [replace(photos[k], pose=pose) for k, pose in zip(numbers, poses, strict=True)]
    splits = {split: capture.splits[split] for split in SPLITS}
    splits["train"] = tuple(range(len(photos), len(photos) + len(moved)))
    return replace(capture, photos=(*photos, *moved), splits=splits)


def disturbed(poses: np.ndarray, degrees: float, share: float, seed: int) -> np.ndarray:
    """(n, 4, 4) cameras to world, each turned by so many degrees and moved by a share of their mean distance from what
    they look at."""
    rng = np.random.default_rng(seed)
    axes, ways = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in rng.normal(size=(2, len(poses), 3)))
    turns = rotations(torch.from_numpy(-np.radians(degrees) * axes))
    away = np.linalg.norm(poses[:, :3, 3] - focus_point(poses, np.zeros((0, 3))), axis=1).mean()
    found = poses.copy()
    found[:, :3, :3] = turns.numpy() @ poses[:, :3, :3]
    found[:, :3, 3] += share * away * ways
    return found


def alignment(true: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The similarity that brings cameras nearest to where they are found (Umeyama 1991), and what remains.

    Args:
        true: (n, 3, 4) cameras to world,
        found: likewise. Of each its place counts and the tips of its axes, as long as cameras are apart.

    Returns:
        (3, 4) scaled rotation and shift; and of each camera (n, 3) what it does not explain: degrees of turn, distance
        in the units of `found`, and degrees between where the camera shows what all look at.
    """
    reach = np.linalg.norm(true[..., 3] - true[..., 3].mean(0), axis=1).mean()
    size = np.linalg.norm(found[..., 3] - found[..., 3].mean(0), axis=1).mean() / reach

    def marks(poses: np.ndarray, length: float) -> np.ndarray:
        tips = poses[..., 3:] + length * poses[..., :3]
        return np.concatenate([poses[..., 3], *np.moveaxis(tips, 2, 0)])

    a, b = marks(true, reach), marks(found, reach * size)
    a0, b0 = a - a.mean(0), b - b.mean(0)
    u, s, vt = np.linalg.svd(b0.T @ a0)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    turn, scale = (u * sign) @ vt, (s * sign).sum() / (a0**2).sum()
    similarity = np.concatenate([scale * turn, (b.mean(0) - scale * turn @ a.mean(0))[:, None]], axis=1)
    turned = np.linalg.norm(turn @ true[..., :3] - found[..., :3], axis=(1, 2)) / np.sqrt(2.0)
    apart = np.linalg.norm(true[..., 3] @ similarity[:, :3].T + similarity[:, 3] - found[..., 3], axis=1)
    focus = focus_point(np.concatenate([true, np.tile(np.eye(4)[3:], (len(true), 1, 1))], axis=1), np.zeros((0, 3)))
    aside = np.linalg.norm(
        shown_at(true, focus) - shown_at(found, similarity[:, :3] @ focus + similarity[:, 3]), axis=1
    )
    degrees = [2.0 * np.degrees(np.arcsin((chord / 2.0).clip(0, 1))) for chord in (turned, aside)]
    return similarity, np.stack([degrees[0], apart, degrees[1]], axis=1)


def shown_at(poses: np.ndarray, point: np.ndarray) -> np.ndarray:
    """(n, 3) unit directions, by the axes of (n, 3, 4) cameras to world, in which they see a (3,) point."""
    seen = np.einsum("nji,nj->ni", poses[..., :3], point - poses[..., 3])
    return seen / np.linalg.norm(seen, axis=1, keepdims=True)


def moved_by(similarity: np.ndarray, poses: torch.Tensor) -> torch.Tensor:
    """(n, 3, 4) cameras to world, moved by a similarity; their axes keep their length."""
    moved = torch.from_numpy(similarity[:, :3]) @ poses.double()
    scale = float(np.linalg.det(similarity[:, :3])) ** (1 / 3)
    moved[..., :3] /= scale
    moved[..., 3] += torch.from_numpy(similarity[:, 3])
    return moved.to(poses)


def align_tests(pipeline: Any) -> dict[str, float]:
    """Move a run's test cameras to where it believes the scene; what its training cameras are off on average."""
    manager, optimizer = pipeline.datamanager, pipeline.model.camera_optimizer
    outputs = manager.dataparser.true_outputs()
    if manager.placement is not None:
        move(outputs, manager.placement)
    believed = manager.train_dataset.cameras.camera_to_worlds.double().cpu()
    if optimizer.mode != "off":
        change = optimizer(torch.arange(len(believed))).detach().double().cpu()
        believed = torch.cat([change[..., :3] @ believed[..., :3], believed[..., 3:] + change[..., 3:]], dim=-1)
    similarity, left = alignment(outputs.cameras.camera_to_worlds.double().numpy(), believed.numpy())
    cameras = manager.eval_dataset.cameras
    cameras.camera_to_worlds = moved_by(similarity, cameras.camera_to_worlds)
    return dict(zip(("degrees", "distance", "aside"), left.mean(0).round(4).tolist(), strict=True))


def train_one(args: Args, capture: str, case: str) -> dict[str, Any]:
    """Train on a capture as a case says; its row of the table."""
    amount, mode = CASES[case]
    folder = args.output / captures.folder(capture).name / case.replace(", ", "-").replace(" ", "-")
    folder.mkdir(parents=True, exist_ok=True)
    ours = captures.Args(
        steps=args.steps, pixels=args.pixels, views=args.views, set=args.set, output=folder, seed=args.seed
    )
    config = captures.make_config(ours, capture, args.method)
    config.pipeline.model.camera_optimizer.mode = mode
    config.pipeline.datamanager.dataparser = DisturbedConfig(
        data=captures.folder(capture), degrees=amount * args.degrees, share=amount * args.share, seed=args.seed
    )
    trainer, row = radiance.train(config, 1e9 if args.steps else args.minutes, by_time=not args.steps)
    left = align_tests(trainer.pipeline)
    scores, true, rendered = captures.score(ours, trainer.pipeline)
    captures.strip(true[:4], folder.parent / "truth.png")
    captures.strip(rendered[:4], folder.with_suffix(".png"))
    kept = {name: row[name] for name in ("steps", "train seconds")}
    return {"capture": captures.folder(capture).name, "poses": case} | kept | left | scores


def main(args: Args) -> None:
    if args.one is not None:
        (args.output / "row.json").write_text(json.dumps(train_one(args, *args.one)))
        return
    rows = []
    args.output.mkdir(parents=True, exist_ok=True)
    for capture in args.captures:
        for case in args.cases:
            subprocess.run([sys.executable, __file__, *sys.argv[1:], "--one", capture, case], check=True)
            rows.append(json.loads((args.output / "row.json").read_text()))
            length = f"{args.steps} steps" if args.steps else f"{args.minutes} minutes"
            what = (
                f"{args.method}, poses disturbed by {args.degrees} degrees and {100 * args.share:g} %, test cameras "
                f"aligned, {args.pixels} pixels, {length} each, seed {args.seed}, {platform.machine()} "
                + " ".join(args.set)
            )
            print(report.write(args.output, rows, what, rows))


if __name__ == "__main__":
    main(tyro.cli(Args))
