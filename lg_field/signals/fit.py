"""Fitting a network to a signal: all samples each step, or a random share of every cell (paper, section 4)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lg_field.networks import LocalGlobalNetwork
from lg_field.networks.incode import ModulatedWeights
from lg_field.ops import accumulate_gradients
from lg_field.signals.batches import Draw
from lg_field.signals.centering import centered
from lg_field.signals.data import Samples
from lg_field.signals.settings import FitConfig, NetworkConfig, resolve_fit, resolve_network
from lg_field.signals.state import check_same, fingerprint, read_state, write_state

CHUNK = {"cpu": 1 << 13, "cuda": 1 << 18}
"""Points at a time: on a CPU the activations stay in cache, on a GPU they fit its memory."""


class Fit:
    """One run of training; goes on where a saved one stopped, to the same weights."""

    def __init__(
        self,
        field: LocalGlobalNetwork,
        data: Samples,
        config: FitConfig,
        rows: Int64[Tensor, " rows"] | None = None,
        modulation: ModulatedWeights | None = None,
        network: NetworkConfig | None = None,
    ) -> None:
        """
        Args:
            field: trained in place; it says the device.
            data: the signal.
            config: settings; what they do not say is the kind's default.
            rows: train only these rows, everything else stays as it is to the bit (extension); None = all.
            modulation: train these weights instead of the field's own; `write_back` folds them into the field.
            network: what the field and its modulation were made with, if known: a saved state must agree with it.

        Raises:
            ValueError: settings that make no sense, or no sample in the cells to train.
        """
        traits = data.signal.traits
        self.config = resolve_fit(traits, config).of_size(data.signal.num_samples)
        self.config.check()
        self.network = None if network is None else resolve_network(traits, network)
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
        plain, trained = modulation is None, self.weights["table"]
        self.centered = centered(field, trained, self.rows, plain) if self.config.center_cells else None
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

    def run(self, on_step: Callable[[int, float], None] | None = None, last: int | None = None) -> None:
        """Train to the last step, or until `stopping` is set: then the step under way is finished first.

        Args:
            on_step: called after each step with its number (from 1) and the mean squared error before it, in
                network values (range 2).
            last: end after this step, at the learning rates of all steps of the settings; None = after those.

        Raises:
            ValueError: training diverged.
        """
        config = self.config
        while self.step < (config.steps if last is None else min(last, config.steps)) and not self.stopping:
            begin = time.perf_counter()
            for group in self.optimizer.param_groups:
                group["lr"] = config.lr * group["scale"] * config.lr_factor ** (self.step / config.steps)
            self.optimizer.zero_grad()
            error = self.gradients(self.table, self.shared) if self.modulation is None else self._through_the_fold()
            if not math.isfinite(error):
                raise ValueError(f"training diverged at step {self.step}: use a smaller --lr than {config.lr:g}")
            if self.centered is None:
                self.optimizer.step()
            else:
                self.centered.step(self.optimizer)
            self.step += 1
            self.seconds += time.perf_counter() - begin
            if on_step is not None:
                on_step(self.step, error)
        self.write_back()

    def gradients(self, table: Float[Tensor, "rows K"], shared: Mapping[str, Tensor]) -> float:
        """Add the gradients of one step's loss to these weights; returns the mean squared error."""
        x, offsets, target = self.batch()
        return accumulate_gradients(x, offsets, target, table, shared, self.field.sizes, self.chunk)

    @property
    def chunk(self) -> int:
        """Points at a time."""
        return CHUNK.get(self.device.type, 1 << 16)

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

    def settings(self) -> dict[str, Any]:
        """Everything that decides to which weights a fit trains, by name, as plain data."""
        config, field = asdict(self.config), self.field
        if self.config.lr_factor == 1.0:
            del config["steps"]  # a longer run begins with the same steps
        facts = {
            "fit": type(self).__name__,
            "signal": self.data.signal.to_dict(),
            "samples": self.data.checksum(),
            "sizes": field.config(),
            "grid": field.grid.to_dict(),
            "cells": fingerprint(self.cells),
            "device": self.device.type,
            "modulation": None if self.modulation is None else self._modulation(self.modulation),
        }
        if self.rows is not None:  # what stays as it is decides how the rest trains
            old = torch.ones(field.num_rows, dtype=torch.bool, device=self.device)
            old[self.rows] = False
            facts["old cells"] = [fingerprint(t) for t in (field.local[old], *self.shared.values())]
        return config | (asdict(self.network) if self.network is not None else {}) | facts

    @staticmethod
    def _modulation(modulation: ModulatedWeights) -> dict[str, Any]:
        """What decides how modulated weights train, but for the weights."""
        harmonizer = modulation.harmonizer
        facts = {"first_rate": modulation.first_rate, "unit_values": modulation.unit_values, "features": 0, "mlp": ""}
        if harmonizer is not None:
            facts |= {"features": fingerprint(harmonizer.features), "mlp": str(harmonizer.mlp)}
        return facts

    def save_state(self, path: Path) -> None:
        """Write everything that an exact continuation needs."""
        state = {
            "settings": self.settings(),
            "step": self.step,
            "seconds": self.seconds,
            "weights": {k: v.detach() for k, v in self.weights.items()},
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
        }
        write_state(path, state)

    def load_state(self, path: Path) -> None:
        """Go on from `save_state`.

        Raises:
            FileNotFoundError: no such file.
            ValueError: no saved state, or one of another signal, network or setting.
        """
        state = read_state(path, self.device)
        check_same(path, state["settings"], self.settings())
        weights = state["weights"]
        if {k: v.shape for k, v in weights.items()} != {k: v.shape for k, v in self.weights.items()}:
            raise ValueError(f"{path} cannot be resumed from: its weights do not fit its settings")
        with torch.no_grad():
            for name, value in weights.items():
                self.weights[name].copy_(value)
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"].cpu())
        self.step, self.seconds = state["step"], state["seconds"]
        self.write_back()
