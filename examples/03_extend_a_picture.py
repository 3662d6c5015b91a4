"""Extend a field: the left half of a picture grows into the whole.

New cells get new rows, and only those are trained. Of the old ones not a bit changes, and neither does the shared part.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import lg_field
from lg_field.signals import SignalData, decode
from lg_field.signals.encode import build_fit
from lg_field.signals.fit import Fit
from lg_field.signals.settings import FitConfig, NetworkConfig
from lg_field.signals.signal import Signal


def painted(height: int, width: int) -> torch.Tensor:
    """(height, width, 3) uint8 rings."""
    y, x = np.mgrid[:height, :width] / height
    rings = [np.sin(28 * np.hypot(x - 0.3 * k, y - 0.5)) for k in range(1, 4)]
    return torch.from_numpy((np.stack(rings, -1) * 110 + 128).astype(np.uint8))


def main(folder: Path, steps: int = 800) -> bool:
    torch.manual_seed(0)
    picture = painted(96, 192)
    left = picture[:, :96].contiguous()
    half = SignalData(left, Signal("image", tuple(left.shape[:2]), 3))
    fit = build_fit(half, NetworkConfig(cell_size=(16, 16), parameters=20_000), FitConfig(steps=steps))
    fit.run()

    whole = SignalData(picture, Signal("image", tuple(picture.shape[:2]), 3))
    larger, target, fresh = whole.signal.traits.extend(fit.field, whole)
    old = torch.isin(torch.arange(larger.num_rows), fresh, invert=True)
    before = larger.local[old].clone()
    Fit(larger, target, FitConfig(steps=steps), rows=fresh).run()
    same = torch.equal(before, larger.local[old])

    lg_field.save(larger, folder / "picture.safetensors", overwrite=True)
    decoded = [torch.cat(list(decode(field))) for field in (fit.field, larger)]
    Image.fromarray(torch.cat(decoded, 1).numpy()).save(folder / "03_extend_a_picture.png")
    print(f"{int(old.sum())} old cells, {len(fresh)} new ones; the old ones changed: {not same}")
    return same


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
