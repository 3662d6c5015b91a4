"""A field trains, is edited, saved and rendered on a second device as on the CPU; whatever mixes the two raises."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import second_device
import torch
from commands import lg, picture
from PIL import Image
from small_scene import small_scene
from test_focus import even_scene, everywhere
from test_radiance_training import RAYS, start

import lg_field
from lg_field import crop
from lg_field.cli.mesh import looked_at_alone
from lg_field.radiance.field import RadianceField
from lg_field.radiance.render import Camera, orbit, render
from lg_field.radiance.seams import measure_seams
from lg_field.radiance.surface import radiance_mesh
from lg_field.radiance.training import RadianceTrainer
from lg_field.space.regions import Box
from lg_field.table.editing import regrow

if (reason := second_device.available()) is not None:
    pytest.skip(reason, allow_module_level=True)

DEVICE = torch.device(second_device.NAME)
OPTIONS = {"split_steps": (20,), "prune_from": 30, "prune_interval": 10, "unseen_from": 30, "overlap": 0.05}


def train(trainer: RadianceTrainer, optimizer: torch.optim.Optimizer, steps: range) -> list[float]:
    origins, directions, colors = (v.to(DEVICE) for v in RAYS)
    errors = []
    for step in steps:
        trainer.begin(step, [optimizer])
        chosen = torch.randint(len(origins), (128,), device=DEVICE)
        losses = trainer.losses(trainer.render(origins[chosen], directions[chosen]), colors[chosen])
        optimizer.zero_grad()
        sum(losses.values()).backward()  # type: ignore[union-attr]
        optimizer.step()
        errors.append(float(losses["rgb_loss"].detach()))
    return errors


def begin(contraction: bool = False, **options) -> tuple[RadianceTrainer, torch.optim.Optimizer]:
    trainer, _ = start(contraction, **OPTIONS | options)
    trainer.field.to(DEVICE)
    return trainer, torch.optim.Adam(trainer.field.parameters(), lr=1e-2, eps=1e-15)


@pytest.mark.parametrize("contraction", [False, True])
def test_sixty_steps_learn(contraction: bool):
    trainer, optimizer = begin(contraction)
    errors = train(trainer, optimizer, range(60))
    assert sum(errors[-10:]) < (0.9 if contraction else 0.5) * sum(errors[:10])
    assert trainer.field.grid.counts == (4, 4, 4)
    assert {p.device.type for p in trainer.field.parameters()} == {DEVICE.type}


@pytest.mark.parametrize("at", [7, 25])
def test_a_resumed_run_is_the_uninterrupted_one(at: int):
    whole = begin()
    train(*whole, range(at))
    saved = copy.deepcopy((whole[0].field.state_dict(), whole[1].state_dict(), whole[0].state()))
    expected = train(*whole, range(at, 32))
    torch.manual_seed(99)
    again, optimizer = begin()
    again.field.load_state_dict(saved[0])
    optimizer.load_state_dict(saved[1])
    again.load_state(saved[2])
    assert train(again, optimizer, range(at, 32)) == expected


@pytest.mark.parametrize("onto", [DEVICE, torch.device("cpu")])
def test_training_goes_on_on_another_kind_of_device_and_says_so(onto: torch.device):
    trainer, optimizer = begin()
    if onto == DEVICE:
        trainer.field.cpu()
    state = trainer.state()
    trainer.field.to(onto)
    trainer.load_state(state)
    with pytest.warns(UserWarning, match=f"on {onto.type} it goes on with other random numbers"):
        trainer.begin(0, [optimizer])


def on_both(field: RadianceField) -> tuple[RadianceField, RadianceField]:
    return field, copy.deepcopy(field).to(DEVICE)


@pytest.mark.parametrize("contraction", [False, True])
def test_pictures_meshes_and_seams_are_those_of_the_cpu(contraction: bool):
    here, there = on_both(small_scene(contraction=contraction))
    scene = here.description
    camera = Camera(torch.tensor(scene.camera, dtype=torch.float64), 1.2, 24, 20)
    ours, theirs = (render(field, scene, camera) for field in (here, there))
    for a, b in zip(ours, theirs):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    cameras = list(orbit(here, scene, 2, 16, 16))
    a, b = (measure_seams(field, scene, cameras) for field in (here, there))
    assert a.pairs_across == b.pairs_across and a.ratio == pytest.approx(b.ratio, rel=1e-3)


def test_meshes_are_those_of_the_cpu():
    meshes = [radiance_mesh(field, 16, threshold=3.0) for field in on_both(small_scene(kept=1.0, nodes=3))]
    assert len(meshes[0].faces) > 50 and np.array_equal(meshes[0].faces, meshes[1].faces)
    assert np.allclose(meshes[0].vertices, meshes[1].vertices, atol=1e-4)


def test_what_cameras_look_at_is_that_of_the_cpu():
    here, there = (looked_at_alone(field) for field in on_both(even_scene(everywhere)))
    assert there.cells.device.type == DEVICE.type and here.num_rows < 512
    assert torch.equal(here.cells, there.cells.cpu()) and torch.equal(here.occupied, there.occupied.cpu())


def test_edits_follow_the_device():
    here, there = on_both(small_scene(kept=1.0))
    region = Box((-1.0, -1.0, -1.0), (0.1, 0.3, 1.0))
    parts = [crop(field, region) for field in (here, there)]
    assert torch.equal(parts[0].cells, parts[1].cells.cpu()) and parts[1].local.device.type == DEVICE.type
    missing = torch.arange(64)[~torch.isin(torch.arange(64), parts[0].cells)]
    grown = [regrow(part, missing.to(part.cells.device)) for part in parts]
    assert torch.equal(grown[0].cells, grown[1].cells.cpu()) and grown[1].num_rows == 64
    points = torch.rand(500, 3) * 2 - 1
    a, b = parts[0](points), parts[1](points.to(DEVICE))
    for ours, theirs in zip(a, b):
        torch.testing.assert_close(ours, theirs.cpu(), rtol=1e-4, atol=1e-5)


def test_files_do_not_know_the_device(tmp_path: Path):
    here, there = on_both(small_scene())
    for name, field in (("here", here), ("there", there)):
        lg_field.save(field, tmp_path / f"{name}.safetensors")
    assert (tmp_path / "here.safetensors").read_bytes() == (tmp_path / "there.safetensors").read_bytes()


def test_commands_run_on_it(tmp_path: Path):
    lg_field.save(small_scene(), tmp_path / "scene.safetensors")
    pictures = []
    for device in ("cpu", DEVICE.type):
        size = ("--width", 18, "--height", 12)
        lg("render", "scene.safetensors", "--orbit", 1, *size, "-o", f"{device}.png", "--device", device, cwd=tmp_path)
        pictures.append(np.asarray(Image.open(tmp_path / f"{device}.png")).astype(int))
    assert np.abs(pictures[0] - pictures[1]).max() <= 1 and pictures[0].std() > 1


@pytest.mark.parametrize(
    "mixed",
    [
        lambda x: x + torch.ones(3),
        lambda x: torch.cat([x, torch.ones(2)]),
        lambda x: torch.where(x > 0, x, torch.ones(3)),
        lambda x: x.index_add_(0, torch.zeros(3, dtype=torch.int64), x),
        lambda x: x.uniform_(generator=torch.Generator()),
        lambda x: torch.isin(x, torch.ones(3)),
        lambda x: torch.nn.functional.linear(x, torch.ones(2, 3)),
    ],
)
def test_mixing_devices_raises(mixed):
    with pytest.raises(RuntimeError, match=r"second|cpu|CPU"):
        mixed(torch.ones(3, device=DEVICE))


def test_operations_and_waits_are_counted():
    x = torch.rand(5, 3, device=DEVICE)
    with second_device.counted() as counts:
        x.view(3, 5).t()[1:].unsqueeze(0)
    assert counts.total == (0, 0)
    with second_device.counted() as counts:
        (x * 2 + 1).sum()
    assert counts.total == (3, 0)
    with second_device.counted() as counts:
        float(x[0, 0])
        (x > 0.5).nonzero()
        x.new_tensor([1.0, 2.0])
        x.cpu()
    assert counts.total[1] == 4


def test_random_numbers_are_its_own():
    torch.manual_seed(5)
    host = torch.get_rng_state()
    first = torch.rand(4, device=DEVICE)
    assert torch.equal(host, torch.get_rng_state())
    state = second_device.get_rng_state()
    more = torch.rand(4, device=DEVICE)
    second_device.set_rng_state(state)
    assert torch.equal(more, torch.rand(4, device=DEVICE))
    torch.manual_seed(5)
    assert torch.equal(first, torch.rand(4, device=DEVICE))


def test_a_picture_is_fitted_and_decoded_on_it(tmp_path: Path):
    Image.fromarray(picture(20, 24)).save(tmp_path / "p.png")
    options = ("--device", DEVICE.type, "--steps", 8)
    lg("encode", "p.png", "-o", "p.safetensors", *options, cwd=tmp_path)
    lg("decode", "p.safetensors", "-o", "q.png", "--device", DEVICE.type, cwd=tmp_path)
    lg("decode", "p.safetensors", "-o", "cpu.png", "--device", "cpu", cwd=tmp_path)
    there, here = (np.asarray(Image.open(tmp_path / name)).astype(int) for name in ("q.png", "cpu.png"))
    assert np.abs(there - here).max() <= 1
