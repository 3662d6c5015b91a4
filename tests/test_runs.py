"""Runs of nerfstudio on disk: those of earlier versions load, packing says where they are, resuming is exact."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from demo_scene import write_demo_scene
from forked import forked

pytest.importorskip("nerfstudio", reason="the plugin needs nerfstudio")

from nerfstudio.pipelines.base_pipeline import VanillaPipelineConfig
from nerfstudio.scripts.train import train_loop

from lg_field import Region, crop
from lg_field.errors import UserError
from lg_field.nerfstudio.config import LGTrainerConfig, lg_field_tiny
from lg_field.nerfstudio.extension import check_unchanged, device_here, extended_run, grown
from lg_field.nerfstudio.model import LGModelConfig, SizesOptions
from lg_field.nerfstudio.pipeline import LGPipeline
from lg_field.nerfstudio.runs import STATE, TABLE, cropped_checkpoint, load_run, pack, write_run
from lg_field.radiance.sizes import RadianceSizes

GOLDEN = Path(__file__).parents[2] / "shared" / "data" / "golden"
SIZES = {"local_width": 4, "global_width": 8, "grid_nodes": 4, "hash_levels": 1, "hash_base_res": 4}
STEPS, SAVED = 12, 7
"""The run is cut after step SAVED - 1: between the split at 4 and the pruning at 8."""


def config_of(scene: Path, output: Path, steps: int) -> LGTrainerConfig:
    config = copy.deepcopy(lg_field_tiny.config)
    config.data = config.pipeline.datamanager.data = scene
    config.output_dir, config.experiment_name, config.timestamp = output, "e", "t"
    config.vis, config.max_num_iterations, config.machine.device_type = "tensorboard", steps, "cpu"
    config.viewer.quit_on_train_completion = True
    config.pipeline.datamanager.train_num_rays_per_batch = 64
    for group in config.optimizers.values():
        group["scheduler"].max_steps = STEPS
    model = config.pipeline.model
    model.sizes = replace(model.sizes, **SIZES, color_width=8, color_features=5, occupancy_voxels=4)
    model.counts, model.split_steps, model.steps_per_scene = (2, 2, 2), (4,), 48
    model.occupancy_interval, model.occupancy_points, model.coarse_steps = 3, 2000, 3
    model.prune_from, model.prune_interval, model.unseen_from, model.overlap = 8, 2, 6, 0.05
    return config


def trained(config: LGTrainerConfig) -> Path:
    """The run's folder."""
    from nerfstudio.scripts.train import train_loop

    config.save_config()
    train_loop(0, 1, config)
    return config.get_base_dir()


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "scene"
    write_demo_scene(path, size=16, train=3, test=1)
    return path


@pytest.fixture(scope="module")
def run(scene, tmp_path_factory) -> Path:
    """A run of SAVED steps."""
    return trained(config_of(scene, tmp_path_factory.mktemp("run"), SAVED))


def test_a_resumed_run_is_the_uninterrupted_one_to_the_bit(scene, run, tmp_path):
    whole = load_run(trained(config_of(scene, tmp_path / "whole", STEPS)))
    config = config_of(scene, tmp_path / "rest", STEPS - SAVED)
    config.load_dir = run / "nerfstudio_models"
    rest = load_run(trained(config))
    assert rest.step == whole.step == STEPS - 1
    for one in (whole, rest):
        del one.checkpoint["pipeline"][STATE]["training"]["random"]["python"]  # the tests' type checks use it
    assert differences(whole.checkpoint, rest.checkpoint) == []


def differences(a: object, b: object, where: str = "") -> list[str]:
    """Where two nested states are not equal to the bit."""
    if isinstance(a, dict) and isinstance(b, dict):
        odd = [f"{where}.{k}" for k in a.keys() ^ b.keys()]
        return odd + [d for k in a.keys() & b.keys() for d in differences(a[k], b[k], f"{where}.{k}")]
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)) and len(a) == len(b):
        return [d for k, (x, y) in enumerate(zip(a, b)) for d in differences(x, y, f"{where}.{k}")]
    same = torch.equal(a, b) if torch.is_tensor(a) and torch.is_tensor(b) else a == b
    return [] if same else [where]


def test_a_checkpoint_without_training_state_goes_on_with_a_line(scene, run, tmp_path):
    source = load_run(run)
    assert source.checkpoint["pipeline"].pop(STATE)["training"]["stride"] > 1
    write_run(source, source.checkpoint, tmp_path / "old", False, {})
    config = config_of(scene, tmp_path / "rest", 1)
    config.load_dir = tmp_path / "old/nerfstudio_models"
    with pytest.warns(UserWarning, match="no training state"):
        assert load_run(trained(config)).step == SAVED


def test_a_crop_keeps_the_training_state_of_its_rows_if_it_keeps_the_optimizer(run):
    source = load_run(run)
    field = source.field()
    small = field.selected(torch.tensor([0, 2, 5]))
    kept, left = (cropped_checkpoint(source, small, keep)["pipeline"][STATE] for keep in (True, False))
    whole = source.checkpoint["pipeline"][STATE]["training"]
    assert left == {} and torch.equal(kept["training"]["seen"], whole["seen"][[0, 2, 5]])


def test_packing_without_the_data_is_a_warning(run, scene, tmp_path):
    source = load_run(run)
    camera = pack(source).description.camera
    assert camera is not None
    empty = tmp_path / "emptied"
    empty.mkdir()
    source.config.pipeline.datamanager.data = source.config.pipeline.datamanager.dataparser.data = empty
    with pytest.warns(UserWarning, match="no camera comes along"):
        assert pack(source).description.camera is None
    source.config.pipeline.datamanager.data = source.config.pipeline.datamanager.dataparser.data = tmp_path / "gone"
    assert pack(source).description.camera is None


def test_the_camera_of_an_extended_run_is_in_its_scene_space(run, tmp_path):
    """New images of the same world, which their own parser would centre and scale elsewhere."""
    import json

    import numpy as np
    from test_extend_scene import posed_images

    source = load_run(run)
    data = posed_images(tmp_path / "new", np.random.default_rng(0).normal(size=(5, 3)) * 3 + 9)
    larger = grown(source.field().selected(torch.tensor([0, 1])), Region.box([-1.4] * 3, [1.4] * 3))
    extended_run(source, larger, data, tmp_path / "extended", 5, False)
    scene = pack(load_run(tmp_path / "extended")).description
    to_world = torch.tensor(scene.scene_to_world)
    centre = (to_world @ torch.tensor(scene.camera))[:3, 3]
    places = [
        np.array(f["transform_matrix"])[:3, 3] for f in json.loads((data / "transforms.json").read_text())["frames"]
    ]
    assert min(float(np.linalg.norm(place - centre.numpy())) for place in places) < 1e-3


def test_an_extension_trains_on_what_is_here(run, tmp_path, capsys):
    here = "cuda" if torch.cuda.is_available() else "cpu"
    assert device_here("cuda") == device_here("cpu") == here
    assert f"are trained on {here}" in " ".join(capsys.readouterr().out.split())
    source = load_run(run)
    source.config.machine.device_type = "cuda"
    larger = grown(source.field().selected(torch.tensor([0, 1])), None)
    config = extended_run(source, larger, None, tmp_path / "more", 5, False)
    assert config.machine.device_type == load_run(tmp_path / "more").config.machine.device_type == here
    assert isinstance(config.pipeline.model.sizes, SizesOptions)


def test_a_truncated_checkpoint_is_a_line_before_nerfstudio_reads_it(run, tmp_path):
    source = load_run(run)
    write_run(source, source.checkpoint, tmp_path / "run", False, {})
    (path,) = (tmp_path / "run/nerfstudio_models").glob("*.ckpt")
    path.write_bytes(path.read_bytes()[:5000])
    config = yaml.load((tmp_path / "run/config.yml").read_text(), Loader=yaml.Loader)
    with pytest.raises(UserError, match="truncated or not a checkpoint"):
        config.load_dir = config.get_checkpoint_dir()  # what ns-eval, ns-render, ns-export and ns-viewer do first
    printed = forked("ns-eval", "--load-config", tmp_path / "run/config.yml", cwd=tmp_path, fails=1)
    assert "truncated" in printed and "Traceback" not in printed


# -- earlier versions


def test_what_an_older_configuration_lacks_means_what_it_meant():
    old = LGModelConfig.__new__(LGModelConfig)
    sizes = RadianceSizes.__new__(RadianceSizes)
    sizes.__setstate__({"local_width": 8, "grid_nodes": 5})
    old.__setstate__({"shape": sizes, "counts": (3, 3, 3)})
    assert old.sizes == RadianceSizes(local_width=8, grid_nodes=5, global_reads_grid=False)
    assert old.counts == (3, 3, 3) and old.seam_loss_mult == LGModelConfig().seam_loss_mult
    assert RadianceSizes.from_dict({"grid_nodes": 5}) == RadianceSizes(grid_nodes=5, global_reads_grid=False)
    with pytest.raises(ValueError, match="local_width"):
        sizes.__setstate__({"local_width": -3})
    older = LGTrainerConfig.__new__(LGTrainerConfig)
    older.__setstate__({"pipeline": VanillaPipelineConfig(), "method_name": "lg-field-tiny"})
    assert older.pipeline._target is LGPipeline and older.run_dir is None


def test_a_run_of_version_1_loads_packs_and_crops(tmp_path):
    if not GOLDEN.exists():
        pytest.skip("needs ../shared/data/golden beside the checkout")
    run = load_run(GOLDEN / "run")
    assert type(run.config.pipeline.model.sizes) is RadianceSizes and run.config.pipeline._target is LGPipeline
    field = run.field()
    assert torch.equal(field.occupied, run.checkpoint["pipeline"][TABLE + "occupied"])
    packed = pack(run)
    assert packed.description.step > 0 and packed.history["steps"] == 2500
    small = field.selected(torch.arange(2))
    write_run(run, cropped_checkpoint(run, small, True), tmp_path / "small", False, {})
    again = load_run(tmp_path / "small")
    assert torch.equal(again.field().local, field.local[:2]) and STATE not in again.checkpoint["pipeline"]


# -- the shared part's grid after a crop


def test_a_cropped_run_trains_on_and_grows_with_the_whole_grid(scene, run, tmp_path):
    """A crop holds the entries that its cells read, and their moments; training has all of them again."""
    source = load_run(run)
    field = source.field()
    small = crop(field, cells=field.cells[:3])
    kept = small.kept_lines["hash_table"].mask()
    assert 0 < int(kept.sum()) < len(kept)
    checkpoint = cropped_checkpoint(source, small, True)
    name = TABLE + "hash_table"
    assert torch.equal(checkpoint["pipeline"][name], source.checkpoint["pipeline"][name][kept])
    old, new = (c["optimizers"]["grids"]["state"][1]["exp_avg"] for c in (source.checkpoint, checkpoint))
    assert torch.equal(new, old[kept])
    write_run(source, checkpoint, tmp_path / "crop", False, {})
    assert torch.equal(load_run(tmp_path / "crop").field().hash_table, small.hash_table)
    packed = pack(load_run(tmp_path / "crop"))
    assert torch.equal(packed.hash_table, small.hash_table) and len(pack(source).hash_table) <= len(kept)
    config = config_of(scene, tmp_path / "more", 3)
    config.load_dir = tmp_path / "crop/nerfstudio_models"
    more = load_run(trained(config))
    assert more.step == SAVED + 2 and len(more.field().hash_table) == len(kept)
    assert more.checkpoint["optimizers"]["grids"]["state"][1]["exp_avg"].shape == field.hash_table.shape

    larger = grown(small, None)
    config = extended_run(load_run(tmp_path / "crop"), larger, None, tmp_path / "grown", 4, False)
    config.vis = "tensorboard"
    train_loop(0, 1, config)
    after = check_unchanged(larger, tmp_path / "grown")
    table = after.hash_table.detach()
    assert torch.equal(table[kept], small.hash_table) and bool(table[~kept].any())
    with torch.no_grad():
        after.hash_table[kept.nonzero()[0]] += 1.0
    state = load_run(tmp_path / "grown")
    state.checkpoint["pipeline"][name] = after.hash_table.detach()
    write_run(state, state.checkpoint, tmp_path / "bad", False, {})
    with pytest.raises(ValueError, match=r"hash_table of .* changed where it was frozen"):
        check_unchanged(larger, tmp_path / "bad")
