"""nerfstudio's trainer and the model with rows in host memory or on disk (`--pipeline.model.rows-on`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nerfstudio.engine.optimizers import Optimizers

from lg_field.errors import UserError, tell
from lg_field.nerfstudio.checkpoints import load_checkpoint, newest_checkpoint
from lg_field.nerfstudio.model import LGModel
from lg_field.nerfstudio.resuming import ResumedRun, check_by_number, check_every_step, without_viewer
from lg_field.radiance.field import RadianceField
from lg_field.radiance.training import RadianceTrainer
from lg_field.stored.disk import FULL
from lg_field.stored.trainer import StoredTrainer


class StoredModel(LGModel):
    """`LGModel` with its rows elsewhere."""

    def make_trainer(self, table: RadianceField, teacher: RadianceField | None) -> RadianceTrainer:
        """A trainer that gathers the rows of a step."""
        config = self.config
        assert config.rows_on != "device"
        try:
            return StoredTrainer(table, config, teacher, config.rows_on, config.rows_folder)
        except OSError as error:
            what = error.strerror if error.errno in FULL else error
            raise UserError(f"--pipeline.model.rows-on {config.rows_on}: {what}") from error


class StoredRun(ResumedRun):
    """nerfstudio's trainer of a `StoredModel`."""

    def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
        """
        Args:
            config: of the run.
            args: nerfstudio's.
            kwargs: nerfstudio's.

        Raises:
            UserError: options that rows elsewhere cannot follow.
        """
        what = f"rows on {config.pipeline.model.rows_on}"
        check_by_number(config, what)
        check_every_step(config, what)
        if without_viewer(config):
            tell(f"lg-field: the viewer shows no run with {what} while it trains (ns-viewer does afterwards)")
        config.pipeline.model._target = StoredModel
        super().__init__(config, *args, **kwargs)

    def setup_optimizers(self) -> Optimizers:
        """nerfstudio's, which the rows follow."""
        made = super().setup_optimizers()
        trainer: Any = self.pipeline.model.trainer
        trainer.follow(list(made.optimizers.values()))
        return made

    def train(self) -> None:
        """nerfstudio's.

        Raises:
            UserError: the disk is full.
        """
        try:
            super().train()
        except OSError as error:
            if error.errno not in FULL:
                raise
            where = self.checkpoint_dir
            cure = f"--load-dir {where} goes on from the last checkpoint"
            if newest_checkpoint(where) is None:
                cure = f"there is no checkpoint in {where} yet to go on from"
            raise UserError(f"{error.strerror}; {cure}") from error

    def read_checkpoint(self, path: Path) -> dict[str, Any]:
        """A checkpoint that stays on disk but for what is looked at. One that ranks wrote is joined to a file first."""
        return load_checkpoint(path, scratch=path.parent)
