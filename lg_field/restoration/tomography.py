"""Computed tomography: a slice from its projections (parallel beam), by a network or by filtered back-projection.

The geometry is scikit-image's `radon` with `circle=True`: as many detectors as the slice has pixels a side, rotation
about pixel n // 2, angles in degrees. A sinogram is (angles, detectors) here, its transpose there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor, nn

from lg_field.ops import sort_by_row
from lg_field.restoration.measured import MeasuredFit
from lg_field.signals import encode
from lg_field.signals.data import SignalData
from lg_field.signals.decode import sample_rows
from lg_field.signals.settings import FitConfig, NetworkConfig
from lg_field.signals.signal import Signal
from lg_field.signals.state import fingerprint

ANGLES_AT_ONCE = 16


def projection_angles(count: int, first: float = 0.0, last: float = 180.0) -> Float64[Tensor, " angles"]:
    """(count,) degrees, evenly from first to before last.

    Raises:
        ValueError: no angle, or an empty range.
    """
    if count < 1 or not (math.isfinite(first) and math.isfinite(last) and first < last):
        raise ValueError(f"at least one angle and a rising range are needed, got {count} in {first:g} to {last:g}")
    return first + (last - first) * torch.arange(count, dtype=torch.float64) / count


class Radon(nn.Module):
    """The Radon transform by rotating and summing; linear, and differentiable in the slice."""

    grid: Tensor
    """(angles, n, n, 2) where each ray's samples lie, in `grid_sample`'s coordinates."""

    def __init__(self, angles: Float[Tensor, " angles"], size: int) -> None:
        """
        Args:
            angles: (a,) degrees.
            size: n, pixels on each side of the slice.
        """
        super().__init__()
        turn, middle = torch.deg2rad(angles.double()), size // 2
        cos, sin = turn.cos()[:, None, None], turn.sin()[:, None, None]
        at = torch.arange(size, dtype=torch.float64) - middle
        x, y = at[None, None, :], at[None, :, None]
        grid = torch.stack([cos * x + sin * y, cos * y - sin * x], dim=-1) + middle
        self.register_buffer("grid", (grid * (2.0 / max(1, size - 1)) - 1.0).float(), persistent=False)

    def forward(self, slice_: Float[Tensor, "n n"]) -> Float[Tensor, "angles n"]:
        """(n, n) -> (angles, detectors) sums along the rays, in pixel units."""
        parts = []
        for grid in self.grid.split(ANGLES_AT_ONCE):
            planes = slice_.expand(len(grid), 1, *slice_.shape)
            parts.append(nn.functional.grid_sample(planes, grid.to(slice_.dtype), align_corners=True)[:, 0].sum(1))
        return torch.cat(parts)


def filtered_back_projection(
    sinogram: Float[Tensor, "angles n"], angles: Float[Tensor, " angles"]
) -> Float32[Tensor, "n n"]:
    """The classical baseline, by scikit-image: (angles, detectors) -> (detectors, detectors)."""
    try:
        from skimage.transform import iradon
    except ImportError as error:
        raise ImportError("filtered back-projection needs scikit-image: pip install 'lg-field[restoration]'") from error
    slice_ = iradon(sinogram.double().numpy().T, theta=angles.numpy(), filter_name="ramp", circle=True)
    return torch.from_numpy(slice_).float()


def check_sinogram(sinogram: Tensor, count: int) -> None:
    """Raise ValueError if a sinogram does not have this many angles.

    Args:
        sinogram: (angles, detectors).
        count: angles expected.
    """
    if sinogram.dim() != 2 or min(sinogram.shape) < 1:
        raise ValueError(f"a sinogram (angles, detectors) is needed, got shape {tuple(sinogram.shape)}")
    if len(sinogram) != count:
        hint = ": it looks transposed, (angles, detectors) is needed" if sinogram.shape[1] == count else ""
        raise ValueError(
            f"the sinogram has {len(sinogram)} angles x {sinogram.shape[1]} detectors, --angles says {count}{hint}"
        )


def project(
    slice_: Float[Tensor, "height width"], angles: Float[Tensor, " angles"]
) -> tuple[Float32[Tensor, "angles width"], Signal]:
    """Simulate a measurement of a (n, n) slice; what lies beyond the detectors' circle is seen only in part.

    Returns:
        The (angles, n) sinogram, and the slice as a signal.

    Raises:
        ValueError: the slice is not square.
    """
    height, width = slice_.shape
    if height != width:
        raise ValueError(f"a square slice is needed, got {height} x {width} pixels: crop or pad it")
    return Radon(angles, width)(slice_.float()), Signal("image", (height, width), 1, "float32", (0.0, 1.0))


def build_fit(
    sinogram: Float[Tensor, "angles n"],
    angles: Float[Tensor, " angles"],
    network: NetworkConfig,
    config: FitConfig,
    device: str = "cpu",
    signal: Signal | None = None,
) -> tuple[TomographyFit, Float32[Tensor, "n n"]]:
    """A fit of a fresh network to a sinogram.

    Args:
        sinogram: (angles, n).
        angles: (angles,) degrees.
        network: which network.
        config: how to train it.
        device: where.
        signal: the slice's values, None = from 0 to the top of a first estimate.

    Returns:
        The fit, and the first estimate: (n, n) by filtered back-projection.
    """
    estimate = filtered_back_projection(sinogram, angles)
    signal = signal or slice_signal(sinogram, estimate)
    low, high = float(sinogram.min()), float(sinogram.max())
    sizes = (len(sinogram), sinogram.shape[1])
    seen = SignalData(sinogram[..., None], Signal("image", sizes, 1, "float32", (low, max(high, low + 1e-6))))
    fit = encode.build_fit(
        SignalData(estimate[..., None], signal),
        network,
        config,
        device,
        seen,
        TomographyFit,
        sinogram=sinogram,
        angles=angles,
    )
    assert isinstance(fit, TomographyFit)
    return fit, estimate


def slice_signal(sinogram: Float[Tensor, "angles n"], estimate: Float[Tensor, "n n"]) -> Signal:
    """The slice as a signal to be found: its size from the sinogram, its values from 0 to a first estimate's top.

    Raises:
        ValueError: an empty slice.
    """
    top = float(estimate.flatten().kthvalue(max(1, round(0.999 * estimate.numel()))).values)
    if not top > 0.0:
        raise ValueError("the sinogram shows nothing: its back-projection has no positive values")
    size = sinogram.shape[1]
    return Signal("image", (size, size), 1, "float32", (0.0, top))


class TomographyFit(MeasuredFit):
    """A fit whose loss compares projections of the whole slice with a sinogram."""

    def __init__(self, *arguments: Any, sinogram: Tensor, angles: Tensor, **keywords: Any) -> None:
        """
        Args:
            arguments: of `Fit`; the data is a first estimate of the slice and only says its shape and range.
            sinogram: (angles, n) measured.
            angles: (angles,) degrees.
            keywords: of `Fit`.

        Raises:
            ValueError: a fit to a share of the samples, or to some of them twice.
        """
        super().__init__(*arguments, **keywords)
        signal = self.data.signal
        if self.config.share(signal.num_samples) < 1.0 or self.config.overlap:
            raise ValueError("projections need every sample once: --sample-fraction must be 1, --points, --overlap 0")
        low, high = signal.value_range
        self.radon = Radon(angles, signal.shape[1]).to(self.device)
        shift = torch.full(signal.shape, 0.5 * (low + high), device=self.device)
        self.wanted = (sinogram.to(self.device) - self.radon(shift)) * (2.0 / (high - low))
        """The sinogram of the slice's network values (-1 to 1)."""
        self.turns = angles
        by_row = sort_by_row(sample_rows(self.field, signal).flatten(), self.field.num_rows)
        self.order = by_row.order.to(self.device)

    def settings(self) -> dict[str, Any]:
        """Everything that decides to which weights it trains: the measurement too."""
        return super().settings() | {"sinogram": fingerprint(self.wanted), "angles": fingerprint(self.turns)}

    def gradients(self, table: Tensor, shared: Mapping[str, Tensor]) -> float:
        """Gradients of the mean squared error of the projections; returns that error per pixel of a ray."""
        x, offsets, _ = self.batch()
        values = self.values(x, offsets, table, shared)
        picture = torch.empty_like(values).index_copy(0, self.order, values).view(self.data.signal.shape)
        picture.requires_grad_()
        loss = (self.radon(picture) - self.wanted).square().mean()
        (slope,) = torch.autograd.grad(loss, picture)
        self.carry_on(slope.reshape(-1, 1)[self.order], values, x, offsets, table, shared)
        return float(loss.detach()) / len(picture) ** 2
