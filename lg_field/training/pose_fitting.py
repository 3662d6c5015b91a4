"""Poses of training cameras are improved while a field is trained: a few cameras are fitted to it before some steps.

Which and when, `cameras_due` says: all of them in turns, ever more rarely. Where nothing is said (`auto`), some are
fitted on trial when the field shows something, and it is seen at other pixels of theirs whether it comes nearer to the
photos there. Where poses are right it does not; a field that learned from wrong ones shows what most photos agree on,
and comes much nearer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lg_field.radiance.compositing import over
from lg_field.radiance.exposure import Exposure
from lg_field.radiance.memory_bound import rays_at_once
from lg_field.radiance.render import Appearance
from lg_field.radiance.stopping import PICTURES
from lg_field.radiance.training import RadianceTrainer
from lg_field.training.camera_fit import Seen, Show, composed, fit_step, moved, squared_error
from lg_field.training.corrections import DOUBTFUL, PoseMode, Poses, developed, improved

FIRST, INTERVAL = 150, 20
"""Step of the first turn, and steps between turns at first: before, a field shows too little."""
EARLY, TRIAL = 300, 600
"""Steps before which `auto` fits some cameras on trial; where the field is held coarse for longer, when that ends."""
CERTAIN = 0.8
"""dB that settle it in the early trial already."""
TRIAL_CAMERAS, TRIAL_STEPS, TRIAL_RAYS = 16, 2, 128
"""Cameras of the trial, steps of each, pixels of a step, and as many others that it is looked at."""
TOGETHER = 16
"""Cameras of a turn."""
FREQUENT = 4
"""Rounds in which every camera has a turn at this interval; each later round takes once more as long."""
RAYS = 64
"""Pixels that a camera is fitted to in a turn."""
VISIBLE = 0.5
"""Opacity from which on a ray sees something."""


@runtime_checkable
class Look(Protocol):
    """What cameras, as they are given, have at pixels."""

    def __call__(
        self, photos: Int64[Tensor, " cameras"], count: int, *, generator: torch.Generator | None = None
    ) -> Seen:
        """Of numbers of photos, at so many pixels of each, drawn by the generator (None = torch's)."""


ShowPhotos = Callable[[Int64[Tensor, " cameras"]], Show]
"""From numbers of photos to what the field shows of the rays of their cameras, a camera's rays after another's."""


def cameras_due(step: int, photos: int, first: int = FIRST) -> Int64[Tensor, " cameras"] | None:
    """The cameras that are fitted before a step; None: it is no camera's turn.

    Args:
        step: number of the step, from 0.
        photos: training photos.
        first: step of the first turn.
    """
    groups, begin, number = -(-photos // TOGETHER), first, 0
    while photos and step >= begin:
        interval = INTERVAL * max(1, number + 2 - FREQUENT)
        if step < begin + groups * interval:
            at, rest = divmod(step - begin, interval)
            return None if rest else torch.arange(at, photos, groups)
        begin, number = begin + groups * interval, number + 1
    return None


class PoseFitting:
    """Improves the poses of a run's training cameras."""

    def __init__(
        self,
        look: Look,
        show: ShowPhotos,
        mode: PoseMode,
        say: Callable[[str], None] = lambda line: None,
        coarse_until: Callable[[], int] = lambda: 0,
    ) -> None:
        """
        Args:
            look: what cameras should see.
            show: what they see.
            mode: whether to improve poses; auto: where a trial shows that they are off.
            say: told what came of the trial.
            coarse_until: step up to which the field is held coarse.
        """
        self.look, self.show, self.mode, self.say, self.coarse_until = look, show, mode, say, coarse_until
        self.known: bool | None = None
        """Whether a trial has told; None: not looked up yet."""
        self.first = FIRST
        """Step of the first turn."""

    @torch.no_grad()
    def __call__(self, step: int, poses: Poses) -> None:
        """Fit those cameras whose turn a step is.

        Args:
            step: number of the step.
            poses: improved in place.
        """
        changes = poses.pose_adjustment
        if self.mode == "auto" and len(changes):
            self._try(step, poses)
        photos = cameras_due(step, len(changes), self.first)
        if photos is None or not improved(self.mode, poses):
            return
        found = changes.double().cpu()
        seen = moved(self.look(photos, RAYS), found[photos])
        found[photos] = composed(found[photos], fit_step(self.show(photos), seen, found[photos]))
        changes.copy_(found)

    def _try(self, step: int, poses: Poses) -> None:
        """Find out whether poses are off when it is time, unless that is known, and say so."""
        if self.known is None:
            self.known, self.first = not bool(poses.pose_gain.isinf()), int(poses.pose_since)
        coarse = self.coarse_until()
        last = step >= max(TRIAL, coarse)
        if self.known or not (last or (step == EARLY and coarse <= EARLY)):
            return
        gain = self.gain(len(poses.pose_adjustment))
        if last or gain >= CERTAIN:
            self.known, self.first = True, step
            poses.pose_gain.fill_(gain), poses.pose_since.fill_(step)
            self.say(trial_line(gain))

    def gain(self, photos: int) -> float:
        """dB by which the field comes nearer to the photos when cameras are fitted to it, at pixels that they were not
        fitted to; minus infinity where none could be fitted. Training is the same with it and without."""
        generator = torch.Generator().manual_seed(photos)
        chosen = torch.linspace(0, photos - 1, min(photos, TRIAL_CAMERAS)).round().long()
        errors, fitted = [], False
        for some in chosen.split(TOGETHER):
            show, change = self.show(some), torch.zeros(len(some), 6, dtype=torch.float64)
            for _ in range(TRIAL_STEPS):
                seen = moved(self.look(some, TRIAL_RAYS, generator=generator), change)
                change = composed(change, fit_step(show, seen, change))
            others, fitted = self.look(some, TRIAL_RAYS, generator=generator), fitted or bool(change.any())
            errors.append(torch.stack([squared_error(show, others), squared_error(show, moved(others, change))]))
        before, after = torch.cat(errors, dim=1).mean(1).clamp_min(1e-12)
        gain = float(10.0 * torch.log10(before / after))
        return gain if fitted and math.isfinite(gain) else -math.inf


def trial_line(gain: float) -> str:
    """What is said of a trial by which photos came so many dB nearer."""
    if math.isinf(gain):
        return "Whether poses are right cannot be told, the field does not show what photos show; they stay as given."
    found = f"the field is {abs(gain):.2f} dB {'nearer to' if gain >= 0 else 'farther from'} the photos"
    found += f" where cameras are fitted to it (at least {DOUBTFUL} where poses are off)"
    if gain >= DOUBTFUL:
        return f"Poses seem to be off: {found}; they are improved from now on."
    return f"Poses seem to be right: {found}; they stay as they are given."


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
