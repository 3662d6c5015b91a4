"""What pictures of the web page cost: arithmetic, reads and memory of its exact and fast way, and how near they are.

    python scripts/bench/web_pictures.py demo/scene.safetensors --size 512
    python scripts/bench/web_pictures.py demo/scene.safetensors --size 96 --browser

Samples are counted along the rays of pictures on an orbit, up to where less than a thousandth of the light gets
through. Pictures a second are what the counted arithmetic allows on a card of --teraflops of which a --part is reached;
no card is measured. With --browser a headless chromium without a card draws the pictures: how far they are from those
of `lg-field render`.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

import lg_field
from lg_field.radiance.cameras import orbit
from lg_field.radiance.field import RadianceField
from lg_field.radiance.render import ask_view, render
from lg_field.radiance.scene import Scene

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))


@dataclass
class Args:
    """Count."""

    scene: tyro.conf.Positional[Path]
    """Scene file."""
    size: int = 512
    """Pixels of a picture, wide and high."""
    pictures: int = 2
    """On the orbit."""
    teraflops: float = 5.0
    """Of the card, in float32."""
    part: float = 0.25
    """Part of them that is reached."""
    browser: bool = False
    """Draw the pictures, too."""


def multiply_adds(field: RadianceField) -> int:
    """Of one sample: the chain, the colour layer, and interpolation of the grids."""
    chain, sizes = field.chain, field.sizes
    count = sum(i * o for i, o in chain.local_layers())
    shapes = chain.shared_shapes()
    merges = chain.depth if chain.merge == "concat" else 1
    for name, shape in shapes.items():
        if "weight" in name:
            count += shape[0] * shape[1] * (merges if name == "merge_weight" else 1)
    count += 8 * (sizes.grid_features * bool(sizes.grid_nodes) + sizes.hash_levels * sizes.hash_features)
    return count + sum(layer.weight.numel() for layer in field.color if isinstance(layer, torch.nn.Linear))


def samples_of(field: RadianceField, scene: Scene, size: int, pictures: int) -> float:
    """Samples asked in one picture."""
    asked = 0
    for camera in orbit(field, scene, pictures, size, size):
        for some in zip(*(rays.view(-1, 3).split(1 << 14) for rays in camera.rays())):
            asked += len(ask_view(field, scene, *some).density)
    return asked / pictures


def draw(field: RadianceField, scene: Scene, size: int, pictures: int) -> None:
    """Draw pictures in a browser and say how far they are from those of `lg-field render`."""
    from browser import GRAPHICS, Browser
    from web_host import hosted, opened, put, traced

    with tempfile.TemporaryDirectory() as name:
        put(Path(name), scene=field)
        with hosted(Path(name)) as host, Browser(*GRAPHICS) as browser:
            page = opened(browser, host, "scene")
            for camera in orbit(field, scene, pictures, size, size):
                expected = render(field, scene, camera).rgb.numpy()
                for way in ("exact", "fast"):
                    off = 255 * np.abs(traced(page, camera, way == "exact")[0][..., :3] - expected)
                    noise = -10 * np.log10(np.square(off / 255).mean() + 1e-12)
                    print(f"{way}: mean {off.mean():.3f}/255, largest {off.max():.2f}/255, {noise:.1f} dB", flush=True)


def main(args: Args) -> None:
    """Count, and draw if wished."""
    field: Any = lg_field.load(args.scene)
    each, samples = multiply_adds(field), samples_of(field, field.description, args.size, args.pictures)
    voxels, outputs = int(field.occupied.sum()), -(-(1 + field.sizes.color_features) // 4)
    exact = 2 * each * samples
    reached = args.part * args.teraflops * 1e12
    print(f"{args.scene.name}, {args.size} x {args.size}: {samples / args.size**2:.1f} samples a pixel")
    print(f"exact: {each:,} multiply-adds a sample, {exact / 1e9:.1f} GFLOP a picture, {reached / exact:.0f} a second")
    reads = outputs * samples
    print(f"fast: {outputs} trilinear reads of 8 bytes a sample, {reads / 1e6:.1f} million a picture")
    for side in (3, 4, 5):
        nodes = voxels * side**3
        seconds, size = 2 * each * nodes / reached, nodes * outputs * 8 / 1e6
        what = f"{voxels:,} voxels, {nodes / 1e6:.2f} million nodes"
        print(f"bricks of {side}^3 nodes: {what}, {size:.0f} MB, {seconds:.2f} s")
    if args.browser:
        draw(field, field.description, args.size, args.pictures)


if __name__ == "__main__":
    main(tyro.cli(Args))
