"""`torchrun -m lg_field.nerfstudio.train`: ranks train a data set, end together, and leave a run for one process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from demo_scene import write_demo_scene

pytest.importorskip("nerfstudio", reason="the plugin needs nerfstudio")

from lg_field.distributed.shards import Shards
from lg_field.errors import UserError
from lg_field.nerfstudio.checkpoints import check_newest, newest_checkpoint
from lg_field.nerfstudio.config import lg_field_tiny
from lg_field.nerfstudio.rank_run import check_options
from lg_field.nerfstudio.runs import TABLE, load_run, pack

TINY = {
    **{"split-steps": "4", "prune-from": "6", "prune-interval": "3", "unseen-from": "4", "occupancy-interval": "3"},
    **{"grid-nodes": "4", "counts": "2 2 2", "occupancy-points": "4096"},
}


def start(folder: Path, *options: str, ranks: int = 2) -> subprocess.Popen[str]:
    """Ranks that train the scene in a folder."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(ranks)]
    command += ["-m", "lg_field.nerfstudio.train", "lg-field-tiny", "--data", str(folder / "scene")]
    command += ["--output-dir", str(folder / "out"), *options]
    command += ["--pipeline.datamanager.train-num-rays-per-batch", "64"]
    command += [word for name, value in TINY.items() for word in (f"--pipeline.model.{name}", *value.split())]
    root = Path(__file__).parents[1]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(root), "COLUMNS": "200"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(command, text=True, env=environment, cwd=folder, **pipes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("ranks")
    write_demo_scene(path / "scene", size=24, train=4, test=2)
    return path


@pytest.fixture(scope="module")
def run(folder) -> Path:
    """The run of two ranks, which goes on from the one that a signal stopped."""
    models = folder / "out/scene/lg-field-tiny/stopped/nerfstudio_models"
    ranks = start(folder, "--timestamp", "stopped", "--max-num-iterations", "100000", "--steps-per-save", "8")
    until(lambda: any(models.glob("*.shards")), ranks)
    before = time.monotonic()
    ranks.send_signal(signal.SIGTERM)
    text = ranks.communicate(timeout=60)[0]
    assert time.monotonic() - before < 30.0 and ranks.returncode != 0
    lines = [line for line in text.splitlines() if line.startswith("lg-field train: ") and "viewer" not in line]
    assert lines == [f"lg-field train: stopped (by SIGTERM, or because another rank ended); {GO_ON}"], text
    again = start(folder, "--timestamp", "done", "--max-num-iterations", "6", "--load-dir", str(models), ranks=3)
    text = again.communicate(timeout=250)[0]
    assert again.returncode == 0, text[-3000:]
    return folder / "out/scene/lg-field-tiny/done"


GO_ON = "--load-dir goes on from the last checkpoint"


def until(done, ranks: subprocess.Popen[str]) -> None:
    for _ in range(2000):
        if done():
            return
        assert ranks.poll() is None, ranks.communicate()[0][-3000:]
        time.sleep(0.1)
    ranks.kill()
    raise AssertionError("nothing was saved")


@pytest.mark.timeout(600)
def test_three_ranks_go_on_where_two_were_stopped(run):
    first = newest_checkpoint(run.parent / "stopped/nerfstudio_models")
    last = newest_checkpoint(run / "nerfstudio_models")
    assert last is not None and first is not None and last.suffix == ".shards"
    before, after = Shards(first).checkpoint(), Shards(last).checkpoint()
    assert after["step"] == before["step"] + 6
    assert len(list(last.glob("*.distcp"))) == 3 and (run / "dataparser_transforms.json").is_file()
    assert after["pipeline"][TABLE + "cells"].numel() <= before["pipeline"][TABLE + "cells"].numel() <= 64


def test_one_process_opens_the_run(run):
    opened = load_run(run, scratch=run, moments=False)
    field = pack(opened)
    assert field.grid.counts == (4, 4, 4) and field.description is not None
    moments = [
        state["exp_avg"] for group in opened.checkpoint["optimizers"].values() for state in group["state"].values()
    ]
    assert opened.size > 100_000 and any(moment is None for moment in moments), "rows of moments were read"
    assert torch.equal(field.cells, Shards(opened.checkpoint_path).cells)


def test_nerfstudio_finds_one_file(run, capsys):
    models = run / "nerfstudio_models"
    check_newest(models)
    joined = newest_checkpoint(models)
    assert joined is not None and joined.suffix == ".ckpt" and "was joined to" in capsys.readouterr().err
    state = torch.load(joined, weights_only=True)
    assert state["pipeline"][TABLE + "local"].shape[0] == len(state["pipeline"][TABLE + "cells"])
    moments = [v["exp_avg"].shape for group in state["optimizers"].values() for v in group["state"].values()]
    assert state["pipeline"][TABLE + "local"].shape in moments


def test_ns_train_on_many_devices_names_the_command():
    from copy import deepcopy

    config = deepcopy(lg_field_tiny.config)
    config.machine.num_devices = 2
    with pytest.raises(UserError, match=r"torchrun --nproc-per-node 2 -m lg_field.nerfstudio.train lg-field-tiny"):
        config.set_timestamp()


def test_what_ranks_cannot_do_is_refused():
    from copy import deepcopy

    config = deepcopy(lg_field_tiny.config)
    config.mixed_precision = True
    with pytest.raises(UserError, match="full precision"):
        check_options(config)
    config.mixed_precision = False
    config.optimizers["grids"]["optimizer"].max_norm = 1.0
    with pytest.raises(UserError, match="max-norm of grids"):
        check_options(config)


def test_without_torchrun_the_command_is_named():
    command = [sys.executable, "-m", "lg_field.nerfstudio.train", "lg-field", "--data", "scene"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=100)
    assert done.returncode == 2 and done.stderr.startswith("lg-field train: ranks are started by torchrun: torchrun")
