"""Bytes of a field file against its quality, for every type of weights and for archives.

    python scripts/tables/bytes.py photo.safetensors photo.png sound.safetensors sound.wav
    python scripts/tables/bytes.py scene.safetensors ~/photos --size 200

A field file may be followed by what it was made of: a signal, or the folder of a scene's photos. Then the PSNR to that
is measured (of shapes IoU, too; of scenes over some of the test photos, on the scene's background).
`to float32` is the PSNR between what the file shows and what the float32 file shows, of scenes in pictures from around.
Writes results.md, .csv, .json and nothing else to `--output`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import report
import torch
import tyro

import lg_field
from lg_field.captures import Capture, read_capture
from lg_field.files import FieldFile, archive, crop_file
from lg_field.radiance.compositing import image_on
from lg_field.radiance.field import RadianceField
from lg_field.radiance.render import orbit, render, render_rays
from lg_field.radiance.scene import Scene
from lg_field.signal_settings import CompleteShape, ShapeConfig
from lg_field.signals.decode import decode
from lg_field.signals.metrics import measure
from lg_field.signals.reading import read_signal
from lg_field.table.cell_table import CellTable
from lg_field.training.photo_set import PhotoSet

TYPES: Any = ("float32", "float16", "bfloat16", "int8")
VIEWS = 3
"""Pictures of a scene."""
PHOTOS = 4
"""Test photos that a scene is compared with, evenly spaced."""


@dataclass
class Args:
    """Measure field files."""

    files: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Field files, each perhaps followed by the signal or the folder of photos it was made of."""
    size: int = 160
    """Pixels of a scene's pictures along each side, and of photos along the longer one."""
    types: tuple[Literal["float32", "float16", "bfloat16", "int8"], ...] = TYPES
    """Of weights; the others are held against the first."""
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


class Photos(NamedTuple):
    """Test photos of a scene."""

    capture: Capture
    size: int
    """Pixels along the longer side, about."""


def truth_of(path: Path, source: Path | None, size: int) -> Any:
    """What a field file was made of: None, samples of a signal (of a mesh as many as the field has), or photos."""
    if source is None:
        return None
    if source.is_dir():
        return Photos(read_capture(source), size)
    with FieldFile.open(path) as file:
        about: Any = file.description
    return read_signal(source, ShapeConfig(max(about.shape), CompleteShape.margin))


def scores(field: Any, truth: Any) -> dict[str, float]:
    """How well a field shows it; {} of None."""
    if truth is None:
        return {}
    return photo_scores(field, truth) if isinstance(truth, Photos) else measure(field, truth)


@torch.no_grad()
def photo_scores(field: RadianceField, truth: Photos) -> dict[str, float]:
    """Mean PSNR over some test photos."""
    scene, capture = field.description, truth.capture
    assert isinstance(scene, Scene)
    matrix = torch.linalg.inv(torch.tensor(scene.scene_to_world, dtype=torch.float64))
    matrix = matrix @ torch.from_numpy(capture.to_world)
    photos = capture.part("test")
    found = []
    for number in torch.linspace(0, len(photos) - 1, min(PHOTOS, len(photos))).round().long().tolist():
        lens = photos[number].lens
        scale = min(1.0, truth.size / max(lens.width, lens.height))
        one = PhotoSet.read([photos[number]], capture.alpha, "ignore", scale)
        one.lenses = one.lenses.moved(matrix)
        pixels = one.all_of(0)
        seen = render_rays(field, scene, *one.rays(pixels)).rgb
        true = image_on(one.colors(pixels), torch.tensor(scene.background))
        counted = torch.ones(len(seen), dtype=torch.bool) if one.counted is None else one.counted[0].flatten()
        found.append(psnr(seen[counted], true[counted]))
    return {"psnr": sum(found) / len(found)}


def rows_of(path: Path, source: Path | None, args: Args, folder: Path) -> list[dict[str, Any]]:
    """A row for each type of weights, and for the archive of each."""
    truth = truth_of(path, source, args.size)
    plain: torch.Tensor | None = None
    rows: list[dict[str, Any]] = []
    for dtype in args.types:
        file, packed = folder / f"{dtype}.safetensors", folder / f"{dtype}.lga"
        crop_file(path, file, cells=(), invert=True, dtype=dtype, overwrite=True)
        archive.compress(file, packed, overwrite=True)
        field = lg_field.load(file)
        seen = shown(field, args.size)
        plain = seen if plain is None else plain
        row: dict[str, Any] = {"file": path.name, "weights": dtype, "bytes": file.stat().st_size}
        row |= {"archive": packed.stat().st_size, "to float32": None if seen is plain else psnr(seen, plain)}
        rows.append(row | scores(field, truth))
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
            rows = rows_of(path, source, args, Path(folder))
        results += rows
        table += [texts(row, rows[0]) for row in rows]
    what = f"share of the float32 file in brackets; pictures of {args.size} pixels, torch {torch.__version__}"
    print(report.write(args.output, table, what, results))


if __name__ == "__main__":
    main(tyro.cli(Args))
