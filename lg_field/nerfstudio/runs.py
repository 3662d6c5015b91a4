"""nerfstudio runs on disk: read one (config.yml and checkpoint), write a new one whole or not at all."""

from __future__ import annotations

import copy
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from jaxtyping import Float
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.engine.trainer import TrainerConfig
from torch import Tensor

from lg_field.files import refuse_existing
from lg_field.nerfstudio.checkpoints import load_checkpoint as load_checkpoint
from lg_field.nerfstudio.checkpoints import newest_checkpoint
from lg_field.nerfstudio.datamanager import align, scene_to_world
from lg_field.nerfstudio.model import LGModelConfig
from lg_field.radiance.field import RadianceField, saved_sizes
from lg_field.radiance.occupancy_grid import OccupancyGrid
from lg_field.radiance.scene import Scene
from lg_field.radiance.training_state import selected_state
from lg_field.space.partition import PartitionGrid
from lg_field.stored.field import ROWS
from lg_field.table.kept_lines import KEPT

TABLE = "_model.field.table."
"""Prefix of the field's table in a checkpoint's pipeline state."""
STATE = "_model._extra_state"
"""Key of the trainer's state there."""
TRANSFORMS = "dataparser_transforms.json"
"""File of a run with the way from the data set's units to scene space."""


@dataclass
class Run:
    """One training run."""

    config_path: Path
    config: TrainerConfig
    """As config.yml holds it: an `LGTrainerConfig`."""
    checkpoint_path: Path
    checkpoint: dict[str, Any]
    """As nerfstudio saves it: step, pipeline, optimizers, schedulers, scalers."""

    @property
    def step(self) -> int:
        """Training step of the checkpoint."""
        return self.checkpoint["step"]

    @property
    def size(self) -> int:
        """Bytes of the checkpoint, a file or a folder that ranks wrote."""
        path = self.checkpoint_path
        return sum(file.stat().st_size for file in (path.iterdir() if path.is_dir() else [path]))

    def table(self) -> dict[str, Any]:
        """State of the field's table.

        Raises:
            ValueError: there is none.
        """
        state = {k[len(TABLE) :]: v for k, v in self.checkpoint["pipeline"].items() if k.startswith(TABLE)}
        if not isinstance(state.get("_extra_state"), dict) or "cells" not in state:
            raise ValueError(f"{self.checkpoint_path} holds no lg-field table: it is of another method or damaged")
        return state

    def field(self, rows: slice = slice(None)) -> RadianceField:
        """The radiance field, from the checkpoint alone: no data set, no pipeline. `rows`: of these rows."""
        state = self.table()
        state |= {name: state[name][rows] for name in ("cells", *OccupancyGrid.ROWS, *ROWS) if name in state}
        extra = state["_extra_state"]
        field = RadianceField(PartitionGrid.from_dict(extra["grid"]), saved_sizes(extra), state["cells"][:1])
        field.load_state_dict(state)
        return field.eval()

    def scene_to_world(self) -> Tensor:
        """(4, 4) float64 matrix from nerfstudio's scene space to the data set's own units.

        Raises:
            FileNotFoundError: the run has no dataparser_transforms.json.
        """
        path = self.config_path.parent / TRANSFORMS
        if not path.exists():
            raise FileNotFoundError(f"{path} is missing (nerfstudio writes it when training starts): leave out --world")
        data = json.loads(path.read_text())
        return scene_to_world(data["transform"], data["scale"])


def pack(run: Run) -> RadianceField:
    """The run's field with all that viewing, rendering and meshing need, ready for `lg_field.save`.

    Of the shared part's grid it has what its cells read. The average appearance becomes part of the colour layer. Where
    the data set is at hand, one of its cameras comes along, as the place from which a viewer starts.

    Raises:
        FileNotFoundError: the run has no dataparser_transforms.json.
    """
    field = described(run, run.field())
    field.drop_unread_lines_()
    return field


def outline(run: Run) -> tuple[RadianceField, Callable[[str, int, int], Tensor]]:
    """`pack` without the rows' weights: the field with these on the meta device, and what reads some of them, for
    `lg_field.files.save`."""
    state, field = run.table(), described(run, run.field(slice(1)))
    field.cells = state["cells"].clone()
    field.frozen = torch.zeros(len(field.cells), dtype=torch.bool)
    field._changed_rows()
    field.occupancy.thickness = torch.zeros(len(field.cells), field.occupied.shape[1])
    field.occupancy.occupied, field.occupancy.seen = state["occupied"].clone(), state["occupied"].clone()
    for name in ROWS:
        setattr(field, name, torch.nn.Parameter(torch.empty_like(state[name], device="meta")))
    field.drop_unread_lines_()
    return field, lambda name, first, last: state[name][first:last].clone()


def described(run: Run, field: RadianceField) -> RadianceField:
    """A run's field with all that viewing, rendering and meshing need beside it."""
    model: Any = run.config.pipeline.model
    if field.sizes.appearance_features:
        field = with_average_appearance(field, run.checkpoint["pipeline"]["_model.field.appearance.weight"].mean(0))
    white = model.render_background_color != "black"
    camera, focal = first_camera(run) or (None, 1.0)
    field.description = Scene(
        scene_to_world=rows_of(run.scene_to_world()),
        background=(1.0, 1.0, 1.0) if white else (0.0, 0.0, 0.0),
        near=float(run.checkpoint["pipeline"].get("_model.near", model.near_plane)),
        far=model.far_plane,
        step=field.frame.step_length(model.steps_per_scene),
        camera=camera,
        focal=focal,
        viewpoints=viewpoints(run.checkpoint["pipeline"].get("_model.viewpoints")),
    )
    field.history = {"steps": run.step + 1, "method": run.config.method_name}
    return field


def with_average_appearance(field: RadianceField, appearance: Tensor) -> RadianceField:
    """A field whose colour layer needs no appearance: the given (A,) one is added to its bias."""
    count = field.sizes.appearance_features
    plain = RadianceField(field.grid, replace(field.sizes, appearance_features=0), field.cells)
    plain.region = field.region
    state = field.state_dict()
    weight = state["color.0.weight"]
    state["color.0.bias"] = state["color.0.bias"] + weight[:, -count:] @ appearance
    state["color.0.weight"] = weight[:, :-count].clone()
    plain.load_state_dict(state | {"_extra_state": plain.get_extra_state()})
    return plain.eval()


def viewpoints(places: Float[Tensor, "places 3"] | None) -> tuple[tuple[float, float, float], ...]:
    """Distinct places of training cameras as plain numbers, of a model's `viewpoints`; none where none is known."""
    if places is None or not bool(places.any()):
        return ()
    return tuple((x, y, z) for x, y, z in dict.fromkeys(map(tuple, places.tolist())))


def first_camera(run: Run) -> tuple[Any, float] | None:
    """Camera to scene (4 x 4, plain numbers) and focal length in picture heights of a training camera, in the run's
    scene space; None without the data set."""
    try:
        outputs = training_outputs(run)
    except Exception as error:  # whatever a data parser raises about a data set that has changed
        warnings.warn(f"no camera comes along, the data set cannot be read: {error}", stacklevel=2)
        return None
    if outputs is None:
        return None
    cameras = outputs.cameras
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3] = cameras.camera_to_worlds[0]
    return rows_of(matrix), float(cameras.fy[0] / cameras.height[0])


def training_outputs(run: Run) -> DataparserOutputs | None:
    """What the run's data parser finds of its training images, in the run's scene space; None without the data set.

    Raises:
        Exception: whatever a data parser raises about a data set that has changed.
    """
    manager: Any = run.config.pipeline.datamanager
    parser = copy.deepcopy(manager.dataparser)
    if manager.data is not None:
        parser.data = Path(manager.data)
    if not parser.data.exists():
        return None
    outputs = parser.setup().get_dataparser_outputs("train")
    transforms = run.config_path.parent / TRANSFORMS
    if transforms.exists():  # the data parser's scene space is not the run's
        align(outputs, transforms)
    return outputs


def rows_of(matrix: Tensor) -> tuple[tuple[float, ...], ...]:
    """A matrix as plain numbers, by rows: what `Scene` holds."""
    return tuple(tuple(row) for row in matrix.tolist())


def load_run(config_path: Path, scratch: Path | None = None, moments: bool = True) -> Run:
    """Read a run.

    Args:
        config_path: config.yml of the run, or its folder. Read with yaml's unsafe loader, as nerfstudio does: only
            open runs you trust.
        scratch: as in `load_checkpoint`.
        moments: as there.

    Raises:
        FileNotFoundError: no such file, or no checkpoint.
        ValueError: not a run of lg-field, or a damaged checkpoint.
    """
    path = config_path / "config.yml" if config_path.is_dir() else config_path
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; --load-config takes the config.yml that ns-train wrote")
    try:
        config = yaml.load(path.read_text(), Loader=yaml.Loader)
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError) as error:
        raise ValueError(f"{path} is not a nerfstudio config: {str(error).splitlines()[0]}") from error
    if not isinstance(config, TrainerConfig) or not isinstance(config.pipeline.model, LGModelConfig):
        name = getattr(config, "method_name", type(config).__name__)
        raise ValueError(f"{path} is a run of {name!r}; this needs a run of lg-field or lg-field-tiny")
    folder = path.parent / config.relative_model_dir
    checkpoint = newest_checkpoint(folder)
    if checkpoint is None:
        raise FileNotFoundError(f"no checkpoint in {folder}")
    return Run(path, config, checkpoint, load_checkpoint(checkpoint, scratch, moments))


def cropped_checkpoint(run: Run, field: RadianceField, keep_optimizer: bool) -> dict[str, Any]:
    """The run's checkpoint with the table replaced by another.

    Args:
        run: the source.
        field: a crop of `run.field()`; without the optimizer an extension, too.
        keep_optimizer: keep Adam's moments and the trainer's state of the kept rows too, to go on training.
    """
    old_cells = run.checkpoint["pipeline"][TABLE + "cells"]
    rows = torch.isin(old_cells, field.cells).nonzero()[:, 0]
    pipeline = {k: v for k, v in run.checkpoint["pipeline"].items() if not k.startswith(TABLE)}
    pipeline |= {TABLE + k: v for k, v in field.state_dict().items()}
    optimizers = {}
    if not keep_optimizer:
        pipeline[STATE] = {}  # there, and empty: left out on purpose
    elif STATE in pipeline:
        pipeline[STATE] = {name: selected_state(state, rows) for name, state in pipeline[STATE].items()}
    if keep_optimizer:
        kept = _kept_of_checkpoint(run, field, rows)
        optimizers = {name: _select_moments(state, kept) for name, state in run.checkpoint["optimizers"].items()}
    schedulers = run.checkpoint.get("schedulers", {})
    return {**run.checkpoint, "pipeline": pipeline, "optimizers": optimizers, "schedulers": schedulers}


def _kept_of_checkpoint(run: Run, field: RadianceField, rows: Tensor) -> dict[torch.Size, Tensor]:
    """Which lines a crop keeps of the checkpoint's tensors, by the size of these: its (n,) rows, and of the shared
    part's grid the entries that are left."""
    table = {k[len(TABLE) :]: v for k, v in run.checkpoint["pipeline"].items() if k.startswith(TABLE)}
    kept = {table[name].shape: rows for name in ("local", "features")}
    for name, lines in field.kept_lines.items():
        there = table.get(name + KEPT, torch.ones(lines.total, dtype=torch.bool))
        kept[table[name].shape] = lines.mask()[there].nonzero()[:, 0]
    return kept


def _select_moments(state: dict[str, Any], kept: dict[torch.Size, Tensor]) -> dict[str, Any]:
    """Optimizer state in which tensors of these sizes keep only these lines."""
    state = copy.deepcopy(state)
    for moments in state["state"].values():
        for key, value in moments.items():
            if torch.is_tensor(value) and value.shape in kept:
                moments[key] = value[kept[value.shape]].clone()
    return state


def write_run(run: Run, checkpoint: dict[str, Any], target: Path, overwrite: bool, extra: dict[str, Any]) -> Path:
    """Write a run folder: config.yml, checkpoint, dataparser_transforms.json and the given JSON files.

    Everything goes to a temporary folder beside the target, which is renamed at the end.

    Args:
        run: where the configuration comes from.
        checkpoint: what to save.
        target: the new run's folder.
        overwrite: replace an existing folder (never the source run's).
        extra: file name -> data, written as JSON.

    Returns:
        Path of the checkpoint.

    Raises:
        FileExistsError: the target exists and overwrite is False.
        ValueError: the target is the source.
    """
    if target.exists() and target.samefile(run.config_path.parent):
        raise ValueError(f"{target} is the run itself; give another folder")
    refuse_existing(target, overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        config: Any = copy.deepcopy(run.config)
        config.run_dir, config.load_dir, config.load_config, config.load_checkpoint = target, None, None, None
        if config.pipeline.model.render_background_color == "auto":
            config.pipeline.model.render_background_color = "white"  # around a part of a scene there is nothing
        (temporary / "config.yml").write_text(yaml.dump(config), "utf8")
        name = config.relative_model_dir / run.checkpoint_path.with_suffix(".ckpt").name
        (temporary / config.relative_model_dir).mkdir(parents=True)
        torch.save(checkpoint, temporary / name)
        transforms = run.config_path.parent / TRANSFORMS
        if transforms.exists():
            shutil.copy(transforms, temporary)
        for file, data in extra.items():
            (temporary / file).write_text(json.dumps(data, indent=1) + "\n")
        _swap_in(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target / name


def _swap_in(new: Path, target: Path) -> None:
    """Rename a finished folder to its place; an older one is there until then and gone afterwards."""
    os.chmod(new, 0o755)
    if not target.exists():
        os.replace(new, target)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent)) / "run"
    os.replace(target, old)
    try:
        os.replace(new, target)
    except OSError:
        os.replace(old, target)
        raise
    shutil.rmtree(old.parent, ignore_errors=True)
