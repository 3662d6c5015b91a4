"""What belongs to the training photos and not to the scene: corrections of their cameras' places and of their colours.

They are parameters beside the field and no part of its file: what is rendered is the scene, through cameras as they are
given, in the colours of the average photo.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from lg_field.radiance.exposure import Exposure
from lg_field.radiance.training import Develop
from lg_field.training.camera_fit import rotations

PoseMode = Literal["auto", "off", "SO3xR3"]
"""How places of cameras are corrected: not at all, or turned and moved; auto: turned and moved where poses seem to be
off (`pose_fitting.PoseFitting`)."""
ExposureMode = Literal["auto", "True", "False"]
"""Whether each photo has a change of colour of its own; auto: where opaque photos differ in exposure."""
POSES, COLORS = "camera_opt", "exposure"
"""Parameter groups."""
COLOR_RATE = 2e-3
"""Adam's learning rate of colours at first."""
POSE_RATE = 0.0
"""Adam has no gradients of poses: `pose_fitting.PoseFitting` improves them. They are a group of its all the same."""
EXPOSURE_PENALTY = 0.1
"""Weight of the mean square of the changes of colour."""
DOUBTFUL = 0.4
"""Poses seem to be off where a field comes nearer to photos by so many dB when cameras are fitted to it."""


class PoseCorrections(nn.Module):
    """How each camera is turned and moved."""

    pose_adjustment: nn.Parameter
    """(photos, 6): moves x, y, z, scene units, then turns about x, y, z, radians."""
    pose_gain: Tensor
    """(): dB by which the field came nearer to the photos when poses were fitted on trial; minus infinity: there was no
    trial, or none could be fitted."""
    pose_since: Tensor
    """(): step of that trial."""

    def __init__(self, photos: int) -> None:
        """No change of any of so many cameras."""
        super().__init__()
        self.pose_adjustment = nn.Parameter(torch.zeros(photos, 6))
        for name, value in untried().items():
            self.register_buffer(name, value)

    def forward(self, photos: Int64[Tensor, " rays"]) -> Float[Tensor, "rays 3 4"]:
        """(N,) photos -> (N, 3, 4): a rotation, which turns directions, and what is added to origins."""
        moves, turns = self.pose_adjustment.split(3, dim=1)
        return torch.cat([rotations(turns), moves[..., None]], dim=2)[photos]


@runtime_checkable
class Poses(Protocol):
    """`PoseCorrections`, or what nerfstudio has in its place."""

    pose_adjustment: nn.Parameter
    pose_gain: Tensor
    pose_since: Tensor


def untried() -> dict[str, Tensor]:
    """What `PoseCorrections` know of a trial before there was one."""
    return {"pose_gain": torch.tensor(-torch.inf), "pose_since": torch.tensor(0)}


def improved(mode: str, poses: Poses | None) -> bool:
    """Whether poses are improved: by a `PoseMode`, auto once a trial has shown that they are off."""
    return poses is not None and mode != "off" and (mode != "auto" or float(poses.pose_gain) >= DOUBTFUL)


class Corrections(nn.Module):
    """The corrections of a run's training photos."""

    def __init__(self, photos: int, poses: PoseMode, colors: bool) -> None:
        """
        Args:
            photos: how many.
            poses: whether to correct where their cameras are.
            colors: correct their colours.
        """
        super().__init__()
        self.mode = poses
        self.camera_optimizer = None if poses == "off" else PoseCorrections(photos)
        self.exposure = Exposure(photos) if colors else None

    def rays(
        self,
        origins: Float[Tensor, "rays 3"],
        directions: Float[Tensor, "rays 3"],
        photos: Int64[Tensor, " rays"],
    ) -> tuple[Float[Tensor, "rays 3"], Float[Tensor, "rays 3"]]:
        """Origins and unit directions of training rays where their cameras are thought to be."""
        if self.camera_optimizer is None:
            return origins, directions
        with torch.no_grad():
            return moved_rays(self.camera_optimizer(photos), origins, directions)

    def develop(self, photos: Int64[Tensor, " rays"]) -> Develop | None:
        """What the cameras of training rays make of the scene's colours; None: nothing."""
        return developed(self.exposure, photos)

    def losses(self) -> dict[str, Float[Tensor, ""]]:
        """What keeps corrections small, to be added to the trainer's losses."""
        return {} if self.exposure is None else {"exposure_loss": EXPOSURE_PENALTY * self.exposure.penalty()}

    def groups(self) -> dict[float, list[nn.Parameter]]:
        """Their parameters by the learning rate that each takes."""
        pairs = ((POSE_RATE, self.camera_optimizer), (COLOR_RATE, self.exposure))
        return {rate: list(part.parameters()) for rate, part in pairs if part is not None}

    @property
    def poses(self) -> PoseCorrections | None:
        """Of cameras; None where they stay as they are given."""
        return self.camera_optimizer if improved(self.mode, self.camera_optimizer) else None

    def described(self) -> str | None:
        """How far photos were corrected, in a line; None where they were not."""
        return described(self.poses, self.exposure)

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As torch's; a state without a trial of its poses has had none."""
        own = {} if self.camera_optimizer is None else untried()
        return super().load_state_dict(
            {f"camera_optimizer.{n}": v for n, v in own.items()} | dict(state), strict, assign
        )


def moved_rays(
    change: Float[Tensor, "rays 3 4"], origins: Float[Tensor, "rays 3"], directions: Float[Tensor, "rays 3"]
) -> tuple[Float[Tensor, "rays 3"], Float[Tensor, "rays 3"]]:
    """Origins and directions of rays whose cameras are turned and moved so."""
    return origins + change[:, :3, 3], (change[:, :3, :3] @ directions[..., None])[..., 0]


def developed(exposure: Exposure | None, photos: Int64[Tensor, " rays"] | None) -> Develop | None:
    """What the cameras of rays make of the scene's colours, by the photo of each; None: nothing."""
    if exposure is None or photos is None:
        return None
    return lambda rgb, accumulation: exposure(rgb, accumulation, photos)


def described(poses: Poses | None, exposure: Exposure | None) -> str | None:
    """How far photos were corrected, in a line; None where they were not.

    Args:
        poses: of their cameras; None where they stay as they are given.
        exposure: changes of their colours.
    """
    parts = []
    if poses is not None:
        far, turned = (part.norm(dim=1) for part in poses.pose_adjustment.detach().split(3, dim=1))
        turned = torch.rad2deg(turned)
        moved = (
            f"cameras moved by {far.mean():.4f} (at most {far.max():.4f}) scene units and turned by "
            f"{turned.mean():.2f} (at most {turned.max():.2f}) degrees"
        )
        parts.append(moved if bool(poses.pose_adjustment.any()) else "no camera was moved")
    if exposure is not None:
        gains = exposure.gains()
        parts.append(f"photos are {gains.min():.2f} to {gains.max():.2f} times as bright as the average")
    return "; ".join(parts) or None
