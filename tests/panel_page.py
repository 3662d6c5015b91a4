"""As much of a viewer's page as panels use, without a browser."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any


class Control:
    """A control of the page, or anything drawn."""

    def __init__(self, value: Any = None) -> None:
        self.value, self.content, self.calls = value, value, []

    def on_update(self, call: Any) -> Any:
        self.calls.append(call)
        return call

    on_click = on_update

    def remove(self) -> None:
        self.value = "removed"

    def press(self) -> None:
        for call in self.calls:
            call(SimpleNamespace(target=self))


class Gui:
    """As much of viser's page as a panel uses."""

    def __init__(self) -> None:
        self.named: dict[str, Control] = {}

    def add_folder(self, label: str) -> contextlib.nullcontext[None]:
        return contextlib.nullcontext()

    def add_markdown(self, text: str) -> Control:
        return Control(text)

    def _add(self, label: str, value: Any = None, *_: Any, **__: Any) -> Control:
        self.named[label] = Control(value[0] if isinstance(value, tuple) else value)
        return self.named[label]

    add_checkbox = add_dropdown = add_text = add_number = add_button = add_button_group = _add

    def add_slider(self, label: str, low: float, high: float, step: float, value: float, **_: Any) -> Control:
        return self._add(label, value)

    def add_progress_bar(self, value: float) -> Control:
        return Control(value)


class Scene:
    """As much of viser's scene as a panel uses."""

    def add_glb(self, *_: Any, **__: Any) -> Control:
        return Control()

    add_mesh_simple = add_glb

    def remove_pointer_callback(self) -> None: ...

    def on_pointer_event(self, kind: str) -> Any:
        return lambda call: call
