"""What training costs with rows in host memory or on disk, and the largest city that a fixed memory holds.

    python scripts/bench/rows_elsewhere.py --blocks 16 --steps 30
    python scripts/bench/rows_elsewhere.py --limit 0.3 --blocks 4 6 8 10 12 14 16 20 24 32 40 48 --train 400

The city of `city.py`, trained in a process for each line, which starts with half as many cells per axis and splits
them. Without `--limit` one JSON line for each place of the rows: seconds of a step after the split, by the processor
and by the clock; `asked`, the mean part of the rows that a step's rays ask; `anonymous`, the largest memory that is not
a file's, in GB, above that before the field is made. With `--limit`, GB of data that a process may have beyond what it
has when it starts (as `ulimit -d` sets it; files are not counted): for each place, and for `2 ranks` of which each has
as much, the largest of the cities that fits, found by halving. With `--train` also the
PSNR after so many steps. `--cameras` and `--within` say how far apart a step's rays begin.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import re
import resource
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import tyro

sys.path.insert(0, str(Path(__file__).parents[1]))

from city import City

from lg_field import PartitionGrid
from lg_field.distributed.ranks import Ranks
from lg_field.distributed.trainer import BALANCE_INTERVAL, RankTrainer
from lg_field.radiance.field import RadianceField
from lg_field.radiance.sizes import RadianceSizes
from lg_field.radiance.training import RadianceTrainer, TrainingSettings
from lg_field.stored.trainer import StoredTrainer

PLACES = ("device", "2 ranks", "host", "disk")
RANKS = {"2 ranks": 2}
"""Processes of places that are more than one."""
PATIENCE = timedelta(minutes=20)
"""For a rank that is slow."""
FLOORS = 4
NEVER = 10**6
PROBE = 4
"""Steps that show whether a city fits."""


@dataclass
class Args:
    """Measure."""

    blocks: tuple[int, ...] = (16,)
    """Blocks along a side of the city, and cells along x and y; even."""
    places: tuple[str, ...] = PLACES
    """Where rows are."""
    rays: int = 256
    """In a step."""
    cameras: int = 1
    """In streets, that a step's rays come from."""
    within: float = 0.0
    """Blocks around the first of them where the others are; 0: anywhere."""
    steps: int = 20
    """Measured, after as many that are not."""
    grid_nodes: int = 11
    """Nodes per axis of a cell's feature grid."""
    limit: float = 0.0
    """GB; 0: no limit, measure."""
    train: int = 0
    """Steps before the PSNR is looked at; with `--limit` of the largest city. 0: none is."""
    folder: Path = Path()
    """For rows on disk."""


def memory(name: str) -> int:
    """Bytes of this process, as the system calls them."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def start(args: Args, blocks: int, where: str, balance: int = BALANCE_INTERVAL) -> RadianceTrainer:
    """A table with half as many cells per axis as it will have; `balance` as in `RankTrainer`."""
    torch.manual_seed(0)
    city = City(blocks)
    sizes = RadianceSizes(grid_nodes=args.grid_nodes, occupancy_voxels=8, color_width=0, color_features=27)
    field = RadianceField(PartitionGrid((blocks // 2, blocks // 2, FLOORS // 2), *city.box), sizes)
    never = {"occupancy_interval": NEVER, "prune_interval": 0}
    settings = TrainingSettings(
        split_steps=(1,), steps_per_scene=blocks * 24, samples_per_batch=args.rays * 64, seam_points=256, **never
    )
    if where in RANKS:
        trainer: RadianceTrainer = RankTrainer(field, settings, Ranks(), balance_interval=balance)
    elif where == "device":
        trainer = RadianceTrainer(field, settings)
    else:
        trainer = StoredTrainer(field, settings, where=where, folder=args.folder)  # type: ignore[arg-type]
    trainer.restrict(city.shell((blocks * 8, blocks * 8, FLOORS * 8), -0.03))
    trainer.stride = 1.0
    return trainer


def of_cameras(args: Args, city: City, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rays of a step's cameras, which stand near each other if that is wanted."""
    places = city.rays(8192, step)[0]
    if args.within:
        places = places[(places - places[0]).norm(dim=1) <= args.within]
    _, directions = city.rays(args.rays, step)
    return places[torch.arange(args.rays) % min(args.cameras, len(places))], directions


def train(args: Args, trainer: RadianceTrainer, city: City, steps: int) -> dict[str, Any]:
    """Some steps; what they cost, of the second half."""
    optimizer = torch.optim.Adam(trainer.field.parameters(), lr=1e-2, eps=1e-15, fused=True)
    asked, most, half, begin = 0.0, 0, steps // 2, (0.0, 0.0)
    for step in range(1, steps + 1):
        if step == half + 1:
            begin = time.process_time(), time.perf_counter()
        origins, directions = of_cameras(args, city, step)
        colors, _ = city.look(origins, directions)
        trainer.begin(step, [optimizer])
        view = trainer.render(origins, directions)
        losses = trainer.losses(view, colors)
        optimizer.zero_grad()
        sum(losses.values()).backward()  # type: ignore[union-attr]
        optimizer.step()
        most = max(most, memory("RssAnon"))
        if view.asked is not None:
            rows = trainer.field.rows_of_unit(trainer.field.frame.to_unit(view.asked.positions.detach()))
            asked += len(rows.unique()) / max(1, trainer.field.num_rows) / steps
    now = time.process_time(), time.perf_counter()
    processor, wall = (round((after - before) / (steps - half), 3) for after, before in zip(now, begin))
    told = {"processor": processor, "wall": wall, "asked": round(asked, 3), "anonymous": most}
    return told | {"loss": round(float(losses["rgb_loss"].detach()), 5)}


def measure(args: Args, blocks: int, where: str, steps: int) -> dict[str, Any]:
    """Train a city of a size, and say what it cost."""
    torch.set_num_threads(1)
    torch.nn.functional.relu(torch.rand(8, 8, requires_grad=True) @ torch.rand(8, 8)).sum().backward()
    before = memory("RssAnon")
    if args.limit:
        most = memory("VmData") + int(args.limit * 1e9)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    trainer, city = start(args, blocks, where, min(BALANCE_INTERVAL, steps - 1)), City(blocks)
    told = {"steps": steps} | train(args, trainer, city, steps)
    told["anonymous"] = round((told["anonymous"] - before) / 1e9, 3)
    if isinstance(trainer, RankTrainer):
        told["anonymous"] = max(trainer.ranks.all_of(told["anonymous"]))
    if args.train:
        told["PSNR"] = round(city.psnr(trainer.look, trainer.settings.far_plane), 2)
    cells, own = (
        (len(trainer.owners.cells) if isinstance(trainer, RankTrainer) else trainer.field.num_rows),
        trainer.field,
    )
    row = own.num_parameters()["local"] / max(1, own.num_rows)
    return {"cells": cells, "row GB": round(4e-9 * cells * row, 3)} | told


def worker(rank: int, folder: str, answer: Connection, args: Args, blocks: int, where: str, steps: int) -> None:
    """A process of a measurement; the first one answers, and any that fails. What memory does not suffice for may end
    it without an answer.

    One that fails ends at once, with its connections, so that the others do not wait for it."""
    size = RANKS.get(where, 1)
    if args.limit:  # what allocators say when there is no more is what is looked for
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    if size > 1:
        store = dist.FileStore(f"{folder}/store", size)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=PATIENCE)
    try:
        told = measure(args, blocks, where, steps)
    except (MemoryError, RuntimeError) as error:
        told = {"error": str(error)}
    if rank == 0 or "error" in told:
        answer.send(told)
    if "error" in told:
        os._exit(1)


def in_processes(args: Args, blocks: int, where: str, steps: int) -> dict[str, Any] | None:
    """What processes of their own say; None where they ended before, or memory did not suffice."""
    ours, theirs = multiprocessing.Pipe()
    with tempfile.TemporaryDirectory() as folder:
        given = (folder, theirs, args, blocks, where, steps)
        context = multiprocessing.get_context("spawn")
        workers = [context.Process(target=worker, args=(rank, *given)) for rank in range(RANKS.get(where, 1))]
        for one in workers:
            one.start()
        theirs.close()
        answers: list[dict[str, Any]] = []
        with contextlib.suppress(EOFError):  # when all have ended
            while True:
                answers.append(ours.recv())
        for one in workers:
            one.join()
    if answers and not any("error" in told for told in answers):
        return answers[0]
    first = next((told["error"] for told in answers if "error" in told), "a process ended")
    why = (first.splitlines() or ["no memory"])[0][:200]
    if not args.limit:
        raise SystemExit(f"rows on {where}, {blocks} blocks: {why}")
    print(f"rows on {where}: {blocks} blocks do not fit for {steps} steps: {why}", flush=True)
    return None


def largest(args: Args, where: str) -> dict[str, Any]:
    """The largest city that fits: the largest that takes some steps, found by halving, or the next smaller ones until
    all of the training fits; and what that comes to."""
    sizes, fits = sorted(args.blocks), 0
    beyond = len(sizes) + 1
    while beyond - fits > 1:
        middle = (fits + beyond) // 2
        told = in_processes(args, sizes[middle - 1], where, PROBE)
        fits, beyond = (fits, middle) if told is None else (middle, beyond)
    line: dict[str, Any] = {"rows on": where, "limit": args.limit}
    for blocks in reversed(sizes[:fits]):
        told = in_processes(args, blocks, where, args.train or PROBE)
        if told is not None:
            return line | {"blocks": blocks} | told
    return line | {"blocks": 0}


def main(args: Args) -> None:
    """Measure."""
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        args.folder = Path(folder)
        for where in args.places:
            if args.limit:
                print(json.dumps(largest(args, where)), flush=True)
                continue
            for blocks in args.blocks:
                told = in_processes(args, blocks, where, args.train or 2 * args.steps)
                print(json.dumps({"rows on": where, "blocks": blocks} | (told or {})), flush=True)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
