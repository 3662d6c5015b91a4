"""Time and memory of cropping a large field file, against the part kept.

    python scripts/bench/crop.py --gigabytes 2

Writes a synthetic field (random rows, not trained), then crops it to several boxes, each in a process of its own.
Prints seconds, peak memory above an idle process, bytes, and the straight line through the times.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro


@dataclass
class Args:
    """Measure."""

    gigabytes: float = 2.0
    """Size of the field file."""
    fractions: tuple[float, ...] = (0.01, 0.05, 0.1, 0.25, 0.5)
    """Parts of the domain kept."""
    folder: Path = Path(tempfile.gettempdir())
    """Where the files go; they are removed at the end."""
    one: tuple[str, ...] = ()
    """(internal) crop SOURCE TARGET FRACTION in this process."""


def make(path: Path, gigabytes: float) -> None:
    """Write the field."""
    import lg_field
    from lg_field.networks.local_global import local_global_siren
    from lg_field.signals.signal import Signal

    cells = 40**3
    width = int((gigabytes * 1e9 / 4 / cells / 3) ** 0.5)
    grid = lg_field.PartitionGrid((40, 40, 40), (-1.0,) * 3, (1.0,) * 3)
    field = local_global_siren(grid, 1, width, 128)
    field.description = Signal("volume", (1280, 1280, 1280), 1, "float32", (0.0, 1.0))
    lg_field.save(field, path, overwrite=True)


def crop_one(source: str, target: str, fraction: str) -> None:
    """Crop in this process and print what it took."""
    import torch

    from lg_field import Region
    from lg_field.files import FieldFile, crop_file

    torch.set_num_threads(1)
    with FieldFile.open(source):
        pass  # imports and code are loaded now
    idle, begin = peak_kilobytes(), time.perf_counter()
    size = crop_file(source, target, Region.box([-1.0] * 3, [2.0 * float(fraction) ** (1 / 3) - 1.0] * 3))
    seconds = time.perf_counter() - begin
    peak = peak_kilobytes() - idle
    print(json.dumps({"bytes": size, "seconds": seconds, "peak": peak * 1024}))


def peak_kilobytes() -> int:
    """Largest resident size of this process so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def main(args: Args) -> None:
    """Measure and print."""
    if args.one:
        return crop_one(*args.one)
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        source = Path(folder) / "source.safetensors"
        subprocess.run(
            [
                sys.executable,
                "-c",
                f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r});"
                f"from pathlib import Path; import crop; crop.make(Path({str(source)!r}), {args.gigabytes})",
            ],
            check=True,
        )
        total = source.stat().st_size
        print(f"source: {total:,} bytes\n| kept | bytes | seconds | peak MB | peak / kept |\n{'| --- ' * 5}|")
        kept, times = [], []
        for fraction in args.fractions:
            target = Path(folder) / "target.safetensors"
            command = [sys.executable, __file__, "--one", str(source), str(target), str(fraction)]
            row = json.loads(subprocess.check_output(command))
            target.unlink()
            kept.append(row["bytes"])
            times.append(row["seconds"])
            print(
                f"| {row['bytes'] / total:.1%} | {row['bytes']:,} | {row['seconds']:.2f} | {row['peak'] / 1e6:.0f} | "
                f"{row['peak'] / row['bytes']:.2f} |",
                flush=True,
            )
        slope, start = np.polyfit(kept, times, 1)
        residual = np.asarray(times) - np.polyval([slope, start], kept)
        print(f"seconds = {start:.2f} + {slope * 1e9:.2f} per kept GB, largest deviation {abs(residual).max():.2f} s")
    return None


if __name__ == "__main__":
    main(tyro.cli(Args))
