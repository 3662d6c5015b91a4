"""A capture as nerfstudio's data parsers give one: cameras in scene space, files, the way to the data set's units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.scene_box import SceneBox
from torch import Tensor

from lg_field.captures import Capture, Photo
from lg_field.training.scene_frame import scene_frame


@dataclass
class CaptureOutputs(DataparserOutputs):
    """nerfstudio's outputs with the way to the data set's units in double precision: world coordinates are large."""

    def transform_poses_to_original_space(self, poses: Tensor, camera_convention: str = "opengl") -> Tensor:
        """(n, 3, 4) camera to scene -> camera to the data set's coordinates."""
        moved = super().transform_poses_to_original_space(poses.double(), camera_convention)  # type: ignore[arg-type]
        return moved.to(poses.dtype)


def outputs_of(capture: Capture, split: str, downscale: float = 1.0) -> CaptureOutputs:
    """The photos of a split as nerfstudio wants them.

    Args:
        capture: the capture.
        split: train, val or test.
        downscale: of the photos, per axis.

    Returns:
        Cameras in scene space; `metadata` has the `photos` themselves, whether they have `alpha`, the `downscale`, and
        whether the scene is `bounded`: one object in the scene box with nothing around it.
    """
    photos = capture.part(split)
    motion, scale, half = scene_frame(capture)
    to_data = np.linalg.inv(capture.to_world)
    length = float(np.linalg.det(to_data[:3, :3])) ** (1 / 3)
    transform = (motion @ to_data)[:3] / length
    cameras = cameras_of(photos, motion, scale)
    cameras.rescale_output_resolution(1.0 / downscale)
    metadata: dict[str, Any] = {"photos": photos, "alpha": capture.alpha, "downscale": downscale}
    metadata["bounded"] = capture.format == "blender"
    if capture.points is not None:
        points = (capture.points @ motion[:3, :3].T + motion[:3, 3]) * scale
        colors = np.full(points.shape, 128, np.uint8) if capture.colors is None else capture.colors
        metadata |= {"points3D_xyz": torch.from_numpy(points).float(), "points3D_rgb": torch.from_numpy(colors.copy())}
    masks = [photo.mask for photo in photos]
    return CaptureOutputs(
        image_filenames=[photo.image for photo in photos],
        cameras=cameras,
        scene_box=SceneBox(aabb=torch.tensor([[-half] * 3, [half] * 3], dtype=torch.float32)),
        mask_filenames=masks if any(masks) else None,  # type: ignore[arg-type]
        dataparser_transform=torch.from_numpy(transform),
        dataparser_scale=scale * length,
        metadata=metadata,
    )


def cameras_of(photos: list[Photo], motion: np.ndarray, scale: float) -> Cameras:
    """Cameras of photos, moved to scene space by a rigid (4, 4) motion and a scale."""
    poses = motion @ np.stack([photo.pose for photo in photos])
    poses[:, :3, 3] *= scale
    lenses = [photo.lens for photo in photos]
    distortion = torch.tensor([lens.distortion for lens in lenses], dtype=torch.float32)

    def column(name: str, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.tensor([[getattr(lens, name)] for lens in lenses], dtype=dtype)

    kinds = [CameraType.FISHEYE.value if lens.fisheye else CameraType.PERSPECTIVE.value for lens in lenses]
    return Cameras(
        camera_to_worlds=torch.from_numpy(poses[:, :3]).float(),
        fx=column("fx", torch.float64),
        fy=column("fy", torch.float64),
        cx=column("cx"),
        cy=column("cy"),
        width=column("width", torch.int64),
        height=column("height", torch.int64),
        distortion_params=distortion if bool(distortion.any()) else None,
        camera_type=torch.tensor(kinds)[:, None],
    )
