"""Parsed cameras and the scene space they are moved to: the focus is the origin, up the third axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.scene_box import SceneBox
from torch import Tensor

from lg_field.radiance.placement import Placement, place, stay
from lg_field.radiance.views import Views, bounds, corners, far_apart
from lg_field.training.stereo import seen_points


def views_of(cameras: Cameras) -> Views:
    """nerfstudio's cameras as the pinhole cameras of a placement."""
    size = torch.cat([cameras.width, cameras.height], dim=-1).double()
    focals = torch.cat([cameras.fx, cameras.fy], dim=-1).double() / size
    centers = torch.cat([cameras.cx, cameras.cy], dim=-1).double() / size
    return Views(cameras.camera_to_worlds.double(), focals, centers)


def find_place(
    outputs: DataparserOutputs,
    alphas: Float[Tensor, "views height width"] | None,
    scene_box: Sequence[float] = (),
    focus: Sequence[float] = (),
    up: Sequence[float] = (),
) -> Placement:
    """Where the scene of training images is, in the data parser's scene space.

    A data parser that knows the box (blender) keeps its space and its box.

    Args:
        outputs: of a data parser.
        alphas: of the images, small; None = they show all there is.
        scene_box: lower and upper corner of all there is, the data set's units; () = found.
        focus: what the cameras look at, likewise.
        up: the data set's upward direction, likewise.

    Raises:
        ValueError: numbers that make no sense.
    """
    for name, given, count in (("scene_box", scene_box, 6), ("focus", focus, 3), ("up", up, 3)):
        if len(given) not in (0, count) or not all(map(math.isfinite, given)):
            raise ValueError(
                f"--pipeline.datamanager.{name.replace('_', '-')} takes {count} numbers, got {list(given)}"
            )
    if scene_box and not all(low < high for low, high in zip(scene_box[:3], scene_box[3:])):
        raise ValueError(f"--pipeline.datamanager.scene-box: lower must be below upper, got {list(scene_box)}")
    if up and max(map(abs, up)) == 0.0:
        raise ValueError("--pipeline.datamanager.up must not be zero")
    transform, scale = outputs.dataparser_transform.double(), outputs.dataparser_scale
    views, points = views_of(outputs.cameras), outputs.metadata.get("points3D_xyz")

    def to_scene(numbers: Sequence[float]) -> Tensor:
        return (torch.tensor(numbers, dtype=torch.float64).view(-1, 3) @ transform[:, :3].T + transform[:, 3]) * scale

    if outputs.metadata.get("bounded") and not (scene_box or focus or up):
        return stay(views, outputs.scene_box.aabb, alphas)
    box = None if not scene_box else bounds(to_scene(corners(torch.tensor(scene_box).view(2, 3)).flatten().tolist()))
    return place(
        views,
        None if points is None else points.double(),
        alphas,
        transform[:, :3] @ torch.tensor(up, dtype=torch.float64) if up else None,
        to_scene(focus)[0] if focus else None,
        box,
        lambda: seen_points(views, outputs.image_filenames, [p.upright for p in outputs.metadata.get("photos", ())]),
    )


def move(outputs: DataparserOutputs, placement: Placement) -> None:
    """Move what a data parser found, in place, to a placement's space; the way to the data set's units stays known.

    Sets the scene box, and `bounded`, `near`, `close`, `hull`, `place` and `viewpoints` in the metadata.
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
    outputs.metadata |= {"bounded": box is not None, "near": placement.near, "close": placement.close}
    outputs.metadata |= {"hull": placement.hull, "place": matrix}
    outputs.metadata["viewpoints"] = far_apart(outputs.cameras.camera_to_worlds[..., 3])
