"""A page for an encoded signal: a picture with its cells over it, a waveform and a player, frames, or a surface."""

from __future__ import annotations

import base64
import io
import threading
import time
from typing import Any

import numpy as np
import torch

from lg_field.meshing.mesh import EmptyMeshError
from lg_field.signals.decode import decode
from lg_field.viewer.page import keeps_going, open_server, plain
from lg_field.viewer.panel import Panel
from lg_field.viewer.signals import SignalSubject

SIGNAL = "/local_global/signal"
COARSE, SHARP = 128, 1024
"""Longer side of the pictures that come first and last, pixels."""
SURFACES = (24, 96)
"""Resolutions of the surfaces that come first and last."""
PLAYED = 120.0
"""Seconds of a sound that the player gets, at most."""


class SignalView:
    """A page that shows a signal to any number of browsers, decoded by one thread."""

    def __init__(self, subject: SignalSubject, port: int) -> None:
        """
        Args:
            subject: the signal.
            port: see `open_server`.
        """
        self.subject = subject
        self.server = open_server(port, subject.path.name)
        self.server.scene.set_up_direction("+y" if subject.flat else "+z")
        gui = self.server.gui
        with gui.add_folder("View"):
            if subject.frames:
                frame = gui.add_slider("Frame", 0, max(1, subject.frames - 1), 1, 0)
                frame.on_update(lambda _: self.show_frame(int(frame.value)))
            self.player = gui.add_markdown("") if subject.signal.traits.playable else None
            self.status = gui.add_markdown("")
        self._wanted = threading.Event()
        self.panel = Panel(self.server, subject)
        subject.on_change.append(self._wanted.set)
        self.server.on_client_connect(self.connected)
        threading.Thread(target=self._draw, daemon=True).start()
        self._wanted.set()

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self.server.get_port()}"

    def connected(self, client: Any) -> None:
        """A browser has come: look at the whole."""
        with client.atomic():
            client.camera.up_direction = (0.0, 1.0, 0.0) if self.subject.flat else (0.0, 0.0, 1.0)
            client.camera.position = (0.0, 0.0, 0.8) if self.subject.flat else (1.1, 1.0, 0.8)
            client.camera.look_at = (0.0, 0.0, 0.0)

    def show_frame(self, frame: int) -> None:
        """Show another frame of a video."""
        with self.subject.lock:
            self.subject.frame = min(frame, self.subject.frames - 1)
            self.panel.refresh()
        self._wanted.set()

    def _draw(self) -> None:
        """Decode again whenever something has changed: coarse first."""
        while self._wanted.wait():
            self._wanted.clear()
            with keeps_going(self.say):
                self._draw_all()

    def _draw_all(self) -> None:
        """Coarse, then sharp; given up as soon as something has changed."""
        for step, last in ((0, False), (1, True)):
            begin = time.perf_counter()
            text = self._draw_once(step)
            seconds = time.perf_counter() - begin
            self.say(f"{text} in {seconds:.2f} s{'' if last else ', a sharper one follows'}")
            if self._wanted.is_set():
                return
        if self.player is not None:
            self.player.content = player(self.subject)

    def say(self, text: str) -> None:
        """Show a line of markdown under the view's controls."""
        self.status.content = text

    def _draw_once(self, step: int) -> str:
        scene, subject = self.server.scene, self.subject
        if subject.flat:
            largest = (COARSE, SHARP)[step]
            image = subject.wave(largest) if subject.wavy else subject.picture(largest)
            scene.add_image(SIGNAL, image, *subject.size, format="png", wxyz=FACING)
            return f"{image.shape[1]} x {image.shape[0]} pixels"
        try:
            mesh = subject.mesh(SURFACES[step])
        except EmptyMeshError as error:
            return plain(str(error))
        mesh = mesh.transformed(np.linalg.inv(subject.signal.to_world().numpy()))  # to samples
        vertices = (mesh.vertices / np.array(subject.signal.shape) - 0.5) * np.array(subject.size)
        scene.add_mesh_simple(SIGNAL, vertices, mesh.faces, color=(200, 200, 210), side="double")
        return f"{len(mesh.faces):,} triangles"

    def wait(self) -> None:
        """Serve until interrupted."""
        threading.Event().wait()


FACING = (0.0, 1.0, 0.0, 0.0)
"""Turns viser's images, which look down, up to the camera."""


def player(subject: SignalSubject) -> str:
    """A player with the sound on show, as part of the page."""
    import soundfile

    signal = subject.signal
    last = min(signal.shape[0], int(PLAYED * signal.rate))
    values = torch.cat(list(decode(subject.shown, box=((0.0,), (float(last),)), raw=True))).clamp(-1, 1)
    data = io.BytesIO()
    soundfile.write(data, values.float().numpy(), round(signal.rate), format="WAV", subtype="PCM_16")
    text = base64.b64encode(data.getvalue()).decode()
    note = "" if last == signal.shape[0] else f" (the first {PLAYED:g} s)"
    return f'<audio controls src="data:audio/wav;base64,{text}"></audio>{note}'
