"""nerfstudio's trainer where rows are not simply parameters on a device: what it must not do, how it goes on."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any

from nerfstudio.engine.trainer import Trainer
from nerfstudio.utils.rich_utils import CONSOLE

from lg_field.errors import UserError
from lg_field.nerfstudio.checkpoints import newest_checkpoint


def check_by_number(config: Any, what: str) -> None:
    """Make sure that each number is optimized on its own, in full precision.

    Args:
        config: of the run.
        what: needs that, for the message.

    Raises:
        UserError: it is not.
    """
    if config.mixed_precision or config.use_grad_scaler:
        raise UserError(f"{what}: trained in full precision, leave out --mixed-precision and --use-grad-scaler")
    clipped = [name for name, group in config.optimizers.items() if group["optimizer"].max_norm is not None]
    if clipped:
        raise UserError(f"{what}: the norm of all gradients is not known, leave out max-norm of {', '.join(clipped)}")


def check_every_step(config: Any, what: str) -> None:
    """Make sure that each optimizer takes a step after each gradient.

    Args:
        config: of the run.
        what: needs that, for the message.

    Raises:
        UserError: it does not.
    """
    held = [name for name, steps in config.gradient_accumulation_steps.items() if steps > 1]
    if held:
        raise UserError(
            f"{what}: gradients are not kept from one step to the next, leave out --gradient-accumulation-steps of "
            f"{', '.join(held)} and ask for more rays a step (--pipeline.datamanager.train-num-rays-per-batch)"
        )


def without_viewer(config: Any) -> bool:
    """Take the viewer out of a configuration; whether there was one."""
    shown = bool(config.is_viewer_enabled() or config.is_viewer_legacy_enabled())
    config.vis = "tensorboard" if shown else config.vis
    return shown


class ResumedRun(Trainer):
    """Goes on from a checkpoint that it reads in its own way."""

    @abstractmethod
    def read_checkpoint(self, path: Path) -> dict[str, Any]:
        """What this process needs of a checkpoint.

        Raises:
            OSError, ValueError: a damaged one, or one that does not fit.
        """

    def _load_checkpoint(self) -> None:
        """Go on from the newest checkpoint of `load_dir`, or from the one that is named."""
        config: Any = self.config
        path = config.load_checkpoint
        if config.load_dir is not None:
            path = newest_checkpoint(config.load_dir, config.load_step)
            if path is None:
                raise UserError(f"there is no checkpoint to go on from in {config.load_dir}")
        if path is None:
            return
        try:
            checkpoint = self.read_checkpoint(path)
        except (OSError, ValueError) as error:
            raise UserError(str(error)) from error
        self._start_step = checkpoint["step"] + 1
        self.pipeline.load_pipeline(checkpoint["pipeline"], checkpoint["step"])
        self.optimizers.load_optimizers(checkpoint["optimizers"])
        if "schedulers" in checkpoint and config.load_scheduler:
            self.optimizers.load_schedulers(checkpoint["schedulers"])
        self.grad_scaler.load_state_dict(checkpoint["scalers"])
        CONSOLE.print(f"Going on from {path}")
