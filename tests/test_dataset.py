"""nerfstudio's data set of a capture: pixels, masks and cameras belong together at every size they are read at."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_captures import HEIGHT, WIDTH, colmap, pixels, transforms

from lg_field.captures import read_capture
from lg_field.captures.capture import Seen
from lg_field.errors import UserError
from lg_field.nerfstudio.capture_outputs import outputs_of
from lg_field.nerfstudio.datamanager import LGDataManagerConfig
from lg_field.nerfstudio.dataparser import AutoDataParserConfig
from lg_field.nerfstudio.dataset import DEPTH, CaptureDataset
from lg_field.nerfstudio.pixels import ObjectPixelSamplerConfig
from lg_field.training.depths import depth_image


def masked(folder: Path, every: bool) -> Path:
    """A capture whose photos, all or every second one, have a mask: bright on the right."""
    transforms(folder, 12)
    half = np.zeros((HEIGHT, WIDTH), np.uint8)
    half[:, WIDTH // 2 :] = 255
    Image.fromarray(half).save(folder / "m.png")
    data = json.loads((folder / "transforms.json").read_text())
    for k, frame in enumerate(data["frames"]):
        if every or k % 2:
            frame["mask_path"] = "m.png"
    (folder / "transforms.json").write_text(json.dumps(data))
    return folder


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.25])
@pytest.mark.parametrize("downscale", [1, 2])
def test_pixels_are_as_many_as_cameras_say(tmp_path, scale, downscale):
    parser = AutoDataParserConfig(data=transforms(tmp_path)).setup()
    parser.downscale_factor = downscale
    dataset = CaptureDataset(parser.get_dataparser_outputs("train"), scale)
    for k in range(len(dataset)):
        height, width = dataset.get_data(k)["image"].shape[:2]
        assert (height, width) == (int(dataset.cameras.height[k]), int(dataset.cameras.width[k]))
        assert float(dataset.cameras.fx[k]) == pytest.approx(20.0 * scale / downscale)


def test_pixels_are_those_of_the_files(tmp_path):
    dataset = CaptureDataset(outputs_of(read_capture(transforms(tmp_path)), "train"))
    for k, path in enumerate(dataset.image_filenames):
        found = dataset.get_data(k, "uint8")["image"].numpy()
        assert np.array_equal(found, pixels(int(path.stem)))
        assert torch.allclose(dataset.get_data(k)["image"], torch.from_numpy(found) / 255)


@pytest.mark.parametrize("every", [True, False])
@pytest.mark.parametrize("meaning", ["ignore", "empty"])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_masks_are_masks_or_alpha(tmp_path, every, meaning, scale):
    """Ignored, the outside is masked; empty, it is transparent: the same pixels, and none of photos without a mask."""
    dataset = CaptureDataset(outputs_of(read_capture(masked(tmp_path, every)), "train"), scale, meaning)
    for k, photo in enumerate(dataset.metadata["photos"]):
        data = dataset.get_data(k)
        width = data["image"].shape[1]
        inside = data["mask"][..., 0] if meaning == "ignore" else data["image"][..., 3] > 0.5
        assert ("mask" in data) == (meaning == "ignore")
        assert bool(inside[:, width // 2 + 1 :].all())
        assert bool(inside[:, : width // 2 - 1].any()) == (photo.mask is None)


def test_what_was_odd_is_said_once(tmp_path, capsys):
    transforms(tmp_path)
    (tmp_path / "images/3.png").unlink()
    parser = AutoDataParserConfig(data=tmp_path).setup()
    counts = [len(parser.get_dataparser_outputs(split).image_filenames) for split in ("train", "test", "val")]
    said = " ".join(capsys.readouterr().out.split())
    assert sum(counts[:2]) == 11 and said.count("1 of 12 images are missing and left out") == 1


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_pixels_that_show_a_sparse_point_know_how_far_it_is(tmp_path, scale):
    """In scene units, wherever the scene was moved to; masked photos know only of what counts."""
    names = [f"{k}.png" for k in range(4)]
    half = np.zeros((HEIGHT, WIDTH), np.uint8)
    half[:, WIDTH // 2 - 1 :] = 255
    colmap(tmp_path, False, names)
    (tmp_path / "masks").mkdir()
    Image.fromarray(half).save(tmp_path / "masks/2.png")
    dataset = CaptureDataset(outputs_of(read_capture(tmp_path), "train"), scale)
    for k, photo in enumerate(dataset.metadata["photos"]):
        depth = dataset.get_data(k)[DEPTH]
        assert depth.shape == (*dataset.get_data(k)["image"].shape[:2], 1)
        if photo.seen is None:
            assert not bool(depth.any())
            continue
        points = dataset.metadata["points3D_xyz"][[2, 0]]
        away = (points - dataset.cameras.camera_to_worlds[k, :, 3]).norm(dim=1)
        shown = [depth[int(row * scale), int(column * scale), 0] for column, row in ((3, 4), (12, 8))]
        wanted = [0.0 if photo.mask else away[0], away[1]]
        assert torch.stack(shown).tolist() == pytest.approx([float(v) for v in wanted], rel=1e-5)
        assert int((depth > 0).sum()) == 2 - (photo.mask is not None)


def test_the_nearest_point_of_a_pixel_counts():
    seen = Seen(np.array([0, 1, 2]), np.array([[0.1, 0.1], [0.12, 0.12], [0.9, 0.9]]))
    points = torch.tensor([[0.0, 0.0, 3.0], [0.0, 2.0, 0.0], [5.0, 0.0, 0.0]])
    depth = depth_image(seen, points, torch.zeros(3), 4, 4)
    assert depth[0, 0] == 2.0 and depth[3, 3] == 5.0 and int((depth > 0).sum()) == 2


def test_photos_of_several_sizes_keep_their_depths(tmp_path):
    """nerfstudio draws from lists of pictures then; test photos have no depth."""
    data = colmap(tmp_path, False, [f"{k}.png" for k in range(12)])
    for k in (0, 2, 4):
        path = tmp_path / "images" / f"{k}.png"
        Image.open(path).resize((WIDTH * 2, HEIGHT * 2)).save(path)
    manager = LGDataManagerConfig(
        dataparser=AutoDataParserConfig(data=data), train_num_rays_per_batch=64, depths=True
    ).setup(device="cpu", test_mode="test", world_size=1, local_rank=0)
    _, batch = manager.next_train(0)
    assert batch[DEPTH].shape == (64, 1) and batch["image"].shape == (64, 3)
    _, batch = manager.next_eval(0)
    assert DEPTH not in batch


@pytest.mark.parametrize("alpha", [False, True])
def test_steps_look_at_pixels_of_known_depth_as_often_as_told(alpha):
    images, depth = torch.rand(3, 8, 10, 4 if alpha else 3), torch.zeros(3, 8, 10, 1)
    depth[1, 2, 3], depth[2, 7, 9] = 1.5, 2.5
    sampler = ObjectPixelSamplerConfig(num_rays_per_batch=64, depth_share=0.25).setup()
    batch = sampler.sample({"image": images, "image_idx": torch.arange(3), DEPTH: depth})
    assert 16 <= int((batch[DEPTH] > 0).sum()) < 32 and batch[DEPTH].shape == (64, 1)
    image, row, column = batch["indices"].unbind(-1)
    assert torch.equal(batch[DEPTH], depth[image, row, column])


POSITIONS = torch.tensor([[0.0, 0, 0], [9.0, 0, 0], [0.1, 0, 0], [9.1, 0, 0]])


@pytest.mark.parametrize("what", ["plain", "alpha", "mask", "rejection", "depth", "sizes"])
def test_steps_that_look_near_look_at_photos_near_each_other(what):
    """Of all kinds of photos, and at all of them in time."""
    images = torch.rand(4, 8, 10, 4 if what == "alpha" else 3)
    batch: dict = {"image": images, "image_idx": torch.tensor([3, 0, 2, 1])}
    if what in ("mask", "rejection"):
        batch["mask"] = torch.rand(4, 8, 10, 1) < 0.5
    if what == "depth":
        batch[DEPTH] = (torch.rand(4, 8, 10, 1) < 0.1) * 2.0
    if what == "sizes":
        batch["image"] = [*images[:2], *torch.rand(2, 6, 4, 3)]
    sampler = ObjectPixelSamplerConfig(num_rays_per_batch=32, rejection_sample_mask=what == "rejection").setup()
    sampler.look_near(POSITIONS, 2)
    seen = set()
    for _ in range(30):
        drawn = sampler.sample(batch)
        photos, rows, columns = drawn["indices"].unbind(-1)
        seen.add(tuple(photos.unique().tolist()))
        place = torch.tensor([batch["image_idx"].tolist().index(photo) for photo in photos.tolist()])
        pixels = [batch["image"][k][y, x] for k, y, x in zip(place.tolist(), rows.tolist(), columns.tolist())]
        assert torch.equal(drawn["image"], torch.stack(pixels))
        assert "mask" not in batch or bool(batch["mask"][place, rows, columns].all())
        assert DEPTH not in batch or int((drawn[DEPTH] > 0).sum()) >= int(0.1 * 32)
    assert seen == {(0, 2), (1, 3)}


@pytest.mark.parametrize("near", [0, 3, 50])
def test_steps_look_near_when_told(tmp_path, near, capsys):
    data = AutoDataParserConfig(data=colmap(tmp_path, False, [f"{k}.png" for k in range(12)]))
    config = LGDataManagerConfig(dataparser=data, train_num_rays_per_batch=64, near_photos=near)
    manager = config.setup(device="cpu", test_mode="test", world_size=1, local_rank=0)
    photos = [len(manager.next_train(0)[1]["indices"][:, 0].unique()) for _ in range(5)]
    said = " ".join(capsys.readouterr().out.split())
    assert max(photos) <= 3 if near == 3 else min(photos) > 3
    assert ("Each step looks at 3 of" in said) == (near == 3)
    assert ("there are no more than near-photos asks for" in said) == (near == 50)


def test_less_than_no_photo_is_refused(tmp_path):
    data = AutoDataParserConfig(data=colmap(tmp_path, False, [f"{k}.png" for k in range(12)]))
    config = LGDataManagerConfig(dataparser=data, near_photos=-1)
    with pytest.raises(UserError, match="near-photos must be at least 0, got -1"):
        config.setup(device="cpu", test_mode="test", world_size=1, local_rank=0)


def test_photos_without_points_know_no_depth(tmp_path):
    data = CaptureDataset(outputs_of(read_capture(transforms(tmp_path)), "train")).get_data(0)
    assert DEPTH not in data
