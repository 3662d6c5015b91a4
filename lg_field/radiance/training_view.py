"""What a training step has seen, and what its losses need beside the picture."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from lg_field.radiance.compositing import Samples
from lg_field.radiance.render import Asked, Picture


class TrainingView(NamedTuple):
    """Training rays as the field shows them, and what the losses need beside."""

    picture: Picture
    """Colours without background where that is random."""
    asked: Asked | None
    """The rays' samples; None where there were none."""
    stride: float
    """Of the next step."""
    marched: Samples | None = None
    """All samples in occupied space, those that are not asked for too."""
    voxels: Tensor | None = None
    """(M,) numbers of their voxels in the field's rows, where they are known."""
    opacity: Tensor | None = None
    """(M,) part of the light that each sample absorbs; unbounded scenes."""
    haze: Tensor | None = None
    """(n,) the same of a marching step at random points; unbounded scenes."""
    seam: Tensor | None = None
    """Disagreement of neighbouring cells near the samples."""
    imitation: Tensor | None = None
    """Difference from the teacher; while it is imitated."""
    developed: bool = False
    """Whether the colours are those that each photo's camera makes of the scene's."""
    spread: Tensor | None = None
    """How far apart along rays what they see lies."""
