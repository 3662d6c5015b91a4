"""Fitting a network to a signal: all samples each step, or a random share of every cell (paper, section 4)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lg_field.files import atomic_write
from lg_field.networks import LocalGlobalNetwork
from lg_field.networks.incode import ModulatedWeights
from lg_field.ops import Backend, ChainSizes, cpu, local_global_chain
from lg_field.signals.batches import Draw
from lg_field.signals.data import Samples
from lg_field.signals.settings import FitConfig, resolve_fit

CHUNK = {"cpu": 1 << 13, "cuda": 1 << 18}
"""Points at a time: on a CPU the activations stay in cache, on a GPU they fit its memory."""


class Fit:
    """One run of training; goes on where a saved one stopped, to the same weights."""

    def __init__(
        self,
        field: LocalGlobalNetwork,
        data: Samples,
        config: FitConfig,
        rows: Tensor | None = None,
        modulation: ModulatedWeights | None = None,
    ) -> None:
        """
        Args:
            field: trained in place; it says the device.
            data: the signal.
            config: settings; what they do not say is the kind's default.
            rows: train only these rows, everything else stays as it is to the bit (extension); None = all.
            modulation: train these weights instead of the field's own; `write_back` folds them into the field.
        """
        self.config = resolve_fit(data.signal.traits, config)
        self.config.check()
        self.field, self.data = field, data
        self.step, self.seconds, self.stopping = 0, 0.0, False
        self.device = field.cells.device
        self.rows = None if rows is None else rows.to(self.device)
        self.generator = torch.Generator(self.device).manual_seed(self.config.seed)
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
        self.batch: Draw = data.batches(field.grid, self.cells, self.config, self.generator)
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


def accumulate_gradients(
    x: Tensor,
    offsets: Tensor,
    target: Tensor,
    table: Tensor,
    shared: Mapping[str, Tensor],
    shape: ChainSizes,
    chunk: int,
    backend: Backend = "auto",
) -> float:
    """Add the gradients of the mean squared error, chunk by chunk: activations of one chunk only, computed once.

    Args:
        x: (n, d) points sorted by row.
        offsets: (P + 1,) first point of each row.
        target: (n, out) values.
        table: (P, K) rows.
        shared: the shared part.
        shape: wiring.
        chunk: points at a time; the fused CPU kernel has its own, smaller tiles.
        backend: see `local_global_chain`.

    Returns:
        The mean squared error.
    """
    if backend == "cpu" or (backend == "auto" and cpu.why_not(x, target, table, *shared.values()) is None):
        return cpu.fused_step(x, offsets, target, table, shared, shape)
    total, bounds, first = torch.zeros((), device=x.device), offsets.cpu(), 0
    while first < len(x):
        last = min(first + chunk, len(x))
        border = int(bounds[torch.searchsorted(bounds, last, right=True) - 1])
        last = border if border > first else last  # whole rows, where one is not longer than a chunk
        low = int(torch.searchsorted(bounds, first, right=True)) - 1
        high = int(torch.searchsorted(bounds, last))
        part = offsets[low : high + 1].clamp(first, last) - first
        out = local_global_chain(x[first:last], part, table[low:high], shared, shape, backend=backend)
        loss = (out - target[first:last]).square().sum() / target.numel()
        loss.backward()
        total += loss.detach()
        first = last
    return float(total)


def identity(field: LocalGlobalNetwork, data: Samples) -> dict[str, Any]:
    """What must agree for a state to fit."""
    description: dict[str, Any] = data.signal.to_dict() | field.config() | field.grid.to_dict()
    return description | {"rows": field.num_rows, "sum": data.checksum()}
