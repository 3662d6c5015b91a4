"""How good a decoded signal is. Conventions: peak 1 on values in [0, 1] (sound: amplitude scaled to [-1, 1])."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lg_field.networks import LocalGlobalNetwork
from lg_field.signals.data import SignalData
from lg_field.signals.decode import decode, sample_rows
from lg_field.signals.shapes.occupancy import OccupancyData

SSIM_WINDOW = 11


def psnr(mse: float) -> float:
    """Peak signal to noise ratio in dB for peak 1."""
    return -10.0 * math.log10(max(mse, 1e-12))


def unit_values(values: Tensor, kind: str) -> Tensor:
    """Network values in [-1, 1] as the values metrics are taken of: clipped [0, 1], or amplitudes for sound."""
    return values if kind == "audio" else (values * 0.5 + 0.5).clamp(0.0, 1.0)


def psnr_of_rows(field: LocalGlobalNetwork, data: SignalData | OccupancyData, rows: Tensor) -> float:
    """PSNR over the samples of these rows' cells."""
    chosen = torch.zeros(field.num_rows + 1, dtype=torch.bool)
    chosen[rows.cpu()] = True
    first, errors, count, signal = 0, 0.0, 0, data.signal
    for slab in decode(field, raw=True):
        inside = chosen[sample_rows(field, signal, first, first + len(slab))]
        true = signal.normalize(data.slab(first, first + len(slab))[inside])
        first += len(slab)
        errors += float(
            (unit_values(slab[inside], signal.kind) - unit_values(true, signal.kind)).square().double().sum()
        )
        count += true.numel()
    return psnr(errors / max(1, count))


def measure(field: LocalGlobalNetwork, data: SignalData | OccupancyData) -> dict[str, float]:
    """MSE and PSNR of a field against its signal; SSIM for images and videos (mean over frames), IoU for shapes."""
    signal, first, errors = data.signal, 0, 0.0
    both = either = 0
    similar: list[float] = []
    picture: list[tuple[Tensor, Tensor]] = []
    for slab in decode(field, raw=True):
        true = signal.normalize(data.slab(first, first + len(slab)))
        first += len(slab)
        a, b = unit_values(slab, signal.kind), unit_values(true, signal.kind)
        errors += float((a - b).double().square().sum())
        if signal.kind == "occupancy":
            both += int(((a > 0.5) & (b > 0.5)).sum())
            either += int(((a > 0.5) | (b > 0.5)).sum())
        if signal.kind in ("image", "video") and min(signal.shape[-2:]) >= SSIM_WINDOW:
            if signal.kind == "image":
                picture.append((a, b))
            else:
                similar += [ssim(x, y) for x, y in zip(a, b)]
    if picture:
        similar.append(ssim(torch.cat([a for a, _ in picture]), torch.cat([b for _, b in picture])))
    mse = errors / (signal.num_samples * signal.channels)
    result = {"mse": mse, "psnr": psnr(mse)}
    if signal.kind == "occupancy":
        result["iou"] = both / max(1, either)
    return result | {"ssim": sum(similar) / len(similar)} if similar else result


def ssim(a: Tensor, b: Tensor) -> float:
    """Structural similarity (Gaussian window of 11 pixels) of two (height, width, channels) pictures in [0, 1]."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    first, second = (x.movedim(-1, 0)[None] for x in (a, b))
    return float(structural_similarity_index_measure(first, second, data_range=1.0))  # type: ignore[arg-type]
