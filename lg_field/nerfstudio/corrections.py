"""Corrections of training photos (see `training.corrections`) where nerfstudio trains: poses are its optimizer's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxtyping import Float
from nerfstudio.cameras.camera_optimizers import CameraOptimizer
from nerfstudio.cameras.rays import RayBundle
from torch import Tensor, nn

from lg_field.radiance.exposure import Exposure
from lg_field.training.corrections import COLORS as COLORS
from lg_field.training.corrections import POSES as POSES
from lg_field.training.corrections import described as described_changes
from lg_field.training.corrections import moved_rays

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
    return moved_rays(optimizer(photos), origins, directions)


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
    return described_changes(None if optimizer.config.mode == "off" else optimizer.pose_adjustment, exposure)
