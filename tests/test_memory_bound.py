"""A picture of haze keeps within its bound on memory, and the bound changes no number."""

from __future__ import annotations

from pathlib import Path

import pytest
import second_device
import torch
from commands import lg
from small_scene import small_scene

import lg_field
from lg_field.radiance.compositing import Samples
from lg_field.radiance.field import RadianceField
from lg_field.radiance.memory_bound import RAYS, in_parts, rays_at_once, samples_at_once
from lg_field.radiance.render import Camera, render


def haze(contraction: bool = False, nodes: int = 3) -> RadianceField:
    """A scene whose space is full, so that no ray stops and no step is left out."""
    field = small_scene(kept=1.0, contraction=contraction, nodes=nodes)
    with torch.no_grad():
        for parameter in field.parameters():
            parameter.mul_(0.01)
    field.sizes.__dict__["density_bias"] = -6.0
    return field


def camera_of(field: RadianceField, size: int) -> Camera:
    return Camera(torch.tensor(field.description.camera, dtype=torch.float64), 1.2, size, size)


@pytest.mark.skipif(second_device.available() is not None, reason=second_device.available() or "")
@pytest.mark.parametrize("contraction", [False, True])
@pytest.mark.parametrize("memory", [0.01, 0.03])
def test_haze_keeps_within_the_bound(contraction: bool, memory: float):
    field = haze(contraction).to(second_device.NAME)
    field.memory = memory
    with second_device.counted() as counts:
        seen = render(field, field.description, camera_of(field, 24))
    assert 0.1 * memory * 1e9 < counts.bytes < memory * 1e9
    assert contraction or (seen.accumulation < 0.9).all()


@pytest.mark.parametrize("contraction", [False, True])
def test_the_bound_changes_no_number(contraction: bool):
    field = haze(contraction)
    pictures = []
    for field.memory in (2.0, 0.01):
        pictures.append(render(field, field.description, camera_of(field, 16)))
    for a, b in zip(*pictures):
        assert torch.equal(a, b)


def test_more_memory_is_more_at_a_time_and_there_is_always_one():
    field = small_scene()
    found = []
    for field.memory in (1e-9, 0.01, 0.1, 1.0, 1000.0):
        found.append((rays_at_once(field, 0.001), samples_at_once(field)))
    assert found[0] == (1, 1) and found[-1][0] == RAYS["cpu"]
    assert found == sorted(found) and len(set(found)) == 5


def test_parts_are_the_whole():
    samples = Samples(torch.arange(10), torch.rand(10), torch.rand(10))
    seen = []

    def look(some: Samples) -> tuple[torch.Tensor, ...]:
        seen.append(len(some.rays))
        return some.starts * 2, torch.stack([some.ends, some.starts], dim=1)

    for most, counts in ((3, [3, 3, 3, 1]), (10, [10]), (99, [10])):
        seen.clear()
        a, b = in_parts(look, most)(samples)
        assert seen == counts and torch.equal(a, samples.starts * 2) and torch.equal(b[:, 0], samples.ends)


def test_commands_take_it_and_refuse_nonsense(tmp_path: Path):
    lg_field.save(small_scene(), tmp_path / "scene.safetensors")
    size = ("--orbit", 1, "--width", 18, "--height", 12)
    for memory in (0.001, 2):
        lg("render", "scene.safetensors", *size, "-o", f"{memory}.png", "--memory", memory, cwd=tmp_path)
    assert (tmp_path / "0.001.png").read_bytes() == (tmp_path / "2.png").read_bytes()
    text = lg("render", "scene.safetensors", *size, "-o", "x.png", "--memory", 0, cwd=tmp_path, fails=True)
    assert "--memory must be a positive number of GB, got 0" in text and not (tmp_path / "x.png").exists()


def test_nerfstudio_renders_within_it():
    pytest.importorskip("nerfstudio", reason="the plugin needs nerfstudio")
    from small_model import bundle, make_model

    model = make_model().eval()
    whole = model(bundle())
    model.table.memory = 0.0002
    assert rays_at_once(model.table, model.step_length) < len(bundle())
    for name, value in model(bundle()).items():
        assert torch.equal(value, whole[name])
