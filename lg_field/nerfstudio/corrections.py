"""Corrections of training photos (see `training.corrections`) where nerfstudio trains: poses are its optimizer's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from nerfstudio.cameras.camera_optimizers import CameraOptimizer, CameraOptimizerConfig
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.engine.callbacks import TrainingCallbackAttributes
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor, nn

from lg_field.errors import UserError
from lg_field.radiance.compositing import image_on
from lg_field.radiance.exposure import Exposure
from lg_field.training.camera_fit import RAYS_ALONE, Seen, fit_alone, telling_pixels, turned
from lg_field.training.corrections import COLORS as COLORS
from lg_field.training.corrections import POSES as POSES
from lg_field.training.corrections import described as described_changes
from lg_field.training.corrections import moved_rays
from lg_field.training.photo_set import as_float
from lg_field.training.pose_fitting import PoseFitting, ShowPhotos

PENALTIES = (1e-3, 1e-3)
"""Of moves and turns, in configurations of runs that have some."""
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
    with torch.no_grad():
        return moved_rays(optimizer(photos), origins, directions)


def fitting(
    optimizer: CameraOptimizer, attributes: TrainingCallbackAttributes, show: ShowPhotos, background: Tensor
) -> Callable[[int], None]:
    """What improves training poses before a step.

    Args:
        optimizer: nerfstudio's, of which the parameters are improved in place.
        attributes: of the run.
        show: how photos see the field.
        background: (3,) behind it.

    Raises:
        UserError: a mode or a data manager that is not known here.
    """
    config = optimizer.config
    if config.mode == "off" or attributes.pipeline is None:
        return lambda step: None
    manager: Any = attributes.pipeline.datamanager
    if config.mode != "SO3xR3":
        raise UserError(f"--pipeline.model.camera-optimizer.mode {config.mode} is not known to lg-field; take SO3xR3")
    if not hasattr(manager, "seen"):
        raise UserError("--pipeline.model.camera-optimizer.mode SO3xR3 needs lg-field's own data manager")
    usual = CameraOptimizerConfig()
    known = PENALTIES, (usual.trans_l2_penalty, usual.rot_l2_penalty)
    if (config.trans_l2_penalty, config.rot_l2_penalty) not in known:
        CONSOLE.print("camera-optimizer: penalties do nothing; poses are held by how far off they are, about.")
    fit = PoseFitting(lambda photos, count: manager.seen(photos, count, background), show)
    adams = [attributes.optimizers.optimizers[POSES]] if attributes.optimizers else []

    def before(step: int) -> None:
        if adams:  # its scheduler expects a step; there is no gradient
            adams.pop().step()
        fit(step, optimizer.pose_adjustment.data)

    return before


def fitted_rays(
    camera: Cameras, image: Tensor, counted: Tensor | None, show: ShowPhotos, background: Tensor
) -> RayBundle:
    """Rays of a test camera's picture from where its photo says that the camera is.

    Args:
        camera: one, as it is given.
        image: (height, width, 3 or 4) its photo.
        counted: (height, width) bool, pixels that say something; None = all.
        show: how photos see the field.
        background: (3,) behind it.
    """
    rays = camera.generate_rays(0, keep_shape=True)

    def look() -> Seen:
        rows, columns = telling_pixels(image, RAYS_ALONE, counted)
        colors = image_on(as_float(image[rows, columns]), background.to(image.device))
        parts = rays.origins[rows, columns], rays.directions[rows, columns], colors
        origins, directions, seen = (part[None].double().cpu() for part in parts)
        return Seen(origins, directions, seen, 2.0 / (camera.fx + camera.fy).double().cpu().flatten())

    change = fit_alone(show(torch.zeros(1, dtype=torch.int64)), look)
    rays.origins = rays.origins + change[:3].to(rays.origins)
    rays.directions = rays.directions @ turned(change[3:]).mT.to(rays.directions)
    return rays


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
