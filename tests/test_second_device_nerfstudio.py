"""nerfstudio's trainer with this method on a second device: training, evaluation, resuming, cropping, growing."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import second_device
import torch

pytest.importorskip("nerfstudio", reason="the plugin needs nerfstudio")
if (reason := second_device.available()) is not None:
    pytest.skip(reason, allow_module_level=True)

from demo_scene import write_demo_scene
from small_model import bundle, make_model

from lg_field.nerfstudio.config import lg_field_tiny
from lg_field.nerfstudio.extension import grown

DEVICE = torch.device(second_device.NAME)


def trainer_on(device: str, folder: Path, steps: int, load: Path | None = None, **options):
    """nerfstudio's trainer, ready to train."""
    config = copy.deepcopy(lg_field_tiny.config)
    config.machine.device_type = device
    config.data = config.pipeline.datamanager.data = folder / "scene"
    config.output_dir, config.experiment_name, config.timestamp = folder / "outputs", "e", f"{device}-{steps}"
    config.max_num_iterations, config.vis, config.load_dir = steps, "tensorboard", load
    config.pipeline.datamanager.train_num_rays_per_batch = 128
    model = config.pipeline.model
    model.samples_per_batch, model.occupancy_points, model.split_steps = 2048, 1024, (8,)
    model.prune_from = model.prune_interval = 10
    for name, value in options.items():
        setattr(config, name, value)
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    return trainer


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("second")
    write_demo_scene(folder / "scene", size=20, train=6, test=1)
    return folder


@pytest.fixture(scope="module")
def trained(folder):
    trainer = trainer_on(DEVICE.type, folder, 18)
    trainer.train()
    return trainer


def test_a_run_trains_evaluates_and_saves(trained):
    model = trained.pipeline.model
    assert model.table.cells.device.type == DEVICE.type and model.table.grid.counts == (8, 8, 8)
    metrics = trained.pipeline.get_average_eval_image_metrics()
    assert 5.0 < metrics["psnr"] < 60.0
    assert list(trained.checkpoint_dir.glob("*.ckpt"))


@pytest.mark.parametrize("device", [DEVICE.type, "cpu"])
def test_a_run_goes_on_where_it_is_wanted(trained, folder, device: str):
    again = trainer_on(device, folder, 3, load=trained.checkpoint_dir)
    if device == "cpu":
        with pytest.warns(UserWarning, match="with other random numbers"):
            again.train()
    else:
        again.train()
    assert again.pipeline.model.table.cells.device.type == device
    assert again.pipeline.model.trainer.step == 20


@pytest.mark.parametrize("mixed", [True])
def test_mixed_precision_trains(folder, mixed: bool):
    trainer = trainer_on(DEVICE.type, folder, 4, mixed_precision=mixed, use_grad_scaler=mixed)
    trainer.train()
    assert all(bool(p.isfinite().all()) for p in trainer.pipeline.model.parameters())


def test_a_model_renders_what_it_does_on_the_cpu():
    here = make_model().eval()
    there = copy.deepcopy(here).to(DEVICE)
    ours, theirs = here(bundle()), there(bundle().to(DEVICE))
    for name in ("rgb", "accumulation", "depth"):
        torch.testing.assert_close(ours[name], theirs[name].cpu(), rtol=1e-4, atol=1e-4)


def test_a_field_grows_there():
    field = make_model().table.selected(torch.tensor([0, 3])).to(DEVICE)
    larger = grown(field, None)
    assert larger.num_rows == 8 and larger.frozen.sum() == 2 and larger.cells.device.type == DEVICE.type
