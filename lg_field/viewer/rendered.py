"""What a page renders, whoever edits it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lg_field.radiance.scene import Scene


class Rendered:
    """Something to look at, that may change."""

    path: Path
    """Where it comes from."""
    scene: Scene
    """What it says of itself."""
    shown: Any
    """The `Volume` on show."""
    outputs: tuple[str, ...]
    """What can be shown of it."""
    scale: float
    """Units of the page per scene unit."""
    on_change: list[Callable[[], None]]
    """Called when what is shown has changed."""

    def controls(self, server: Any) -> Any:
        """Put the controls that edit it on a page; returns what holds them."""
        raise NotImplementedError
