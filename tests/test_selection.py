"""Selecting and cropping in the viewer: the edit as a machine beside a plain model, what is drawn, and panels that
outlive every error."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from ball_scene import LARGE, MEDIUM, ball_scene
from commands import lg
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from panel_page import Gui, Scene
from small_scene import small_scene

import lg_field
from lg_field.networks import LocalGlobalNetwork
from lg_field.ops import ChainSizes
from lg_field.radiance.carving import pieces_of_field
from lg_field.radiance.components import shown_voxels
from lg_field.radiance.edits import edit_words
from lg_field.radiance.outputs import distinct_colors
from lg_field.space.partition import PartitionGrid
from lg_field.space.regions import Region
from lg_field.table.cell_table import CellTable
from lg_field.table.editing import crop
from lg_field.viewer.cells import outside, ramp, wireframe
from lg_field.viewer.page import keeps_going
from lg_field.viewer.panel import Panel
from lg_field.viewer.selection import Selection
from lg_field.viewer.subject import SceneSubject

GRID = PartitionGrid((3, 2, 2), (-1.0,) * 3, (1.0,) * 3)
ROWS, FULL = [0, 1, 2, 4, 5, 7, 8, 10], [3, 6, 11]
REGIONS = [
    Region.box((-1.0, -1.0, -1.0), (0.3, 1.0, 0.0)),
    Region.box((-0.3, -1.0, -1.0), (1.0, 1.0, 1.0)),
    Region.sphere((0.0, 0.0, 0.0), 0.9),
    ~Region.box((-1.0, -1.0, -1.0), (0.0, 1.0, 1.0)),
    Region.sphere((5.0, 0.0, 0.0), 0.1),
]


def table() -> LocalGlobalNetwork:
    """Eight cells with rows, three that are full, one that is empty."""
    torch.manual_seed(0)
    field = LocalGlobalNetwork(GRID, ChainSizes(3, 1, 4, 4, 1), torch.tensor(ROWS), fill=-1.0)
    field.full = torch.tensor(FULL)
    return field


def assert_same(first: CellTable, second: CellTable) -> None:
    """Equal to the bit, sets of cells and regions included."""
    ours, theirs = first.state_dict(), second.state_dict()
    assert first.region == second.region and ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]) if torch.is_tensor(value) else value == theirs[name], name


class Edits(RuleBasedStateMachine):
    """`Selection` beside a list of fields that `crop` made one of the other, and a set of selected cells."""

    def __init__(self) -> None:
        super().__init__()
        self.selection = Selection(table())
        self.steps: list[CellTable] = [self.selection.field]
        self.chosen: list[set[int]] = [set()]
        self.at = 0

    @property
    def kept(self) -> set[int]:
        return set(self.steps[self.at].cells.tolist())

    def choose(self, cells: set[int]) -> None:
        self.chosen[self.at] = cells & self.kept

    @rule(cells=st.sets(st.integers(0, 11)), add=st.booleans())
    def select(self, cells: set[int], add: bool) -> None:
        self.selection.select(torch.tensor(sorted(cells), dtype=torch.int64), add)
        self.choose(cells | self.chosen[self.at] if add else cells)

    @rule(cell=st.integers(0, 11))
    def toggle(self, cell: int) -> None:
        self.selection.toggle(cell)
        self.choose(self.chosen[self.at] ^ ({cell} & self.kept))

    @rule(name=st.sampled_from(["clear", "invert", "grow", "shrink"]))
    def change(self, name: str) -> None:
        getattr(self.selection, name)()
        chosen = self.chosen[self.at]
        beside = {c: {d for d in self.kept if touching(c, d)} for c in self.kept}
        self.choose(
            {
                "clear": set(),
                "invert": self.kept - chosen,
                "grow": chosen | {d for c in chosen for d in beside[c]},
                "shrink": {c for c in chosen if beside[c] <= chosen},
            }[name]
        )

    @rule(invert=st.booleans())
    def crop_cells(self, invert: bool) -> None:
        cells = sorted(self.chosen[self.at])
        edit = self.selection.remove if invert else self.selection.keep
        self.step(edit, {"cells": cells, "invert": invert}, possible=bool(cells))

    @rule(region=st.sampled_from(REGIONS))
    def crop_region(self, region: Region) -> None:
        self.step(lambda: self.selection.keep_region(region), {"region": region})

    def step(self, edit: Any, arguments: dict[str, Any], possible: bool = True) -> None:
        """What `crop` refuses, the selection refuses, and nothing has changed."""
        try:
            after = crop(self.steps[self.at], **arguments) if possible else None
        except ValueError:
            after = None
        if after is None:
            with pytest.raises(ValueError, match=r"nothing|overlap"):
                edit()
            return
        edit()
        self.steps, self.chosen = [*self.steps[: self.at + 1], after], [*self.chosen[: self.at + 1], set()]
        self.at += 1

    @rule(back=st.booleans())
    def walk(self, back: bool) -> None:
        moved = self.selection.undo() if back else self.selection.redo()
        to = max(0, self.at - 1) if back else min(len(self.steps) - 1, self.at + 1)
        assert moved == (to != self.at)
        self.at = to

    @invariant()
    def agrees(self) -> None:
        selection, want = self.selection, self.steps[self.at]
        assert set(selection.selected_cells.tolist()) == self.chosen[self.at]
        assert selection.cells.tolist() == want.cells.tolist()
        full = [] if want.full is None else want.full.tolist()
        assert selection.cropped == (want.num_rows < len(ROWS) or full != FULL or want.region is not None)
        assert_same(selection.current(), want)
        if not selection.cropped:
            assert selection.current() is selection.field


def touching(first: int, second: int) -> bool:
    """Whether two cells of the grid share a face."""
    a, b = GRID.unravel(torch.tensor([first, second]))
    return int((a - b).abs().sum()) == 1


TestEdits = Edits.TestCase
TestEdits.settings = settings(max_examples=25, stateful_step_count=15, deadline=None)


def test_a_crop_that_drops_only_full_cells_is_a_crop():
    selection = Selection(table())
    selection.select(torch.tensor(ROWS))
    selection.keep()
    assert bool(selection.kept.all()) and selection.cropped and selection.current().full is None
    selection.undo()
    assert not selection.cropped and selection.current().full.tolist() == FULL


# -- what is drawn

cell_sets = st.sets(st.integers(0, 11), min_size=1).map(lambda cells: torch.tensor(sorted(cells)))


@given(cells=cell_sets, segments=st.integers(1, 3))
def test_each_edge_of_some_cells_is_drawn_once_in_the_colour_of_the_highest(cells, segments):
    values = torch.linspace(0, 1, len(cells))
    points, lines, colors = wireframe(GRID, cells, values, lambda p: p, segments)
    edges: dict[tuple[Any, ...], float] = {}
    for index, value in zip(GRID.unravel(cells).tolist(), values.tolist()):
        for axis in range(3):
            for a, b in itertools.product((0, 1), repeat=2):
                start = list(index)
                for k, step in zip([k for k in range(3) if k != axis], (a, b)):
                    start[k] += step
                key = (axis, *start)
                edges[key] = max(edges.get(key, 0.0), value)
    assert len(lines) == segments * len(edges) and len(points) == len(colors) == (segments + 1) * len(edges)
    drawn = colors.reshape(len(edges), segments + 1, 3)
    assert (drawn == drawn[:, :1]).all()
    assert Counter(map(tuple, drawn[:, 0].tolist())) == Counter(
        map(tuple, ramp(np.array(list(edges.values()))).tolist())
    )
    length = np.linalg.norm(points[lines[:, 0]] - points[lines[:, 1]], axis=1).sum()
    assert length == pytest.approx(sum(GRID.cell_size[key[0]] for key in edges), rel=1e-5)


@given(cells=cell_sets, segments=st.integers(1, 2))
def test_the_outside_of_some_cells_is_closed_and_is_all_their_open_faces(cells, segments):
    vertices, faces = outside(GRID, cells, lambda p: p, segments)
    there = {tuple(i) for i in GRID.unravel(cells).tolist()}
    beside = [
        tuple(v + (side if k == axis else 0) for k, v in enumerate(index))
        for index in there
        for axis in range(3)
        for side in (-1, 1)
    ]
    assert len(faces) == 2 * segments**2 * sum(b not in there for b in beside)
    _, place = np.unique(vertices.round(5), axis=0, return_inverse=True)
    corners = place.reshape(-1)[faces]
    ends = np.sort(np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [2, 0]]]), axis=1)
    assert all(count % 2 == 0 for count in Counter(map(tuple, ends.tolist())).values())


@given(numbers=st.lists(st.floats(-1, 2), min_size=1))
def test_colours_are_colours(numbers):
    colors = ramp(np.array(numbers)).astype(int)
    assert colors.shape == (len(numbers), 3)
    assert (ramp(np.array([-5.0, 0.0, 1.0, 7.0]))[[0, 3]] == ramp(np.array([0.0, 1.0]))).all()
    own = distinct_colors(torch.arange(200))
    assert bool(((own >= 0.15) & (own <= 1.0)).all()) and len(own.unique(dim=0)) > 190


# -- panels


@pytest.fixture
def panel(tmp_path: Path) -> Panel:
    field = small_scene((2, 2, 2), kept=1.0)
    subject = SceneSubject(field, field.description, tmp_path / "scene.safetensors")
    subject.read_box = lambda numbers: Region.box(numbers[:3], numbers[3:])
    return Panel(SimpleNamespace(gui=Gui(), scene=Scene()), subject)


ERRORS = [ValueError, OSError, RuntimeError, MemoryError, KeyError, TypeError, AssertionError, ZeroDivisionError]


@pytest.mark.parametrize("kind", ERRORS)
def test_no_button_ever_raises_and_all_go_on(panel, monkeypatch, capsys, kind):
    def fail(*_: Any, **__: Any) -> None:
        raise kind("<b>broken</b>")

    named, subject = panel.server.gui.named, panel.subject
    for owner, name, button in [
        (subject.selection, "keep", "Keep selection"),
        (subject.selection, "remove", "Remove selection"),
        (subject, "box_region", "Inside the crop box"),
        (subject, "box_region", "Crop to the box exactly"),
        (subject, "save_region", "Export region JSON"),
        (subject, "save_mesh", "Export mesh"),
        (subject, "refusal", "Save crop"),
        (subject, "colors", "Show cells"),
        (subject, "colors", "Colour by"),
    ]:
        panel.say("nothing yet")
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, fail)
            named[button].press()
        assert "broken" in panel.message.content and "<b>" not in panel.message.content, button
    traced = "Traceback" in capsys.readouterr().err
    assert traced == (not issubclass(kind, (ValueError, OSError, RuntimeError, MemoryError)))
    subject.selection.select(subject.selection.cells[:3])
    named["Keep selection"].press()
    assert subject.shown.num_rows == 3 and panel.message.content == "ready"


def test_a_broken_click_is_a_line(panel):
    panel.picked(SimpleNamespace(ray_origin=None, ray_direction=(0, 0, 1)))
    assert panel.message.content.startswith("**")
    panel.say("")
    panel.framed(SimpleNamespace(screen_pos=None, client=None))
    assert panel.message.content.startswith("**")


def click(panel: Panel, ball: tuple[float, ...]) -> None:
    """Click on a ball, from outside of the scene."""
    eye, middle = torch.tensor([3.0, 3.0, 3.0]), torch.tensor(ball[:3])
    panel.filled(SimpleNamespace(ray_origin=eye.tolist(), ray_direction=(middle - eye).tolist()))


def test_a_click_fills_an_object_that_is_kept_or_removed_and_undone(tmp_path):
    field = ball_scene((LARGE, MEDIUM))
    subject = SceneSubject(field, field.description, tmp_path / "scene.safetensors")
    panel = Panel(SimpleNamespace(gui=Gui(), scene=Scene()), subject)
    named, pieces = panel.server.gui.named, pieces_of_field(field)
    lg_field.save(field, tmp_path / "whole.safetensors")
    named["Keep object"].press()
    assert "choose Fill and click" in panel.message.content
    named["Solid"].value = 0.0
    click(panel, MEDIUM)
    filled = pieces.voxels([2])
    assert subject.flood is not None and torch.equal(subject.flood.voxels, filled)
    assert f"**Object** {int(filled.sum()):,} voxels" in panel.numbers.content
    named["Solid"].value = 0.95
    named["Solid"].press()
    assert not bool((subject.flood.voxels & ~filled).any()), "what is more solid is a part of it"
    named["Solid"].value = 0.0
    named["Solid"].press()
    for button, left in (("Remove object", pieces.voxels([1])), ("Keep object", filled)):
        click(panel, MEDIUM)
        named[button].press()
        assert torch.equal(shown_voxels(field.occupancy, subject.shown.region), left) and subject.flood is None
        saved = subject.save(tmp_path / f"{button}.safetensors")
        small = lg_field.load(saved[0])
        assert small.region is None and torch.equal(shown_voxels(small.occupancy, None), left)
        words = ("--component", 1 if button == "Remove object" else 2)
        lg("crop", "whole.safetensors", *words, "-o", "part.safetensors", "--overwrite", cwd=tmp_path)
        by_command = lg_field.load(tmp_path / "part.safetensors").history
        assert edit_words(small.history) == edit_words(by_command) != [] == edit_words(field.history)
        panel.edit(subject.selection.undo, True)
        assert subject.shown is field and panel.message.content == "ready"
    panel.filled(SimpleNamespace(ray_origin=(3.0, 3.0, 3.0), ray_direction=(1.0, 0.0, 0.0)))
    assert "no object was filled" in panel.message.content


def test_a_drawing_thread_outlives_every_error():
    said: list[str] = []

    def draw() -> None:
        for kind in ERRORS:
            with keeps_going(said.append):
                raise kind("oh")
        with keeps_going(said.append):
            said.append("drawn")
        with keeps_going(lambda text: [][0]):  # the page itself has gone
            raise ValueError("oh")
        said.append("alive")

    thread = threading.Thread(target=draw)
    thread.start()
    thread.join()
    assert len(said) == len(ERRORS) + 2 and said[-2:] == ["drawn", "alive"]


def test_a_renderer_outlives_a_picture_that_fails(panel):
    from lg_field.viewer.progressive import Renderer

    said, tried = [], threading.Event()

    def choices() -> tuple[str, int]:
        if len(said) == 2:
            tried.set()
            renderer.stop()
        raise KeyError("no camera yet")

    def say(text: str) -> None:
        said.append(text)
        renderer.request()

    renderer = Renderer(SimpleNamespace(), panel.subject, choices, lambda shown: None, say)
    renderer.request()
    renderer.start()
    renderer.join(20)
    assert tried.is_set() and not renderer.is_alive() and all("no camera" in line for line in said)


def test_what_ends_a_program_still_ends_it():
    for kind in (KeyboardInterrupt, SystemExit):
        with pytest.raises(kind), keeps_going(print):
            raise kind
