"""Laws of captures' data: masks as alpha, pixels on the object, the space that cameras are moved to, runs that fail."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from PIL import Image
from small_model import bundle, make_model
from small_scene import small_scene
from test_placement import ball, looking, ring

from lg_field import load, save
from lg_field.errors import UserError
from lg_field.nerfstudio.datamanager import LGDataManagerConfig, scene_to_world
from lg_field.nerfstudio.dataparser import AutoDataParserConfig
from lg_field.nerfstudio.masks import small_alphas, small_masks
from lg_field.nerfstudio.pixels import ObjectPixelSamplerConfig
from lg_field.nerfstudio.placing import views_of
from lg_field.radiance.diagnosis import collapse
from lg_field.radiance.encodings import SH_FEATURES, spherical_harmonics, view_dependence
from lg_field.radiance.scene import Scene
from lg_field.radiance.surface import surface_colors
from lg_field.radiance.views import VIEWPOINTS
from lg_field.training.masks import cut_out_object, near_object
from lg_field.training.saving import by_time

SIZE = 48


def capture(folder: Path, count: int = 24, masks: str = "none", scale: float = 1.0, **meta: Any) -> Path:
    """A red ball of radius 0.4 at (3, 2, 1) times `scale`, cut out (`masks` "alpha"), with masks, before a plain green
    ("backdrop"), or with neither, before stripes."""
    target = torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64)
    views = ring(count, target=(3.0, 2.0, 1.0), distance=3.0)
    alphas = ball(views, target, 0.4, SIZE)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    frames = []
    for k, alpha in enumerate(alphas):
        inside = (alpha * 255).byte().numpy()
        stripes = np.arange(SIZE)[:, None, None] // 4 % 2 * np.uint8([0, 60, 60]) if masks != "backdrop" else 0
        behind = (np.uint8([20, 90, 140]) + np.uint8([0, k, 0]) * (masks != "backdrop") + stripes).astype(np.uint8)
        picture = np.where(inside[..., None] > 0, np.uint8([200, 40, 30]), behind)
        layers = np.dstack([picture, inside]) if masks == "alpha" else picture
        Image.fromarray(layers).save(folder / "images" / f"{k:03}.png")
        pose = torch.eye(4, dtype=torch.float64)
        pose[:3] = views.poses[k]
        pose[:3, 3] *= scale
        frame = {"file_path": f"images/{k:03}.png", "transform_matrix": pose.tolist()}
        if masks in ("grey", "rgb", "large"):
            (folder / "masks").mkdir(exist_ok=True)
            mask = Image.fromarray(inside)
            mask = mask.resize((2 * SIZE, 2 * SIZE), Image.Resampling.NEAREST) if masks == "large" else mask
            (mask.convert("RGB") if masks == "rgb" else mask).save(folder / "masks" / f"{k:03}.png")
            frame["mask_path"] = f"masks/{k:03}.png"
        frames.append(frame)
    inner = {"fl_x": float(SIZE), "fl_y": float(SIZE), "cx": SIZE / 2, "cy": SIZE / 2, "w": SIZE, "h": SIZE}
    data = inner | {"camera_model": "OPENCV", "frames": frames} | meta
    (folder / "transforms.json").write_text(json.dumps(data))
    return folder


def manager(data: Path, **options: Any) -> Any:
    config = LGDataManagerConfig(data=data, dataparser=AutoDataParserConfig(data=data), **options)
    config.train_num_rays_per_batch = config.eval_num_rays_per_batch = 64
    return config.setup(device="cpu", test_mode="val")


def focus_in_scene(outputs: DataparserOutputs, scale: float = 1.0) -> torch.Tensor:
    """Where the ball's middle, known in the data set's units, lies in scene space."""
    to_world = scene_to_world(outputs.dataparser_transform, outputs.dataparser_scale)
    middle = torch.tensor([3.0 * scale, 2.0 * scale, 1.0 * scale, 1.0], dtype=torch.float64)
    return (torch.linalg.inv(to_world) @ middle)[:3]


# -- masks


@pytest.mark.parametrize("kind", ["grey", "rgb", "large"])
def test_a_mask_is_the_alpha_of_a_cut_out_image(tmp_path: Path, kind: str):
    masked, cut = manager(capture(tmp_path / "m", masks=kind)), manager(capture(tmp_path / "a", masks="alpha"))
    for k in (0, 7):
        ours, theirs = masked.train_dataset[k], cut.train_dataset[k]
        assert "mask" not in ours and ours["image"].shape == (SIZE, SIZE, 4)
        assert float((ours["image"][..., 3] - theirs["image"][..., 3]).abs().mean()) < (
            0.01 if kind == "large" else 1e-6
        )
    assert masked.train_dataset.metadata["bounded"] and cut.train_dataset.metadata["bounded"]
    assert torch.allclose(masked.train_dataset.scene_box.aabb, cut.train_dataset.scene_box.aabb, atol=0.1)


def test_ignored_masks_stay_masks_of_the_images_size(tmp_path: Path):
    plain = manager(capture(tmp_path, masks="large"), masks="ignore")
    data = plain.train_dataset[0]
    assert data["image"].shape[-1] == 3 and data["mask"].shape == (SIZE, SIZE, 1) and data["mask"].dtype == torch.bool
    assert not plain.train_dataset.metadata["bounded"]
    _, batch = plain.next_train(0)
    assert len(batch["image"]) == 64 and bool((batch["image"][:, 0] > 0.5).all()), "only pixels inside of them"


@pytest.mark.parametrize(("masks", "rays"), [("alpha", 64), ("grey", 64), (None, 16)])
def test_photos_of_all_there_is_have_fewer_rays_a_step(tmp_path: Path, masks: str | None, rays: int):
    data = capture(tmp_path, masks=masks) if masks else capture(tmp_path)
    some = manager(data, opaque_share=0.25)
    _, batch = some.next_train(0)
    assert len(batch["image"]) == some.get_train_rays_per_batch() == rays
    if masks is None:
        assert manager(data, masks="ignore").get_train_rays_per_batch() == 64
        with pytest.raises(UserError, match="opaque-share"):
            manager(data, opaque_share=0.0)


def test_masks_mean_empty_only_where_they_cut_an_object_out(tmp_path: Path):
    assert cut_out_object([0.1] * 9 + [0.0]) and not cut_out_object([0.1] * 8 + [0.0] * 2)
    assert not cut_out_object([0.95] * 10), "that leaves out passers-by"
    assert not cut_out_object([])
    folder = capture(tmp_path, masks="grey")
    meta = json.loads((folder / "transforms.json").read_text())
    for frame in meta["frames"][:6]:
        del frame["mask_path"]
    (folder / "transforms.json").write_text(json.dumps(meta))
    partly = manager(folder)
    assert partly.masks == "ignore", "photos without a mask count whole"
    masks = small_masks(partly.train_dataparser_outputs)
    assert masks is not None and float(masks[0].min()) == 1.0 and 0.02 < float(masks[-1].mean()) < 0.2


def test_alphas_that_are_all_full_are_none(tmp_path: Path):
    folder = capture(tmp_path, count=3)
    parser = AutoDataParserConfig(data=folder)
    assert small_alphas(parser.setup().get_dataparser_outputs("train"), masked=False) is None
    for file in (folder / "images").iterdir():
        Image.open(file).convert("RGBA").save(file)
    assert small_alphas(parser.setup().get_dataparser_outputs("train"), masked=True) is None, "nothing is empty in them"


# -- pixels


def test_most_pixels_are_on_or_close_to_the_object():
    images = torch.zeros(3, 40, 60, 4)
    images[1, 10:14, 20:24, 3] = 1.0
    near = near_object(images, reach=0.05)
    index = torch.stack([near // 2400, near % 2400 // 60, near % 60], dim=-1)
    assert bool((index[:, 0] == 1).all()) and len(near) == 10 * 10
    batch = {"image": images, "image_idx": torch.arange(3)}
    sampler = ObjectPixelSamplerConfig(object_share=0.75).setup(num_rays_per_batch=400)
    sampled = sampler.sample(batch)["indices"]
    close = (
        (sampled[:, 0] == 1)
        & (sampled[:, 1] >= 7)
        & (sampled[:, 1] < 17)
        & (sampled[:, 2] >= 17)
        & (sampled[:, 2] < 27)
    )
    assert 300 <= int(close.sum()) < 330
    opaque = {"image": images[..., :3], "image_idx": torch.arange(3)}
    assert len(sampler.sample(opaque)["indices"][:, 0].unique()) == 3, "images without alpha: anywhere"
    empty = {"image": torch.zeros(3, 4, 4, 4), "image_idx": torch.arange(3)}
    assert len(sampler.sample(empty)["indices"]) == 400


# -- placing


def test_instant_ngps_box_does_not_matter(tmp_path: Path):
    """Whatever aabb_scale says and in whatever units, the object fills a bounded box about the origin."""
    found = []
    for name, aabb, scale in (("a", 1, 1.0), ("b", 16, 5.0)):
        data = manager(capture(tmp_path / name, masks="alpha", scale=scale, aabb_scale=aabb))
        outputs = data.train_dataparser_outputs
        assert data.train_dataset.metadata["bounded"] and data.train_dataset.metadata["hull"] is not None
        middle = focus_in_scene(outputs, scale)
        assert float(middle.norm()) < 0.1
        found.append(data.train_dataset.scene_box.aabb)
        assert float(found[-1].abs().max()) == pytest.approx(1.0, abs=1e-5)
    assert torch.allclose(*found, atol=0.05)


def test_photos_are_moved_with_their_way_back(tmp_path: Path):
    data = manager(capture(tmp_path))
    outputs = data.train_dataparser_outputs
    assert not data.train_dataset.metadata["bounded"]
    assert float(focus_in_scene(outputs).norm()) < 1e-3, "what they look at is the origin"
    to_world = scene_to_world(outputs.dataparser_transform, outputs.dataparser_scale)
    frames = {f["file_path"]: f for f in json.loads((tmp_path / "transforms.json").read_text())["frames"]}
    for split in (data.train_dataset, data.eval_dataset):
        for file, pose in zip(split.image_filenames, split.cameras.camera_to_worlds.double()):
            world = torch.tensor(frames[f"images/{file.name}"]["transform_matrix"], dtype=torch.float64)
            assert torch.allclose((to_world[:3, :3] @ pose[:, 3]) + to_world[:3, 3], world[:3, 3], atol=1e-4)
            turned = torch.nn.functional.normalize(to_world[:3, :3] @ pose[:, :3], dim=0)
            assert torch.allclose(turned, world[:3, :3], atol=1e-4)
    assert data.train_dataset.metadata["viewpoints"].shape == (VIEWPOINTS, 3)
    assert (
        0.0
        < data.train_dataset.metadata["near"]
        < float(data.train_dataset.cameras.camera_to_worlds[..., 3].norm(dim=-1).min())
    )


def test_told_boxes_are_in_the_data_sets_units(tmp_path: Path):
    data = manager(capture(tmp_path), scene_box=(2.0, 1.0, 0.0, 4.0, 3.0, 2.0))
    assert data.train_dataset.metadata["bounded"]
    assert float(focus_in_scene(data.train_dataparser_outputs).norm()) < 1e-4
    up = manager(tmp_path, up=(1.0, 0.0, 0.0)).train_dataparser_outputs.dataparser_transform[:, :3]
    assert torch.allclose(up[:, 0].float(), torch.tensor([0.0, 0.0, 1.0]), atol=1e-5)
    for wrong in ({"focus": (1.0, 2.0)}, {"scene_box": (0.0,) * 6}, {"up": (0.0,) * 3}, {"focus": (math.nan,) * 3}):
        with pytest.raises(ValueError, match=r"--pipeline\.datamanager\."):
            manager(tmp_path, **wrong)
    kept = manager(tmp_path, place=False).train_dataparser_outputs
    parsed = AutoDataParserConfig(data=tmp_path).setup().get_dataparser_outputs("train")
    assert torch.equal(kept.cameras.camera_to_worlds, parsed.cameras.camera_to_worlds)


def test_runs_from_before_keep_the_data_parsers_space():
    state = {
        k: v for k, v in vars(LGDataManagerConfig()).items() if k not in ("place", "masks", "up", "focus", "scene_box")
    }
    older = LGDataManagerConfig.__new__(LGDataManagerConfig)
    older.__setstate__(state)
    assert (older.place, older.masks, older.up) == (False, "ignore", ())
    assert LGDataManagerConfig().place and LGDataManagerConfig().masks == "auto"


def test_a_single_test_image_has_its_pose(tmp_path: Path):
    """nerfstudio's instant-ngp data parser loses the pose of a split with one image (10 to 19 images)."""
    data = manager(capture(tmp_path, count=12, aabb_scale=4))
    assert data.eval_dataset.cameras.camera_to_worlds.shape == (1, 3, 4)
    bundle_, batch = data.next_eval(0)
    assert len(bundle_) == len(batch["image"]) == 64
    assert float(data.eval_dataset.cameras.camera_to_worlds[0, :, :3].det()) == pytest.approx(1.0, abs=1e-4)
    axis = views_of(data.eval_dataset.cameras).axes[0]
    to_middle = -data.eval_dataset.cameras.camera_to_worlds[0, :, 3].double()
    assert float(axis @ to_middle / to_middle.norm()) > 0.999, "it looks at the origin, as all do"


# -- what training makes of it


def test_a_restricted_field_holds_nothing_outside_of_the_hull():
    model = make_model(harmonics_loss_mult=0.1, occupancy_interval=1, unseen_from=10**9)
    hull = torch.zeros(8, 8, 8, dtype=torch.bool)
    hull[:4, 2:6] = True
    model.trainer.restrict(hull)
    grid = model.table.occupancy
    everywhere = torch.rand(4000, 3, generator=torch.Generator().manual_seed(1)) * 3 - 1.5
    index = ((everywhere + 1.5) / 3 * 8).long()
    allowed = hull[tuple(index.unbind(-1))]
    assert torch.equal(grid.is_occupied(everywhere), allowed)
    model.train()
    for step in range(1, 3):
        model.trainer.begin(step)
        losses = model.get_loss_dict(outputs := model(bundle()), {"image": torch.rand(32, 4)})
        assert (
            outputs["rgb"].requires_grad and float(losses["harmonics_loss"]) >= 0.0
            if "harmonics_loss" in losses
            else True
        )
    model.trainer.begin(3)
    assert not bool((model.table.occupancy.is_occupied(everywhere) & ~allowed).any())
    model.table.split_([])
    assert not bool((model.table.occupancy.is_occupied(everywhere) & ~allowed).any()), "nor do finer cells"


@given(st.integers(0, 2**31))
def test_only_what_depends_on_the_direction_is_penalised(seed: int):
    generator = torch.Generator().manual_seed(seed)
    features = torch.zeros(20, 3 * SH_FEATURES)
    features[:, ::SH_FEATURES] = torch.randn(20, 3, generator=generator)
    assert float(view_dependence(features).mean()) == 0.0
    directions = torch.nn.functional.normalize(torch.randn(20, 3, generator=generator), dim=-1)
    seen = torch.einsum("mcs,ms->mc", features.unflatten(1, (3, SH_FEATURES)), spherical_harmonics(directions))
    flipped = torch.einsum("mcs,ms->mc", features.unflatten(1, (3, SH_FEATURES)), spherical_harmonics(-directions))
    assert torch.equal(seen, flipped)
    features[3, 5] = 1.0
    assert float(view_dependence(features).mean()) > 0.0


def test_surfaces_have_the_colours_that_cameras_saw():
    field = small_scene()
    points = field.grid.boxes(field.cells).mean(1).float()[:5]
    inward = torch.tensor([[-1.0, 0.0, 0.0]]).expand(5, 3)  # all surfaces look along +x
    features = field(points)[1]

    def seen_from(place: list[float]) -> torch.Tensor:
        return field.rgb(features, torch.nn.functional.normalize(points - torch.tensor(place), dim=-1))

    front, aside, behind = [9.0, 1.0, 0.0], [9.0, -3.0, 2.0], [-9.0, 0.0, 0.0]
    with torch.no_grad():
        none = surface_colors(field, points, inward, torch.zeros(0, 3))
        assert torch.equal(none, field.rgb(features, inward)), "without cameras: from straight above"
        assert torch.allclose(surface_colors(field, points, inward, torch.tensor([front, behind])), seen_from(front))
        both = surface_colors(field, points, inward, torch.tensor([front, aside, behind]))
        assert torch.allclose(both, (seen_from(front) + seen_from(aside)) / 2, atol=1e-6)
        unseen = surface_colors(field, points, inward, torch.tensor([behind]))
        assert torch.allclose(unseen, seen_from(behind), atol=1e-6)


def test_a_scene_keeps_its_viewpoints_and_older_ones_have_none(tmp_path: Path):
    field = small_scene()
    assert (
        "viewpoints" not in field.description.to_dict()
        and Scene.from_dict(field.description.to_dict()).viewpoints == ()
    )
    field.description = replace(field.description, viewpoints=((1.0, 2.0, 3.0), (4.0, 5.0, 6.0)))
    save(field, tmp_path / "scene.safetensors")
    assert load(tmp_path / "scene.safetensors").description == field.description
    with pytest.raises(ValueError, match="finite"):
        replace(field.description, viewpoints=((math.nan, 0.0, 0.0),))


def test_runs_that_show_nothing_say_why():
    fine = collapse(1000, psnr=24.0, rows=200, cells=512, opacity=0.5, wanted=0.5)
    assert fine is None
    white = collapse(1000, psnr=13.3, rows=1, cells=512, opacity=0.0, wanted=0.1)
    assert white is not None and "1 of 512" in white and "--pipeline.datamanager.scene-box" in white
    fog = collapse(1000, psnr=9.0, rows=500, cells=512, opacity=1.0, wanted=0.3)
    assert fog is not None and "fog" in fog
    wrong = collapse(1000, psnr=12.0, rows=500, cells=512, opacity=1.0, wanted=1.0)
    assert wrong is not None and "poses" in wrong
    assert collapse(3, psnr=5.0, rows=64, cells=64, opacity=0.9, wanted=0.9) is None, "too early to say"
    tidy = collapse(1000, psnr=33.0, rows=1, cells=512, opacity=0.1, wanted=0.1)
    assert tidy is None, "one cell is enough for a small thing"
    assert all("\n" not in line for line in (white, fog, wrong))


def test_a_failed_run_prints_a_line(capsys):
    model = make_model()
    model.train()
    noise = torch.cat([torch.rand(32, 3).round(), torch.ones(32, 1)], dim=1)
    model.get_metrics_dict(model(bundle()), {"image": noise})
    model._look(499)
    printed = " ".join(capsys.readouterr().out.split())
    assert "step 500: PSNR of the training images is" in printed and "dB, so the pictures show nothing" in printed


def test_the_first_checkpoint_comes_within_a_minute_and_later_ones_by_time():
    clock, saved = [100.0], []
    after = by_time(saved.append, lambda: clock[0])
    for step in range(1300):
        clock[0] = 100.0 + step
        after(step)
    assert saved[0] <= 60 and saved == [45, 345, 645, 945, 1245]


def test_cameras_of_tests_look_where_they_should():
    poses = looking(torch.tensor([[2.0, 0.0, 0.0]]).double(), torch.zeros(3).double())
    assert torch.allclose(-poses[0, :, 2], torch.tensor([-1.0, 0.0, 0.0]).double())
