"""Bytes of a field file against its quality, for every type of weights and for archives.

    python scripts/tables/bytes.py photo.safetensors photo.png sound.safetensors sound.wav
    python scripts/tables/bytes.py scene.safetensors --size 200

A field file may be followed by the signal it was made of: then the PSNR to that is measured (of shapes IoU, too).
`to float32` is the PSNR between what the file shows and what the float32 file shows, of scenes in pictures from around.
Writes results.md, .csv, .json and nothing else to `--output`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import report
import torch
import tyro

import lg_field
from lg_field.files import FieldFile, archive, crop_file
from lg_field.radiance.field import RadianceField
from lg_field.radiance.render import orbit, render
from lg_field.radiance.scene import Scene
from lg_field.signals.decode import decode
from lg_field.signals.metrics import measure
from lg_field.signals.reading import read_signal
from lg_field.table.cell_table import CellTable

TYPES = ("float32", "float16", "bfloat16", "int8")
VIEWS = 3
"""Pictures of a scene."""


@dataclass
class Args:
    """Measure field files."""

    files: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Field files, each perhaps followed by the signal it was made of."""
    size: int = 160
    """Pixels of a scene's pictures along each side."""
    threads: int = 1
    """CPU threads."""
    output: Path = Path("outputs/tables/bytes")
    """Folder to write to."""


def pairs(files: Sequence[Path]) -> list[tuple[Path, Path | None]]:
    """Each field file and the signal it was made of."""
    found: list[tuple[Path, Path | None]] = []
    for path in files:
        if path.suffix in (".safetensors", ".lga"):
            found.append((path, None))
        elif found and found[-1][1] is None:
            found[-1] = (found[-1][0], path)
        else:
            raise SystemExit(f"{path} follows no field file (.safetensors)")
    return found


@torch.no_grad()
def shown(field: CellTable, size: int) -> torch.Tensor:
    """What a field shows, in [0, 1]: pictures from around, or all samples."""
    about = field.description
    if isinstance(field, RadianceField) and isinstance(about, Scene):
        return torch.cat([render(field, about, c).rgb.flatten() for c in orbit(field, about, VIEWS, size, size)])
    return torch.cat([about.traits.unit_values(slab).flatten() for slab in decode(field, raw=True)])  # type: ignore


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    """dB between values in [0, 1]."""
    return float(-10.0 * (a.double() - b.double()).square().mean().clamp_min(1e-20).log10())


def rows_of(path: Path, source: Path | None, size: int, folder: Path) -> list[dict[str, Any]]:
    """A row for each type of weights, and for the archive of each."""
    truth = None if source is None else read_signal(source)
    plain: torch.Tensor | None = None
    rows: list[dict[str, Any]] = []
    for dtype in TYPES:
        file, packed = folder / f"{dtype}.safetensors", folder / f"{dtype}.lga"
        with FieldFile.open(path) as whole:
            crop_file(path, file, cells=whole.cells, dtype=dtype, overwrite=True)
        archive.compress(file, packed, overwrite=True)
        field = lg_field.load(file)
        seen = shown(field, size)
        plain = seen if plain is None else plain
        row: dict[str, Any] = {"file": path.name, "weights": dtype, "bytes": file.stat().st_size}
        row |= {"archive": packed.stat().st_size, "to float32": None if seen is plain else psnr(seen, plain)}
        rows.append(row | ({} if truth is None else measure(field, truth)))  # type: ignore[arg-type]
    return rows


def texts(row: dict[str, Any], first: dict[str, Any]) -> dict[str, str]:
    """A row as it is read: bytes with their share of the float32 file's, and quality."""
    share = {name: f"{row[name]:,} ({row[name] / first['bytes']:.1%})" for name in ("bytes", "archive")}
    off = row["to float32"]
    found = {"file": row["file"], "weights": row["weights"], **share}
    found["to float32"] = "-" if off is None else f"{off:.2f} dB"
    found["PSNR"] = f"{row['psnr']:.2f} dB ({row['psnr'] - first['psnr']:+.2f})" if "psnr" in row else "-"
    found["IoU"] = f"{row['iou']:.4f}" if "iou" in row else "-"
    return found


def main(args: Args) -> None:
    """Convert, measure, write."""
    torch.set_num_threads(args.threads)
    results, table = [], []
    for path, source in pairs(args.files):
        with tempfile.TemporaryDirectory() as folder:
            rows = rows_of(path, source, args.size, Path(folder))
        results += rows
        table += [texts(row, rows[0]) for row in rows]
    what = f"share of the float32 file in brackets; pictures of {args.size} pixels, torch {torch.__version__}"
    print(report.write(args.output, table, what, results))


if __name__ == "__main__":
    main(tyro.cli(Args))
