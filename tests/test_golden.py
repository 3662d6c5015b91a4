"""Files and runs of earlier versions say what they said: those beside this test, and larger ones where they are."""

from __future__ import annotations

import importlib
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import lg

import lg_field
from lg_field.files import FieldFile, crop_file
from lg_field.signals.decode import decode

OWN = Path(__file__).parent / "golden"
SHARED = Path(__file__).parents[2] / "shared" / "data" / "golden"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"needs the files of version 1 in {SHARED}")


def decoded(path: Path) -> np.ndarray:
    return torch.cat(list(decode(lg_field.load(path)))).numpy()


def test_an_old_image_decodes_to_the_same_samples() -> None:
    assert np.array_equal(decoded(OWN / "image.safetensors"), np.load(OWN / "image.npy"))
    field = lg_field.load(OWN / "image.safetensors")
    assert field.history == {"steps": 0, "seconds": 0.5} and field.region is not None


def test_an_old_shape_decodes_to_the_same_voxels() -> None:
    voxels = decoded(OWN / "shape.safetensors").reshape(-1)
    assert np.array_equal(np.packbits(voxels), np.load(OWN / "shape.npy"))
    field = lg_field.load(OWN / "shape.safetensors")
    assert field.cell_sets().keys() == {"full"} and len(field.cell_sets()["full"]) == 8


def test_an_old_scene_says_the_same_of_points() -> None:
    field = lg_field.load(OWN / "scene.safetensors")
    points, density, rgb, occupied = torch.from_numpy(np.load(OWN / "scene.npy")).split([3, 1, 3, 1], dim=1)
    with torch.no_grad():
        got, features = field(points)
        colours = field.rgb(features, torch.nn.functional.normalize(points, dim=-1))
    torch.testing.assert_close(got[:, None], density, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(colours, rgb, rtol=1e-5, atol=1e-6)
    assert torch.equal(field.is_occupied(points).float()[:, None], occupied)


@pytest.mark.parametrize("name", ["image", "shape", "scene"])
def test_old_files_are_edited_as_new_ones(name: str, tmp_path: Path) -> None:
    """Read and written again they are the same bytes but for the description's text; crops of file and field agree."""
    old, again, part = OWN / f"{name}.safetensors", tmp_path / "again", tmp_path / "part"
    field = lg_field.load(old)
    lg_field.save(field, again)
    with FieldFile.open(old) as before, FieldFile.open(again) as after:
        config = before.data["config"]
        config = dict.fromkeys(after.data["config"].keys() - config.keys(), False) | config  # as things were without
        assert before.data | {"config": config} == after.data
        for tensor in before.saved():
            assert torch.equal(before.reader.read(tensor), after.reader.read(tensor))
    cells = field.cells.tolist()[1:3]
    crop_file(old, part, cells=cells)
    mine, theirs = lg_field.crop(field, cells=cells).state_dict(), lg_field.load(part).state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[k], theirs[k]) for k in mine if torch.is_tensor(mine[k]))


# -- the larger ones


@needs_shared
@pytest.mark.parametrize("name", ["image.png", "image-crop.png", "incode.png", "sound.wav", "volume.npy"])
def test_signals_of_version_1_decode_to_the_same_files(name: str, tmp_path: Path) -> None:
    lg("decode", SHARED / f"{Path(name).stem}.safetensors", "-o", tmp_path / name, cwd=tmp_path)
    got, want = tmp_path / name, SHARED / name
    if name.endswith(".npy"):
        np.testing.assert_allclose(np.load(got), np.load(want), rtol=0, atol=1e-6)
    elif name.endswith(".wav"):
        soundfile = pytest.importorskip("soundfile", reason="sounds need lg-field[signals]")
        (ours, rate), (theirs, their_rate) = (soundfile.read(p, dtype="int16") for p in (got, want))
        assert rate == their_rate and np.array_equal(ours, theirs)
    else:
        image = pytest.importorskip("PIL.Image", reason="pictures need lg-field[signals]")
        assert np.array_equal(np.asarray(image.open(got)), np.asarray(image.open(want)))


@needs_shared
def test_a_shape_of_version_1_gives_the_same_mesh(tmp_path: Path) -> None:
    trimesh = pytest.importorskip("trimesh", reason="meshes need lg-field[mesh]")
    pytest.importorskip("mcubes", reason="meshes need lg-field[mesh]")
    lg("mesh", SHARED / "shape.safetensors", "-o", tmp_path / "shape.ply", "--resolution", "48", cwd=tmp_path)
    ours, theirs = (trimesh.load(p, process=False) for p in (tmp_path / "shape.ply", SHARED / "shape.ply"))
    assert ours.faces.shape == theirs.faces.shape and np.array_equal(ours.faces, theirs.faces)
    np.testing.assert_allclose(ours.vertices, theirs.vertices, rtol=0, atol=1e-5)


@needs_shared
def test_a_scene_of_version_1_renders_to_the_same_picture(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="pictures need lg-field[signals]")
    lg("render", SHARED / "scene.safetensors", "-o", tmp_path / "scene.png", "--orbit", "1", cwd=tmp_path)
    ours, theirs = (np.asarray(image.open(p)).astype(int) for p in (tmp_path / "scene.png", SHARED / "scene.png"))
    assert ours.shape == theirs.shape and np.abs(ours - theirs).max() <= 1


@needs_shared
def test_a_run_of_version_1_is_cropped_and_packed(tmp_path: Path, monkeypatch, capsys) -> None:
    """Its config.yml names classes where they lived then."""
    pytest.importorskip("nerfstudio", reason="runs need lg-field[nerfstudio]")
    run = tmp_path / "run"
    shutil.copytree(SHARED / "run", run)
    for path in [run, *run.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    box = ["--box", "-1", "-0.8", "-0.5", "-0.2", "0.1", "0.5"]
    command = ["crop-scene", "--load-config", str(run / "config.yml"), "--dry-run", *box]
    monkeypatch.setattr(sys, "argv", command)
    importlib.import_module("lg_field.cli.crop_scene").main()
    assert "cells" in capsys.readouterr().out
    packed = tmp_path / "packed.safetensors"
    lg("pack", "--load-config", run / "config.yml", "-o", packed, cwd=tmp_path)
    ours, theirs = lg_field.load(packed), lg_field.load(SHARED / "scene.safetensors")
    assert ours.grid == theirs.grid and ours.config() == theirs.config() and ours.region == theirs.region
    assert torch.equal(ours.cells, theirs.cells) and torch.equal(ours.local, theirs.local)
