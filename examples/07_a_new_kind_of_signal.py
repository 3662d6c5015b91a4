"""Teach lg-field a new kind of signal: heights in a text file.

A kind says what its files, axes, units and defaults are; encoding, cropping, decoding, merging and the viewer follow.
"""

import sys
from pathlib import Path

import numpy as np
import torch

import lg_field
from lg_field.signals import decode, read_signal
from lg_field.signals.data import SignalData
from lg_field.signals.encode import build_fit
from lg_field.signals.features import picture_features
from lg_field.signals.kinds import KINDS, Kind, register
from lg_field.signals.settings import FitConfig, NetworkConfig
from lg_field.signals.signal import Signal


class Heights(Kind):
    """A grid of heights, a line for each row."""

    name, axes, order, units = "heights", ("y", "x"), (1, 0), "samples (x, y)"
    reads = writes = (".asc",)
    cell_size, fit = (32, 32), {"lr": 1e-3, "steps": 1000}

    def read(self, path, options):
        heights = torch.from_numpy(np.loadtxt(path, dtype=np.float32, ndmin=2))
        lowest_highest = (float(heights.min()), float(heights.max()))
        return SignalData(heights[..., None], Signal(self.name, tuple(heights.shape), 1, "float32", lowest_highest))

    def write(self, slabs, path, signal):
        np.savetxt(path, torch.cat(list(slabs))[..., 0].numpy())

    def features(self, samples, signal, weights="random"):
        return picture_features(signal.normalize(samples), weights)


def main(folder: Path, steps: int = 200) -> float:
    register(Heights())
    try:
        y, x = np.mgrid[:64, :96]
        np.savetxt(folder / "hills.asc", 300 + 40 * np.sin(x / 9) * np.cos(y / 7))
        data = read_signal(folder / "hills.asc")
        fit = build_fit(data, NetworkConfig(parameters=6000), FitConfig(steps=steps))
        fit.run()
        right = lg_field.crop(fit.field, lg_field.Region.box((-1, 0), (1, 1)))
        error = float((torch.cat(list(decode(right)))[:, 64:] - data.samples[:, 64:]).abs().mean())
        print(f"{fit.field.num_rows} -> {right.num_rows} cells; the right third is off by {error:.2f} on the average")
        return error
    finally:
        KINDS.pop("heights")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
