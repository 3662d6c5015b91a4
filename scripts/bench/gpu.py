"""A training step and a picture on a GPU: Triton kernels beside torch, in turns, on a scene that the script makes.

    python scripts/bench/gpu.py                     # under three minutes; prints tables
    python scripts/bench/gpu.py --device cpu --rays 16 --pixels 16 --rounds 1     # whether it runs at all

For the networks of lg-field-tiny and lg-field, with random weights in the cells that a few balls touch: the chain
alone, steps per second (forward, backward, Adam), pictures per second and peak memory; torch with float32 products
("torch"), with TF32 ("torch-tf32"), and the same of the Triton kernels. Values and gradients of the chain are compared
with the reference in float64 first, by the largest difference relative to the largest value.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from lg_field.networks.initialization import init_rows, init_shared
from lg_field.ops import ChainSizes, local_global_chain
from lg_field.radiance.cameras import look_along
from lg_field.radiance.field import RadianceField, RadianceSizes
from lg_field.radiance.render import orbit, render
from lg_field.radiance.scene import Scene
from lg_field.radiance.training import RadianceTrainer, TrainingSettings
from lg_field.space.partition import PartitionGrid

WAYS = {
    "torch": ("torch", "highest"),
    "torch-tf32": ("torch", "high"),
    "triton": ("triton", "highest"),
    "triton-tf32": ("triton", "high"),
}
"""Backend and torch's float32 matmul precision."""
NETWORKS = {
    "lg-field-tiny": (RadianceSizes(grid_nodes=11, hash_levels=4, color_width=0, color_features=27), 1024, 2**14),
    "lg-field": (
        RadianceSizes(grid_nodes=17, hash_levels=4, log2_hashmap_size=15, color_width=0, color_features=27),
        4096,
        2**18,
    ),
}
"""Sizes, rays of a step, and points at which the chain alone is measured."""
CHAINS = {
    "rays": ChainSizes(19, 28, 16, 64, 1, "relu", residual=True, global_in_features=51),
    "odd sine": ChainSizes(2, 3, 13, 37, 2, w0=10.0),
    "add gauss": ChainSizes(5, 3, 7, 20, 1, "gauss", w0=3.0, merge="add", residual=True),
    "wide": ChainSizes(33, 40, 64, 128, 1, "relu", residual=True, global_in_features=100),
}


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda or cpu")
    parser.add_argument("--ways", default=",".join(WAYS), help="some of them, by commas")
    parser.add_argument("--networks", default=",".join(NETWORKS), help="some of them, by commas")
    parser.add_argument("--rays", type=int, default=0, help="of a training step; 0: what the method takes")
    parser.add_argument("--pixels", type=int, default=800, help="width and height of pictures")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each way")
    parser.add_argument("--profile", action="store_true", help="print where the time of a Triton step goes")
    return parser.parse_args()


def wait(device: str) -> None:
    """Until the device has done everything."""
    if device == "cuda":
        torch.cuda.synchronize()


def seconds(work: Callable[[], object], device: str) -> float:
    """Wall clock of some work."""
    wait(device)
    begin = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - begin


def chain_values(sizes: ChainSizes, backend: str, dtype: torch.dtype, device: str, points: int) -> list[Tensor]:
    """Output and gradients of a ragged chain with an empty row."""
    generator = torch.Generator().manual_seed(0)
    share = torch.tensor([0.0, 5.0, 1.0, 0.01, 3.0])
    rows = torch.multinomial(share, points, replacement=True, generator=generator).sort().values
    offsets = torch.searchsorted(rows, torch.arange(6)).to(device)
    x, gx = (torch.rand(points, n, generator=generator) for n in (sizes.in_features, sizes.global_in))
    table = init_rows(sizes, 5, generator) + 0.05 * torch.randn(5, sizes.row_size, generator=generator)
    values = [x, gx, table, *init_shared(sizes, generator).values()]
    dy = torch.randn(points, sizes.out_features, generator=generator).to(device, dtype)
    x, gx, table, *shared = (v.detach().to(device, dtype).requires_grad_() for v in values)
    named = dict(zip(sizes.shared_shapes(), shared))
    y = local_global_chain(x, offsets, table, named, sizes, global_x=gx, backend=backend)
    return [y.detach(), *torch.autograd.grad(y, [x, gx, table, *shared], dy)]


def check(ways: list[str], device: str, points: int) -> None:
    """Print how far each way is from the reference in float64."""
    print(f"| difference of {points} points | {' | '.join(ways)} |\n{'| --- ' * (1 + len(ways))}|")
    for name, sizes in CHAINS.items():
        exact, cells = chain_values(sizes, "reference", torch.float64, device, points), []
        for way in ways:
            backend, precision = WAYS[way]
            torch.set_float32_matmul_precision(precision)
            try:
                found = chain_values(sizes, backend, torch.float32, device, points)
                worst = [float((a - b).abs().max() / b.abs().max()) for a, b in zip(found, exact)]
                cells.append(f"{worst[0]:.1e}, gradients {max(worst[1:]):.1e}")
            except (ValueError, RuntimeError) as error:
                cells.append(f"{type(error).__name__}: {str(error)[:90]}")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def scene_of(sizes: RadianceSizes, device: str) -> tuple[RadianceField, Scene]:
    """A field of cells that some balls touch, opaque inside of them."""
    torch.manual_seed(0)
    grid = PartitionGrid((8, 8, 8), (-1.0,) * 3, (1.0,) * 3)
    field = RadianceField(grid, sizes)
    r = sizes.occupancy_voxels
    axis = (torch.arange(8 * r) + 0.5) / (4 * r) - 1.0
    points = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)
    balls = torch.rand(12, 4) * torch.tensor([1.2, 1.2, 1.2, 0.25]) - torch.tensor([0.6, 0.6, 0.6, -0.1])
    inside = torch.zeros(points.shape[:3], dtype=torch.bool)
    for *middle, radius in balls.tolist():
        inside |= (points - torch.tensor(middle)).norm(dim=-1) < radius
    field.occupancy.restrict_(inside)
    field.select_(field.occupied.any(1).nonzero()[:, 0])
    with torch.no_grad():
        field.features.copy_(torch.randn_like(field.features))
        field.local.add_(0.1 * torch.randn_like(field.local))
    eye = torch.tensor((2.6, 1.4, 1.2), dtype=torch.float64)
    camera = look_along(eye, -eye / eye.norm(), torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))
    world = tuple(tuple(float(i == j) for j in range(4)) for i in range(4))
    step = field.frame.step_length(384)
    return field.to(device), Scene(world, step=step, far=10.0, camera=tuple(map(tuple, camera.tolist())), focal=1.2)


def training(field: RadianceField, scene: Scene, rays: int, device: str) -> Callable[[], int]:
    """A function that makes one training step on random rays; returns its samples."""
    cameras = list(orbit(field, scene, 8, 200, 200))
    origins, directions = (torch.cat(v).view(-1, 3).to(device) for v in zip(*(c.rays() for c in cameras)))
    optimizer = torch.optim.Adam([p for p in field.parameters() if p.numel()], lr=1e-6, fused=device == "cuda")
    trainer = RadianceTrainer(field, TrainingSettings(split_steps=(), harmonics_loss_mult=2e-3))
    trainer.step = 1000
    target = torch.full((rays, 3), 0.5, device=device)

    def step() -> int:
        trainer.stride = 1.0
        chosen = torch.randint(len(origins), (rays,), device=device)
        view = trainer.render(origins[chosen], directions[chosen])
        optimizer.zero_grad()
        sum(trainer.losses(view, target).values()).backward()
        optimizer.step()
        return 0 if view.marched is None else len(view.marched.rays)

    return step


def measure(work: Callable[[], object], field: RadianceField, ways: list[str], device: str, rounds: int) -> None:
    """Print a line of times, ratios to the first way and peak memory, or why a way cannot run."""
    times: dict[str, list[float]] = {way: [] for way in ways}
    peaks, faults = dict.fromkeys(ways, 0.0), {}
    for turn in range(rounds + 2):
        for way in ways:
            if way in faults:
                continue
            field.backend, precision = WAYS[way]
            torch.set_float32_matmul_precision(precision)
            if device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            try:
                spent = seconds(work, device)
            except (ValueError, RuntimeError) as error:
                faults[way] = f"{type(error).__name__}: {str(error)[:90]}"
                continue
            if turn > 1 or rounds < 2:
                times[way].append(spent)
            if device == "cuda":
                peaks[way] = torch.cuda.max_memory_allocated() / 2**20
    first = statistics.median(times[ways[0]]) if times[ways[0]] else float("nan")
    for way in ways:
        if way in faults:
            print(f"|   | {way} | {faults[way]} | | | |")
            continue
        middle = statistics.median(times[way])
        numbers = f"{1e3 * middle:.2f} | {1 / middle:.1f} | {first / middle:.2f} | {peaks[way]:.0f}"
        print(f"|   | {way} | {numbers} |", flush=True)


def chain_alone(points: int, device: str) -> tuple[RadianceField, Callable[[], object]]:
    """Forward and backward of the networks' chain on random points; a field names the backend."""
    sizes, rows = CHAINS["rays"], min(200, points // 20)
    field = RadianceField(PartitionGrid((1, 1, 1), (0.0,) * 3, (1.0,) * 3), RadianceSizes(grid_nodes=2))
    torch.manual_seed(0)
    owners = torch.randint(rows, (points,), device=device).sort().values
    offsets = torch.searchsorted(owners, torch.arange(rows + 1, device=device))
    x, gx = (torch.rand(points, n, device=device, requires_grad=True) for n in (sizes.in_features, sizes.global_in))
    table = init_rows(sizes, rows).to(device).requires_grad_()
    shared = {name: value.to(device).requires_grad_() for name, value in init_shared(sizes).items()}
    dy = torch.randn(points, sizes.out_features, device=device)

    def work() -> None:
        y = local_global_chain(x, offsets, table, shared, sizes, global_x=gx, backend=field.backend)
        torch.autograd.grad(y, [x, gx, table, *shared.values()], dy)

    return field, work


def profile(step: Callable[[], object], field: RadianceField) -> None:
    """Print the kernels that take longest in a step by Triton."""
    field.backend = "triton"
    torch.set_float32_matmul_precision("high")
    activities = [torch.profiler.ProfilerActivity.CUDA, torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities) as found:
        step()
        torch.cuda.synchronize()
    events = sorted(found.key_averages(), key=lambda e: -e.self_device_time_total)
    launches = sum(e.count for e in events if e.key.startswith(("cudaLaunchKernel", "cuLaunchKernel")))
    waits = sum(e.count for e in events if "Synchronize" in e.key)
    total = sum(e.self_device_time_total for e in events) / 1e3
    print(f"one step: {launches} launches, {waits} waits, {total:.2f} ms on the device")
    for event in events[:14]:
        print(f"  {event.self_device_time_total / 1e3:8.3f} ms {event.count:4d} x {event.key[:90]}")


def main() -> None:
    """Check, measure and print."""
    given = options()
    device, ways = given.device, given.ways.split(",")
    small = device != "cuda"
    name = "the interpreter" if small else torch.cuda.get_device_name()
    print(f"{name}, torch {torch.__version__}", flush=True)
    check(ways, device, 200 if small else 5000)
    print("| | way | ms | a second | times the first | peak MB |\n| --- | --- | --- | --- | --- | --- |")
    for points in (100,) if small else (2**14, 2**18):
        print(f"| chain alone, {points} points | | | | | |")
        field, work = chain_alone(points, device)
        measure(work, field, ways, device, given.rounds)
    for network in given.networks.split(","):
        sizes, rays, _ = NETWORKS[network]
        field, scene = scene_of(sizes, device)
        step = training(field, scene, given.rays or rays, device)
        samples = step()
        print(f"| {network}: step, {given.rays or rays} rays, {samples} samples, {field.num_rows} cells | | | | | |")
        measure(step, field, ways, device, given.rounds)
        camera = next(iter(orbit(field, scene, 1, given.pixels, given.pixels)))
        print(f"| {network}: picture, {given.pixels} x {given.pixels} | | | | | |")
        measure(lambda f=field, s=scene, c=camera: render(f, s, c), field, ways, device, max(1, given.rounds // 3))
        if given.profile and not small:
            profile(step, field)


if __name__ == "__main__":
    main()
