"""Camera paths as nerfstudio's viewer saves them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch

from lg_field.radiance.render import Camera

MAX_PIXELS = 1 << 26
"""Of one picture."""


def read_camera_path(path: Path, width: int, height: int) -> list[Camera]:
    """Cameras of a nerfstudio camera path: `camera_path` with `camera_to_world` (16 numbers) and vertical `fov`.

    Args:
        path: JSON file.
        width: pixels where the file has no `render_width`.
        height: pixels where it has no `render_height`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a camera path, one of another kind than perspective, or with an impossible camera or size.
    """
    try:
        data = json.loads(path.read_text())
        if not isinstance(data, dict) or not isinstance(data.get("camera_path"), list):
            raise ValueError("it has no list 'camera_path'")
        if data.get("camera_type", "perspective") != "perspective":
            raise ValueError(f"camera_type is {data['camera_type']!r}, only perspective is rendered")
        width, height = int(data.get("render_width", width)), int(data.get("render_height", height))
        check_size(width, height)
        cameras = [camera_of(frame, width, height) for frame in data["camera_path"]]
        if not cameras:
            raise ValueError("it has no camera")
    except (ValueError, KeyError, TypeError, RuntimeError, OverflowError) as error:
        raise ValueError(f"{path} is not a nerfstudio camera path: {str(error).splitlines()[0]}") from error
    return cameras


def camera_of(frame: dict[str, Any], width: int, height: int) -> Camera:
    """One camera of a path.

    Raises:
        KeyError, TypeError, RuntimeError, ValueError: entries missing, or no 16 finite numbers and an angle.
    """
    matrix = torch.tensor(frame["camera_to_world"], dtype=torch.float64).view(4, 4)
    angle = float(frame["fov"])
    if not bool(matrix.isfinite().all()) or not 0.0 < angle < 180.0:
        raise ValueError(f"a camera needs finite numbers and a fov of 0 to 180 degrees, got {angle:g}")
    return Camera(matrix, 0.5 / math.tan(math.radians(angle) / 2), width, height)


def check_size(width: int, height: int) -> None:
    """Raise ValueError unless that is a picture of 1 to `MAX_PIXELS` pixels."""
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise ValueError(f"a picture has 1 to {MAX_PIXELS:,} pixels, got {width} x {height}")
