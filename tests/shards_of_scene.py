"""A checkpoint that ranks write, in a module that their processes import quickly."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist
from small_shared_grid import make

from lg_field.distributed.ranks import Ranks
from lg_field.distributed.shards import TreePath, save_shards

TABLE = "_model.field.table."
MOMENTS = ("optimizers", "fields", "state", 0, "exp_avg")


def write_shards(folder: Path) -> None:
    """Of the checkpoint `whole` in a run's folder; the ranks' cells lie among one another."""
    ranks, field = Ranks(), make(contraction=True)
    mine = torch.arange(ranks.rank, field.num_rows, ranks.size)
    found = torch.load(folder / "whole", weights_only=True)
    found["pipeline"] |= {TABLE + k: v for k, v in field.selected(mine).state_dict().items()}
    state = found["optimizers"]["fields"]["state"][0]
    state["exp_avg"] = state["exp_avg"][mine]
    rows = [("pipeline", TABLE + name) for name in ("cells", "local", "features", "occupied")]
    save_shards(folder / "nerfstudio_models" / "step-000000007.shards", found, rows[0], [*rows, MOMENTS], ranks)


def write_as_a_rank(file: Path, folder: Path, cells: TreePath, rows: list[TreePath]) -> None:
    """The checkpoint in a file as the folder of a single rank, which this process is meanwhile."""
    found = torch.load(file, weights_only=True)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        save_shards(folder, found, cells, rows, Ranks())
    finally:
        dist.destroy_process_group()
