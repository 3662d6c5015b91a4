"""Growing a trained scene: new cells are trained with new images; old ones never change, nor what they read of the
shared part.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from nerfstudio.utils.rich_utils import CONSOLE

from lg_field.nerfstudio.config import LGTrainerConfig
from lg_field.nerfstudio.corrections import without_corrections
from lg_field.nerfstudio.model import SizesOptions
from lg_field.nerfstudio.runs import TABLE, TRANSFORMS, Run, cropped_checkpoint, load_run, write_run
from lg_field.radiance.field import RadianceField
from lg_field.space.regions import Region
from lg_field.table.editing import extend, regrow


def grown(field: RadianceField, region: Region | None, domain: Sequence[float] = ()) -> RadianceField:
    """A field with fresh rows; its old rows and what they read of the shared part are frozen.

    Args:
        field: the source; untouched.
        region: where cells without a row get one, scene units; None = everywhere in the domain.
        domain: lower and upper corner that the domain grows to, scene units, whole cells; () = as it is.

    Raises:
        ValueError: nothing to add, a domain that does not hold the old one, or a scene with an appearance per image,
            which other images do not have.
    """
    if field.sizes.appearance_features:
        raise ValueError("a scene with an appearance per image cannot be extended: train it with appearance_features 0")
    larger = extend(field, domain[:3], domain[3:]) if domain else field
    missing = torch.arange(larger.grid.num_cells, device=larger.cells.device)
    larger = regrow(larger, missing[~torch.isin(missing, larger.cells)])
    old = torch.isin(larger.cells, larger.grid.locate(field.grid.boxes(field.cells).mean(1)))
    wanted = torch.ones_like(old)
    if region is not None:
        wanted = torch.zeros_like(old).index_fill_(0, larger.rows_touching(region), True)
    rows = (old | wanted).nonzero()[:, 0]
    if len(rows) == field.num_rows:
        raise ValueError("there is nothing to add: every cell asked for has a row already")
    larger = larger.selected(rows)
    larger.freeze_(old[rows])
    if field.region is not None:
        larger.region = None if region is None else field.region | region
    return larger


def extended_run(
    run: Run, field: RadianceField, data: Path | None, output: Path, steps: int, overwrite: bool
) -> LGTrainerConfig:
    """Write the run that trains a `grown` field, at its step 0.

    Args:
        run: the source.
        field: what `grown` made of it.
        data: new images; None = those the source was trained with.
        output: folder of the new run.
        steps: training steps.
        overwrite: replace an existing folder.

    Returns:
        The new run's configuration, ready for nerfstudio's `train_loop`; `--load-config` of ns-train goes on with it.

    Raises:
        FileNotFoundError: the source has no dataparser_transforms.json, so that new images cannot be placed.
    """
    run.scene_to_world()
    config: Any = copy.deepcopy(run.config)
    manager: Any = config.pipeline.datamanager
    if data is not None:
        config.data = manager.data = manager.dataparser.data = data
    manager.align_to = output / TRANSFORMS
    config.machine.device_type = device_here(config.machine.device_type)
    model: Any = config.pipeline.model
    model.sizes, model.split_steps = SizesOptions(**vars(field.sizes)), ()
    model.counts = field.grid.counts
    # New rows start full and most are empty: they are to be found out well before the end.
    model.occupancy_points = max(model.occupancy_points, int((~field.frozen).sum()) * field.occupied.shape[1] // 2)
    model.space = "contracted" if field.sizes.contraction else "bounded"
    config.max_num_iterations = steps
    start = replace(run, config=config, checkpoint_path=run.checkpoint_path.with_name("step-000000000.ckpt"))
    checkpoint = {**cropped_checkpoint(run, field, keep_optimizer=False), "step": 0, "schedulers": {}}
    checkpoint["pipeline"] = without_corrections(checkpoint["pipeline"])
    write_run(start, checkpoint, output, overwrite, {})
    config.run_dir, config.load_dir = output, output / config.relative_model_dir
    config.save_config()
    return config


def device_here(trained_on: str) -> Any:
    """The kind of device to train on: what this machine has, wherever the source was trained."""
    here = "cuda" if torch.cuda.is_available() else "cpu"
    if here != trained_on:
        CONSOLE.print(f"the scene was trained on {trained_on}, its new cells are trained on {here}")
    return here


def check_unchanged(before: RadianceField, run_folder: Path) -> RadianceField:
    """The trained field, after a look at the frozen part.

    Raises:
        ValueError: a frozen number changed.
    """
    run = load_run(run_folder)
    after = run.field()
    old = before.cells[before.frozen]
    if not torch.equal(after.cells[after.frozen], old):
        raise ValueError(f"{run_folder} lost frozen cells: please report this as a bug")
    state = before.state_dict()
    for name, value in after.state_dict().items():
        if not torch.is_tensor(value) or name in after.line_names:
            continue
        if name in before.row_names:
            same = torch.equal(value[torch.isin(after.cells, old)], state[name][torch.isin(before.cells, old)])
        else:
            same = torch.equal(value, state[name])
        if not same:
            raise ValueError(f"{TABLE}{name} of {run_folder} changed where it was frozen: please report this as a bug")
    for name, read in before.lines_of_frozen().items():
        ours, theirs = (f.kept_lines[name].spread(getattr(f, name).detach())[read] for f in (before, after))
        if not torch.equal(ours, theirs):
            raise ValueError(f"{TABLE}{name} of {run_folder} changed where it was frozen: please report this as a bug")
    return after
