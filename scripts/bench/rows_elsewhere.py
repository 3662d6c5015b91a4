"""What training costs with rows in host memory or on disk, and the largest city that a fixed memory holds.

    python scripts/bench/rows_elsewhere.py --blocks 16 --steps 30
    python scripts/bench/rows_elsewhere.py --limit 1.0 --blocks 8 16 24 32

The city of `city.py`, trained in a process for each line, which starts with half as many cells per axis and splits
them. Without `--limit` one JSON line for each place of the rows: seconds of a step after the split, by the processor
and by the clock; `asked`, the mean part of the rows that a step's rays ask; `anonymous`, the largest memory that is not
a file's, in GB, above that before the field is made. With `--limit`, GB of data that a process may have beyond what it
has when it starts (as `ulimit -d` sets it; files are not counted): for each place the largest of the cities that fits.
"""

from __future__ import annotations

import json
import multiprocessing
import re
import resource
import sys
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import tyro

sys.path.insert(0, str(Path(__file__).parents[1]))

from city import City

from lg_field import PartitionGrid
from lg_field.radiance.field import RadianceField
from lg_field.radiance.sizes import RadianceSizes
from lg_field.radiance.training import RadianceTrainer, TrainingSettings
from lg_field.stored.trainer import StoredTrainer

PLACES = ("device", "host", "disk")
FLOORS = 4
NEVER = 10**6


@dataclass
class Args:
    """Measure."""

    blocks: tuple[int, ...] = (16,)
    """Blocks along a side of the city, and cells along x and y; even."""
    places: tuple[str, ...] = PLACES
    """Where rows are."""
    rays: int = 256
    """In a step, of one camera in a street."""
    steps: int = 20
    """Measured, after as many that are not."""
    grid_nodes: int = 11
    """Nodes per axis of a cell's feature grid."""
    limit: float = 0.0
    """GB; 0: no limit, measure."""
    folder: Path = Path()
    """For rows on disk."""


def memory(name: str) -> int:
    """Bytes of this process, as the system calls them."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def start(args: Args, blocks: int, where: str) -> RadianceTrainer:
    """A table with half as many cells per axis as it will have."""
    torch.manual_seed(0)
    city = City(blocks)
    sizes = RadianceSizes(grid_nodes=args.grid_nodes, occupancy_voxels=8, color_width=0, color_features=27)
    field = RadianceField(PartitionGrid((blocks // 2, blocks // 2, FLOORS // 2), *city.box), sizes)
    never = {"occupancy_interval": NEVER, "prune_interval": 0}
    settings = TrainingSettings(
        split_steps=(1,), steps_per_scene=blocks * 24, samples_per_batch=args.rays * 64, seam_points=256, **never
    )
    if where == "device":
        trainer = RadianceTrainer(field, settings)
    else:
        trainer = StoredTrainer(field, settings, where=where, folder=args.folder)  # type: ignore[arg-type]
    trainer.restrict(city.shell((blocks * 8, blocks * 8, FLOORS * 8), -0.03))
    trainer.stride = 1.0
    return trainer


def street(city: City, rays: int, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rays of one camera."""
    origins, directions = city.rays(rays, step)
    return origins[:1].expand_as(origins).clone(), directions


def measure(args: Args, blocks: int, where: str, answer: Connection) -> None:
    """Train, and say what it cost; nothing is said where memory does not suffice."""
    torch.set_num_threads(1)
    torch.nn.functional.relu(torch.rand(8, 8, requires_grad=True) @ torch.rand(8, 8)).sum().backward()
    before = memory("RssAnon")
    if args.limit:
        most = memory("VmData") + int(args.limit * 1e9)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    trainer, city = start(args, blocks, where), City(blocks)
    optimizer = torch.optim.Adam(trainer.field.parameters(), lr=1e-2, eps=1e-15, fused=True)
    asked, anonymous, begin = 0.0, 0, (0.0, 0.0)
    steps = 2 if args.limit else args.steps
    for step in range(1, 2 * steps + 1):
        if step == steps + 1:
            begin = time.process_time(), time.perf_counter()
        origins, directions = street(city, args.rays, step)
        colors, _ = city.look(origins, directions)
        trainer.begin(step, [optimizer])
        view = trainer.render(origins, directions)
        losses = trainer.losses(view, colors)
        optimizer.zero_grad()
        sum(losses.values()).backward()  # type: ignore[union-attr]
        optimizer.step()
        anonymous = max(anonymous, memory("RssAnon") - before)
        if view.asked is not None:
            rows = trainer.field.rows_of_unit(trainer.field.frame.to_unit(view.asked.positions.detach()))
            asked += len(rows.unique()) / trainer.field.num_rows / (2 * steps)
    now = time.process_time(), time.perf_counter()
    field = trainer.field
    told: dict[str, Any] = {"cells": field.num_rows, "row bytes": 4 * field.num_parameters()["local"]}
    told |= {"processor": round((now[0] - begin[0]) / steps, 3), "wall": round((now[1] - begin[1]) / steps, 3)}
    told |= {
        "asked": round(asked, 3),
        "anonymous": round(anonymous / 1e9, 3),
        "loss": float(losses["rgb_loss"].detach()),
    }
    answer.send(told)


def in_process(args: Args, blocks: int, where: str) -> dict[str, Any] | None:
    """What a process of its own says; None where it ended before."""
    ours, theirs = multiprocessing.Pipe()
    worker = multiprocessing.get_context("spawn").Process(target=measure, args=(args, blocks, where, theirs))
    worker.start()
    theirs.close()
    try:
        return ours.recv()
    except EOFError:
        return None
    finally:
        worker.join()


def main(args: Args) -> None:
    """Measure."""
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        args.folder = Path(folder)
        for where in args.places:
            found: dict[str, Any] = {}
            for blocks in args.blocks:
                told = in_process(args, blocks, where)
                if told is None:
                    break
                found = {"rows on": where, "blocks": blocks} | told
                if not args.limit:
                    print(json.dumps(found), flush=True)
            if args.limit:
                print(json.dumps({"limit": args.limit} | found), flush=True)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
