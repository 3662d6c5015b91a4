"""nerfstudio's trainer and the model, as one of many ranks: each has some rows, and all take the same steps."""

from __future__ import annotations

import hashlib
import shutil
import time
from pathlib import Path
from typing import Any

import torch
from nerfstudio.utils.rich_utils import CONSOLE

from lg_field.distributed import SHARDS
from lg_field.distributed.owners import Owners
from lg_field.distributed.ranks import Ranks
from lg_field.distributed.shards import Shards, TreePath, at, replaced, save_shards
from lg_field.distributed.trainer import RankTrainer
from lg_field.errors import UserError, tell
from lg_field.nerfstudio.checkpoints import load_checkpoint
from lg_field.nerfstudio.config import LGTrainerConfig
from lg_field.nerfstudio.model import LGModel
from lg_field.nerfstudio.resuming import ResumedRun, check_by_number, without_viewer
from lg_field.nerfstudio.runs import STATE, TABLE
from lg_field.radiance.field import RadianceField
from lg_field.radiance.training import RadianceTrainer
from lg_field.radiance.training_state import OF_ROWS
from lg_field.space.partition import PartitionGrid

CELLS: TreePath = ("pipeline", TABLE + "cells")
"""Where the cells of a checkpoint's rows are."""


def check_options(config: Any) -> None:
    """Make sure that ranks can follow a configuration, and take the viewer out of it.

    Raises:
        UserError: they cannot.
    """
    if not isinstance(config, LGTrainerConfig):
        raise UserError("rows on several ranks are lg-field's and lg-field-tiny's alone")
    model: Any = config.pipeline.model
    if model.rows_on != "device":
        raise UserError("ranks keep their rows on their devices: leave out --pipeline.model.rows-on")
    check_by_number(config, "rows on several ranks")
    if without_viewer(config) and not CONSOLE.quiet:
        tell("lg-field train: the viewer shows no run of several ranks while it trains (ns-viewer does afterwards)")


class RankModel(LGModel):
    """`LGModel` with this rank's rows."""

    def make_trainer(self, table: RadianceField, teacher: RadianceField | None) -> RadianceTrainer:
        """A trainer that shares the table with the other ranks."""
        return RankTrainer(table, self.config, Ranks(), teacher)


class RankRun(ResumedRun):
    """nerfstudio's trainer on one of many ranks; the first one writes what there is to write."""

    def __init__(self, config: LGTrainerConfig, ranks: Ranks) -> None:
        """
        Args:
            config: the same on all ranks.
            ranks: all of them.
        """
        super().__init__(config, local_rank=torch.cuda.current_device() if torch.cuda.is_available() else 0)
        self.ranks = ranks

    def now(self) -> float:
        """Seconds by the first rank's clock, so that all save at the same time."""
        return self.ranks.share(time.monotonic())

    def setup(self, test_mode: Any = "val") -> None:
        """As nerfstudio's; then the ranks make sure that they see the same data.

        Raises:
            UserError: they do not.
        """
        super().setup(test_mode)
        outputs: Any = self.pipeline.datamanager.train_dataparser_outputs  # type: ignore[attr-defined]
        seen = hashlib.sha256(repr([path.name for path in outputs.image_filenames]).encode())
        seen.update(outputs.cameras.camera_to_worlds.cpu().numpy().tobytes())
        try:
            self.ranks.agree(seen.hexdigest(), "the data")
        except ValueError as error:
            raise UserError(str(error)) from error
        if self.ranks.rank > 0:
            outputs.save_dataparser_transform = lambda path: None

    # -- checkpoints

    def row_paths(self) -> list[TreePath]:
        """Where in a checkpoint rows are."""
        table: RadianceField = self.pipeline.model.table  # type: ignore[assignment]
        state = self.pipeline.state_dict()
        found: list[TreePath] = [("pipeline", TABLE + name) for name in table.row_names if TABLE + name in state]
        found += [("pipeline", STATE, "training", name) for name in OF_ROWS]
        rows = {id(getattr(table, name)) for name in table.row_names}
        for name, optimizer in self.optimizers.optimizers.items():
            every = [p for group in optimizer.param_groups for p in group["params"]]
            for index, parameter in enumerate(every):
                if id(parameter) in rows:
                    moments = {
                        k: v for k, v in optimizer.state.get(parameter, {}).items() if torch.is_tensor(v) and v.dim()
                    }
                    found += [("optimizers", name, "state", index, key) for key in moments]
        return found

    def save_checkpoint(self, step: int) -> None:
        """Every rank saves its rows, the first one all else."""
        checkpoint = {
            "step": step,
            "pipeline": self.pipeline.state_dict(),
            "optimizers": {k: v.state_dict() for k, v in self.optimizers.optimizers.items()},
            "schedulers": {k: v.state_dict() for k, v in self.optimizers.schedulers.items()},
            "scalers": self.grad_scaler.state_dict(),
        }
        folder = self.checkpoint_dir / f"step-{step:09d}{SHARDS}"
        save_shards(folder, checkpoint, CELLS, self.row_paths(), self.ranks)
        if self.ranks.rank == 0 and self.config.save_only_latest_checkpoint:
            remove_others(folder)

    def read_checkpoint(self, path: Path) -> dict[str, Any]:
        """This rank's part of a checkpoint of any number of ranks."""
        return own_part(path, self.ranks)


def remove_others(folder: Path) -> None:
    """Remove a run's other checkpoints."""
    for other in folder.parent.glob("step-*"):
        if other != folder:
            shutil.rmtree(other) if other.is_dir() else other.unlink()


def own_part(path: Path, ranks: Ranks) -> dict[str, Any]:
    """A checkpoint with the rows that are to be this rank's.

    Raises:
        ValueError: a damaged one, or more ranks than cells.
    """
    if path.suffix == SHARDS:
        shards = Shards(path)
        cells, extra = shards.cells, shards.rest["pipeline"][TABLE + "_extra_state"]
        owners = Owners.balanced(PartitionGrid.from_dict(extra["grid"]), cells, ranks.size)
        return shards.checkpoint(owners.rank == ranks.rank)
    checkpoint = load_checkpoint(path)
    cells, extra = at(checkpoint, CELLS), checkpoint["pipeline"][TABLE + "_extra_state"]
    owners = Owners.balanced(PartitionGrid.from_dict(extra["grid"]), cells, ranks.size)
    mine = owners.of(ranks.rank)
    return replaced(checkpoint, {path: at(checkpoint, path)[mine] for path in whole_rows(checkpoint)})


def whole_rows(checkpoint: dict[str, Any]) -> list[TreePath]:
    """Where rows are in a checkpoint of one process."""
    pipeline = checkpoint["pipeline"]
    names = [name for name in ("cells", "local", "features", "occupied") if TABLE + name in pipeline]
    found: list[TreePath] = [("pipeline", TABLE + name) for name in names]
    if pipeline.get(STATE, {}).get("training"):
        found += [("pipeline", STATE, "training", name) for name in OF_ROWS]
    shapes = {pipeline[TABLE + name].shape for name in ("local", "features")}
    for name, optimizer in checkpoint["optimizers"].items():
        for index, moments in optimizer["state"].items():
            found += [
                ("optimizers", name, "state", index, key)
                for key, value in moments.items()
                if torch.is_tensor(value) and value.shape in shapes
            ]
    return found
