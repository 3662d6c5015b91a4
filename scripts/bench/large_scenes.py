"""What a picture of a city takes whose file is larger than memory: bytes read, largest memory, seconds.

    python scripts/bench/large_scenes.py --gigabytes 2 --memory 0.25 1 8

The city of `city.py` with random weights in its rows, as a file; cameras in its streets. Every picture is made in a
process of its own, by `lg-field render` as a user runs it. One JSON line each: `gigabytes` of the file and `memory` as
they were asked for, bytes `read`, `peak` resident memory above that of a picture of a tiny city, `seconds`.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from city import EYES, City

from lg_field import PartitionGrid
from lg_field.files.bits import pack_bits
from lg_field.files.container import tensor_bytes, write_container
from lg_field.files.schema import KEY, header_of
from lg_field.radiance.field import RadianceField, RadianceSizes
from lg_field.radiance.render import look_along
from lg_field.radiance.scene import Scene

VOXELS = 8
"""Per cell and axis."""
FLOORS = 4
THIN = -0.03
"""Voxels that no wall passes through are empty: streets are narrow."""
MEASURED = """
import re, sys
from lg_field.cli import main
sys.argv[0] = "lg-field"
try:
    main()
finally:
    print("peak", int(re.search(r"VmHWM:\s+(\d+) kB", open("/proc/self/status").read())[1]) * 1024)
"""
"""A command, and its largest resident memory after what it prints."""


@dataclass
class Args:
    """Measure."""

    gigabytes: float = 1.0
    """Of the file, about."""
    memory: tuple[float, ...] = (0.1, 0.5, 4.0)
    """What `lg-field render` is told, GB."""
    pictures: int = 3
    """Along a street."""
    size: int = 128
    """Pixels on a side."""
    nodes: int = 11
    """Per axis of a cell's feature grid."""


def city_field(blocks: int, nodes: int) -> RadianceField:
    """The field of a city without its weights (on the meta device), a row for each cell with a surface in it, and its
    voxels in `occupied`."""
    city = City(blocks)
    grid = PartitionGrid((blocks, blocks, FLOORS), *city.box)
    shell = city.shell((blocks * VOXELS, blocks * VOXELS, FLOORS * VOXELS), THIN)
    inner = shell.view(blocks, VOXELS, blocks, VOXELS, FLOORS, VOXELS).permute(0, 2, 4, 1, 3, 5)
    occupied = inner.reshape(grid.num_cells, VOXELS**3)
    cells = occupied.any(1).nonzero()[:, 0]
    sizes = RadianceSizes(grid_nodes=nodes, occupancy_voxels=VOXELS, color_width=0, color_features=27, density_bias=4.0)
    with torch.device("meta"):
        field = RadianceField(grid, sizes, cells)
    field.occupied = occupied[cells]
    world = tuple(tuple(float(a == b) for a in range(4)) for b in range(4))
    field.description = Scene(world, step=0.03, near=0.02, far=3.0 * blocks)
    return field


def write_city(path: Path, blocks: int, nodes: int) -> int:
    """A scene file of a city with random weights, a few rows in memory at a time; returns its bytes."""
    field = city_field(blocks, nodes)
    _, text = header_of(field)
    state = {name: value for name, value in field.state_dict().items() if torch.is_tensor(value)}
    known = {"cells": field.cells, "occupied": pack_bits(field.occupied)}
    shapes = {name: (value.dtype, tuple(value.shape)) for name, value in (state | known).items()}
    torch.manual_seed(0)

    def weights(like: Tensor) -> Iterator[memoryview]:
        scale = 0.5 if like.dim() < 2 else 1.0 / math.sqrt(like.shape[-1])
        for first in range(0, len(like), 256):
            yield tensor_bytes(torch.randn(min(256, len(like) - first), *like.shape[1:]) * scale)

    with open(path, "wb") as file:
        pieces = {n: [tensor_bytes(known[n])] if n in known else weights(value) for n, value in state.items()}
        write_container(file, shapes, {KEY: text}, pieces)
    return path.stat().st_size


def write_street(path: Path, blocks: int, pictures: int, size: int) -> None:
    """A camera path along a street."""
    frames = []
    for number in range(pictures):
        eye = torch.tensor([blocks / 2, blocks * (0.3 + 0.1 * number / pictures), EYES], dtype=torch.float64)
        ahead = torch.tensor([0.2, 1.0, 0.05], dtype=torch.float64)
        matrix = look_along(eye, ahead / ahead.norm(), torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))
        frames.append({"camera_to_world": matrix.flatten().tolist(), "fov": 60.0, "aspect": 1.0})
    data = {"render_height": size, "render_width": size, "camera_path": frames, "fps": 24, "seconds": 1}
    path.write_text(json.dumps(data | {"camera_type": "perspective"}))


def rendered(folder: Path, name: str, memory: float) -> dict[str, float]:
    """Bytes read, largest memory and seconds of the pictures along a street."""
    words = ["render", f"{name}.safetensors", "--camera", f"{name}.json", "-o", f"{name}-{memory:g}"]
    begin = time.perf_counter()
    command = [sys.executable, "-c", MEASURED, *words, "--memory", str(memory)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    told = done.stdout.split(" bytes read")[0].rsplit(" ", 1)[-1].replace(",", "")
    peak = done.stdout.rsplit("peak ", 1)[-1]
    return {"read": int(told), "peak": int(peak), "seconds": round(time.perf_counter() - begin, 1)}


def main(args: Args) -> None:
    """Make the file and the pictures."""
    row = 4 * (sum(value.shape[-1] for value in (lambda f: (f.local, f.features))(city_field(4, args.nodes))))
    blocks = max(4, round(math.sqrt(args.gigabytes * 1e9 / row / FLOORS)))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for city, size in (("tiny", 4), ("city", blocks)):
            whole = write_city(folder / f"{city}.safetensors", size, args.nodes)
            write_street(folder / f"{city}.json", size, args.pictures, args.size)
        least = rendered(folder, "tiny", max(args.memory))["peak"]
        for memory in args.memory:
            told = rendered(folder, "city", memory)
            told["peak"] -= least
            print(json.dumps({"gigabytes": round(whole / 1e9, 3), "memory": memory} | told), flush=True)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
