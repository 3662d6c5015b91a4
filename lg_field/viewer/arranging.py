"""The page of a composition: parts are moved, turned and scaled by numbers or by handles, and the arrangement saved."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lg_field.radiance.arrangement import SUFFIX, Arrangement, PartEntry, Place, located, relative_to, write_arrangement
from lg_field.radiance.composition import Composition
from lg_field.radiance.scene import Scene
from lg_field.viewer.outputs import OUTPUTS
from lg_field.viewer.page import keeps_going, plain
from lg_field.viewer.rendered import Rendered
from lg_field.viewer.view import SceneView

HANDLE = "/local_global/place"
"""Name of the handles that move a part."""


class CompositionSubject(Rendered):
    """A composition on show, and where its parts stand. Nothing on disk changes before `save`."""

    outputs = OUTPUTS
    scale = 1.0

    def __init__(self, field: Composition, arrangement: Arrangement, path: Path, source: str) -> None:
        """
        Args:
            field: as it was loaded.
            arrangement: as its file says it; parts that were not loaded stay as they are.
            path: a file beside which it is saved.
            source: path or address where the arrangement was read: parts are found from there.
        """
        assert isinstance(field.description, Scene)
        self.path, self.source, self.arrangement = path, source, arrangement
        self.lock = threading.RLock()
        self.on_change: list[Callable[[], None]] = []
        self.shown, self.scene = field, field.description
        self._before: list[tuple[Arrangement, Composition]] = []

    def names(self) -> tuple[str, ...]:
        """Of the parts that are shown."""
        return tuple(part.name for part in self.shown.parts)

    def place(self, name: str) -> Place:
        """Where a part stands."""
        return next(part.place for part in self.shown.parts if part.name == name)

    def put(self, name: str, place: Place) -> bool:
        """Put a part elsewhere; False where it stands there already.

        Raises:
            ValueError: no part of this name.
        """
        with self.lock:
            made = self.arrangement.placed(name, place)
            if self.place(name) == place:
                return False
            self._step(made, [replace(p, place=place) if p.name == name else p for p in self.shown.parts])
        return True

    def copy(self, name: str) -> str:
        """Add a copy of a part, where the part stands; returns its name."""
        with self.lock:
            taken, number = {part.name for part in self.arrangement.parts}, 2
            while f"{name}-{number}" in taken:
                number += 1
            fresh = f"{name}-{number}"
            entry = next(part for part in self.arrangement.parts if part.name == name)
            part = next(part for part in self.shown.parts if part.name == name)
            made = replace(self.arrangement, parts=(*self.arrangement.parts, replace(entry, name=fresh)))
            self._step(made, [*self.shown.parts, replace(part, name=fresh)])
        return fresh

    def remove(self, name: str) -> None:
        """Take a part away.

        Raises:
            ValueError: it is the only one shown.
        """
        with self.lock:
            left = [part for part in self.shown.parts if part.name != name]
            if not left:
                raise ValueError("a composition needs at least one part")
            parts = tuple(part for part in self.arrangement.parts if part.name != name)
            self._step(replace(self.arrangement, parts=parts), left)

    def undo(self) -> bool:
        """Go back one step; False at the start."""
        with self.lock:
            if not self._before:
                return False
            self._show(*self._before.pop())
        return True

    def save(self, path: Path) -> int:
        """Write the arrangement; returns its bytes.

        Raises:
            FileExistsError: the file exists.
            ValueError: its name is not that of a composition.
        """
        if path.suffix.lower() != SUFFIX:
            raise ValueError(f"{path}: a composition is called NAME{SUFFIX}")

        def seen_from_there(part: PartEntry) -> PartEntry:
            return replace(part, file=relative_to(located(part.file, self.source), path))

        return write_arrangement(
            replace(self.arrangement, parts=tuple(map(seen_from_there, self.arrangement.parts))), path
        )

    def free_path(self) -> Path:
        """A name beside the source that is not taken."""
        number = 2
        while (path := self.path.with_name(f"{self.path.stem}-{number}{SUFFIX}")).exists():
            number += 1
        return path

    def _step(self, arrangement: Arrangement, parts: list[Any]) -> None:
        self._before.append((self.arrangement, self.shown))
        self._show(arrangement, self.shown.with_parts(parts))

    def _show(self, arrangement: Arrangement, field: Composition) -> None:
        assert isinstance(field.description, Scene)
        self.arrangement, self.shown, self.scene = arrangement, field, field.description
        for call in self.on_change:
            call()


class PlacePanel:
    """Controls that move the parts of a composition on a page."""

    def __init__(self, server: Any, subject: CompositionSubject) -> None:
        """
        Args:
            server: viser's server.
            subject: what is edited.
        """
        self.server, self.subject = server, subject
        self.handle: Any = None
        gui, names = server.gui, subject.names()
        self.message = gui.add_markdown("ready")
        with gui.add_folder("Parts"):
            self.part = gui.add_dropdown("Part", names, initial_value=names[-1])
            self.move = gui.add_vector3("Move", (0.0, 0.0, 0.0), step=0.01)
            self.turn = gui.add_vector3("Turn", (0.0, 0.0, 0.0), step=1.0, hint="degrees about x, then y, then z")
            self.scale = gui.add_number("Scale", 1.0, min=1e-6, step=0.01)
            for label, action in (("Add a copy", self.copy), ("Remove", self.remove), ("Undo", self.undo)):
                gui.add_button(label).on_click(lambda _, action=action: self.edit(action))
        with gui.add_folder("Save"):
            self.path = gui.add_text("To", str(subject.free_path()))
            gui.add_button("Save composition").on_click(lambda _: self.save())
        self.part.on_update(lambda _: self.refresh())
        for numbers in (self.move, self.turn, self.scale):
            numbers.on_update(lambda event: None if event.client is None else self.edit(self.put))
        self.refresh()

    def edit(self, action: Callable[[], object]) -> None:
        """Run an action and show what comes of it; what it raises becomes a line of the panel."""
        with keeps_going(self.say), self.subject.lock:
            action()
            self.refresh()

    def put(self) -> None:
        """Put the part where the numbers say."""
        move, turn = (tuple(float(v) for v in numbers.value) for numbers in (self.move, self.turn))
        self.subject.put(self.part.value, Place(move, turn, float(self.scale.value)))  # type: ignore[arg-type]

    def copy(self) -> None:
        """Add a copy of the part, and go on with it."""
        fresh = self.subject.copy(self.part.value)
        self.part.options = self.subject.names()
        self.part.value = fresh

    def remove(self) -> None:
        """Take the part away."""
        self.subject.remove(self.part.value)
        self.part.options = self.subject.names()

    def undo(self) -> None:
        """Go back one step."""
        self.subject.undo()
        self.part.options = self.subject.names()

    def dragged(self, handle: Any) -> None:
        """The handles were moved in a browser."""
        with keeps_going(self.say), self.subject.lock:
            place = Place(
                tuple(round(float(v), 4) for v in handle.position),  # type: ignore[arg-type]
                angles_of(handle.wxyz),
                self.subject.place(self.part.value).scale,
            )
            if self.subject.put(self.part.value, place):
                self.show_numbers(place)

    def save(self) -> None:
        """Save the arrangement."""
        with keeps_going(self.say), self.subject.lock:
            path = Path(self.path.value).expanduser()
            size = self.subject.save(path)
            self.path.value = str(self.subject.free_path())
            self.say(f"saved {plain(str(path))} ({size:,} bytes)")

    def say(self, text: str) -> None:
        """Show a line, markdown."""
        self.message.content = text

    def refresh(self) -> None:
        """Show where the part stands, in numbers and by its handles."""
        with keeps_going(self.say), self.subject.lock:
            place = self.subject.place(self.part.value)
            self.say("ready")
            self.show_numbers(place)
            if self.handle is not None:
                self.handle.remove()
            self.handle = self.server.scene.add_transform_controls(
                HANDLE, scale=0.5, depth_test=False, position=place.move, wxyz=quaternion_of(place)
            )
            self.handle.on_update(self.dragged)

    def show_numbers(self, place: Place) -> None:
        """Show where a part stands in numbers."""
        for control, value in ((self.move, place.move), (self.turn, place.turn), (self.scale, place.scale)):
            if control.value != value:
                control.value = value


def quaternion_of(place: Place) -> np.ndarray:
    """(4,) wxyz of a place's turn."""
    from viser.transforms import SO3

    return SO3.from_rpy_radians(*map(math.radians, place.turn)).wxyz


def angles_of(wxyz: np.ndarray) -> tuple[float, float, float]:
    """Degrees about x, then y, then z, to hundredths, of a (4,) quaternion."""
    from viser.transforms import SO3

    angles = SO3(np.asarray(wxyz, dtype=np.float64)).as_rpy_radians()
    x, y, z = (round(math.degrees(float(v)), 2) for v in (angles.roll, angles.pitch, angles.yaw))
    return x, y, z


def open_composition(field: Composition, arrangement: Arrangement, source: str, path: Path, port: int) -> SceneView:
    """The page of a composition.

    Args:
        field: as it was loaded.
        arrangement: as its file says it.
        source: path or address of that file.
        path: a local file beside which the arrangement is saved.
        port: see `open_server`.
    """
    return SceneView(CompositionSubject(field, arrangement, path, source), port, PlacePanel)
