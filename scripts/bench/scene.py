"""The fused CPU kernel on a radiance field: a training step of its core, and a picture, with the kernel and without.

    python scripts/bench/scene.py --scene lego.safetensors

A step is sampling 1024 random rays of orbiting cameras, the field, compositing, mean squared error, backward and Adam;
no nerfstudio. With and without take turns in one process; medians of processor time.
"""

from __future__ import annotations

import os
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

import lg_field
from lg_field.ops.backends.cpu import SWITCH
from lg_field.radiance.compositing import composite
from lg_field.radiance.field import RadianceField
from lg_field.radiance.render import field_samples, orbit, render
from lg_field.radiance.scene import Scene


@dataclass
class Args:
    """Measure."""

    scene: Path
    """A scene file."""
    rays: int = 1024
    """Of a training step."""
    size: int = 100
    """Of the picture, pixels."""
    rounds: int = 10
    """Turns of each."""


def training_step(field: RadianceField, scene: Scene, rays: int):
    """A function that makes one training step on random rays; returns how many samples it had."""
    cameras = list(orbit(field, scene, 16, 100, 100))
    origins, directions = (torch.cat(v).view(-1, 3) for v in zip(*(c.rays() for c in cameras)))
    optimizer = torch.optim.Adam([p for p in field.parameters() if p.requires_grad], lr=1e-5, fused=True)
    near, far = torch.full((rays,), scene.near), torch.full((rays,), scene.far)

    def step() -> int:
        chosen = torch.randint(len(origins), (rays,))
        o, d = origins[chosen], directions[chosen]
        samples = field_samples(field, o, d, near, far, scene.step, jitter=True)
        positions = torch.addcmul(o[samples.rays], d[samples.rays], samples.middles[:, None])
        density, features = field(positions, overlap=0.05)
        rgb, _, _ = composite(density, field.rgb(features, d[samples.rays]), samples, rays, scene.far)
        optimizer.zero_grad()
        (rgb - 0.5).square().mean().backward()
        optimizer.step()
        return len(samples.rays)

    return step


def main(args: Args) -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    field = lg_field.load(args.scene)
    if not isinstance(field, RadianceField) or not isinstance(field.description, Scene):
        raise ValueError(f"{args.scene} is no scene file")
    scene = field.description
    camera = next(iter(orbit(field, scene, 1, args.size, args.size)))
    step = training_step(field, scene, args.rays)
    ways = {"step": step, "picture": lambda: render(field, scene, camera)}
    times: dict[tuple[str, str], list[float]] = {(name, switch): [] for name in ways for switch in "01"}
    for turn in range(args.rounds + 1):
        for name, switch in times:
            os.environ[SWITCH] = switch
            begin = time.process_time()
            ways[name]()
            if turn:
                times[name, switch].append(time.process_time() - begin)
    print(f"{field.chain}\n{step()} samples a step, {len(field.cells)} cells, one thread")
    print("| | without s | with s | ratio |\n| --- | --- | --- | --- |")
    for name in ways:
        without, fused = (statistics.median(times[name, switch]) for switch in "01")
        print(f"| {name} | {without:.3f} | {fused:.3f} | {without / fused:.2f} |")


if __name__ == "__main__":
    main(tyro.cli(Args))
