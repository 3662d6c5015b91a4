"""Growing a scene: where new images are placed, what gets a row, and what bad input says. Training it: end to end."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("nerfstudio", reason="the plugin needs nerfstudio")

from lg_field import PartitionGrid, Region, crop
from lg_field.cli.extend_scene import scene_corners
from lg_field.nerfstudio.config import lg_field_tiny
from lg_field.nerfstudio.extension import grown
from lg_field.radiance.field import RadianceField, RadianceSizes


def posed_images(folder: Path, places: np.ndarray) -> Path:
    """A nerfstudio data set with cameras at these (n, 3) world places, each turned its own way."""
    (folder / "images").mkdir(parents=True)
    frames = []
    for k, place in enumerate(places):
        Image.fromarray(np.full((8, 10, 3), 40, np.uint8)).save(folder / f"images/{k}.png")
        pose = np.eye(4)
        pose[:3, :3] = np.linalg.qr(np.random.default_rng(k).normal(size=(3, 3)))[0]
        pose[:3, 3] = place
        frames.append({"file_path": f"images/{k}.png", "transform_matrix": pose.tolist()})
    data = {"fl_x": 10.0, "fl_y": 10.0, "cx": 5.0, "cy": 4.0, "w": 10, "h": 8, "camera_model": "OPENCV"}
    (folder / "transforms.json").write_text(json.dumps(data | {"frames": frames}))
    return folder


def test_new_images_land_where_the_old_ones_say(tmp_path):
    """Two data sets of one world are turned and scaled differently; aligned, shared cameras coincide."""
    places = np.random.default_rng(0).normal(size=(10, 3)) * 3 + 2
    old = copy.deepcopy(lg_field_tiny.config.pipeline.datamanager)
    old.data = posed_images(tmp_path / "old", places)
    first = old.setup(device="cpu", test_mode="test")
    first.train_dataparser_outputs.save_dataparser_transform(tmp_path / "transforms.json")
    extra = np.concatenate([places, np.random.default_rng(1).normal(size=(10, 3)) * 9 - 4])
    new = copy.deepcopy(lg_field_tiny.config.pipeline.datamanager)
    new.data = posed_images(tmp_path / "new", extra)
    free = copy.deepcopy(new).setup(device="cpu", test_mode="test")
    new.align_to = tmp_path / "transforms.json"
    aligned = new.setup(device="cpu", test_mode="test")

    def poses(manager) -> dict[str, torch.Tensor]:
        sets = (manager.train_dataset, manager.eval_dataset)
        return {f.name: p for s in sets for f, p in zip(s.image_filenames, s.cameras.camera_to_worlds)}

    ours, theirs, unaligned = poses(first), poses(aligned), poses(free)
    assert len(ours) == 10 and len(theirs) == 20
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-4) for name in ours)
    assert not any(torch.allclose(ours[name], unaligned[name], atol=1e-2) for name in ours)
    aligned.train_dataparser_outputs.save_dataparser_transform(tmp_path / "again.json")
    a, b = (json.loads((tmp_path / n).read_text()) for n in ("transforms.json", "again.json"))
    assert np.allclose(a["transform"], b["transform"]) and a["scale"] == pytest.approx(b["scale"])


def small_field(contraction: bool = False) -> RadianceField:
    torch.manual_seed(0)
    shape = RadianceSizes(local_width=4, global_width=6, grid_nodes=3, contraction=contraction)
    reach = 2.0 if contraction else 1.0
    return RadianceField(PartitionGrid((4, 4, 4), (-reach,) * 3, (reach,) * 3), shape)


def test_cells_are_added_where_asked_and_nowhere_else():
    half = crop(small_field(), Region.box([-1] * 3, [-0.01, 1, 1]))
    everywhere = grown(half, None)
    assert everywhere.num_rows == 64 and int(everywhere.frozen.sum()) == 32 and everywhere.region is None
    corner = Region.box([0.51, 0.51, 0.51], [1, 1, 1])
    some = grown(half, corner)
    assert some.num_rows == 33 and torch.equal(some.cells[some.frozen], half.cells)
    inside = torch.tensor([[-0.5, 0.0, 0.0], [0.7, 0.7, 0.7], [0.2, 0.2, 0.2]])
    assert some.is_occupied(inside).tolist() == [True, True, False]
    wider = grown(half, None, domain=[-1.4, -1, -1, 1, 1, 1])
    assert wider.grid.counts == (5, 4, 4) and wider.num_rows == 80
    only_there = grown(half, Region.box([-1.5, -1, -1], [-1.1, 1, 1]), domain=[-1.4, -1, -1, 1, 1, 1])
    assert only_there.num_rows == 32 + 16
    with pytest.raises(ValueError, match="nothing to add"):
        grown(half, Region.box([-0.9] * 3, [-0.6] * 3))
    with pytest.raises(ValueError, match="reaches everywhere already"):
        grown(small_field(contraction=True), None, domain=[-4.0] * 3 + [4.0] * 3)
    with pytest.raises(ValueError, match="appearance per image"):
        grown(RadianceField(half.grid, RadianceSizes(grid_nodes=3, appearance_features=4)), None)


def test_a_domain_in_world_units_is_the_box_around_it_in_the_scene():
    class Turned:
        def scene_to_world(self) -> torch.Tensor:
            matrix = torch.eye(4, dtype=torch.float64)
            matrix[:2, :2] = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
            matrix[:3, :3] *= 2.0
            matrix[:3, 3] = torch.tensor([1.0, 0.0, 0.0])
            return matrix

    got = scene_corners((1, 0, 0, 5, 2, 6), Turned(), world=True)  # type: ignore[arg-type]
    assert np.allclose(got, (0, -2, 0, 1, 0, 3))
    assert scene_corners((0, 0, 0, 1, 1, 1), Turned(), world=False) == (0, 0, 0, 1, 1, 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="six numbers"):
        scene_corners((0, 1), Turned(), world=False)  # type: ignore[arg-type]
