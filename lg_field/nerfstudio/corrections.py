"""Corrections of training photos (see `training.corrections`) where nerfstudio trains: poses are its optimizer's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, get_args

import torch
from jaxtyping import Float
from nerfstudio.cameras.camera_optimizers import CameraOptimizer, CameraOptimizerConfig
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.engine.callbacks import TrainingCallbackAttributes
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor, nn

from lg_field.errors import UserError
from lg_field.radiance.exposure import Exposure
from lg_field.training.camera_fit import RAYS_ALONE, fit_alone, rotations, seen_by
from lg_field.training.corrections import COLORS as COLORS
from lg_field.training.corrections import POSES as POSES
from lg_field.training.corrections import PoseMode, Poses, described, improved, moved_rays, untried
from lg_field.training.pose_fitting import PoseFitting, ShowPhotos

PENALTIES = (1e-3, 1e-3)
"""Of moves and turns, in configurations of runs that have some."""
RATES = (0.0, 3e-4)
"""Learning rates of poses in configurations of runs that are not told any."""
PARAMETERS = ("camera_optimizer.", "exposure.")
"""How the names of the corrections begin in a model's state."""


@dataclass
class PoseConfig(CameraOptimizerConfig):
    """Whether poses of the training cameras are improved; penalties say nothing here: how far off poses are, about, is
    known (`training.camera_fit`)."""

    _target: type = field(default_factory=lambda: PoseOptimizer)
    mode: PoseMode = "auto"  # type: ignore[assignment]
    """auto: where a trial shows that they are off. SO3xR3: always."""


class PoseOptimizer(CameraOptimizer):
    """nerfstudio's, of which the changes are found by `fitting`."""

    said: CameraOptimizerConfig
    """What the run was told; nerfstudio's `config` knows only whether there are changes."""
    pose_gain: Tensor
    pose_since: Tensor
    """As in `PoseCorrections`."""

    def __init__(
        self, config: CameraOptimizerConfig, num_cameras: int, device: torch.device | str, **kwargs: Any
    ) -> None:
        """
        Args:
            config: mode.
            num_cameras: training photos.
            device: where.
            **kwargs: as nerfstudio's.
        """
        base: Any = CameraOptimizerConfig(mode="off" if config.mode == "off" else "SO3xR3")
        super().__init__(base, num_cameras, device, **kwargs)
        self.said = config
        for name, value in untried().items() if config.mode != "off" else ():
            self.register_buffer(name, value.to(device))

    @property
    def mode(self) -> str:
        """A `PoseMode`, or another of nerfstudio's."""
        return str(self.said.mode)

    @property
    def poses(self) -> Poses | None:
        """Of training cameras; None where they stay as they are given."""
        poses: Any = self if self.mode != "off" else None
        return poses if improved(self.mode, poses) else None


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
    optimizer: PoseOptimizer,
    attributes: TrainingCallbackAttributes,
    show: ShowPhotos,
    background: Tensor,
    coarse_until: Callable[[], int],
) -> Callable[[int], None]:
    """What improves training poses before a step.

    Args:
        optimizer: of which the parameters are improved in place.
        attributes: of the run.
        show: how photos see the field.
        background: (3,) behind it.
        coarse_until: step up to which the field is held coarse.

    Raises:
        UserError: a mode or a data manager that is not known here.
    """
    mode: Any = optimizer.mode
    if mode == "off" or attributes.pipeline is None:
        return lambda step: None
    manager: Any = attributes.pipeline.datamanager
    if mode not in get_args(PoseMode):
        raise UserError(f"--pipeline.model.camera-optimizer.mode {mode} is not known to lg-field; take SO3xR3")
    if not hasattr(manager, "seen"):
        if mode != "auto":
            raise UserError(f"--pipeline.model.camera-optimizer.mode {mode} needs lg-field's own data manager")
        CONSOLE.print("Poses stay as they are given: only lg-field's own data manager can try them.")
        return lambda step: None
    adams = [attributes.optimizers.optimizers[POSES]] if attributes.optimizers else []
    say_idle_options(optimizer.said, [group for adam in adams for group in adam.param_groups])
    look = partial(manager.seen, background=background)
    fit = PoseFitting(look, show, mode, CONSOLE.print, coarse_until)

    def before(step: int) -> None:
        if adams:  # its scheduler expects a step; there is no gradient
            adams.pop().step()
        fit(step, optimizer)

    return before


def say_idle_options(said: CameraOptimizerConfig, groups: list[dict[str, Any]]) -> None:
    """Say which options of nerfstudio's camera optimizer do nothing here, of those that a run was told.

    Args:
        said: its configuration.
        groups: of the optimizer of poses.
    """
    usual = CameraOptimizerConfig()
    known = PENALTIES, (usual.trans_l2_penalty, usual.rot_l2_penalty)
    told = ["penalties"] * ((said.trans_l2_penalty, said.rot_l2_penalty) not in known)
    told += ["learning rate"] * any(group.get("initial_lr", group["lr"]) not in RATES for group in groups)
    if told:
        words = " and ".join(told)
        CONSOLE.print(f"camera-optimizer: no effect of {words}; poses are held by how far off they are, about.")


def say_corrections(optimizer: PoseOptimizer, exposure: Exposure | None) -> None:
    """Say how far training has corrected cameras and colours of the photos."""
    line = described(optimizer.poses, exposure)
    if line is not None:
        CONSOLE.print(f"Training photos: {line}.")


def of_other_photos(state: Mapping[str, Any], own: Mapping[str, Tensor]) -> dict[str, Any]:
    """A model's state without poses of another number of photos than its `own` has, which is said.

    Raises:
        UserError: it has some, and `own` has none.
    """
    at = PARAMETERS[0] + "pose_adjustment"
    if at not in state or (at in own and state[at].shape == own[at].shape):
        return dict(state)
    if at not in own:
        raise UserError(
            "the checkpoint is of a run with --pipeline.model.camera-optimizer.mode auto or SO3xR3: go on with the same"
        )
    if bool(state[at].any()):
        CONSOLE.print(f"Poses of {len(state[at])} training photos are left out: there are {len(own[at])} now.")
    return {name: value for name, value in state.items() if not name.startswith(PARAMETERS[0])}


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
    pixel, generator = 2.0 / float(camera.fx + camera.fy), torch.Generator().manual_seed(0)

    def of(rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        return rays.origins[rows, columns], rays.directions[rows, columns]

    change = fit_alone(
        show(torch.zeros(1, dtype=torch.int64)),
        lambda: seen_by(image, counted, of, pixel, RAYS_ALONE, background, generator),
    )
    rays.origins = rays.origins + change[:3].to(rays.origins)
    rays.directions = rays.directions @ rotations(change[3:]).mT.to(rays.directions)
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
