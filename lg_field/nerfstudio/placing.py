"""Parsed cameras and the scene space they are moved to: the focus is the origin, up the third axis."""

from __future__ import annotations

from typing import Any

import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.scene_box import SceneBox

from lg_field.radiance.placement import Placement, Views, far_apart


def views_of(cameras: Cameras) -> Views:
    """nerfstudio's cameras as the pinhole cameras of a placement."""
    size = torch.cat([cameras.width, cameras.height], dim=-1).double()
    focals = torch.cat([cameras.fx, cameras.fy], dim=-1).double() / size
    centers = torch.cat([cameras.cx, cameras.cy], dim=-1).double() / size
    return Views(cameras.camera_to_worlds.double(), focals, centers)


def move(outputs: DataparserOutputs, placement: Placement) -> None:
    """Move what a data parser found, in place, to the space of a placement; the way to the data set's units stays known.

    Sets the scene box, and `bounded`, `near`, `hull` and `viewpoints` in the metadata.
    """
    matrix, rotation, radius = placement.matrix(), placement.rotation, placement.radius
    poses = outputs.cameras.camera_to_worlds.double()
    moved = rotation @ poses
    moved[..., 3] = poses[..., 3] @ matrix[:3, :3].T + matrix[:3, 3]
    outputs.cameras.camera_to_worlds = moved.to(outputs.cameras.camera_to_worlds)
    transform = outputs.dataparser_transform.double()
    shifted = rotation @ transform
    shifted[:, 3] -= rotation @ placement.focus / outputs.dataparser_scale
    outputs.dataparser_transform = shifted.to(outputs.dataparser_transform)
    outputs.dataparser_scale = outputs.dataparser_scale / radius
    points: Any = outputs.metadata.get("points3D_xyz")
    if points is not None:
        outputs.metadata["points3D_xyz"] = (points.double() @ matrix[:3, :3].T + matrix[:3, 3]).to(points)
    box = placement.box
    corners = torch.tensor([[-1.0] * 3, [1.0] * 3]) if box is None else box.float()
    outputs.scene_box = SceneBox(corners)
    outputs.metadata |= {"bounded": box is not None, "near": placement.near, "hull": placement.hull}
    outputs.metadata["viewpoints"] = far_apart(outputs.cameras.camera_to_worlds[..., 3])
