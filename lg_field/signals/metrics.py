"""How good a decoded signal is. Conventions: peak 1 on values in [0, 1] (sound: amplitude scaled to [-1, 1])."""

from __future__ import annotations

import torch
from jaxtyping import Int64
from torch import Tensor

from lg_field.networks import LocalGlobalNetwork
from lg_field.quality import psnr
from lg_field.signals.data import Samples
from lg_field.signals.decode import decode, sample_rows


def psnr_of_rows(field: LocalGlobalNetwork, data: Samples, rows: Int64[Tensor, " rows"]) -> float:
    """PSNR in dB over the samples of these rows' cells."""
    chosen = torch.zeros(field.num_rows + 1, dtype=torch.bool)
    chosen[rows.cpu()] = True
    first, errors, count, signal = 0, 0.0, 0, data.signal
    unit_values = signal.traits.unit_values
    for slab in decode(field, raw=True):
        inside = chosen[sample_rows(field, signal, first, first + len(slab))]
        true = signal.normalize(data.slab(first, first + len(slab))[inside])
        first += len(slab)
        errors += float((unit_values(slab[inside]) - unit_values(true)).square().double().sum())
        count += true.numel()
    return psnr(errors / max(1, count))


def measure(field: LocalGlobalNetwork, data: Samples) -> dict[str, float]:
    """MSE and PSNR of a field against its signal, and the kind's own figures: SSIM of images and videos (mean over
    frames), IoU of shapes."""
    signal, first, errors = data.signal, 0, 0.0
    figures = signal.traits.figures(signal)
    for slab in decode(field, raw=True):
        true = signal.normalize(data.slab(first, first + len(slab)))
        first += len(slab)
        a, b = signal.traits.unit_values(slab), signal.traits.unit_values(true)
        errors += float((a - b).double().square().sum())
        figures.add(a, b)
    mse = errors / (signal.num_samples * signal.channels)
    return {"mse": mse, "psnr": psnr(mse)} | figures.result()
