"""Poses of training cameras are improved while a field is trained: a few cameras are fitted to it before some steps.

Which and when, `turn` says: all of them in turns, ever more rarely.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lg_field.radiance.compositing import over
from lg_field.radiance.exposure import Exposure
from lg_field.radiance.memory_bound import rays_at_once
from lg_field.radiance.render import Appearance
from lg_field.radiance.stopping import PICTURES
from lg_field.radiance.training import RadianceTrainer
from lg_field.training.camera_fit import Seen, Show, composed, fit_step, moved
from lg_field.training.corrections import developed

FIRST, INTERVAL = 150, 20
"""Step of the first turn, and steps between turns at first: before, a field shows too little."""
TOGETHER = 16
"""Cameras of a turn."""
FREQUENT = 4
"""Rounds in which every camera has a turn at this interval; each later round takes once more as long."""
RAYS = 64
"""Pixels that a camera is fitted to in a turn."""
VISIBLE = 0.5
"""Opacity from which on a ray sees something."""
Look = Callable[[Int64[Tensor, " cameras"], int], Seen]
"""From numbers of photos, and how many pixels of each, to what their cameras, as they are given, have there."""
ShowPhotos = Callable[[Int64[Tensor, " cameras"]], Show]
"""From numbers of photos to what the field shows of the rays of their cameras, a camera's rays after another's."""


def turn(step: int, photos: int) -> Int64[Tensor, " cameras"] | None:
    """The cameras that are fitted before a step; None: it is no camera's turn.

    Args:
        step: number of the step, from 0.
        photos: training photos.
    """
    turns, begin, number = -(-photos // TOGETHER), FIRST, 0
    while photos and step >= begin:
        interval = INTERVAL * max(1, number + 2 - FREQUENT)
        if step < begin + turns * interval:
            at, rest = divmod(step - begin, interval)
            return None if rest else torch.arange(at, photos, turns)
        begin, number = begin + turns * interval, number + 1
    return None


class PoseFitting:
    """Improves the poses of a run's training cameras."""

    def __init__(self, look: Look, show: ShowPhotos) -> None:
        """
        Args:
            look: what cameras should see.
            show: what they see.
        """
        self.look, self.show = look, show

    @torch.no_grad()
    def __call__(self, step: int, changes: Float[Tensor, "photos 6"]) -> None:
        """Fit those cameras whose turn a step is.

        Args:
            step: number of the step.
            changes: (photos, 6) moves, scene units, then turns, radians, from the poses as they are given; they are
                improved in place.
        """
        photos = turn(step, len(changes))
        if photos is None:
            return
        found = changes.double().cpu()
        seen = moved(self.look(photos, RAYS), found[photos])
        found[photos] = composed(found[photos], fit_step(self.show(photos), seen, found[photos]))
        changes.copy_(found)


def shown_by(
    trainer: RadianceTrainer,
    near: float,
    background: Float[Tensor, " 3"],
    exposure: Exposure | None = None,
    appearance: Callable[[Int64[Tensor, "rays 1"]], Appearance | None] = lambda photos: None,
) -> ShowPhotos:
    """How photos see the field of a trainer.

    Args:
        trainer: renders.
        near: distance at which rays begin, scene units.
        background: (3,) behind what they see.
        exposure: what the photos' cameras make of colours.
        appearance: of the photos of rays.
    """

    def of(photos: Int64[Tensor, " cameras"]) -> Show:
        def show(origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
            device = trainer.field.cells.device
            photo = photos.repeat_interleave(len(origins) // len(photos))
            pieces = (
                part.split(rays_at_once(trainer.field, trainer.step_length)) for part in (origins, directions, photo)
            )
            parts = [colors(*(part.to(device) for part in piece)) for piece in zip(*pieces)]
            return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])

        return show

    def colors(origins: Tensor, directions: Tensor, photo: Tensor) -> tuple[Tensor, Tensor]:
        first, last = torch.full_like(origins[:, 0], near), torch.full_like(origins[:, 0], trainer.settings.far_plane)
        rays = origins, directions, first, last
        _, seen = trainer.look(rays, torch.zeros_like(background), appearance(photo[:, None]), PICTURES)
        develop = developed(exposure, photo)
        rgb = seen.rgb if develop is None else develop(seen.rgb, seen.accumulation)
        depth = torch.where(seen.accumulation[:, 0] > VISIBLE, seen.depth[:, 0], torch.nan)
        return over(rgb, seen.accumulation, background).clamp(0.0, 1.0).cpu(), depth.cpu()

    return of
