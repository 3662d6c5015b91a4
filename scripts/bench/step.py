"""One training step (forward, backward, Adam): lg-field's fast path beside a plain re-statement of the operation.

    MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000 MALLOC_TOP_PAD_=1000000000 python scripts/bench/step.py

The plain way (bmm, add the bias, sin(30 x), concatenate, linear; all points at once; ragged points in a loop over the
cells) and the fast one take turns in one process, with the same weights and points; medians, ratio, and the peak memory
of each in a process of its own (Linux). The malloc settings spare both the page faults of fresh buffers.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from torch import Tensor

from lg_field.networks.initialization import init_rows, init_shared
from lg_field.ops import ChainShape
from lg_field.training import CHUNK, accumulate_gradients

CASES = {
    # name: (shape, cells, points, ragged)
    "image": (ChainShape(2, 3, 14, 84, 3), 256, 262_144, False),
    "audio": (ChainShape(1, 1, 42, 72, 3), 32, 308_224, False),
    "video": (ChainShape(3, 3, 55, 180, 3), 320, 157_440, False),
    "occupancy": (ChainShape(3, 1, 17, 76, 3), 179, 100_240, False),
    "ragged": (ChainShape(2, 3, 14, 84, 3), 256, 262_144, True),
}


@dataclass
class Args:
    """Measure."""

    cases: tuple[str, ...] = tuple(CASES)
    """Which."""
    rounds: int = 5
    """Turns of each."""
    threads: int = 1
    """CPU threads."""
    device: str = "cpu"
    """cpu or cuda."""
    memory: str = ""
    """(internal) run one step of this way and print the peak memory."""


def problem(name: str, device: str) -> tuple:
    """Weights, points sorted by row, offsets and targets of a case."""
    shape, cells, points, ragged = CASES[name]
    torch.manual_seed(0)
    if ragged:  # a tenth of the cells hold nine tenths of the points
        share = torch.ones(cells)
        share[: cells // 10] = 9.0 * (cells - cells // 10) / (cells // 10)
        counts = (share / share.sum() * points).long()
    else:
        counts = torch.full((cells,), points // cells)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
    total = int(offsets[-1])
    table = init_rows(shape, cells).to(device).requires_grad_()
    shared = {k: v.to(device).requires_grad_() for k, v in init_shared(shape).items()}
    x, y = torch.rand(total, shape.in_features) * 2 - 1, torch.rand(total, shape.out_features)
    return shape, table, shared, x.to(device), offsets.to(device), y.to(device)


def plain_chain(x: Tensor, offsets: Tensor, table: Tensor, shared: dict[str, Tensor], shape: ChainShape) -> Tensor:
    """The operation as one would write it down; concat merge, sine."""
    layers, counts = shape.views(table), offsets.diff()
    uniform = bool((counts == counts[0]).all())

    def local(points: Tensor, layer: int) -> Tensor:
        weight, bias = layers[layer]
        if uniform:
            return (torch.bmm(points.view(len(counts), int(counts[0]), -1), weight) + bias).flatten(0, 1)
        pieces = points.split(counts.tolist())
        return torch.cat([torch.addmm(b[0], piece, w) for piece, w, b in zip(pieces, weight, bias)])

    m = g = x
    for k in range(shape.depth):
        g = torch.sin(shape.w0 * (g @ shared[f"global_weight_{k}"] + shared[f"global_bias_{k}"]))
        m = torch.cat([torch.sin(shape.w0 * local(m, k)), g], dim=1)
        m = torch.sin(shape.w0 * (m @ shared["merge_weight"] + shared["merge_bias"]))
    return local(m, shape.depth)


def stepper(name: str, way: str, device: str):
    """A function that makes one training step."""
    shape, table, shared, x, offsets, y = problem(name, device)
    optimizer = torch.optim.Adam([table, *shared.values()], fused=way == "fast")

    def step() -> None:
        optimizer.zero_grad()
        if way == "fast":
            accumulate_gradients(x, offsets, y, table, shared, shape, CHUNK[device])
        else:
            (plain_chain(x, offsets, table, shared, shape) - y).square().mean().backward()
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    return step


def peak_kilobytes() -> int:
    """Largest resident size of this process so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def main(args: Args) -> None:
    """Measure and print."""
    torch.set_num_threads(args.threads)
    if args.memory:
        case, way = args.memory.split(":")
        step = stepper(case, way, args.device)
        before = peak_kilobytes()
        step()
        print(json.dumps(peak_kilobytes() - before))
        return
    print(f"| case | plain s | fast s | ratio | plain MB | fast MB | memory |\n{'| --- ' * 7}|")
    for name in args.cases:
        steps = {way: stepper(name, way, args.device) for way in ("plain", "fast")}
        times: dict[str, list[float]] = {"plain": [], "fast": []}
        for turn in range(args.rounds + 1):
            for way, step in steps.items():
                begin = time.perf_counter()
                step()
                if turn:
                    times[way].append(time.perf_counter() - begin)
        plain, fast = (statistics.median(times[w]) for w in ("plain", "fast"))
        memory = []
        for way in ("plain", "fast"):
            command = [sys.executable, __file__, "--memory", f"{name}:{way}", "--device", args.device]
            memory.append(json.loads(subprocess.check_output(command)) / 1024)
        print(
            f"| {name} | {plain:.3f} | {fast:.3f} | {plain / fast:.2f} | {memory[0]:.0f} | {memory[1]:.0f} | "
            f"{memory[1] / memory[0]:.0%} |",
            flush=True,
        )


if __name__ == "__main__":
    main(tyro.cli(Args))
