"""Fitting a network to a signal: all samples each step, or a random share of every cell (paper, section 4)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lg_field.files import atomic_write
from lg_field.networks import LocalGlobalNetwork
from lg_field.networks.incode import ModulatedWeights
from lg_field.ops import accumulate_gradients as accumulate_gradients
from lg_field.ops import sort_by_row
from lg_field.signals.data import SignalData
from lg_field.signals.decode import sample_rows
from lg_field.signals.metrics import psnr
from lg_field.signals.shapes.occupancy import OccupancyData
from lg_field.signals.shapes.sampling import Sampling, ShapeSampler

CHUNK = {"cpu": 1 << 13, "cuda": 1 << 18}
"""Points at a time: on a CPU the activations stay in cache, on a GPU they fit its memory."""


@dataclass(frozen=True)
class FitConfig:
    """How to fit."""

    steps: int = 1000
    """Optimizer steps."""
    lr: float = 5e-4
    """Adam's learning rate at the start."""
    lr_factor: float = 1.0
    """The rate falls exponentially to this part of itself at the last step."""
    global_lr_scale: float = 1.0
    """The global sub-network learns at this times the rate."""
    sample_fraction: float = 1.0
    """Part of the samples drawn each step; 1 = all of them."""
    points: int = 0
    """Samples drawn each step, of signals with fewer all; 0 = by sample_fraction."""
    sample: Sampling = "mixed"
    """Shapes: draw voxels of all cells alike (uniform), near the surface, or half and half."""
    overlap: int = 0
    """Samples beyond a cell's borders that it trains on too (paper: overlaps)."""
    seed: int = 0
    """For the initial weights and the samples drawn."""

    def share(self, num_samples: int) -> float:
        """Part of a signal's samples that a step draws."""
        return min(1.0, self.points / num_samples) if self.points else self.sample_fraction

    def check(self) -> None:
        """Raise ValueError for settings that make no sense."""
        if self.steps < 1 or not min(self.lr, self.lr_factor, self.global_lr_scale) > 0:
            raise ValueError(f"steps, lr, lr_factor and global_lr_scale must be positive, got {self}")
        if not 0.0 < self.sample_fraction <= 1.0:
            raise ValueError(f"sample_fraction must be in (0, 1], got {self.sample_fraction}")
        if self.overlap < 0 or self.points < 0:
            raise ValueError(f"overlap and points must not be negative, got {self.overlap} and {self.points}")


class Fit:
    """One run of training; goes on where a saved one stopped, to the same weights."""

    def __init__(
        self,
        field: LocalGlobalNetwork,
        data: SignalData | OccupancyData,
        config: FitConfig,
        rows: Tensor | None = None,
        modulation: ModulatedWeights | None = None,
    ) -> None:
        """
        Args:
            field: trained in place; it says the device.
            data: the signal.
            config: settings.
            rows: train only these rows, everything else stays as it is to the bit (extension); None = all.
            modulation: train these weights instead of the field's own; `write_back` folds them into the field.
        """
        config.check()
        self.field, self.data, self.config = field, data, config
        self.step, self.seconds, self.stopping = 0, 0.0, False
        self.device = field.cells.device
        self.rows = None if rows is None else rows.to(self.device)
        self.generator = torch.Generator(self.device).manual_seed(config.seed)
        shared = dict(field.shared)
        self.table = field.local if rows is None else field.local.detach()[self.rows].requires_grad_()
        self.shared = shared if rows is None else {k: v.detach() for k, v in shared.items()}
        self.modulation = modulation
        self.weights: dict[str, Tensor] = {"table": self.table, **self.shared}
        if modulation is not None:
            assert rows is None, "extension trains plain rows"
            self.weights = dict(modulation.trainable())
        self.optimizer = self._adam()
        self.cells = field.cells if rows is None else field.cells[self.rows]
        self.batch = self._batches()
        self.write_back()

    def _adam(self) -> torch.optim.Adam:
        """One group of parameters for each learning rate."""
        groups: dict[float, list[Tensor]] = {}
        for name, weight in self.weights.items():
            if weight.requires_grad and weight.numel():
                scale = self.config.global_lr_scale if name.startswith("global_") else 1.0
                groups.setdefault(scale, []).append(weight)
        parts = [{"params": weights, "scale": scale} for scale, weights in groups.items()]
        return torch.optim.Adam(parts, lr=self.config.lr, fused=True)

    def num_parameters(self) -> dict[str, int]:
        """Numbers of the network that is trained: `local`, `shared` (with a harmonizer's) and `total`."""
        return (self.modulation or self.field).num_parameters()

    def run(self, on_step: Callable[[int, float], None] | None = None) -> None:
        """Train to the last step, or until `stopping` is set: then the step under way is finished first.

        Args:
            on_step: called after each step with its number (from 1) and the mean squared error before it, in
                network values (range 2).
        """
        config = self.config
        while self.step < config.steps and not self.stopping:
            begin = time.perf_counter()
            for group in self.optimizer.param_groups:
                group["lr"] = config.lr * group["scale"] * config.lr_factor ** (self.step / config.steps)
            self.optimizer.zero_grad()
            error = self.gradients(self.table, self.shared) if self.modulation is None else self._through_the_fold()
            if not math.isfinite(error):
                raise ValueError(f"training diverged at step {self.step}: use a smaller --lr than {config.lr:g}")
            self.optimizer.step()
            self.step += 1
            self.seconds += time.perf_counter() - begin
            if on_step is not None:
                on_step(self.step, error)
        self.write_back()

    def gradients(self, table: Tensor, shared: Mapping[str, Tensor]) -> float:
        """Add the gradients of one step's loss to these weights; returns the mean squared error."""
        chunk = CHUNK.get(self.device.type, 1 << 16)
        x, offsets, target = self.batch()
        return accumulate_gradients(x, offsets, target, table, shared, self.field.sizes, chunk)

    def _through_the_fold(self) -> float:
        """`gradients` on the folded weights, carried on to the modulated ones and their harmonizer."""
        assert self.modulation is not None
        folded = self.modulation.fold()
        leaves = {name: value.detach().requires_grad_() for name, value in folded.items()}
        error = self.gradients(leaves["table"], {k: v for k, v in leaves.items() if k != "table"})
        used = [name for name in folded if folded[name].numel()]
        ends = [folded[name] for name in used]
        if self.modulation.harmonizer is not None:
            torch.autograd.backward([*ends, self.modulation.penalty()], [*(leaves[n].grad for n in used), None])
        else:
            torch.autograd.backward(ends, [leaves[n].grad for n in used])
        return error

    def write_back(self) -> None:
        """Put rows trained alone, or modulated weights, back into the field."""
        if self.modulation is not None:
            self.modulation.write_to(self.field)
        if self.rows is not None:
            with torch.no_grad():
                self.field.local[self.rows] = self.table.detach()

    # -- batches

    def _batches(self) -> Callable[[], tuple[Tensor, Tensor, Tensor]]:
        data, config = self.data, self.config
        if isinstance(data, SignalData):
            share = config.share(data.signal.num_samples)
            return self._windows(data, share) if share < 1.0 or config.overlap else self._everything(data)
        points = config.points or max(1, round(config.sample_fraction * data.signal.num_samples))
        grid, cells = self.field.grid, self.cells
        return ShapeSampler(data, grid, cells, points, config.sample, config.overlap, self.generator).draw

    def _everything(self, data: SignalData) -> Callable[[], tuple[Tensor, Tensor, Tensor]]:
        """All samples of the kept cells, sorted once."""
        signal, grid = data.signal, self.field.grid
        axes = [signal.coordinates(grid, k, torch.arange(n)) for k, n in enumerate(signal.shape)]
        rows = sample_rows(self.field, signal).flatten()
        if self.rows is not None:
            lookup = torch.full((self.field.num_rows + 1,), -1)  # the last: samples of no row, which index it by -1
            lookup[self.rows.cpu()] = torch.arange(len(self.rows))
            rows = lookup[rows]
        kept = (rows >= 0).nonzero()[:, 0]
        if len(kept) == 0:
            raise ValueError("none of the signal's samples lies in the cells to train")
        by_row = sort_by_row(rows[kept], len(self.cells))
        order = kept[by_row.order]
        x = torch.stack([axis[i] for axis, i in zip(axes, torch.unravel_index(order, signal.shape))], dim=-1)
        target = signal.normalize(data.flat()[order])
        batch = (x.to(self.device), by_row.offsets.to(self.device), target.to(self.device))
        return lambda: batch

    def _windows(self, data: SignalData, share: float) -> Callable[[], tuple[Tensor, Tensor, Tensor]]:
        """Draws equally many samples from every cell's window, or takes all of them each step: the cell grown by the
        overlap, shifted inward at the signal's edge so that all windows have one size."""
        signal, grid, cells = data.signal, self.field.grid, len(self.cells)
        starts, sizes = [], []
        index = grid.unravel(self.cells)
        for k, n in enumerate(signal.shape):
            edges = (torch.arange(grid.counts[k] + 1, device=self.device) * n) // grid.counts[k]
            size = min(n, int(edges.diff().max()) + 2 * self.config.overlap)
            first = (edges[:-1] - self.config.overlap).clamp(0, n - size)
            starts.append(first[index[:, k], None])
            sizes.append(size)
        values = data.samples.to(self.device)

        def samples(shifts: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
            """At these positions in the windows, per axis (cells or 1, count)."""
            positions = [(start + shift).flatten() for start, shift in zip(starts, shifts)]
            x = torch.stack([signal.coordinates(grid, k, p) for k, p in enumerate(positions)], dim=-1)
            offsets = torch.arange(cells + 1, device=self.device) * shifts[0].shape[1]
            return x, offsets, signal.normalize(values[tuple(positions)])

        def draw() -> tuple[Tensor, Tensor, Tensor]:
            drawn = (torch.randint(n, (cells, count), generator=self.generator, device=self.device) for n in sizes)
            return samples(list(drawn))

        if share == 1.0:
            inside = torch.arange(math.prod(sizes), device=self.device)
            batch = samples([shift[None] for shift in torch.unravel_index(inside, sizes)])
            return lambda: batch
        count = max(1, round(share * signal.num_samples / grid.num_cells))
        return draw

    # -- resume

    def save_state(self, path: Path) -> None:
        """Write everything an exact continuation needs."""
        state = {
            "config": asdict(self.config),
            "describes": identity(self.field, self.data),
            "step": self.step,
            "seconds": self.seconds,
            "weights": {k: v.detach() for k, v in self.weights.items()},
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
        }
        with atomic_write(path, overwrite=True) as temporary:
            torch.save(state, temporary)

    def load_state(self, path: Path) -> None:
        """Go on from `save_state`.

        Raises:
            ValueError: the state is of another signal, network or setting.
        """
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
        except Exception as error:
            raise ValueError(f"{path} cannot be resumed from: {str(error).splitlines()[0][:100]}") from error
        theirs = {k: v for k, v in state["config"].items() if k != "steps" or self.config.lr_factor != 1.0}
        ours = {k: v for k, v in asdict(self.config).items() if k in theirs}
        if theirs != ours or state["describes"] != identity(self.field, self.data):
            raise ValueError(
                f"{path} is of another signal or other settings; give the same ones, or leave out --resume"
            )
        with torch.no_grad():
            for name, value in state["weights"].items():
                self.weights[name].copy_(value)
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"].cpu())
        self.step, self.seconds = state["step"], state["seconds"]


def identity(field: LocalGlobalNetwork, data: SignalData | OccupancyData) -> dict[str, Any]:
    """What must agree for a state to fit."""
    description: dict[str, Any] = data.signal.to_dict() | field.config() | field.grid.to_dict()
    return description | {"rows": field.num_rows, "sum": data.checksum()}


def step_psnr(error: float, kind: str) -> float:
    """PSNR of a step's mean squared error in network values (not clipped, so a little below the final figure)."""
    return psnr(error if kind == "audio" else error / 4.0)
