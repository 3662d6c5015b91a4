"""What rows on many ranks hold, do and send: a city trained by 1, 2, 4, 8 processes on this machine.

    python scripts/bench/distributed.py --ranks 1 2 4 8
    python scripts/bench/distributed.py --ranks 1 2 3 --blocks 4 --rays 64 --train 500 --seeds 0 1 2 3 4 5

Ranks share the machine's cores, so that work is told in processor time of each rank and in bytes, not in seconds; the
seconds of a step mean something where every rank has a core. One JSON line for each number of ranks:
- cells, and bytes of rows with their gradients and Adam moments, of the largest rank and in all; bytes of the shared
  part likewise, which every rank has;
- `uneven`: samples of the busiest rank over the mean, after cells have changed owners;
- `sent`: bytes a rank gives to others in a step, by what they are, and as a part of the bytes of its rows;
- `processor`: seconds of a step, the busiest rank's and the mean; `wall`: of the whole step.

With `--train` a city is trained for so many steps, with a split, prunings and looks for empty space, from half as many
cells per axis, once with each seed; a line has the `PSNR` of rays that no step had. Sums in another order round
otherwise, and training amplifies that: what it comes to without any ranks is told by `nudged`, one rank whose weights
begin a rounding (2^-23 of each) apart. `apart` are, seed by seed, the PSNRs less those of the first line, with their
mean and its standard error.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import tyro

sys.path.insert(0, str(Path(__file__).parents[1]))

from city import City

from lg_field import PartitionGrid
from lg_field.distributed.ranks import Ranks
from lg_field.distributed.trainer import RankTrainer
from lg_field.radiance.field import RadianceField
from lg_field.radiance.sizes import RadianceSizes
from lg_field.radiance.training import TrainingSettings
from lg_field.training.methods import METHODS

NEVER = 10**6
FALL = 0.05
"""Part of the first learning rate that the last step has, as in `lg-field`."""
NUDGED = "nudged"
"""Said of the run of one rank whose weights begin a rounding apart."""


@dataclass
class Args:
    """Measure."""

    ranks: tuple[int, ...] = (1, 2, 4, 8)
    """Numbers of processes."""
    blocks: int = 64
    """Blocks along a side of the city, and cells along x and y."""
    floors: int = 4
    """Cells along z."""
    rays: int = 1024
    """In a step."""
    steps: int = 12
    """Measured, after as many that are not."""
    method: str = "lg-field-tiny"
    """Whose sizes rows and shared part have."""
    grid_nodes: int = 0
    """Nodes per axis of a cell's feature grid; 0: as the method has."""
    train: int = 0
    """Steps before the PSNR is looked at; 0: work and bytes are measured instead."""
    seeds: tuple[int, ...] = (0,)
    """Of weights, rays and whatever else is drawn in training, with `--train`."""


def sizes_of(args: Args) -> RadianceSizes:
    """Of the table; with few voxels, of which the rays of a process do not profit."""
    sizes = replace(METHODS[args.method].sizes, occupancy_voxels=4, contracted_density=False)
    return replace(sizes, grid_nodes=args.grid_nodes) if args.grid_nodes else sizes


def start(args: Args, ranks: Ranks) -> tuple[RankTrainer, torch.optim.Optimizer]:
    """A table for the city whose occupied voxels are its surfaces, without rows for what is empty."""
    torch.manual_seed(0)
    city = City(args.blocks)
    field = RadianceField(PartitionGrid((args.blocks, args.blocks, args.floors), *city.box), sizes_of(args))
    settings = TrainingSettings(
        split_steps=(),
        steps_per_scene=args.blocks * 24,
        samples_per_batch=args.rays * 64,
        occupancy_interval=NEVER,
        prune_interval=1,
        prune_from=1,
    )
    trainer = RankTrainer(field, settings, ranks, balance_interval=args.steps // 2)
    trainer.restrict(city.shell((args.blocks * 4, args.blocks * 4, args.floors * 4)))
    trainer.stride = 1.0
    return trainer, torch.optim.Adam(field.parameters(), lr=1e-2, eps=1e-15, fused=True)


def train_step(
    trainer: RankTrainer, optimizer: torch.optim.Optimizer, city: City, rays: int, step: int, first: int = 0
) -> float:
    """Train on so many rays of a city, whose seed is the step counted from `first`; the mean squared error of their
    colours."""
    origins, directions = city.rays(rays, first + step)
    colors, _ = city.look(origins, directions)
    trainer.begin(step, [optimizer])
    losses = trainer.losses(trainer.render(origins, directions), colors)
    optimizer.zero_grad()
    sum(losses.values()).backward()  # type: ignore[union-attr]
    optimizer.step()
    return float(losses["rgb_loss"].detach())


def measure(args: Args) -> dict[str, Any]:
    """Of this rank: its memory, work and bytes."""
    ranks = Ranks()
    trainer, optimizer = start(args, ranks)
    field, city = trainer.field, City(args.blocks)
    samples, before = 0.0, (0.0, 0.0)
    for step in range(1, 2 * args.steps + 1):
        if step == args.steps + 1:
            ranks.barrier()
            ranks.sent.clear()
            samples, before = 0.0, (time.process_time(), time.perf_counter())
        loss = train_step(trainer, optimizer, city, args.rays, step)
        assert trainer.rays is not None
        samples += len(trainer.rays.own.samples.rays) / args.steps
    after = (time.process_time(), time.perf_counter())
    processor, wall = ((now - then) / args.steps for now, then in zip(after, before))
    rows = sum(getattr(field, name).numel() for name in ("local", "features"))
    every = sum(p.numel() for p in field.parameters())
    return {
        "cells": field.num_rows,
        "rows": 16 * rows,
        "shared": 16 * (every - rows),
        "samples": samples,
        "sent": {what: count // args.steps for what, count in ranks.sent.items()},
        "processor": processor,
        "wall": wall,
        "loss": loss,
    }


def learn(args: Args, seed: int, nudged: bool = False) -> dict[str, Any]:
    """How well the ranks show a city after training it."""
    torch.manual_seed(seed)
    city = City(args.blocks)
    half = (args.blocks // 2, args.blocks // 2, args.floors // 2)
    field = RadianceField(PartitionGrid(half, *city.box), sizes_of(args))
    if nudged:
        with torch.no_grad():
            for parameter in field.parameters():
                parameter.mul_(1.0 + 2.0**-23)
    settings = TrainingSettings(
        split_steps=(args.train // 5,), steps_per_scene=args.blocks * 24, samples_per_batch=args.rays * 64
    )
    trainer = RankTrainer(field, settings, Ranks())
    optimizer = torch.optim.Adam(field.parameters(), lr=1e-2, eps=1e-15, fused=True)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, FALL ** (1.0 / args.train))
    for step in range(args.train):
        train_step(trainer, optimizer, city, args.rays, step, seed * args.train)
        schedule.step()
    return {"cells": len(trainer.owners.cells), "PSNR": round(city.psnr(trainer.look, settings.far_plane), 3)}


def worker(rank: int, size: int, folder: str, args: Args) -> None:
    """One rank."""
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store", size)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size)
    told: Any
    if args.train:
        told = {"": [learn(args, seed) for seed in args.seeds]}
        if size == 1:
            told[NUDGED] = [learn(args, seed, nudged=True) for seed in args.seeds]
    else:
        told = measure(args)
    Path(folder, f"{rank}.json").write_text(json.dumps(told))
    dist.barrier()
    dist.destroy_process_group()


def apart(ours: list[float], first: list[float]) -> dict[str, Any]:
    """How far values are from the first ones: each, their mean, and that mean's standard error."""
    away = torch.tensor(ours, dtype=torch.float64) - torch.tensor(first, dtype=torch.float64)
    error = float(away.std() / len(away) ** 0.5) if len(away) > 1 else None
    return {"each": [round(v, 3) for v in away.tolist()], "mean": round(float(away.mean()), 4), "error": error}


def summary(size: int, told: list[dict[str, Any]]) -> dict[str, Any]:
    """The line of a number of ranks."""
    of = {name: [one[name] for one in told] for name in told[0]}
    sent = {what: max(one["sent"].get(what, 0) for one in told) for what in sorted({w for s in of["sent"] for w in s})}
    stepwise = sum(count for what, count in sent.items() if what != "rows")
    return {
        "ranks": size,
        "cells": [max(of["cells"]), sum(of["cells"])],
        "rows": [max(of["rows"]), sum(of["rows"])],
        "shared": of["shared"][0],
        "samples": round(sum(of["samples"])),
        "uneven": round(max(of["samples"]) * size / max(1.0, sum(of["samples"])), 3),
        "sent": sent | {"part of rows": round(stepwise / (min(of["rows"]) / 4), 5)},
        "processor": [round(max(of["processor"]), 4), round(sum(of["processor"]) / size, 4)],
        "wall": round(max(of["wall"]), 4),
        "loss": of["loss"][0],
    }


def on_ranks(size: int, args: Args) -> list[dict[str, Any]]:
    """What each of so many processes says."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        workers = [context.Process(target=worker, args=(rank, size, folder, args)) for rank in range(size)]
        for one in workers:
            one.start()
        for one in workers:
            one.join()
        if any(one.exitcode for one in workers):
            raise SystemExit(f"a rank of {size} failed")
        return [json.loads(Path(folder, f"{rank}.json").read_text()) for rank in range(size)]


def main(args: Args) -> None:
    """Measure every number of ranks, one after the other."""
    first: list[float] = []
    for size in args.ranks:
        told = on_ranks(size, args)
        if not args.train:
            print(json.dumps(summary(size, told)), flush=True)
            continue
        for how, runs in told[0].items():
            line = {"ranks": size, "how": how, "steps": args.train} | {k: [run[k] for run in runs] for k in runs[0]}
            first = first or line["PSNR"]
            print(json.dumps(line | {"apart": apart(line["PSNR"], first)}), flush=True)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
