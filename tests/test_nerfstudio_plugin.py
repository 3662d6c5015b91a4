"""The plugin inside one process: data, model, checkpoints, and what bad input says."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from demo_scene import write_demo_scene

pytest.importorskip("nerfstudio", reason="the plugin needs nerfstudio")

from nerfstudio.engine.optimizers import Optimizers
from nerfstudio.pipelines.base_pipeline import Pipeline
from small_model import bundle, make_model

from lg_field.captures import read_capture
from lg_field.errors import UserError
from lg_field.nerfstudio.config import lg_field, lg_field_tiny
from lg_field.nerfstudio.datamanager import check_data_folder
from lg_field.nerfstudio.dataparser import AutoDataParserConfig
from lg_field.nerfstudio.model import LGModel
from lg_field.nerfstudio.runs import TABLE

SHARED = Path(__file__).parents[2] / "shared" / "data" / "nerf"


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "scene"
    write_demo_scene(path, size=24, train=4, test=2)
    return path


# -- data


def test_blender_data_is_recognised_and_keeps_alpha(scene):
    outputs = AutoDataParserConfig(data=scene).setup().get_dataparser_outputs("train")
    assert len(outputs.image_filenames) == 4 and outputs.metadata["bounded"] and outputs.alpha_color is None


def test_images_keep_their_alpha_with_nerfstudios_own_parser_too(scene):
    from nerfstudio.data.dataparsers.blender_dataparser import BlenderDataParserConfig

    config = copy.deepcopy(lg_field_tiny.config.pipeline.datamanager)
    config.dataparser, config.data = BlenderDataParserConfig(data=scene), scene
    manager = config.setup(device="cpu", test_mode="test")
    assert manager.next_train(0)[1]["image"].shape[-1] == 4 and manager.train_dataset.metadata["bounded"]


def test_instant_ngp_data_with_missing_images_is_read(capsys):
    if not SHARED.exists():
        pytest.skip("needs ../shared/data/nerf/fox beside the checkout")
    outputs = AutoDataParserConfig(data=SHARED / "fox").setup().get_dataparser_outputs("train")
    assert len(outputs.image_filenames) == 45 and not outputs.metadata["bounded"]
    assert "17 of 67 images are missing" in " ".join(capsys.readouterr().out.split())


def transforms_scene(folder: Path, **meta) -> Path:
    from PIL import Image

    (folder / "images").mkdir(parents=True)
    frames = []
    for k in range(4):
        Image.fromarray(np.full((8, 10, 3), 40 * k, np.uint8)).save(folder / f"images/{k}.png")
        pose = np.eye(4)
        pose[:3, 3] = [np.cos(k), np.sin(k), 0.3 * k + 1]
        frames.append({"file_path": f"images/{k}.png", "transform_matrix": pose.tolist()})
    data = {"fl_x": 10.0, "fl_y": 10.0, "cx": 5.0, "cy": 4.0, "w": 10, "h": 8, "frames": frames, **meta}
    (folder / "transforms.json").write_text(json.dumps(data))
    return folder


def test_nerfstudio_and_colmap_data_are_recognised(tmp_path):
    from nerfstudio.data.utils import colmap_parsing_utils as colmap

    folder = transforms_scene(tmp_path / "ns", camera_model="OPENCV")
    outputs = AutoDataParserConfig(data=folder).setup().get_dataparser_outputs("train")
    assert len(outputs.image_filenames) >= 3 and not outputs.metadata["bounded"]
    sparse = tmp_path / "co/sparse/0"
    sparse.mkdir(parents=True)
    shutil.copytree(folder / "images", tmp_path / "co/images")
    colmap.write_cameras_binary(
        {1: colmap.Camera(1, "PINHOLE", 10, 8, np.array([10.0, 10, 5, 4]))}, sparse / "cameras.bin"
    )
    images = {
        k + 1: colmap.Image(
            k + 1,
            np.array([1.0, 0, 0, 0]),
            np.array([k, 0.5 * k, 3.0]),
            1,
            f"{k}.png",
            np.zeros((0, 2)),
            np.zeros(0, int),
        )
        for k in range(4)
    }
    colmap.write_images_binary(images, sparse / "images.bin")
    point = colmap.Point3D(1, np.zeros(3), np.zeros(3, int), 0.1, np.array([1]), np.array([0]))
    colmap.write_points3D_binary({1: point}, sparse / "points3D.bin")
    outputs = AutoDataParserConfig(data=tmp_path / "co").setup().get_dataparser_outputs("train")
    assert len(outputs.image_filenames) >= 3


def test_bad_data_is_named(tmp_path, scene):
    with pytest.raises(UserError, match="does not exist"):
        read_capture(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no data given"):
        check_data_folder(None)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match="is empty"):
        check_data_folder(empty)
    (empty / "notes.txt").write_text("x")
    with pytest.raises(UserError, match="holds no scene"):
        read_capture(empty)
    (empty / "transforms.json").write_text('{"frames": [{"file_path": "gone.png"}]}')
    with pytest.raises(UserError, match="none of them exists"):
        read_capture(empty)
    (empty / "transforms.json").write_text("{")
    with pytest.raises(UserError, match="is not JSON"):
        read_capture(empty)


def test_poses_that_are_not_numbers_are_named(tmp_path, scene):
    broken = tmp_path / "broken"
    shutil.copytree(scene, broken)
    meta = json.loads((broken / "transforms_train.json").read_text())
    meta["frames"][1]["transform_matrix"][0][3] = float("nan")
    (broken / "transforms_train.json").write_text(json.dumps(meta))
    config = copy.deepcopy(lg_field_tiny.config.pipeline.datamanager)
    config.dataparser, config.data = AutoDataParserConfig(data=broken), broken
    with pytest.raises(UserError, match="transform_matrix holds NaN"):
        config.setup(device="cpu", test_mode="test")


# -- model


def test_methods_listen_locally_and_need_no_device_flag():
    for method in (lg_field, lg_field_tiny):
        assert method.config.viewer.websocket_host == "127.0.0.1"
        assert method.config.machine.device_type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_no_metric_is_built_with_the_model():
    names = {type(m).__name__ for m in make_model().modules()}
    assert not {n for n in names if "Perceptual" in n or "LPIPS" in n}


def test_lpips_is_refused_without_weights(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    model = make_model(compute_lpips=True).eval()
    image = torch.rand(16, 16, 3)
    with pytest.raises(UserError, match="AlexNet"):
        model.get_image_metrics_and_images({"rgb": image, "accumulation": image[..., :1]}, {"image": image})


def test_nears_and_fars_crop_the_render():
    model, rays = make_model().eval(), bundle()
    whole = model(rays)["accumulation"]
    rays.nears, rays.fars = torch.full((32, 1), 3.5), torch.full((32, 1), 4.0)
    part = model(rays)
    assert (part["accumulation"] < whole).all() and part["accumulation"].max() > 0
    rays.fars = torch.full((32, 1), 3.0)
    assert (model(rays)["accumulation"] == 0).all()


@pytest.mark.parametrize("color", ["white", "black"])
def test_rgba_is_transparent_and_composes_to_the_render(color):
    model = make_model(render_background_color=color).eval()
    outputs = model(bundle())
    rgba = model.get_rgba_image(outputs)
    background = 1.0 if color == "white" else 0.0
    assert torch.equal(rgba[:, 3:], outputs["accumulation"])
    composed = rgba[:, :3] * rgba[:, 3:] + background * (1 - rgba[:, 3:])
    torch.testing.assert_close(composed, outputs["rgb"], atol=2e-3, rtol=0)


def test_tcnn_is_refused_where_it_cannot_run():
    with pytest.raises(UserError, match="needs a CUDA GPU"):
        make_model(implementation="tcnn")
    assert make_model(implementation="torch").table.implementation == "torch"


def test_the_shared_grid_learns_at_the_rate_of_grids():
    model = make_model().train()
    groups = model.get_param_groups()
    assert [len(p) for p in groups["grids"]] == [model.table.num_rows, model.table.hash_grid.num_entries]
    assert not any(p is model.table.hash_table for p in groups["fields"])


@pytest.mark.parametrize("color", ["random", "white", "black"])
def test_a_training_step_has_gradients_for_all_parts(color):
    model, rays = make_model(background_color=color).train(), bundle()
    batch = {"image": torch.rand(32, 4)}
    outputs = model(rays)
    model.get_loss_dict(outputs, batch, model.get_metrics_dict(outputs, batch))["rgb_loss"].backward()
    table = model.table
    assert all(p.grad is not None for p in (table.features, table.local, table.hash_table, *table.shared.values()))


def test_a_ray_bundle_that_sees_nothing_still_trains():
    model, rays = make_model(background_color="white").train(), bundle(4)
    rays.directions = -rays.directions
    outputs = model(rays)
    assert (outputs["rgb"] == 1).all()
    outputs["rgb"].sum().backward()


def test_splits_and_prunings_reach_nerfstudios_optimizers():
    model = make_model()
    config = {k: dict(v) for k, v in lg_field_tiny.config.optimizers.items()}
    optimizers = Optimizers(config, model.get_param_groups())
    for step in range(6):
        model.trainer.begin(step, list(optimizers.optimizers.values()))
        outputs = model.train()(bundle())
        optimizers.zero_grad_all()
        outputs["rgb"].sum().backward()
        optimizers.optimizer_step_all()
        if step == 4:
            model.table.select_(torch.arange(0, 64, 3), list(optimizers.optimizers.values()))
    assert model.table.num_rows == 22 and model.table.grid.counts == (4, 4, 4)
    assert optimizers.optimizers["grids"].state[model.table.features]["exp_avg"].shape == model.table.features.shape


class Holder(Pipeline):
    """nerfstudio's own load_state_dict, with its retry, around a model."""

    def __init__(self, model: LGModel) -> None:
        torch.nn.Module.__init__(self)
        self._model = model


def test_checkpoints_with_fewer_rows_load_through_nerfstudio_and_bad_ones_say_why():
    model = make_model()
    model.table.split_()
    model.table.select_(torch.tensor([1, 2, 40]))
    state = {f"_model.{k}": v for k, v in model.state_dict().items()}
    fresh = make_model()
    Holder(fresh).load_state_dict(state)
    rays = bundle()
    for name, value in fresh.eval()(rays).items():
        assert torch.equal(value, model.eval()(rays)[name])
    for key, value, match in [
        ("local", model.table.local[:2], "rows are missing"),
        ("features", model.table.features * torch.inf, "NaN or infinite"),
        ("cells", torch.arange(500), "sorted, distinct"),
    ]:
        with pytest.raises(UserError, match=match):
            Holder(make_model()).load_state_dict(state | {TABLE + key: value.detach()})
    with pytest.raises(UserError, match="lacks"):
        Holder(make_model()).load_state_dict({k: v for k, v in state.items() if not k.endswith("local")})


def test_schedules_leave_plain_numbers_in_checkpoints(tmp_path):
    parameter = torch.nn.Parameter(torch.zeros(1))
    config = {"fields": dict(lg_field_tiny.config.optimizers["fields"])}
    optimizers = Optimizers(config, {"fields": [parameter]})
    parameter.grad = torch.ones(1)
    optimizers.optimizer_step_all()
    optimizers.schedulers["fields"].step()
    torch.save({k: v.state_dict() for k, v in optimizers.schedulers.items()}, tmp_path / "s.pt")
    assert torch.load(tmp_path / "s.pt", weights_only=True)["fields"]["last_epoch"] == 1


# -- distillation


def test_a_student_learns_what_its_teacher_says_before_it_sees_images(tmp_path):
    from lg_field import save

    teacher = make_model().table
    with torch.no_grad():
        teacher.local.add_(torch.randn_like(teacher.local) * 0.3)
    save(teacher, tmp_path / "teacher")
    torch.manual_seed(1)
    student = make_model(teacher=tmp_path / "teacher", distill_steps=40).train()
    names = {n for n, _ in student.named_parameters()}
    assert not any("teacher" in n for n in names) and len(student.state_dict()) == len(make_model().state_dict())
    optimizer = torch.optim.Adam([p for p in student.parameters() if p.numel()], lr=2e-2)
    with torch.no_grad():
        for p in student.table.parameters():
            p.add_(torch.randn_like(p) * 0.2)
    rays, losses = bundle(64), []
    for step in range(41):
        student.trainer.step = step
        outputs = student.get_outputs(rays)
        loss = student.get_loss_dict(outputs, {"image": torch.rand(64, 4)})
        assert set(loss) == ({"imitation_loss"} if step < 40 else {"rgb_loss", "seam_loss"})
        if step < 40:
            optimizer.zero_grad()
            loss["imitation_loss"].backward()
            optimizer.step()
            losses.append(float(loss["imitation_loss"].detach()))
    assert losses[-1] < 0.3 * losses[0]
    with pytest.raises(UserError, match="lg-field pack"):
        make_model(teacher=tmp_path / "nowhere")
