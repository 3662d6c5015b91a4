"""What a radiance field needs to be viewed and exported with no data set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lg_field.table.description import Description, known_entries


@dataclass(frozen=True)
class Scene(Description):
    """What a radiance field needs to be viewed and exported with no data set."""

    scene_to_world: tuple[tuple[float, ...], ...]
    """(4, 4) from nerfstudio's scene space to the data set's own units, by rows."""
    background: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Colour behind the scene in renders."""
    near: float = 0.05
    """Distance at which rays start, scene units."""
    far: float = 1000.0
    """Distance at which rays end, scene units."""
    step: float = 0.01
    """Length of a marching step, scene units."""
    camera: tuple[tuple[float, ...], ...] | None = None
    """(4, 4) camera to scene of a training camera (OpenGL axes): where a viewer starts."""
    focal: float = 1.0
    """Focal length of that camera in picture heights."""
    up: tuple[float, float, float] = (0.0, 0.0, 1.0)
    """Upward direction in scene space."""
    viewpoints: tuple[tuple[float, float, float], ...] = ()
    """Places of training cameras, far apart: colours are known as seen from there."""

    def __post_init__(self) -> None:
        for name in ("scene_to_world", "camera"):
            matrix = getattr(self, name)
            if matrix is not None and not (len(matrix) == 4 and all(len(row) == 4 for row in matrix)):
                raise ValueError(f"{name} must be a 4x4 matrix")
        numbers = [*self.background, self.near, self.far, self.step, self.focal, *self.up]
        numbers += [v for point in self.viewpoints for v in point]
        numbers += [v for row in (*self.scene_to_world, *(self.camera or ())) for v in row]
        if not all(math.isfinite(v) for v in numbers) or min(self.near, self.step, self.focal) <= 0:
            raise ValueError("the scene's numbers must be finite, near, step and focal positive")

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON; viewpoints only if there are any."""
        return {name: value for name, value in asdict(self).items() if name != "viewpoints" or value}

    def check(self, field: Any) -> None:
        """A scene is of three axes."""
        if field.grid.dim != 3:
            raise ValueError(f"a scene has three axes, the field {field.grid.dim}")

    @staticmethod
    def from_dict(data: dict[str, Any]) -> Scene:
        """Inverse of `to_dict`.

        Raises:
            ValueError: unknown, missing or senseless entries.
        """
        checked = known_entries(Scene, {"viewpoints": ()} | data if isinstance(data, dict) else data)
        try:
            for name in ("near", "far", "step", "focal"):
                checked[name] = float(checked[name])
            for name in ("background", "up"):
                checked[name] = _triple(checked[name])
            checked["viewpoints"] = tuple(map(_triple, checked["viewpoints"]))
            for name in ("scene_to_world", "camera"):
                rows = checked[name]
                checked[name] = None if rows is None else tuple(tuple(float(v) for v in row) for row in rows)
            return Scene(**checked)
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError(f"bad scene description: {error}") from error


def _triple(values: Sequence[float]) -> tuple[float, float, float]:
    a, b, c = (float(v) for v in values)
    return a, b, c
