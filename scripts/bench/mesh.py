"""Marching cubes of an encoded shape: only near the surface, beside the same network on every node of the lattice.

    python scripts/bench/mesh.py lucy.safetensors --resolution 1024

The dense evaluation is timed on every `--part`-th plane of the lattice and multiplied: only evaluating, no meshing,
and a cell without a row costs it next to nothing. One row of printed figures; peak memory is that of the meshing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro

import lg_field
from lg_field.memory import peak_bytes
from lg_field.signals.surface import kept_bounds, signal_mesh


@dataclass
class Args:
    """Measure."""

    file: Annotated[Path, tyro.conf.Positional]
    """A shape file."""
    resolution: int = 1024
    """Voxels along the longest side."""
    part: int = 16
    """The dense way evaluates every so-manieth plane."""
    threads: int = 1
    """CPU threads."""


@torch.no_grad()
def dense_seconds(field: Any, resolution: int, part: int) -> tuple[float, int]:
    """Seconds and points of evaluating every node of the lattice, estimated from some of its planes."""
    size = kept_bounds(field)[1] - kept_bounds(field)[0]
    nodes = np.round(size / size.max() * resolution).astype(int) + 1
    axes = [torch.linspace(low, up, int(n)) for low, up, n in zip(field.grid.lower, field.grid.upper, nodes)]
    planes = axes[0][part // 2 :: part]
    begin = time.perf_counter()
    for x in planes:
        points = torch.stack(torch.meshgrid(x[None], axes[1], axes[2], indexing="ij"), dim=-1).view(-1, 3)
        for some in points.split(1 << 18):
            field(some, chunk=1 << 14)
    return (time.perf_counter() - begin) * len(axes[0]) / len(planes), int(nodes.prod())


def main(args: Args) -> None:
    """Measure and print."""
    torch.set_num_threads(args.threads)
    field = lg_field.load(args.file)
    asked, forward = [0], field.forward

    def counted(points: torch.Tensor, **options: Any) -> torch.Tensor:
        asked[0] += len(points)
        return forward(points, **options)

    field.forward = counted  # type: ignore[method-assign]
    begin = time.perf_counter()
    mesh = signal_mesh(field, args.resolution)  # type: ignore[arg-type]
    seconds, evaluated, peak = time.perf_counter() - begin, asked[0], peak_bytes()
    dense, nodes = dense_seconds(field, args.resolution, args.part)
    print(
        f"{len(mesh.vertices):,} vertices, {len(mesh.faces):,} faces; {evaluated:,} of {nodes:,} nodes asked "
        f"({nodes / evaluated:.1f} times fewer)\n"
        f"mesh {seconds:.1f} s, peak memory {peak / 1e9:.2f} GB; dense evaluation {dense:.1f} s (from every "
        f"{args.part}th plane): ratio {dense / seconds:.1f}"
    )


if __name__ == "__main__":
    main(tyro.cli(Args))
