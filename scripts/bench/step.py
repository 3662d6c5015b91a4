"""One training step (forward, backward, Adam): lg-field beside a plain re-statement of the operation.

    MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000 MALLOC_TOP_PAD_=1000000000 python scripts/bench/step.py

Four ways take turns in one process, with the same weights and points; medians, ratios to the plain way, and the peak
memory of each in a process of its own (Linux):
- plain: bmm, add the bias, sin(30 x), concatenate, linear; all points at once; ragged points in a loop over the cells;
- blocks: the fast torch path, `backend="torch"`; signals in chunks;
- op: the fused CPU kernel as a differentiable operation, `backend="cpu"`;
- step: the fused CPU kernel with the loss inside, as signals are trained.
The malloc settings spare all of them the page faults of fresh buffers. On one CPU thread times are processor time, so
that other programs on the machine count less.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import tyro
from torch import Tensor

from lg_field.networks.initialization import init_rows, init_shared
from lg_field.ops import ChainSizes, accumulate_gradients, local_global_chain
from lg_field.ops.backends import BACKENDS
from lg_field.signals.fit import CHUNK

RAYS = ChainSizes(19, 16, 16, 64, 1, "relu", residual=True, global_in_features=39)
CASES = {
    # name: (shape, cells, points, how they lie in the cells)
    "image": (ChainSizes(2, 3, 14, 84, 3), 256, 262_144, "equal"),
    "audio": (ChainSizes(1, 1, 42, 72, 3), 32, 308_224, "equal"),
    "video": (ChainSizes(3, 3, 55, 180, 3), 320, 157_440, "equal"),
    "video-h38": (ChainSizes(3, 3, 38, 128, 3), 320, 157_440, "equal"),
    "occupancy": (ChainSizes(3, 1, 17, 76, 3), 179, 100_240, "equal"),
    "ragged": (ChainSizes(3, 4, 16, 84, 3), 512, 200_000, "random"),
    "ragged-skewed": (ChainSizes(3, 4, 16, 84, 3), 512, 200_000, "skewed"),
    "ragged-wide": (ChainSizes(3, 4, 32, 128, 3), 512, 200_000, "random"),
    "ragged-wide-skewed": (ChainSizes(3, 4, 32, 128, 3), 512, 200_000, "skewed"),
    "rays": (RAYS, 512, 200_000, "random"),
    "rays-skewed": (RAYS, 512, 200_000, "skewed"),
}
"""The paper's networks; ragged batches, without chunks (skewed: nine tenths of the points lie in a tenth of the cells);
lg-field-tiny's relu network, whose inputs want gradients too."""
WAYS = {"cpu": ("plain", "blocks", "op", "step"), "cuda": ("plain", "blocks", *({"triton"} & set(BACKENDS)))}
"""Ways that a kind of device knows."""
BACKEND = {"blocks": "torch", "op": "cpu", "step": "cpu"}
"""What a way asks for by another name than its own."""


@dataclass
class Args:
    """Measure."""

    cases: tuple[str, ...] = tuple(CASES)
    """Which."""
    ways: tuple[str, ...] = ()
    """Which ways; all that the device knows unless named."""
    rounds: int = 5
    """Turns of each."""
    threads: int = 1
    """CPU threads."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where; on a GPU memory is what torch takes there."""
    memory: str = ""
    """(internal) run one step of this way and print the peak memory."""


def problem(name: str, device: str) -> tuple:
    """Weights, points sorted by row, offsets and targets of a case."""
    shape, cells, points, spread = CASES[name]
    torch.manual_seed(0)
    share = torch.ones(cells)
    if spread == "skewed":
        share[: cells // 10] = 9.0 * (cells - cells // 10) / (cells // 10)
    if spread == "equal":
        counts = torch.full((cells,), points // cells)
    else:
        counts = torch.bincount(torch.multinomial(share, points, replacement=True), minlength=cells)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
    total = int(offsets[-1])
    table = init_rows(shape, cells).to(device).requires_grad_()
    shared = {k: v.to(device).requires_grad_() for k, v in init_shared(shape).items()}
    x, y = torch.rand(total, shape.in_features) * 2 - 1, torch.rand(total, shape.out_features)
    x = x.to(device).requires_grad_(name.startswith("rays"))
    global_x = torch.rand(total, shape.global_in).to(device) if shape.global_in_features else x
    return shape, table, shared, x, global_x, offsets.to(device), y.to(device)


def plain_chain(
    x: Tensor, offsets: Tensor, table: Tensor, shared: dict[str, Tensor], shape: ChainSizes, global_x: Tensor
) -> Tensor:
    """The operation as one would write it down; concat merge."""
    layers, counts = shape.views(table), offsets.diff()
    uniform = bool((counts == counts[0]).all())

    def local(points: Tensor, layer: int) -> Tensor:
        weight, bias = layers[layer]
        if uniform:
            return (torch.bmm(points.view(len(counts), int(counts[0]), -1), weight) + bias).flatten(0, 1)
        pieces = points.split(counts.tolist())
        return torch.cat([torch.addmm(b[0], piece, w) for piece, w, b in zip(pieces, weight, bias)])

    def act(z: Tensor) -> Tensor:
        return torch.sin(shape.w0 * z) if shape.activation == "sine" else torch.relu(z)

    m, g = x, global_x
    for k in range(shape.depth):
        g = act(g @ shared[f"global_weight_{k}"] + shared[f"global_bias_{k}"])
        m = torch.cat([act(local(m, k)), g], dim=1)
        m = act(m @ shared["merge_weight"] + shared["merge_bias"])
    out = local(m, shape.depth)
    return out + g @ shared["head_weight"] + shared["head_bias"] if shape.residual else out


def stepper(name: str, way: str, device: str):
    """A function that makes one training step."""
    shape, table, shared, x, global_x, offsets, y = problem(name, device)
    optimizer = torch.optim.Adam([table, *shared.values()], fused=way != "plain")

    def loss() -> Tensor:
        if way == "plain":
            out = plain_chain(x, offsets, table, shared, shape, global_x)
        else:
            out = local_global_chain(x, offsets, table, shared, shape, global_x=global_x, backend=BACKEND.get(way, way))
        return (out - y).square().mean()

    def step() -> None:
        optimizer.zero_grad()
        x.grad = None
        if way == "step" or (way == "blocks" and not name.startswith(("ragged", "rays"))):
            accumulate_gradients(x, offsets, y, table, shared, shape, CHUNK[device], BACKEND[way])
        else:
            loss().backward()
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    return step


def peak_kilobytes(device: str) -> int:
    """Largest resident size of this process so far; on a GPU the most memory taken there."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() // 1024
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def main(args: Args) -> None:
    """Measure and print."""
    torch.set_num_threads(args.threads)
    if args.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("step.py: --device cuda needs a GPU that torch can use: take --device cpu")
    if args.memory:
        case, way = args.memory.split(":")
        step = stepper(case, way, args.device)
        before = peak_kilobytes(args.device)
        step()
        print(json.dumps(peak_kilobytes(args.device) - before))
        return
    known = WAYS[args.device]
    if not set(args.ways) <= set(known):
        raise SystemExit(f"step.py: on {args.device} there are the ways {', '.join(known)}, got {' '.join(args.ways)}")
    args.ways = args.ways or known
    clock = time.process_time if args.threads == 1 and args.device == "cpu" else time.perf_counter
    heads = [*(f"{way} s" for way in args.ways), *args.ways[1:], *(f"{way} MB" for way in args.ways)]
    print(f"| case | {' | '.join(heads)} |\n{'| --- ' * (1 + len(heads))}|")
    for name in args.cases:
        ways = [way for way in args.ways if way != "step" or not CASES[name][0].residual]  # whose loss is elsewhere
        steps = {way: stepper(name, way, args.device) for way in ways}
        times: dict[str, list[float]] = {way: [] for way in args.ways}
        for turn in range(args.rounds + 1):
            for way, step in steps.items():
                begin = clock()
                step()
                if turn:
                    times[way].append(clock() - begin)
        memory = {}
        for way in ways:
            command = [sys.executable, __file__, "--memory", f"{name}:{way}", "--device", args.device]
            memory[way] = json.loads(subprocess.check_output(command)) / 1024
        median = {way: statistics.median(times[way]) for way in ways}
        cells = [f"{median[way]:.3f}" if way in ways else "" for way in args.ways]
        cells += [f"{median[args.ways[0]] / median[way]:.2f}" if way in ways else "" for way in args.ways[1:]]
        cells += [f"{memory[way]:.0f}" if way in ways else "" for way in args.ways]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Args))
