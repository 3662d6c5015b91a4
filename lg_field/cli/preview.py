"""Pictures of a field while it trains."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lg_field.signals.fit import Fit


class Preview:
    """Writes a picture every so many steps, of signals that have one: an image, a video's middle frame."""

    def __init__(self, fit: Fit, folder: Path, every: int) -> None:
        """
        Args:
            fit: the training to look at.
            folder: for step-000100.png and so on.
            every: steps between pictures, at least 1.

        Raises:
            ValueError: fewer than one step between pictures.
        """
        if every < 1:
            raise ValueError(f"--preview-every must be at least 1, got {every}")
        self.fit, self.folder, self.every = fit, folder, every

    def maybe(self, step: int) -> None:
        """Write a picture if it is time."""
        if step % self.every == 0:
            self.write(self.folder / f"step-{step:06d}.png")

    def write(self, path: Path) -> None:
        """Write the picture of the field as it is; nothing for signals without one."""
        import torch

        from lg_field.files import atomic_write
        from lg_field.signals.decode import decode, signal_of
        from lg_field.signals.kinds.image import write_image

        signal = signal_of(self.fit.field)
        box = signal.traits.still(signal)
        if box is None:
            return
        self.fit.write_back()
        samples = torch.cat(list(decode(self.fit.field, box=box)))
        with atomic_write(path, overwrite=True) as temporary:
            write_image(signal.traits.picture(samples, signal), temporary)
