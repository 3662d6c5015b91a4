"""Pictures of the page's renderer in a real browser are those of `lg-field render`, for every kind of network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import CHROMIUM, GRAPHICS, Browser
from small_scene import small_scene
from web_host import hosted, opened, put, traced

import lg_field
from lg_field.radiance.cameras import Camera
from lg_field.radiance.field import RadianceField, RadianceSizes
from lg_field.radiance.outputs import ray_output
from lg_field.radiance.render import ask_view, render
from lg_field.space.partition import PartitionGrid
from lg_field.space.regions import HalfSpace, Region, Similarity, VoxelSet

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: apt-get install chromium")
SIZE = 48
TURN = torch.tensor([[0.6, -0.8, 0.0, 0.1], [0.8, 0.6, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]]).double()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser(*GRAPHICS) as browser:
        yield browser


def camera_of(field: RadianceField) -> Camera:
    return Camera(torch.tensor(field.description.camera, dtype=torch.float64), field.description.focal, SIZE, SIZE)


def same(page, field: RadianceField) -> None:
    """The browser's picture is Python's."""
    camera = camera_of(field)
    rgba, depth = traced(page, camera)
    expected = render(field, field.description, camera)
    off = np.abs(255 * (rgba[..., :3] - expected.rgb.numpy()))
    assert off.mean() <= 1.0, off.mean()
    assert off.max() <= 4.0, (off.max(), (off > 4).sum())
    assert np.abs(rgba[..., 3] - expected.accumulation.numpy()[..., 0]).max() < 0.01
    assert expected.accumulation.mean() > 0.05
    hit = expected.accumulation.numpy()[..., 0] > 0.5
    far = expected.depth.numpy()[..., 0][hit]
    assert np.quantile(np.abs(depth[hit] - far) / far, 0.95) < 0.01  # what is left out far away moves means


def seen(**sizes) -> RadianceField:
    """27 cells with random weights, half of their voxels occupied, some of them dense."""
    torch.manual_seed(2)
    reach = 2.0 if sizes.get("contraction") else 1.3
    shape = {"local_width": 4, "global_width": 8, "grid_nodes": 3, "occupancy_voxels": 4, "density_bias": 2.0}
    shape |= {"hash_levels": 3, "hash_base_res": 7, "log2_hashmap_size": 10} | sizes
    field = RadianceField(PartitionGrid((3, 3, 3), (-reach,) * 3, (reach,) * 3), RadianceSizes(**shape))
    with torch.no_grad():
        field.local.normal_()
        if field.hash_table is not None:
            field.hash_table.normal_()
    field.occupancy.restore_(torch.rand_like(field.occupied, dtype=torch.float32) < 0.5)
    field.description = small_scene().description
    return field.eval()


def masked(field: RadianceField) -> RadianceField:
    """The same with an exact region of every kind."""
    turned = Region.box((-0.9, -0.9, -0.9), (0.9, 0.9, 0.9)).moved(Similarity.of_matrix(TURN))
    lattice = PartitionGrid((4, 4, 4), (-1.0,) * 3, (1.0,) * 3)
    some = torch.rand(4, 4, 4, generator=torch.Generator().manual_seed(1)) < 0.7
    round_one = Region.sphere((0.2, 0.0, 0.1), 1.0) & HalfSpace((0.0, 1.0, 0.5), 0.6)
    field.region = (turned & round_one & VoxelSet.of(some, lattice, False)) | Region.box(
        (0.3, 0.3, -1.0), (0.8, 0.8, 1)
    )
    field.region = field.region - Region.sphere((0.5, 0.5, 0.5), 0.2)
    return field


def grown() -> RadianceField:
    """A scene whose domain has grown: its frame is a part of it."""
    lower, upper = (-1.0, -1.0, -1.0), (1.5, 1.0, 1.0)
    sizes = {"local_width": 4, "global_width": 8, "grid_nodes": 3, "density_bias": 3.0}
    sizes["frame"] = (-0.5, -1.0, -1.0, 1.0, 1.0, 1.0)
    torch.manual_seed(3)
    field = RadianceField(PartitionGrid((5, 4, 4), lower, upper), RadianceSizes(**sizes))
    with torch.no_grad():
        field.local.normal_()
    field.description = small_scene().description
    return field.eval()


HARMONICS = {"color_width": 0, "color_features": 27}
KINDS = {
    "colour layer": small_scene,
    "contracted": lambda: small_scene(contraction=True),
    "shared grid, harmonics": lambda: seen(**HARMONICS),
    "shared grid, contracted": lambda: seen(contraction=True, **HARMONICS),
    "density by contracted length": lambda: seen(
        contraction=True, contracted_density=True, density_bias=4.0, **HARMONICS
    ),
    "rows alone": lambda: seen(network="per-partition", **HARMONICS),
    "shared network alone": lambda: seen(network="global", hash_features=4),
    "rows do not share their grid": lambda: seen(global_reads_grid=False, hash_features=1, grid_features=3),
    "sines": lambda: seen(activation="sine", hidden_layers=2, hash_features=8),
    "bells, added, no grid": lambda: seen(activation="gauss", merge="add", grid_nodes=0, **HARMONICS),
    "appearance": lambda: seen(appearance_features=3, hash_levels=0),
    "regions": lambda: masked(small_scene(kept=1.0)),
    "a grown domain": grown,
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_exact_picture_is_that_of_render(browser, tmp_path: Path, kind: str) -> None:
    field = KINDS[kind]()
    put(tmp_path, scene=field)
    with hosted(tmp_path) as host:
        page = opened(browser, host, "scene")
        same(page, field)
        page.close()


def smooth() -> RadianceField:
    """A scene that changes as slowly from voxel to voxel as trained ones do."""
    torch.manual_seed(5)
    sizes = {"local_width": 8, "global_width": 16, "grid_nodes": 5, "density_bias": 2.0, **HARMONICS}
    sizes |= {"local_frequencies": 0, "global_frequencies": 2, "occupancy_voxels": 8}
    field = RadianceField(PartitionGrid((3, 3, 3), (-1.0,) * 3, (1.0,) * 3), RadianceSizes(**sizes))
    with torch.no_grad():
        field.local.normal_(std=0.5)
        field.features.normal_(std=0.5)
    balls = torch.linspace(-1, 1, 24)
    inside = torch.cartesian_prod(balls, balls, balls).norm(dim=1).view(3, 8, 3, 8, 3, 8) < 0.8
    field.occupancy.restore_(inside.permute(0, 2, 4, 1, 3, 5).reshape(27, 512))
    field.description = small_scene().description
    return field.eval()


def test_the_fast_picture_is_near_the_exact_one_and_follows_crops(browser, tmp_path: Path) -> None:
    field = smooth()
    put(tmp_path, scene=field)
    with hosted(tmp_path) as host:
        page, camera = opened(browser, host, "scene"), camera_of(field)

        def noise(cropped: RadianceField) -> float:
            """Decibels between the fast picture and Python's."""
            expected = render(cropped, field.description, camera).rgb.numpy()
            return -10 * np.log10(np.square(traced(page, camera, exact=False)[0][..., :3] - expected).mean())

        assert noise(field) > 40.0
        rows = list(range(0, 27, 2))
        page.evaluate(f"scene.renderer.keep(Uint8Array.from({{length: 27}}, (_, k) => {json.dumps(rows)}.includes(k)))")
        assert page.evaluate("scene.renderer.table.count") == len(rows)
        assert noise(field.selected(torch.tensor(rows))) > 40.0
        page.evaluate(
            "scene.field.rows(scene.renderer.keep(new Uint8Array(27).fill(1)), r => scene.renderer.table.load(r))"
        )
        assert noise(field) > 40.0
        page.close()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halved_weights_are_those_of_the_file(browser, tmp_path: Path, dtype: str) -> None:
    put(tmp_path)
    lg_field.save(KINDS["shared grid, harmonics"](), tmp_path / "scene.safetensors", dtype=dtype)
    with hosted(tmp_path) as host:
        page = opened(browser, host, "scene")
        same(page, lg_field.load(tmp_path / "scene.safetensors"))
        page.close()


def test_a_crop_whose_shared_grid_is_cut(browser, tmp_path: Path) -> None:
    field = KINDS["shared grid, harmonics"]()
    field.occupancy.restore_(torch.rand(27, 64, generator=torch.Generator().manual_seed(0)) < 0.1)
    cut = lg_field.crop(field, cells=list(range(0, 27, 3)))
    assert not cut.kept_lines["hash_table"].whole
    put(tmp_path, scene=cut)
    with hosted(tmp_path) as host:
        page = opened(browser, host, "scene")
        rgba, _ = traced(page, camera_of(cut))
        expected = render(cut, cut.description, camera_of(cut)).rgb.numpy()
        assert (np.abs(255 * (rgba[..., :3] - expected)) <= 4.0).all()
        page.close()


def test_many_cells_and_other_outputs(browser, tmp_path: Path) -> None:
    field = small_scene((32, 32, 32), kept=0.2)
    put(tmp_path, scene=field)
    camera = camera_of(field)
    with hosted(tmp_path) as host:
        page = opened(browser, host, "scene")
        same(page, field)
        asked = ask_view(field, field.description, *(v.view(-1, 3) for v in camera.rays()))
        expected = ray_output(asked, field.description, "cells")[0].view(SIZE, SIZE, 3).numpy()
        rgba, _ = traced(page, camera, output="cells")
        assert np.abs(255 * (rgba[..., :3] - expected)).max() <= 4.0
        page.close()


def test_what_is_not_drawn_is_said(browser, tmp_path: Path) -> None:
    sizes = RadianceSizes(global_width=512, local_width=4, grid_nodes=0, occupancy_voxels=2)
    field = RadianceField(PartitionGrid((2, 2, 2), (-1.0,) * 3, (1.0,) * 3), sizes)
    field.description = small_scene().description
    put(tmp_path, scene=field.eval())
    with hosted(tmp_path) as host, pytest.raises(AssertionError, match="does not draw scenes with global_width 512"):
        opened(browser, host, "scene")
