"""Packing a run of any size: the same file as from memory, some rows at a time."""

from __future__ import annotations

import copy
import json
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("nerfstudio", reason="the plugin needs nerfstudio")

from commands import lg
from on_ranks import on_ranks
from shards_of_scene import write_shards
from small_shared_grid import make

from lg_field.distributed.shards import Shards, at
from lg_field.files import load, save
from lg_field.nerfstudio.config import lg_field_tiny
from lg_field.nerfstudio.runs import TABLE, load_run, outline, pack
from lg_field.radiance.field import RadianceField
from lg_field.space.partition import PartitionGrid
from lg_field.stored.disk import on_disk


def run_of(field: RadianceField, folder: Path) -> dict[str, Any]:
    """A run's folder without its checkpoint, which is returned."""
    config = copy.deepcopy(lg_field_tiny.config)
    config.run_dir = folder
    (folder / config.relative_model_dir).mkdir(parents=True)
    config.save_config()
    transforms = {"transform": torch.eye(4)[:3].tolist(), "scale": 0.5}
    (folder / "dataparser_transforms.json").write_text(json.dumps(transforms))
    state = {TABLE + name: value for name, value in field.state_dict().items()}
    moments = {"state": {0: {"exp_avg": torch.randn_like(field.local)}}}
    return {"step": 7, "pipeline": state, "optimizers": {"fields": moments}, "schedulers": {}, "scalers": {}}


def checkpoint_of(field: RadianceField, folder: Path) -> None:
    """One that nerfstudio would have written."""
    found = run_of(field, folder)
    torch.save(found, folder / "nerfstudio_models" / "step-000000007.ckpt")


def appearance(folder: Path) -> None:
    """A run with appearances, whose average goes into the colour layer."""
    found = run_of(field := make(appearance_features=3), folder)
    found["pipeline"]["_model.field.appearance.weight"] = torch.randn(4, 3)
    torch.save(found, folder / "nerfstudio_models" / "step-000000007.ckpt")
    assert field.sizes.appearance_features == 3


def by_ranks(folder: Path) -> None:
    torch.save(run_of(make(contraction=True), folder), folder / "whole")
    on_ranks(2, write_shards, folder)


WRITERS = {"file": lambda folder: checkpoint_of(make(), folder), "shards": by_ranks, "appearance": appearance}


@pytest.mark.parametrize("name", list(WRITERS))
def test_the_file_is_the_one_packed_in_memory_to_the_bit(tmp_path, name, monkeypatch):
    monkeypatch.setattr("lg_field.files.writing.ROWS_BYTES", 3000)  # a few rows at a time
    folder, streamed = tmp_path / "run", tmp_path / "new/folder/streamed"  # folders that are not there yet
    WRITERS[name](folder)
    field = pack(load_run(folder))
    for dtype in ("float32", "bfloat16", "int8"):
        save(field, tmp_path / "memory", dtype=dtype, overwrite=True)
        lg("pack", "--load-config", folder, "-o", "new/folder/streamed", "--dtype", dtype, "--overwrite", cwd=tmp_path)
        assert (tmp_path / "memory").read_bytes() == streamed.read_bytes()
    assert load(streamed).num_rows == field.num_rows
    assert list(streamed.parent.iterdir()) == [streamed]
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("name", list(WRITERS))
def test_a_run_is_rendered_as_its_scene_file_within_a_memory(tmp_path, name):
    folder, looks = tmp_path / "run", ("--orbit", 1, "--width", 24, "--height", 24)
    WRITERS[name](folder)
    lg("pack", "--load-config", folder, "-o", "scene.safetensors", cwd=tmp_path)
    lg("render", "scene.safetensors", *looks, "-o", "file.png", cwd=tmp_path)
    said = lg("render", "--load-config", folder, *looks, "-o", "pictures/run.png", "--memory", 1e-5, cwd=tmp_path)
    assert "a scene file of" in said and "are read as they are looked at" in said
    assert (tmp_path / "pictures/run.png").read_bytes() == (tmp_path / "file.png").read_bytes()
    assert list((tmp_path / "pictures").iterdir()) == [tmp_path / "pictures/run.png"]
    assert not list(tmp_path.glob(".*")), "the scene file is still there"


def test_what_a_field_file_is_asked_of_and_is_a_runs_says_how_to_make_one(tmp_path):
    looks = ("--orbit", 1, "-o", "x.png")
    for words in ((*looks, "config.yml"), ("step-7.ckpt", *looks), ("models/step-7.shards/", *looks)):
        text = lg("render", *words, cwd=tmp_path, fails=True)
        assert "is of a training run, a field file is needed: `lg-field pack --load-config" in text
    for words in (looks, (*looks, "scene.safetensors", "--load-config", "config.yml")):
        assert "give either a scene file or composition, or --load-config" in lg(
            "render", *words, cwd=tmp_path, fails=True
        )


def test_moments_stay_on_disk_and_rows_are_in_order(tmp_path):
    by_ranks(tmp_path)
    opened = load_run(tmp_path, tmp_path, moments=False)
    mapped, whole = (load_run(tmp_path, scratch).checkpoint for scratch in (tmp_path, None))
    assert all(torch.equal(at(mapped, path), at(whole, path)) for path in Shards(opened.checkpoint_path).rows)
    assert opened.checkpoint["optimizers"]["fields"]["state"][0]["exp_avg"] is None
    assert torch.equal(opened.checkpoint["pipeline"][TABLE + "cells"], torch.arange(27))
    assert torch.equal(opened.table()["local"], load_run(tmp_path).table()["local"])
    whole = Shards(opened.checkpoint_path)
    some = torch.arange(27) % 4 == 0
    part, every = whole.checkpoint(some), whole.checkpoint()
    for path in whole.rows:
        a, b = part, every
        for key in path:
            a, b = a[key], b[key]
        assert torch.equal(a, b[some])


def test_rows_that_are_not_finite_are_refused_and_nothing_is_left(tmp_path):
    field = make()
    with torch.no_grad():
        field.local[20, 3] = torch.inf
    checkpoint_of(field, tmp_path)
    text = lg("pack", "--load-config", tmp_path, "-o", "x.safetensors", cwd=tmp_path, fails=True)
    assert "local holds" in text and "infinite" in text and not (tmp_path / "x.safetensors").exists()


def test_a_disk_that_cannot_hold_the_rows_is_a_line(tmp_path):
    with pytest.raises(OSError, match=r"cannot hold .* GB of rows, .* GB are free there"):
        on_disk(tmp_path, (1 << 44,), dtype=torch.float32)
    assert list(tmp_path.iterdir()) == []
    for dtype in (torch.bool, torch.int64, torch.float64):
        values = on_disk(tmp_path, (3, 2), dtype=dtype)
        assert not values.any() and values.dtype == dtype and list(tmp_path.iterdir()) == []
        values[1] = 1
        assert values.sum() == 2
    assert on_disk(tmp_path, (0, 4)).shape == (0, 4)


def anonymous() -> int:
    """Bytes of this process that are not a file's."""
    found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024


def most_during(work: Callable[[], object]) -> int:
    """By how many of them a process grows at most."""
    before, found, over = anonymous(), [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.002):
            found[0] = max(found[0], anonymous() - before)

    watching = threading.Thread(target=watch)
    watching.start()
    work()
    over.set()
    watching.join()
    return found[0]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs the memory of a process")
def test_memory_is_far_below_the_table(tmp_path, monkeypatch):
    monkeypatch.setattr("lg_field.files.writing.ROWS_BYTES", 1 << 20)
    field = RadianceField(PartitionGrid((12, 10, 8), (-1.0,) * 3, (1.0,) * 3), make(grid_nodes=19).sizes)
    checkpoint_of(field, tmp_path / "run")
    size = field.features.nbytes

    def streamed() -> None:
        packed, lines = outline(load_run(tmp_path / "run", scratch=tmp_path))
        save(packed, tmp_path / "streamed", lines=lines)

    assert size > 100e6 and most_during(streamed) < 0.5 * size
    assert most_during(lambda: save(pack(load_run(tmp_path / "run")), tmp_path / "whole")) > size
