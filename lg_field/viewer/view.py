"""`lg-field view`: a page of its own for a field file, with the panel beside the picture."""

from __future__ import annotations

import math
import threading
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lg_field.radiance.render import orbit
from lg_field.radiance.scene import Scene
from lg_field.signals.signal import Signal
from lg_field.viewer.page import keeps_going, open_server
from lg_field.viewer.progressive import Renderer, Shown
from lg_field.viewer.rendered import Rendered
from lg_field.viewer.signal_view import SignalView
from lg_field.viewer.signals import SignalSubject
from lg_field.viewer.subject import BoxReader, SceneSubject

RESOLUTION = 480
"""Height of sharp pictures at first, pixels."""


def open_view(field: Any, path: Path, precision: torch.dtype, box: BoxReader, port: int) -> SceneView | SignalView:
    """The page that suits a field.

    Args:
        field: with its description.
        path: where it comes from; crops are saved beside it.
        precision: of the weights in its file.
        box: reads the numbers of a box.
        port: see `open_server`.

    Raises:
        ValueError: the field does not say what it is of.
    """
    if isinstance(field.description, Scene):
        return SceneView(SceneSubject(field, field.description, path, precision, box), port)
    if isinstance(field.description, Signal):
        return SignalView(SignalSubject(field, path, precision, box), port)
    raise ValueError(f"{path} does not say what it is of, so it cannot be shown")


class SceneView:
    """A page that shows a scene to any number of browsers."""

    def __init__(self, subject: Rendered, port: int) -> None:
        """
        Args:
            subject: the scene.
            port: see `open_server`.
        """
        self.subject = subject
        self.server = open_server(port, subject.path.name)
        self.renderers: dict[int, Renderer] = {}
        gui = self.server.gui
        with gui.add_folder("View"):
            self.output = gui.add_dropdown("Output", subject.outputs)
            self.resolution = gui.add_slider("Resolution", 60, 1080, 20, RESOLUTION)
            self.status = gui.add_markdown("")
        self.server.scene.set_up_direction(subject.scene.up)
        self.panel = subject.controls(self.server)
        self.output.on_update(lambda _: self.request())
        self.resolution.on_update(lambda _: self.request())
        subject.on_change.append(self.request)
        self.server.on_client_connect(self.connected)
        self.server.on_client_disconnect(self.disconnected)

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self.server.get_port()}"

    def connected(self, client: Any) -> None:
        """A browser has come: put its camera where the scene is seen, and start to render for it."""
        with keeps_going(self.say):
            self.look(client)
        renderer = Renderer(client, self.subject, self.choices, self.finished, self.say)
        self.renderers[client.client_id] = renderer
        client.camera.on_update(lambda _: renderer.request())
        renderer.start()
        renderer.request()

    def look(self, client: Any) -> None:
        """Put a browser's camera where the scene is seen."""
        scene, scale = self.subject.scene, self.subject.scale
        camera = next(orbit(self.subject.shown, scene, 1, 640, 480))
        lower, upper = self.subject.shown.occupancy.bounds().double().cpu().clamp(-1e3, 1e3)
        eye, forward = camera.to_scene[:3, 3], -camera.to_scene[:3, 2]
        distance = float(forward @ ((lower + upper) / 2 - eye))
        with client.atomic():
            client.camera.up_direction = np.array(scene.up)
            client.camera.position = (eye * scale).numpy()
            client.camera.look_at = ((eye + forward * max(distance, 1e-3)) * scale).numpy()
            client.camera.fov = 2 * math.atan(0.5 / scene.focal)

    def say(self, text: str) -> None:
        """Show a line below the choices, markdown."""
        self.status.content = text

    def disconnected(self, client: Any) -> None:
        """A browser has gone."""
        renderer = self.renderers.pop(client.client_id, None)
        if renderer is not None:
            renderer.stop()

    def choices(self) -> tuple[str, int]:
        """The output and the height that are wanted."""
        return self.output.value, int(self.resolution.value)

    def request(self) -> None:
        """Everyone gets a new picture."""
        for renderer in list(self.renderers.values()):
            renderer.request()

    def finished(self, shown: Shown) -> None:
        """Say how large the picture is and how long it took."""
        waiting = "" if shown.sharp else ", sharper ones follow"
        self.status.content = f"{shown.width} x {shown.height} pixels in {shown.seconds:.2f} s{waiting}"

    def wait(self) -> None:
        """Serve until interrupted."""
        threading.Event().wait()
