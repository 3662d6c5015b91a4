"""Restoration by the measurement and a prior: measured pixels are means of blocks of the picture, and neighbours are
mostly alike.

A network that is fitted to a coarse picture as if to samples shows means where the fine picture has values. Here the
means of what it shows are compared with the measured pixels: the loss is
mean((mean of block - measured pixel)^2) + smoothness * (total variation of the picture). With blocks of one pixel it
denoises.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lg_field.network_parts import parts_of
from lg_field.ops import RowSort, sort_by_row
from lg_field.restoration import pictures
from lg_field.restoration.measured import MeasuredFit
from lg_field.restoration.super_resolution import bicubic
from lg_field.restoration.tasks import Prior
from lg_field.signals import encode
from lg_field.signals.data import SignalData
from lg_field.signals.decode import sample_rows
from lg_field.signals.settings import FitConfig, NetworkConfig
from lg_field.signals.signal import Signal
from lg_field.signals.state import fingerprint

WINDOW = 16
"""Pixels of the picture along each side of the windows that a step looks at, where it does not look at the whole."""
MOST = 200_000
"""Parameters of one network for the whole picture, where none are said."""
ROUNDING = 1e-4
"""Squared differences of neighbours (in network values) far below this count as none."""
CHROMA = 3.0
"""Weight of squared differences of colour, of which pictures have little, and noise has much."""


class Places(NamedTuple):
    """Pixels of the picture in n windows of h x w coarse ones."""

    rows: Int64[Tensor, "n h"]
    """Coarse rows of each window."""
    columns: Int64[Tensor, "n w"]
    """Coarse columns."""
    shape: torch.Size
    """(n, h * scale, w * scale): the windows in pixels of the picture."""
    points: Float[Tensor, "pixels 2"]
    """Domain coordinates, sorted by row of the table."""
    by_row: RowSort
    """The order of the pixels in that."""


class AveragesFit(MeasuredFit):
    """A fit whose loss compares means of square blocks of the picture with measured pixels."""

    def __init__(
        self, *arguments: Any, coarse: Float[Tensor, "h w channels"], scale: int, smoothness: float, **keywords: Any
    ) -> None:
        """
        Args:
            arguments: of `Fit`; the data is a first estimate of the fine picture and only says its shape and range.
                `points` of the settings are the fine pixels of a step, 0 = all.
            coarse: (h, w, channels) values from 0 to 1.
            scale: fine pixels along each side of a block.
            smoothness: weight of the differences between neighbours.
            keywords: of `Fit`.

        Raises:
            ValueError: a smoothness below 0, or a fit to a share of the samples, or to some of them twice.
        """
        super().__init__(*arguments, **keywords)
        if not (math.isfinite(smoothness) and smoothness >= 0.0):
            raise ValueError(f"--smoothness must be finite and not negative, got {smoothness:g}")
        if self.config.sample_fraction < 1.0 or self.config.overlap:
            raise ValueError("whole windows are drawn, by --points: --sample-fraction must be 1, --overlap 0")
        signal = self.data.signal
        self.scale, self.smoothness = scale, smoothness
        self.wanted = (coarse.float() * 2.0 - 1.0).to(self.device)
        """The coarse picture in network values."""
        self.row_of_sample = sample_rows(self.field, signal).flatten().to(self.device)
        self.whole: Places | None = None
        """All places, once a step has looked at everything."""
        grid = self.field.grid
        self.axes = [signal.coordinates(grid, k, torch.arange(n)).to(self.device) for k, n in enumerate(signal.shape)]

    def settings(self) -> dict[str, Any]:
        """Everything that decides to which weights it trains: the coarse picture too."""
        facts = {"coarse": fingerprint(self.wanted), "scale": self.scale, "smoothness": self.smoothness}
        return super().settings() | facts

    @property
    def everything(self) -> bool:
        """Whether every step looks at the whole picture."""
        points = self.config.points
        return points == 0 or math.prod(self.wanted.shape[:2]) * self.scale**2 <= points

    def windows(self) -> tuple[Int64[Tensor, "windows rows"], Int64[Tensor, "windows columns"]]:
        """The coarse rows and columns that a step looks at: all, or those of windows drawn at random."""
        shape = self.wanted.shape[:2]
        if self.everything:
            rows, columns = (torch.arange(n, device=self.device)[None] for n in shape)
            return rows, columns
        sides = [min(max(1, WINDOW // self.scale), n) for n in shape]
        count = max(1, self.config.points // (math.prod(sides) * self.scale**2))
        found = []
        for n, side in zip(shape, sides):
            # from beyond the edges, so that pixels at an edge are seen as often as others
            first = torch.randint(1 - side, n, (count,), generator=self.generator, device=self.device)
            found.append(first.clamp(0, n - side)[:, None] + torch.arange(side, device=self.device))
        return found[0], found[1]

    def places(self) -> Places:
        """The pixels that a step looks at."""
        if self.whole is not None:
            return self.whole
        places = self.places_of(*self.windows())
        if self.everything:
            self.whole = places
        return places

    def places_of(self, rows: Int64[Tensor, "n h"], columns: Int64[Tensor, "n w"]) -> Places:
        """The places of the pixels below these coarse rows and columns."""
        steps, width = torch.arange(self.scale, device=self.device), self.data.signal.shape[1]
        y, x = ((at[..., None] * self.scale + steps).flatten(1) for at in (rows, columns))
        y, x = torch.broadcast_tensors(y[:, :, None], x[:, None, :])
        by_row = sort_by_row(self.row_of_sample[(y * width + x).flatten()], len(self.table))
        points = torch.stack([self.axes[0][y], self.axes[1][x]], dim=-1).view(-1, 2)[by_row.order]
        return Places(rows, columns, y.shape, points, by_row)

    def gradients(self, table: Tensor, shared: Mapping[str, Tensor]) -> float:
        """Gradients of the loss; returns the mean squared error of the coarse pixels."""
        rows, columns, shape, points, by_row = self.places()
        values = self.values(points, by_row.offsets, table, shared)
        picture = torch.empty_like(values).index_copy(0, by_row.order, values)
        picture = picture.view(*shape, -1).requires_grad_()
        error = (block_means(picture, self.scale) - self.wanted[rows[:, :, None], columns[:, None, :]]).square().mean()
        (slope,) = torch.autograd.grad(error + self.smoothness * roughness(picture), picture)
        slope = slope.reshape(values.shape)[by_row.order]
        self.carry_on(slope, values, points, by_row.offsets, table, shared)
        return float(error.detach())


def block_means(picture: Float[Tensor, "n y x channels"], scale: int) -> Float[Tensor, "n h w channels"]:
    """Means of blocks of scale x scale pixels."""
    n, y, x, channels = picture.shape
    return picture.reshape(n, y // scale, scale, x // scale, scale, channels).mean((2, 4))


def roughness(picture: Float[Tensor, "n y x channels"]) -> Float[Tensor, ""]:
    """Total variation: the mean size of differences of neighbours along both axes, of all channels together, for edges
    are in the same place in all of them, and noise is not. Rounded off at zero.

    The squared size is brightness^2 / channels + CHROMA * mean(colour^2): brightness is the mean of the channels, whose
    noise has so much less variance than that of each, and colour what each has beyond it. One channel is brightness.
    """
    total = picture.new_zeros(())
    for axis in (1, 2):
        steps = picture.diff(dim=axis)
        if steps.numel():
            brightness = steps.mean(dim=-1, keepdim=True)
            colour = (steps - brightness).square().mean(dim=-1)
            squares = brightness.squeeze(-1).square() / steps.shape[-1] + CHROMA * colour
            total = total + (squares + ROUNDING).sqrt().mean()
    return total


def build_fit(
    coarse: SignalData,
    result: Signal,
    scale: float,
    network: NetworkConfig,
    config: FitConfig,
    prior: Prior,
    smoothness: float,
    device: str = "cpu",
) -> AveragesFit:
    """A fit of a fresh network to a coarse picture.

    Args:
        coarse: the picture; cells and the budget are by its pixels.
        result: the fine picture as a signal.
        scale: fine pixels for a coarse one, along each axis; 1 = the picture is not coarse, but noisy.
        network: which network; a coordinate scale or a budget of 0 follows the coarse picture's size.
        config: how to train it.
        prior: frequencies and budget for each coarse pixel, and up to how many cells the widths follow that.
        smoothness: weight of the differences between neighbours.
        device: where.

    Raises:
        ValueError: a scale that is no whole number, or settings that do not fit.
    """
    if round(scale) != scale or any(n * round(scale) != m for n, m in zip(coarse.signal.shape, result.shape)):
        raise ValueError(f"--averages compares means of whole pixels: --scale must be a whole number, got {scale:g}")
    said = encode.resolve_network(coarse.signal.traits, network)
    grid = encode.domain_grid(coarse.signal, said)
    count, cells = math.prod(coarse.signal.shape), grid.num_cells
    alike = cells if said.parameters else min(cells, prior.cells)
    budget = said.parameters or max(round(prior.budget * count * alike / cells), encode.LEAST_BUDGET * alike)
    if not (said.parameters or parts_of(said.network).rows):
        budget = min(MOST, round(prior.budget * count))
    sizes = encode.chain_sizes(coarse.signal, replace(said, parameters=budget), alike)
    reach = 0.0 if said.coordinate_step else said.coordinate_scale or max(coarse.signal.shape) / prior.side
    said = replace(said, counts=grid.counts, cell_size=(), coordinate_scale=reach)
    said = replace(said, local_width=sizes.local_width, global_width=sizes.global_width)
    values = pictures.values_of(coarse)
    first = pictures.from_values(bicubic(values, result.shape), result)
    more: dict[str, Any] = {"coarse": values, "scale": round(scale), "smoothness": smoothness}
    fit = encode.build_fit(SignalData(first.samples, result), said, config, device, coarse, AveragesFit, **more)
    assert isinstance(fit, AveragesFit)
    return fit
