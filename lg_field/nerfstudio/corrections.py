"""What belongs to the training photos and not to the scene: corrections of their cameras' places and of their colours.

They are parameters beside the field and no part of its file: what is rendered is the scene, through cameras as they are
given, in the colours of the average photo.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from nerfstudio.cameras.camera_optimizers import CameraOptimizer
from nerfstudio.cameras.rays import RayBundle
from torch import Tensor, nn

from lg_field.radiance.exposure import Exposure
from lg_field.radiance.training import Develop

POSES, COLORS = "camera_opt", "exposure"
"""Parameter groups."""
PARAMETERS = ("camera_optimizer.", "exposure.")
"""How the names of the corrections begin in a model's state."""


def photos_of(ray_bundle: RayBundle) -> Tensor | None:
    """(N,) training photo of each ray; None where rays are of none."""
    return None if ray_bundle.camera_indices is None else ray_bundle.camera_indices.reshape(-1)


def corrected_rays(
    optimizer: CameraOptimizer, ray_bundle: RayBundle
) -> tuple[Float[Tensor, "rays 3"], Float[Tensor, "rays 3"]]:
    """(N, 3) origins and (N, 3) unit directions of training rays, where their cameras are thought to be."""
    origins, directions, photos = ray_bundle.origins, ray_bundle.directions, photos_of(ray_bundle)
    if photos is None or optimizer.config.mode == "off":
        return origins, directions
    change = optimizer(photos)
    turned = (change[:, :3, :3] @ directions[..., None])[..., 0]
    return origins + change[:, :3, 3], turned


def developed(exposure: Exposure | None, ray_bundle: RayBundle) -> Develop | None:
    """What the cameras of training rays make of the scene's colours; None: nothing."""
    photos = photos_of(ray_bundle)
    if exposure is None or photos is None:
        return None
    return lambda rgb, accumulation: exposure(rgb, accumulation, photos)


def parameter_groups(optimizer: CameraOptimizer, exposure: Exposure | None) -> dict[str, list[nn.Parameter]]:
    """Their parameters, by the name of the optimizer that each takes."""
    groups: dict[str, list[nn.Parameter]] = {}
    optimizer.get_param_groups(groups)
    return groups if exposure is None else groups | {COLORS: [exposure.change]}


def without_corrections(pipeline: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint's state of a pipeline for other photos."""
    names = tuple(f"_model.{name}" for name in PARAMETERS)
    return {name: value for name, value in pipeline.items() if not name.startswith(names)}


def described(optimizer: CameraOptimizer, exposure: Exposure | None) -> str | None:
    """How far photos were corrected, in a line; None where they were not."""
    parts = []
    if optimizer.config.mode != "off":
        moved = optimizer.pose_adjustment.detach()
        far, turned = moved[:, :3].norm(dim=1), torch.rad2deg(moved[:, 3:].norm(dim=1))
        parts.append(
            f"cameras moved by {far.mean():.4f} (at most {far.max():.4f}) scene units and turned by "
            f"{turned.mean():.2f} (at most {turned.max():.2f}) degrees"
        )
    if exposure is not None:
        gains = exposure.gains()
        parts.append(f"photos are {gains.min():.2f} to {gains.max():.2f} times as bright as the average")
    return "; ".join(parts) or None
