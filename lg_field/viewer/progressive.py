"""Pictures for one browser: coarse at once, sharp when the camera rests, in a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lg_field.radiance.outputs import least_light_of, ray_output
from lg_field.radiance.render import Camera, ask_view
from lg_field.radiance.seams import SOLID
from lg_field.viewer.outputs import to_picture
from lg_field.viewer.page import keeps_going
from lg_field.viewer.panel import pose_of
from lg_field.viewer.picking import Pose
from lg_field.viewer.rendered import Rendered

FIRST_HEIGHT = 40
"""Pixels of the very first picture, while the speed is unknown."""
FIRST_SECONDS = 0.15
"""What the first picture after a movement may cost."""
RAYS = 1 << 14
"""Rays between two looks at whether the picture is still wanted."""


class Shown(NamedTuple):
    """A finished picture."""

    height: int
    """Pixels."""
    width: int
    """Pixels."""
    seconds: float
    """It took to compute."""
    sharp: bool
    """The last of a series."""


class Renderer(threading.Thread):
    """Renders what one browser looks at; every `request` starts again from coarse."""

    def __init__(
        self,
        client: Any,
        subject: Rendered,
        choices: Callable[[], tuple[str, int]],
        finished: Callable[[Shown], None],
        say: Callable[[str], None],
    ) -> None:
        """
        Args:
            client: viser's handle of the browser.
            subject: what is shown.
            choices: the output wanted (see `OUTPUTS`), and the height of sharp pictures.
            finished: called after each picture.
            say: shows a line of markdown where a picture fails; the next request tries again.
        """
        super().__init__(daemon=True)
        self.client, self.subject, self.choices = client, subject, choices
        self.finished, self.say = finished, say
        self.alive, self.rays_per_second = True, 0.0
        self._wanted = threading.Event()

    def request(self) -> None:
        """The camera or the scene has changed."""
        self._wanted.set()

    def stop(self) -> None:
        """The browser has gone."""
        self.alive = False
        self._wanted.set()

    def run(self) -> None:
        """Until `stop`."""
        while self.alive:
            self._wanted.wait()
            self._wanted.clear()
            with keeps_going(self.say):
                self._series()

    def _series(self) -> None:
        """Pictures of what is looked at, coarse to sharp, until another request comes."""
        output, full = self.choices()
        pose = pose_of(self.client.camera, self.subject.scale)
        for number, height in enumerate(self._heights(full, pose.aspect)):
            begin = time.perf_counter()
            picture = self._picture(pose, height, output, interruptible=number > 0)
            if picture is None or not self.alive:
                break
            colors, depth = picture
            sharp = height == full
            self.client.scene.set_background_image(
                colors, jpeg_quality=92 if sharp else 70, depth=depth * self.subject.scale
            )
            self.finished(Shown(colors.shape[0], colors.shape[1], time.perf_counter() - begin, sharp))

    def _heights(self, full: int, aspect: float) -> Iterator[int]:
        """Growing heights; the first as large as the speed measured allows."""
        height = FIRST_HEIGHT
        if self.rays_per_second:
            height = int((self.rays_per_second * FIRST_SECONDS / aspect) ** 0.5)
        while height < 0.7 * full:
            yield max(16, height)
            height = max(16, height) * 2
        yield full

    def _picture(
        self, pose: Pose, height: int, output: str, interruptible: bool
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """(H, W, 3) uint8 and (H, W) float32 depth along the camera's axis; None if it is no longer wanted."""
        camera = Camera(pose.to_scene, 0.5 / np.tan(pose.fov / 2), max(1, round(height * pose.aspect)), height)
        field, scene = self.subject.shown, self.subject.scene
        origins, directions = (v.view(-1, 3) for v in camera.rays())
        values, depths, begin = [], [], time.perf_counter()
        for o, d in zip(origins.split(RAYS), directions.split(RAYS)):
            if interruptible and self._wanted.is_set():
                return None
            rays = o.to(field.cells.device), d.to(field.cells.device)
            asked = ask_view(field, scene, *rays, least_light_of(output))
            value, accumulation, depth = ray_output(asked, scene, output)
            values.append(value.cpu())
            depths.append(torch.where(accumulation > SOLID, depth, scene.far).cpu())
        self.rays_per_second = len(origins) / (time.perf_counter() - begin)
        ahead = directions @ -pose.to_scene[:3, 2].float()
        shape = (height, camera.width)
        depth_image: Tensor = torch.cat(depths)[:, 0] * ahead
        return to_picture(torch.cat(values).view(*shape, -1)), depth_image.view(shape).numpy()
