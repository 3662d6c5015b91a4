"""`crop-scene` on a run that was never trained: smaller runs, and what bad input says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

pytest.importorskip("nerfstudio", reason="the plugin needs nerfstudio")

from small_model import make_model

from lg_field.cli import crop_scene as crop_scene_command
from lg_field.nerfstudio.config import lg_field_tiny
from lg_field.nerfstudio.runs import Run, load_run, write_run
from lg_field.space.regions import Box, OrientedBox, Region, Union, transformed


@pytest.fixture
def run(tmp_path) -> Run:
    """A run on disk with a model that was never trained."""
    folder = tmp_path / "run"
    (folder / "nerfstudio_models").mkdir(parents=True)
    config = lg_field_tiny.config
    (folder / "config.yml").write_text(yaml.dump(config))
    model = make_model()
    checkpoint = {
        "step": 7,
        "pipeline": {f"_model.{k}": v for k, v in model.state_dict().items()},
        "optimizers": {},
        "schedulers": {},
        "scalers": {},
    }
    torch.save(checkpoint, folder / "nerfstudio_models/step-000000007.ckpt")
    transform = {"transform": [[0.0, -1, 0, 0.5], [1, 0, 0, 0], [0, 0, 1, 0]], "scale": 0.5}
    (folder / "dataparser_transforms.json").write_text(json.dumps(transform))
    return load_run(folder / "config.yml")


def crop_scene(*arguments: object) -> None:
    import sys

    sys.argv = ["crop-scene", *map(str, arguments)]
    crop_scene_command.main()


BOX = ("--box", -1.4, -1.4, -1.4, -0.1, -0.1, 1.4)


def test_crop_scene_writes_a_smaller_run(run, tmp_path, capsys):
    out = tmp_path / "small"
    crop_scene("--load-config", run.config_path, *BOX, "-o", out)
    small = load_run(out)
    old, new = run.field(), small.field()
    assert new.num_rows == 2 and small.config.get_base_dir() == out
    assert torch.equal(new.local, old.local[torch.isin(old.cells, new.cells)])
    assert json.loads((out / "region.json").read_text())["type"] == "box"
    bytes_before, bytes_after = (r.checkpoint_path.stat().st_size for r in (run, small))
    assert bytes_after < 0.6 * bytes_before
    assert "25.0%" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        crop_scene("--load-config", run.config_path, *BOX, "-o", out)
    assert "--overwrite" in capsys.readouterr().err
    crop_scene("--load-config", out, "--cells", int(new.cells[0]), "-o", out.with_name("one"), "--overwrite")
    assert load_run(out.with_name("one")).field().num_rows == 1


def test_dry_run_writes_nothing(run, tmp_path, capsys):
    before = sorted(tmp_path.rglob("*"))
    crop_scene("--load-config", run.config_path, *BOX, "--dry-run")
    assert sorted(tmp_path.rglob("*")) == before and "cells" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("--box", 1, 0, 0, 0, 1, 1), "lower corner"),
        (("--box", "nan", 0, 0, 1, 1, 1), "finite numbers"),
        (("--box", 5, 5, 5, 6, 6, 6), "outside the scene"),
        (("--cells", 99), "no cell"),
        ((), "say what to keep"),
        (("--cells", 1, "--sphere", 0, 0, 0, 1), "not both"),
    ],
)
def test_bad_regions_are_named_and_nothing_is_written(run, tmp_path, capsys, arguments, match):
    with pytest.raises(SystemExit) as stop:
        crop_scene("--load-config", run.config_path, *arguments, "-o", tmp_path / "small")
    assert stop.value.code == 1 and not (tmp_path / "small").exists()
    error = capsys.readouterr().err
    assert match in error and "Traceback" not in error


def test_bad_runs_are_named(run, tmp_path, capsys):
    from nerfstudio.configs.method_configs import all_methods

    def error_of(config_path: Path) -> str:
        with pytest.raises(SystemExit):
            crop_scene("--load-config", config_path, *BOX, "-o", tmp_path / "small")
        return capsys.readouterr().err

    assert "does not exist" in error_of(tmp_path / "gone.yml")
    other = tmp_path / "other.yml"
    other.write_text(yaml.dump(all_methods["vanilla-nerf"]))
    assert "'vanilla-nerf'" in error_of(other)
    other.write_text("{")
    assert "not a nerfstudio config" in error_of(other)
    data = run.checkpoint_path.read_bytes()
    run.checkpoint_path.write_bytes(data[: len(data) // 2])
    assert "truncated" in error_of(run.config_path)
    torch.save({"step": 1, "pipeline": {}}, run.checkpoint_path)
    assert "no lg-field table" in error_of(run.config_path)
    run.checkpoint_path.unlink()
    assert "no checkpoint" in error_of(run.config_path)
    assert not (tmp_path / "small").exists()


def test_the_source_is_never_the_target(run, capsys):
    with pytest.raises(SystemExit):
        crop_scene("--load-config", run.config_path, *BOX, "-o", run.config_path.parent, "--overwrite")
    assert "is the run itself" in capsys.readouterr().err and run.checkpoint_path.exists()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_while_writing_leaves_what_was_there(run, tmp_path, monkeypatch, error):
    out = tmp_path / "small"
    write_run(run, run.checkpoint, out, False, {})
    before = {p: p.read_bytes() for p in sorted(tmp_path.rglob("*")) if p.is_file()}

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(SystemExit):
        crop_scene("--load-config", run.config_path, *BOX, "-o", out, "--overwrite")
    assert {p: p.read_bytes() for p in sorted(tmp_path.rglob("*")) if p.is_file()} == before


def test_world_boxes_become_scene_boxes(run):
    to_world = run.scene_to_world()
    to_scene = torch.linalg.inv(to_world)
    asked = Box((-1.0, -0.4, 0.0), (1.0, 0.6, 1.0)) | Region.sphere((0.2, 0.1, -0.3), 0.4)
    region = transformed(asked, to_scene)
    assert isinstance(region, Union) and isinstance(region.parts[0], OrientedBox)
    scene = torch.rand(500, 3, dtype=torch.float64) * 3 - 1.5
    world = scene @ to_world[:3, :3].T + to_world[:3, 3]
    assert torch.equal(region.contains(scene), asked.contains(world))
    back = transformed(region, to_world)
    assert torch.equal(back.contains(world), asked.contains(world))
    assert isinstance(transformed(Box((0, 0, 0), (1, 1, 1)), torch.eye(4)), Box)
