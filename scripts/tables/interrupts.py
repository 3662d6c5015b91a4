"""Interrupts of a table: the step under way is finished, a run at its end is kept, and no other is begun."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lg_field.cli.fitting import finish_step_on_interrupt
from lg_field.signals.fit import Fit


@dataclass
class Interrupts:
    """Whether a table is to end, of all its runs."""

    came: bool = False
    """Whether there was one: begin no other run."""

    def train(self, fit: Fit, on_step: Callable[[int, float], None], last: int) -> bool:
        """Train, on an interrupt to the end of the step under way.

        Args:
            fit: trained in place.
            on_step: called after each step with its number and its error.
            last: the step to train to.

        Returns:
            Whether step `last` is done: then the run is to be kept, also if an interrupt came in that step.
        """
        with finish_step_on_interrupt(fit):
            fit.run(on_step, last)
        self.came = self.came or fit.stopping
        return fit.step >= last
