"""A training step, a picture and a mesh of a radiance field: each part of the fast way on its own, and all of it.

    python scripts/bench/scene.py --scene demo.safetensors

The ways take turns in one process, on one thread; medians of processor time, and ratios to the first way:
- full: every sample of every ray, the chain in its kernel and torch around it;
- stop: torch too, rays end where nothing more can be seen;
- kernels: every sample; marching, inputs of the chain, shading and light in kernels of their own, all in one go;
- both: as the commands do.
With `--without-chain`, torch does the chain, too: what is left without a compiler.
"""

from __future__ import annotations

import copy
import os
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

import lg_field
from lg_field.ops.adam import Adam
from lg_field.ops.backends.cpu import SWITCH
from lg_field.radiance.field import RadianceField
from lg_field.radiance.render import orbit, render
from lg_field.radiance.scene import Scene
from lg_field.radiance.stopping import PICTURES, TRAINING
from lg_field.radiance.surface import radiance_mesh
from lg_field.radiance.training import RadianceTrainer, TrainingSettings

WAYS = {"full": ("chain", False), "stop": ("chain", True), "kernels": ("1", False), "both": ("1", True)}
"""Value of `SWITCH`, and whether rays stop."""


@dataclass
class Args:
    """Measure."""

    scene: Path
    """A scene file."""
    rays: int = 1024
    """Of a training step."""
    width: int = 200
    """Of the picture, pixels."""
    height: int = 200
    """Of the picture, pixels."""
    resolution: int = 96
    """Of the mesh, voxels along the longest side."""
    rounds: int = 10
    """Turns of each."""
    threads: int = 1
    """CPU threads; with more than one, times are wall clock."""
    without_chain: bool = False
    """Measure torch alone, too."""


def training_step(field: RadianceField, scene: Scene, rays: int):
    """A function that makes one training step on random rays; returns samples asked, and samples in occupied space."""
    cameras = list(orbit(field, scene, 16, 100, 100))
    origins, directions = (torch.cat(v).view(-1, 3) for v in zip(*(c.rays() for c in cameras)))
    parameters = [p for p in field.parameters() if p.requires_grad and p.numel()]
    optimizer = Adam(parameters, lr=1e-6)
    field.complete_lines_([optimizer])  # as training does
    trainer = RadianceTrainer(field, TrainingSettings(split_steps=(), steps_per_scene=256, harmonics_loss_mult=2e-3))
    trainer.step = 1000

    def step(stops: bool) -> tuple[int, int]:
        trainer.settings.least_light, trainer.stride = TRAINING if stops else 0.0, 1.0
        chosen = torch.randint(len(origins), (rays,))
        view = trainer.render(origins[chosen], directions[chosen])
        losses = trainer.losses(view, torch.full((rays, 3), 0.5))
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        weights = view.asked.weights
        seen = len(view.asked.density) if weights is None else int((weights > 0.0).sum())
        return seen, len(view.marched.rays)

    return step


def main(args: Args) -> None:
    """Measure and print."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    field = lg_field.load(args.scene)
    if not isinstance(field, RadianceField) or not isinstance(field.description, Scene):
        raise ValueError(f"{args.scene} is no scene file")
    scene, clock = field.description, time.process_time if args.threads == 1 else time.perf_counter
    camera = next(iter(orbit(field, scene, 1, args.width, args.height)))
    step = training_step(copy.deepcopy(field), scene, args.rays)
    work = {
        "step": step,
        "picture": lambda stops: render(field, scene, camera, least_light=PICTURES if stops else 0.0),
        "mesh": lambda _: radiance_mesh(field, args.resolution),
    }
    ways = WAYS | ({"torch": ("0", False)} if args.without_chain else {})
    times: dict[tuple[str, str], list[float]] = {(name, way): [] for name in work for way in ways}
    for turn in range(args.rounds + 1):
        for name, way in times:
            os.environ[SWITCH], stops = ways[way]
            begin = clock()
            work[name](stops)
            if turn:
                times[name, way].append(clock() - begin)
    asked, marched = step(True)
    print(f"{field.chain}\n{asked} of {marched} samples a step, {len(field.cells)} cells, {args.threads} threads")
    print(f"| | {' | '.join(f'{way} s' for way in ways)} | {' | '.join(list(ways)[1:])} |")
    print("| --- " * (2 * len(ways)) + "|")
    for name in work:
        median = {way: statistics.median(times[name, way]) for way in ways}
        cells = [f"{median[way]:.4f}" for way in ways] + [
            f"{median['full'] / median[way]:.2f}" for way in list(ways)[1:]
        ]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main(tyro.cli(Args))
