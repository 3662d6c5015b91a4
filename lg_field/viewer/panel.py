"""The panel "Local-Global": shows cells, picks, crops, undoes and saves, on whichever page it is put."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lg_field.viewer.cells import line_glb, outside, wireframe
from lg_field.viewer.page import keeps_going, plain
from lg_field.viewer.picking import Pose
from lg_field.viewer.selection import Size, size_of
from lg_field.viewer.subject import Subject

SELECTED_COLOR = (255, 40, 140)
OBJECT_COLOR = (255, 170, 30)
CELLS, SELECTED, OBJECT = "/local_global/cells", "/local_global/selected", "/local_global/object"
"""Names of what the panel draws."""
SOLID = 0.1
"""How solid voxels of an object are, at first."""
READY = "ready"
"""What is said when there is nothing to say: an empty line would move the buttons below."""


class Panel:
    """Controls of one subject on one page. Callbacks run in threads of their own; edits take the subject's lock."""

    def __init__(self, server: Any, subject: Subject) -> None:
        """
        Args:
            server: viser's server, or anything that has its `gui` and `scene`.
            subject: what is edited.
        """
        self.server, self.subject, self.mouse = server, subject, "Move"
        self._drawn: dict[str, Any] = {}
        gui = server.gui
        self.numbers = gui.add_markdown("")
        self.message = gui.add_markdown(READY)
        with gui.add_folder("Cells"):
            self.show_cells = gui.add_checkbox("Show cells", True)
            self.color_by = gui.add_dropdown("Colour by", tuple(subject.colors()))
        self._select_controls(gui)
        if subject.floods:
            self._object_controls(gui)
        self._crop_controls(gui)
        self._save_controls(gui)
        self.show_cells.on_update(lambda _: self.redraw())
        self.color_by.on_update(lambda _: self.redraw())
        self.refresh()

    # -- controls

    def _select_controls(self, gui: Any) -> None:
        with gui.add_folder("Select"):
            modes = ("Move", "Pick", "Frame", "Fill") if self.subject.floods else ("Move", "Pick", "Frame")
            self._group("Mouse", modes, self.set_mouse)
            if self.subject.read_box is not None:
                self.box = gui.add_text("Box", self.subject.box_text(), hint="Lower corner, then upper corner")
            inside = gui.add_button("Inside the crop box", color="gray")
            inside.on_click(lambda _: self.edit(self.select_box))
            for pair in (("Grow", "Shrink"), ("Invert", "Clear")):
                self._group("Selection", pair, lambda name: self.edit(getattr(self.subject.selection, name.lower())))

    def _object_controls(self, gui: Any) -> None:
        with gui.add_folder("Object"):
            self.solid = gui.add_slider("Solid", 0.0, 0.95, 0.05, SOLID, hint="How solid voxels are that connect")
            self.solid.on_update(lambda _: self.edit(self.fill_again))
            self._button("Keep object", lambda: self.crop_object(False))
            self._button("Remove object", lambda: self.crop_object(True))

    def _crop_controls(self, gui: Any) -> None:
        selection = lambda: self.subject.selection  # noqa: E731
        with gui.add_folder("Crop"):
            self._button("Keep selection", lambda: selection().keep())
            self._button("Remove selection", lambda: selection().remove())
            self._button("Crop to the box exactly", self.crop_box)
            steps = ("Undo", "Redo")
            self._group("Steps", steps, lambda name: self.edit(getattr(self.subject.selection, name.lower()), True))

    def _save_controls(self, gui: Any) -> None:
        subject = self.subject
        with gui.add_folder("Save"):
            self.path = gui.add_text("To", str(subject.free_path(subject.suffix)))
            gui.add_button("Save crop").on_click(lambda _: self.save())
            gui.add_button("Export region JSON", color="gray").on_click(lambda _: self.save_region())
            self.resolution = gui.add_number("Mesh resolution", 128, min=8, max=1024, step=8)
            gui.add_button("Export mesh", color="gray").on_click(lambda _: self.save_mesh())

    def _button(self, label: str, action: Callable[[], object]) -> None:
        self.server.gui.add_button(label).on_click(lambda _: self.edit(action, True))

    def _group(self, label: str, options: tuple[str, ...], action: Callable[[str], object]) -> None:
        """Buttons side by side. viser ignores a second press of the same button unless the group forgets the first."""
        group = self.server.gui.add_button_group(label, options)
        group.value = ""

        @group.on_click
        def _(event: Any) -> None:
            pressed = event.target.value
            if pressed:
                event.target.value = ""
                action(pressed)

    # -- edits

    def edit(self, action: Callable[[], object], crops: bool = False) -> None:
        """Run an action on the selection and show what comes of it.

        Args:
            action: what it raises is shown, a ValueError in its own words.
            crops: it changes what is kept, so it may be refused.
        """
        with self.reported(), self.subject.lock:
            refusal = self.subject.refusal() if crops else None
            if refusal is not None:
                raise ValueError(refusal)
            action()
            if crops:
                self.subject.show()
                self.path.value = str(self.subject.free_path(self.subject.suffix))
            self.refresh(cells=crops)

    def select_box(self) -> None:
        """Select the cells that the crop box touches."""
        region = self.subject.box_region(self.box.value if self.subject.read_box is not None else "")
        field = self.subject.selection.field
        cells = field.cells[field.rows_touching(region)]
        self.subject.selection.select(cells)
        if not bool(self.subject.selection.selected.any()):
            raise ValueError("the box holds no kept cell")

    def crop_box(self) -> None:
        """Crop to the box: its cells are kept, and exactly the box is shown."""
        region = self.subject.box_region(self.box.value if self.subject.read_box is not None else "")
        self.subject.selection.keep_region(region)

    def fill_again(self) -> None:
        """Fill from the last click once more, as solid as the slider says now."""
        if self.subject.flood is not None:
            self.subject.flood.fill(float(self.solid.value))

    def crop_object(self, remove: bool) -> None:
        """Keep what a click has filled, or all but that; cut along its voxels."""
        if self.subject.flood is None:
            raise ValueError("no object is filled: choose Fill and click on one")
        region = self.subject.flood.region
        self.subject.selection.keep_region(~region if remove else region)

    def set_mouse(self, mode: str) -> None:
        """Let the mouse move the camera, pick cells, draw a rectangle around them, or fill an object."""
        scene = self.server.scene
        with self.reported():
            if self.mouse != "Move":
                scene.remove_pointer_callback()
            self.mouse = mode
            if mode == "Pick":
                scene.on_pointer_event("click")(self.picked)
                self.say("a click selects a cell, or lets it go")
            elif mode == "Frame":
                scene.on_pointer_event("rect-select")(self.framed)
                self.say("drag a rectangle: cells with their middle in it are added to the selection")
            elif mode == "Fill":
                scene.on_pointer_event("click")(self.filled)
                self.say("a click fills an object as far as it is solid")
            else:
                self.say("the mouse moves the camera")

    def picked(self, event: Any) -> None:
        """A click on the page."""

        def toggle() -> None:
            cell = self.subject.pick(*ray_of(event, self.subject.scale))
            if cell is None:
                raise ValueError("nothing is there: no cell was picked")
            self.subject.selection.toggle(cell)

        self.edit(toggle)

    def filled(self, event: Any) -> None:
        """A click on the page that fills an object."""
        self.edit(lambda: self.subject.fill(*ray_of(event, self.subject.scale), float(self.solid.value)))

    def framed(self, event: Any) -> None:
        """A rectangle drawn on the page."""

        def select() -> None:
            low, high = event.screen_pos
            pose = pose_of(event.client.camera, self.subject.scale)
            self.subject.selection.select(self.subject.within(pose, low, high), add=True)

        self.edit(select)

    # -- files

    def save(self) -> None:
        """Save what is shown."""
        with self.reported(), self.subject.lock:
            refusal = self.subject.refusal()
            if refusal is not None:
                raise ValueError(refusal)
            if not self.subject.selection.cropped:
                raise ValueError("nothing is cropped, so there is nothing to save")
            begin = time.perf_counter()
            files = self.subject.save(Path(self.path.value).expanduser())
            self.say(f"saved {listed(files)}, {time.perf_counter() - begin:.1f} s")
            self.path.value = str(self.subject.free_path(self.subject.suffix))

    def save_region(self) -> None:
        """Save which part is kept, as JSON that `--region` reads."""
        with self.reported(), self.subject.lock:
            path = self.subject.free_path(".region.json")
            self.subject.save_region(path)
            self.say(f"saved {listed([path])}")

    def save_mesh(self) -> None:
        """Save the surface of what is shown as a mesh."""
        with self.reported():
            path = self.subject.free_path(".ply")
            bar = self.server.gui.add_progress_bar(0.0)
            try:
                mesh = self.subject.save_mesh(
                    path, int(self.resolution.value), lambda done, n: setattr(bar, "value", 100.0 * done / n)
                )
            finally:
                bar.remove()
            self.say(f"saved {listed([path])}: {len(mesh.vertices):,} vertices, {len(mesh.faces):,} faces")

    # -- what is shown

    def reported(self) -> contextlib.AbstractContextManager[None]:
        """Errors become a line in the panel; the edit stays as it was."""
        return keeps_going(self.say)

    def say(self, text: str) -> None:
        """Show a line, markdown."""
        self.message.content = text

    def refresh(self, cells: bool = True) -> None:
        """Show the numbers and the selection anew; and the cells, if they changed."""
        self.message.content = READY
        self.numbers.content = numbers_of(self.subject)
        if cells:
            self.draw_cells()
        self.draw_selected()
        self.draw_object()

    def redraw(self) -> None:
        """Draw the cells anew, in other colours or not at all."""
        with self.reported():
            self.draw_cells()

    def draw_cells(self) -> None:
        """Draw the edges of the kept cells as one object."""
        subject = self.subject
        if not self.show_cells.value:
            self._remove(CELLS)
            return
        grid, cells, rows = subject.drawn(subject.selection.kept)
        values = subject.colors()[self.color_by.value]()
        low, high = values.min(), values.max()
        values = ((values - low) / (high - low).clamp_min(1e-12))[rows]
        points, lines, colors = wireframe(grid, cells, values, subject.to_space, subject.segments)
        self._add(CELLS, lambda: self.server.scene.add_glb(CELLS, line_glb(points * subject.scale, lines, colors)))

    def draw_selected(self) -> None:
        """Draw the selected cells as one translucent body."""
        subject = self.subject
        grid, cells, _ = subject.drawn(subject.selection.selected)
        if len(cells) == 0:
            self._remove(SELECTED)
            return
        vertices, faces = outside(grid, cells, subject.to_space, subject.segments)
        self._add(
            SELECTED,
            lambda: self.server.scene.add_mesh_simple(
                SELECTED, vertices * np.float32(subject.scale), faces, SELECTED_COLOR, opacity=0.25, side="double"
            ),
        )

    def draw_object(self) -> None:
        """Draw what a click has filled as one translucent body."""
        subject, flood = self.subject, self.subject.flood
        if flood is None:
            self._remove(OBJECT)
            return
        numbers = flood.voxels.reshape(-1).nonzero()[:, 0]
        vertices, faces = outside(flood.lattice, numbers, subject.to_space)
        self._add(
            OBJECT,
            lambda: self.server.scene.add_mesh_simple(
                OBJECT, vertices * np.float32(subject.scale), faces, OBJECT_COLOR, opacity=0.35, side="double"
            ),
        )

    def _add(self, name: str, make: Callable[[], Any]) -> None:
        self._drawn[name] = make()

    def _remove(self, name: str) -> None:
        handle = self._drawn.pop(name, None)
        if handle is not None:
            handle.remove()


def ray_of(event: Any, scale: float) -> tuple[Tensor, Tensor]:
    """Where a click looks from and along which unit direction, (3,) float64 each, in the subject's units."""
    direction = torch.tensor(event.ray_direction, dtype=torch.float64)
    return torch.tensor(event.ray_origin, dtype=torch.float64) / scale, direction / direction.norm()


def pose_of(camera: Any, scale: float) -> Pose:
    """A browser's camera, in the subject's units."""
    from viser.transforms import SO3

    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, :3] = torch.from_numpy(SO3(np.asarray(camera.wxyz)).as_matrix()) * torch.tensor([1.0, -1.0, -1.0])
    matrix[:3, 3] = torch.from_numpy(np.asarray(camera.position, dtype=np.float64)) / scale
    return Pose(matrix, float(camera.fov), float(camera.aspect))


def numbers_of(subject: Subject) -> str:
    """What is shown and what is selected, in numbers."""
    selection = subject.selection
    source, precision = selection.field, subject.precision
    whole = size_of(source, source.num_rows, True, precision)
    shown = size_of(subject.shown, subject.shown.num_rows, True, precision)
    chosen = size_of(source, int(selection.selected.sum()), False, precision)
    lines = [f"**Shown** {size_text(shown, whole)}", f"**Selected** {size_text(chosen, whole)}"]
    if subject.floods:
        lines.append(f"**Object** {0 if subject.flood is None else int(subject.flood.voxels.sum()):,} voxels")
    where = subject.extent(selection.selected_cells if chosen.cells else selection.cells)
    lines += [f"{unit}: {box_line(box) if chosen.cells else '-'}" for unit, box in where]  # as many lines either way
    return "  \n".join(lines)


def size_text(size: Size, whole: Size) -> str:
    """Cells, parameters, megabytes and share of the whole."""
    share = size.bytes / whole.bytes
    return f"{size.cells:,} cells, {size.parameters:,} parameters, {size.bytes / 1e6:.2f} MB, {share:.1%}"


def box_line(box: Tensor) -> str:
    """Corners of a box, as numbers that can be typed into `--box`."""
    return " ".join(f"{v:.4g}" for v in box.flatten().tolist())


def listed(files: list[Path]) -> str:
    """Paths and sizes of files."""
    return ", ".join(f"{plain(str(f))}{f' ({f.stat().st_size:,} bytes)' if f.is_file() else ''}" for f in files)
