"""ns-train with rows in host memory or on disk: checkpoints are those of any run, and any run goes on from them."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch

pytest.importorskip("nerfstudio", reason="the plugin needs nerfstudio")

from shards_of_scene import write_as_a_rank
from test_runs import SAVED, STEPS, config_of, differences, trained
from test_runs import scene as scene

from lg_field.distributed import SHARDS
from lg_field.errors import UserError
from lg_field.files import load, save
from lg_field.nerfstudio.checkpoints import load_checkpoint, newest_checkpoint
from lg_field.nerfstudio.rank_run import CELLS, whole_rows
from lg_field.nerfstudio.runs import STATE, load_run, outline, pack
from lg_field.stored.trainer import PLACES


def run_on(where: str, scene: Path, folder: Path, steps: int, go_on: Path | None = None) -> Path:
    config = config_of(scene, folder, steps)
    config.pipeline.model.rows_on, config.pipeline.model.rows_folder = where, folder.parent
    if go_on is not None:
        config.load_dir = go_on / "nerfstudio_models"
    return trained(config)


def moment_at(checkpoint: dict, name: str) -> torch.Tensor:
    """What `differences` names, of optimizers' state alone."""
    _, group, part, state, index, key = name.split(".")
    assert (group, state) == ("optimizers", "state")
    return checkpoint[group][part][state][int(index)][key]


def test_a_run_with_rows_elsewhere_is_the_same_run(scene, tmp_path):
    """Over a split, and from its checkpoint over prunings with rows anywhere: weights and rows to the bit."""
    disk = run_on("disk", scene, tmp_path / "disk", SAVED)
    runs = [disk, run_on("device", scene, tmp_path / "device", SAVED)]
    more = [run_on(where, scene, tmp_path / where / "more", STEPS - SAVED, disk) for where in ("host", "device")]
    for pair in (runs, more):
        opened = [load_run(run) for run in pair]
        for one in opened:
            del one.checkpoint["pipeline"][STATE]["training"]["random"]["python"]  # the tests' type checks use it
        for name in differences(*(one.checkpoint for one in opened)):
            a, b = (moment_at(one.checkpoint, name) for one in opened)
            assert (a - b).abs().max() < 1e-6 * b.abs().max(), f"{name} differs by more than the rounding of a step"
    assert opened[0].step == STEPS - 1
    field, lines = outline(load_run(more[0], scratch=tmp_path))
    save(field, tmp_path / "scene", lines=lines)
    assert torch.equal(load(tmp_path / "scene").local, pack(opened[1]).local)
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_full_disk_ends_in_a_line_and_the_last_checkpoint_stays(scene, tmp_path, monkeypatch):
    def full(folder: Path):
        def new(shape, dtype):
            if shape[0] > 8:
                raise OSError(errno.ENOSPC, "the disk is full")
            return torch.zeros(shape, dtype=dtype)

        return new

    monkeypatch.setitem(PLACES, "disk", full)
    for each, words in (
        (STEPS, "there is no checkpoint in .* yet"),
        (2, "--load-dir .*goes on from the last checkpoint"),
    ):
        config = config_of(scene, tmp_path, STEPS)
        config.pipeline.model.rows_on, config.steps_per_save = "disk", each
        with pytest.raises(UserError, match=f"the disk is full; {words}"):
            trained(config)
    monkeypatch.undo()
    last = newest_checkpoint(config.get_base_dir() / "nerfstudio_models")
    assert last is not None and load_run(config.get_base_dir()).field().num_rows == 8
    monkeypatch.setitem(PLACES, "disk", lambda folder: lambda shape, dtype: full(folder)((9,), dtype))
    with pytest.raises(UserError, match="rows-on disk: the disk is full"):
        trained(config)


def test_a_checkpoint_of_ranks_is_gone_on_from_as_one_of_a_process_is(scene, tmp_path):
    """With rows on disk: the moments come along."""
    first = run_on("device", scene, tmp_path / "first", SAVED)
    file = newest_checkpoint(first / "nerfstudio_models")
    assert file is not None
    folder, ends = tmp_path / "ranks/models" / file.with_suffix(SHARDS).name, []
    (tmp_path / "ranks").mkdir()
    write_as_a_rank(file, folder, CELLS, whole_rows(load_checkpoint(file)))
    for number, path in enumerate((file, folder)):
        config = config_of(scene, tmp_path / f"{number}", 2)
        config.pipeline.model.rows_on, config.pipeline.model.rows_folder = "disk", tmp_path
        config.load_checkpoint = path
        ends.append(load_run(trained(config)).checkpoint)
        del ends[-1]["pipeline"][STATE]["training"]["random"]["python"]  # the tests' type checks use it
    assert ends[0]["step"] == SAVED + 1 and differences(*ends) == []


NOT_FOLLOWED = {
    "full precision": {"mixed_precision": True},
    "max-norm of grids": {},
    "leave out --gradient-accumulation-steps of grids": {"gradient_accumulation_steps": {"fields": 1, "grids": 2}},
}


@pytest.mark.parametrize("what", NOT_FOLLOWED)
def test_what_rows_elsewhere_cannot_follow_is_refused(scene, tmp_path, what, capsys):
    config = config_of(scene, tmp_path, STEPS)
    config.pipeline.model.rows_on, config.vis = "host", "viewer"
    vars(config).update(NOT_FOLLOWED[what])
    config.optimizers["grids"]["optimizer"].max_norm = None if NOT_FOLLOWED[what] else 1.0
    with pytest.raises(UserError, match=what):
        trained(config)
