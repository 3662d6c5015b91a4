"""3D shapes: IoU by voxels seen of Local-Global SIREN and its baselines, meshes compared with their source, and seams.

    python scripts/tables/shapes.py ../shared/data/shapes/lucy.obj --resolution 512 --presets shape
    python scripts/tables/shapes.py ../shared/data/shapes/*.obj --quick

Every row is a network of configs/ (the paper's widths), trained on the same voxels with the same seed in one run of
this script, by lg-field's own schedule (`--paper`: by the paper's, of which `--steps` says how far it goes). The paper
reports for Lucy at 512^3: IoU 0.9779 after the second of its 20 epochs of 134 million voxels, 0.9848 after epoch 5,
0.9883 after epoch 10, 0.9920 at the end. Writes results.md, .csv, .json and the field files to `--output`.
"""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import report
import torch
import tyro

from lg_field.files import save
from lg_field.meshing.metrics import compare, nearest
from lg_field.networks import LocalGlobalNetwork
from lg_field.signals.encode import build_network, domain_grid
from lg_field.signals.fit import Fit
from lg_field.signals.metrics import measure
from lg_field.signals.presets import read_preset
from lg_field.signals.settings import CompleteFit, CompleteShape, FitConfig, ShapeConfig, resolve, resolve_fit
from lg_field.signals.shapes.occupancy import OccupancyData, read_shape, shape_cells
from lg_field.signals.surface import signal_mesh


@dataclass
class Args:
    """Compare networks on shapes."""

    files: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Meshes."""
    presets: tuple[str, ...] = ("shape", "shape-per-partition", "shape-global")
    """Networks."""
    resolution: int = 256
    """Voxels along the longest side."""
    steps: int = 1500
    """Training steps."""
    points: int = 0
    """Voxels a step; 0 = 50,000, or the paper's 100,000."""
    lr: float = 0.0
    """Learning rate; 0 = the schedule's."""
    paper: bool = False
    """The paper's schedule (uniform voxels, lr 1e-4), which --steps cuts off."""
    looks: int = 5
    """Times that the IoU is measured on the way, the last after the last step."""
    mesh: int = 256
    """Resolution of the mesh that is compared with the source; 0 = none."""
    quick: bool = False
    """128 voxels and 200 steps of 20,000."""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    """Where."""
    seed: int = 0
    """For weights and voxels drawn."""
    output: Path = Path("outputs/tables/shapes")
    """Folder for results."""


def schedule(args: Args, preset: CompleteFit) -> CompleteFit:
    """How to train."""
    fit = preset if args.paper else resolve_fit("occupancy", FitConfig(steps=args.steps))
    return replace(fit, points=args.points or fit.points, lr=args.lr or fit.lr, seed=args.seed)


def run(args: Args, preset: str, data: OccupancyData, name: str) -> dict[str, Any]:
    """Train one network on one shape."""
    settings = resolve("occupancy", read_preset(preset))
    cells = shape_cells(data, domain_grid(data.signal, settings.network), CompleteShape().margin)
    field = build_network(data.signal, settings.network, args.seed, cells).to(args.device)
    fit = Fit(field, data, schedule(args, settings.fit))
    looks = {max(1, round(args.steps * (k + 1) / args.looks)) for k in range(args.looks)}

    def pause(step: int, error: float) -> None:
        fit.stopping = step in looks

    curve = []
    while fit.step < args.steps:
        fit.stopping = False
        fit.run(pause)
        curve.append((fit.step * fit.config.points, measure(field, data)["iou"]))
        print(
            f"  {preset}: {curve[-1][0] / 1e6:.1f} M voxels seen, IoU {curve[-1][1]:.4f}, {fit.seconds:.0f} s",
            flush=True,
        )
    field.history = {"steps": fit.step, "seconds": round(fit.seconds, 1), "iou": curve[-1][1]}
    save(field, args.output / f"{name}-{preset}.safetensors", overwrite=True)
    row: dict[str, Any] = {
        "shape": name,
        "preset": preset,
        "rows": field.num_rows,
        "full": 0 if field.full is None else len(field.full),
        "parameters": field.num_parameters()["total"],
        "seconds": fit.seconds,
        "step": fit.seconds / fit.step,
        "curve": curve,
        "iou": curve[-1][1],
    }
    if args.mesh and data.source is not None:
        begin = time.perf_counter()
        mesh = signal_mesh(field, args.mesh)
        row |= {"mesh_seconds": time.perf_counter() - begin, "faces": len(mesh.faces)}
        row |= compare(mesh, data.source.vertices, data.source.faces) | seams(field, data, mesh)
    return row


def seams(field: LocalGlobalNetwork, data: OccupancyData, mesh: Any) -> dict[str, float]:
    """Mean jump of occupancy over half a voxel near the surface, across cell borders and inside cells; and how far
    normals of the mesh turn from the source's, within a voxel of a border and elsewhere (mean degrees)."""
    assert data.source is not None
    jump_across, jump_inside = jumps(field, data)
    _, cosine, places = nearest(mesh.vertices, mesh.faces, data.source.vertices, data.source.faces, 200_000)
    angle = np.degrees(np.arccos(cosine.clip(0, 1)))
    voxel = (places - np.asarray(data.signal.origin)) / data.signal.spacing
    size = np.asarray(data.signal.shape) / np.asarray(field.grid.counts)
    near = (np.abs(voxel / size - np.round(voxel / size)) * size < 1.0).any(1)
    return {
        "jump_across": jump_across,
        "jump_inside": jump_inside,
        "angle_border": float(angle[near].mean()) if near.any() else 0.0,
        "angle_elsewhere": float(angle[~near].mean()),
    }


@torch.no_grad()
def jumps(field: LocalGlobalNetwork, data: OccupancyData, distance: float = 0.5) -> tuple[float, float]:
    """Mean |difference| of occupancy between two points `distance` voxels apart along an axis, at surface voxels: on
    either side of the border between two cells with rows, and in one cell."""
    generator = torch.Generator().manual_seed(0)
    surface = data.voxels.surface()
    picked = surface[torch.randint(len(surface), (200_000,), generator=generator)]
    voxel = torch.stack(torch.unravel_index(picked, data.signal.shape), dim=-1).double() + 0.5
    size = torch.tensor(data.signal.shape, dtype=torch.float64) / torch.tensor(field.grid.counts)
    across, inside = [], []
    for axis in range(3):
        border = torch.round(voxel[:, axis] / size[axis]) * size[axis]
        close = (voxel[:, axis] - border).abs() <= 1.0
        moved = voxel[close].clone()
        moved[:, axis] = border[close]
        for middle, found, same in ((moved, across, False), (voxel, inside, True)):
            ends = [middle.clone(), middle.clone()]
            for end, sign in zip(ends, (-0.5, 0.5)):
                end[:, axis] += sign * distance
            x = [(e / torch.tensor(data.signal.shape) * 2 - 1).float().to(field.cells.device) for e in ends]
            rows = [field.locate_rows(p) for p in x]
            right = (rows[0] >= 0) & (rows[1] >= 0) & ((rows[0] == rows[1]) == same)
            values = [(field(p[right], chunk=1 << 14) * 0.5 + 0.5).clamp(0, 1) for p in x]
            found.append((values[0] - values[1]).abs().flatten())
    return tuple(float(torch.cat(d).mean()) if sum(map(len, d)) else 0.0 for d in (across, inside))  # type: ignore


def table(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Rows as they are to be read."""
    result = []
    for r in rows:
        line = {
            "shape": r["shape"],
            "network": r["preset"],
            "rows (full)": f"{r['rows']} ({r['full']})",
            "parameters": f"{r['parameters']:,}",
            "IoU": f"{r['iou']:.4f}",
            "s/step": f"{r['step']:.3f}",
        }
        if "chamfer" in r:
            chamfer = r["chamfer_to_source"] * 1e4, r["chamfer_from_source"] * 1e4
            line |= {
                "chamfer to / from source x 1e-4": f"{chamfer[0]:.2f} / {chamfer[1]:.2f}",
                "normals": f"{r['normal_consistency']:.4f}",
                "F-score": f"{r['f_score']:.4f}",
                "jump across / inside": f"{r['jump_across']:.4f} / {r['jump_inside']:.4f}",
                "degrees border / elsewhere": f"{r['angle_border']:.1f} / {r['angle_elsewhere']:.1f}",
            }
        result.append(line)
    return result


def main(args: Args) -> None:
    """Run the table."""
    if args.quick:
        args = replace(args, resolution=128, steps=200, points=20_000, mesh=128, looks=2)
    rows = []
    for path in args.files:
        data = read_shape(path, ShapeConfig(args.resolution))
        print(f"{path.stem}: {data.signal.shape} voxels, {data.voxels.count():,} inside", flush=True)
        for preset in args.presets:
            rows.append(run(args, preset, data, path.stem))
            print({k: round(v, 5) if isinstance(v, float) else v for k, v in rows[-1].items()}, flush=True)
    kind = "the paper's schedule" if args.paper else "lg-field's schedule"
    lines = ["IoU by millions of voxels seen:\n"]
    for r in rows:
        lines.append(f"- {r['shape']}, {r['preset']}: " + ", ".join(f"{n / 1e6:.1f}: {v:.4f}" for n, v in r["curve"]))
    lines.append(
        f"\n{args.resolution} voxels along the longest side, {args.steps} steps, {kind}, seed {args.seed}, "
        f"{args.device}, {torch.get_num_threads()} threads, {platform.machine()}"
    )
    print(report.write(args.output, table(rows), "\n".join(lines), rows))


if __name__ == "__main__":
    main(tyro.cli(Args))
