"""Whether photos are few and far apart: then a scene is learned coarse first (`radiance.coarse_first`)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lg_field.radiance.placement import TOWARD
from lg_field.radiance.settings import TrainingSettings

FEW = 40
"""Photos from which on there are enough of them."""
APART = 20.0
"""Degrees from a camera to the next, seen from what they look at, from which on photos are far apart."""
WHOLE = 0.5
"""Part of a run that everything learns in, at least."""


def neighbours_apart(origins: Float[Tensor, "photos 3"]) -> float:
    """Median angle, degrees, from a camera to the nearest other one, seen from the focus.

    Args:
        origins: (n, 3) camera centres about the focus, n at least 2.
    """
    toward = torch.nn.functional.normalize(origins.double(), dim=-1)
    cosine = toward @ toward.T
    cosine.fill_diagonal_(-1.0)
    return float(torch.rad2deg(torch.arccos(cosine.amax(1).clamp(-1.0, 1.0))).median())


def few_photos(origins: Float[Tensor, "photos 3"], axes: Float[Tensor, "photos 3"]) -> str | None:
    """How few photos there are and how far apart; None where there are enough, and where cameras do not look at the
    focus, as in a room: there it does not say how far apart they are.

    Args:
        origins: (n, 3) camera centres of the training photos about the focus, any unit.
        axes: (n, 3) unit directions in which they look.
    """
    count = len(origins)
    if not 2 <= count < FEW:
        return None
    toward = -torch.nn.functional.normalize(origins.double(), dim=-1)
    if float((toward * axes.double()).sum(-1).median()) < TOWARD:
        return None
    apart = neighbours_apart(origins)
    return f"{count} photos, {apart:.0f} degrees from one to the next" if apart >= APART else None


def coarse_until(settings: TrainingSettings, few: str | None, steps: int) -> tuple[int, str | None]:
    """Step from which on everything learns, 0 where it does from the start, and a line that says so.

    Args:
        settings: of the run.
        few: of `few_photos`.
        steps: length of the run; 0 = not known.
    """
    if settings.coarse_first == "never" or (settings.coarse_first == "auto" and few is None):
        return 0, None
    why = f"{few}: fine" if few is not None else "Fine"
    until = settings.coarse_steps if steps == 0 else min(settings.coarse_steps, int(WHOLE * steps))
    return until, None if until == 0 else f"{why} detail waits until step {until} (coarse_first never: it does not)."
