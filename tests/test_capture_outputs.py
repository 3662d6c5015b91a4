"""Captures become nerfstudio's outputs: the same cameras as its own parsers find, and world units that come back."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from nerfstudio.data.dataparsers.blender_dataparser import BlenderDataParserConfig
from nerfstudio.data.dataparsers.colmap_dataparser import ColmapDataParserConfig
from nerfstudio.data.dataparsers.instant_ngp_dataparser import InstantNGPDataParserConfig
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from test_captures import blender, colmap, pose, transforms

from lg_field.captures import read_capture
from lg_field.nerfstudio.capture_outputs import outputs_of


def theirs(folder, kind):
    if kind == "blender":
        return BlenderDataParserConfig(data=folder, alpha_color=None)
    if kind == "colmap":
        return ColmapDataParserConfig(data=folder, colmap_path=folder / "sparse/0", downscale_factor=1)
    return {"nerfstudio": NerfstudioDataParserConfig, "instant-ngp": InstantNGPDataParserConfig}[kind](data=folder)


def scene(folder, kind):
    if kind == "blender":
        return blender(folder, {"train": 5, "val": 2, "test": 3})
    if kind == "colmap":
        return colmap(folder, False, [f"{k}.png" for k in range(20)])
    return transforms(folder, 20, k1=0.05, p2=0.01, **({"aabb_scale": 4} if kind == "instant-ngp" else {}))


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("kind", ["blender", "instant-ngp", "nerfstudio", "colmap"])
def test_cameras_are_those_that_nerfstudio_finds(tmp_path, kind, split):
    """In its scene space. (Its reader of instant-ngp's files takes fl_x for fl_y.)"""
    folder = scene(tmp_path, kind)
    ours, parser = outputs_of(read_capture(folder), split), theirs(folder, kind).setup()
    other = parser.get_dataparser_outputs(split)
    assert [p.name for p in ours.image_filenames] == [p.name for p in other.image_filenames]
    for name in ("fx", "fy", "cx", "cy", "width", "height", "camera_type"):
        if (kind, name) != ("instant-ngp", "fy"):
            assert torch.equal(getattr(ours.cameras, name).float(), getattr(other.cameras, name).float()), name
    if other.cameras.distortion_params is not None and bool(other.cameras.distortion_params.any()):
        assert torch.allclose(ours.cameras.distortion_params, other.cameras.distortion_params)
    assert torch.equal(ours.scene_box.aabb, other.scene_box.aabb)
    assert ours.dataparser_scale == pytest.approx(other.dataparser_scale)
    found, wanted = ours.cameras.camera_to_worlds, other.cameras.camera_to_worlds
    assert torch.allclose(found, wanted, atol=0 if kind == "blender" else 1e-5)
    assert torch.allclose(ours.dataparser_transform.float(), other.dataparser_transform, atol=1e-5)


@pytest.mark.parametrize("offset", [0.0, 5_000_000.0])
@pytest.mark.parametrize("kind", ["instant-ngp", "nerfstudio"])
def test_scene_space_leads_back_to_the_data_set(tmp_path, kind, offset):
    """Cameras moved to scene space and back are where the file says, also with applied transforms and far offsets."""
    meta = {"aabb_scale": 4, "scale": 0.2, "offset": [0.1, 0.5, 0.9]} if kind == "instant-ngp" else {}
    transforms(tmp_path, 12, **meta)
    data = json.loads((tmp_path / "transforms.json").read_text())
    applied = np.array([[0, 1.0, 0, 0.5], [0, 0, 1.0, -2], [1.0, 0, 0, 1]])
    for frame in data["frames"]:
        frame["transform_matrix"][0][3] += offset
    if kind == "nerfstudio":
        data |= {"applied_transform": applied.tolist(), "applied_scale": 0.5}
    (tmp_path / "transforms.json").write_text(json.dumps(data))
    capture = read_capture(tmp_path)
    outputs = outputs_of(capture, "train")
    matrix = np.eye(4)
    matrix[:3] = outputs.dataparser_transform.numpy()
    to_scene = np.diag([outputs.dataparser_scale] * 3 + [1.0]) @ matrix
    for photo, camera in zip(capture.part("train"), outputs.cameras.camera_to_worlds.double().numpy()):
        world = np.linalg.inv(to_scene) @ np.append(camera[:, 3], 1.0)
        wanted = capture.to_world @ photo.pose[:, 3]
        assert np.allclose(world, wanted, atol=1e-5 * max(1.0, 1.0 / outputs.dataparser_scale)), (world, wanted)
    assert np.abs(outputs.cameras.camera_to_worlds.numpy()[..., 3]).max() <= 3.0


def test_distances_survive_far_offsets(tmp_path):
    """Poses with map coordinates: scene space has the same distances between cameras as without the offset."""
    transforms(tmp_path, 12)
    near = outputs_of(read_capture(tmp_path), "train").cameras.camera_to_worlds[..., 3]
    data = json.loads((tmp_path / "transforms.json").read_text())
    for frame in data["frames"]:
        for axis, offset in enumerate((500_000.0, 5_400_000.0, 100.0)):
            frame["transform_matrix"][axis][3] += offset
    (tmp_path / "transforms.json").write_text(json.dumps(data))
    far = outputs_of(read_capture(tmp_path), "train").cameras.camera_to_worlds[..., 3]
    assert torch.allclose(near, far, atol=1e-6)


def test_a_mask_for_some_photos_is_enough(tmp_path):
    from PIL import Image

    transforms(tmp_path, 12)
    data = json.loads((tmp_path / "transforms.json").read_text())
    for frame in data["frames"][:4]:
        frame["mask_path"] = "m.png"
    (tmp_path / "transforms.json").write_text(json.dumps(data))
    assert outputs_of(read_capture(tmp_path), "train").mask_filenames is None
    Image.new("L", (24, 16), 255).save(tmp_path / "m.png")
    found = outputs_of(read_capture(tmp_path), "train").mask_filenames
    assert found is not None and 0 < sum(mask is not None for mask in found) < len(found)


def test_points_come_along_in_scene_space(tmp_path):
    capture = read_capture(colmap(tmp_path, True, [f"{k}.png" for k in range(9)]))
    outputs = outputs_of(capture, "train")
    points = outputs.metadata["points3D_xyz"].double().numpy()
    cameras = outputs.cameras.camera_to_worlds.double().numpy()[:, :, 3]
    original = np.stack([photo.pose[:3, 3] for photo in capture.part("train")])
    away = np.linalg.norm(capture.points[:, None] - original, axis=-1)
    assert np.allclose(np.linalg.norm(points[:, None] - cameras, axis=-1), away * outputs.dataparser_scale, atol=1e-4)
    assert np.allclose(pose(0)[3], (0, 0, 0, 1))
