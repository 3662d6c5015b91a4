"""Optimizer and schedule configurations that nerfstudio lacks."""

from __future__ import annotations

from dataclasses import dataclass, field

from nerfstudio.engine.optimizers import AdamOptimizerConfig
from nerfstudio.engine.schedulers import Scheduler, SchedulerConfig
from torch.optim import Optimizer, lr_scheduler

from lg_field.ops.adam import Adam


@dataclass
class FusedAdamOptimizerConfig(AdamOptimizerConfig):
    """Adam as one fused kernel, on CPU and CUDA alike."""

    _target: type = field(default_factory=lambda: Adam)
    """target class to instantiate"""
    fused: bool = True
    """Use the fused implementation."""


@dataclass
class DecaySchedulerConfig(SchedulerConfig):
    """Exponential decay after a linear warm-up. Unlike nerfstudio's it leaves no numpy scalar in the checkpoint."""

    _target: type = field(default_factory=lambda: DecayScheduler)
    """target class to instantiate"""
    factor: float = 0.05
    """Learning rate at `max_steps`, as a part of the first one."""
    max_steps: int = 0
    """Step from which the rate stays; 0 = the length of the run."""
    warmup_steps: int = 0
    """Steps over which the rate rises from nothing."""


class DecayScheduler(Scheduler):
    """Builds the schedule of `DecaySchedulerConfig`."""

    config: DecaySchedulerConfig

    def get_scheduler(self, optimizer: Optimizer, lr_init: float) -> lr_scheduler.LRScheduler:
        """torch's scheduler of an optimizer, whose rate is `lr_init` at first."""
        config = self.config

        def rate(step: int) -> float:
            warm = min(1.0, (step + 1) / (config.warmup_steps + 1))
            return float(warm * config.factor ** min(1.0, step / max(1, config.max_steps)))

        return lr_scheduler.LambdaLR(optimizer, lr_lambda=rate)
