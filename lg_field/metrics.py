"""How good a decoded signal is. Conventions: peak 1 on values in [0, 1] (sound: amplitude scaled to [-1, 1])."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from lg_field.networks import LocalGlobalNetwork
from lg_field.signals.data import SignalData
from lg_field.signals.decode import decode


def psnr(mse: float) -> float:
    """Peak signal to noise ratio in dB for peak 1."""
    return -10.0 * math.log10(max(mse, 1e-12))


def unit_values(values: Tensor, kind: str) -> Tensor:
    """Network values in [-1, 1] as the values metrics are taken of: clipped [0, 1], or amplitudes for sound."""
    return values if kind == "audio" else (values * 0.5 + 0.5).clamp(0.0, 1.0)


def measure(field: LocalGlobalNetwork, data: SignalData) -> dict[str, float]:
    """MSE and PSNR of a field against its signal; SSIM for images and videos (mean over frames)."""
    kind, first, errors, similar = data.signal.kind, 0, 0.0, []
    for slab in decode(field, raw=True):
        true = data.signal.normalize(data.samples[first : first + len(slab)])
        first += len(slab)
        a, b = unit_values(slab, kind), unit_values(true, kind)
        errors += float((a - b).double().square().sum())
        similar += [(a, b)] if kind == "image" else []
        if kind == "video":
            similar += [(x, y) for x, y in zip(a, b)]
    mse = errors / (data.signal.num_samples * data.signal.channels)
    result = {"mse": mse, "psnr": psnr(mse)}
    if kind == "image":
        similar = [(torch.cat([a for a, _ in similar]), torch.cat([b for _, b in similar]))]
    if similar and min(data.signal.shape[-2:]) >= 11:
        values = list(_ssims(similar))
        result["ssim"] = sum(values) / len(values)
    return result


def _ssims(pairs: list[tuple[Tensor, Tensor]]) -> Iterator[float]:
    """SSIM (11 x 11 Gaussian window) of pairs of (height, width, channels) pictures in [0, 1]."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    for a, b in pairs:
        yield float(
            structural_similarity_index_measure(a.movedim(-1, 0)[None], b.movedim(-1, 0)[None], data_range=1.0)  # type: ignore[arg-type]
        )
