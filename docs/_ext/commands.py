"""The directive `lg-commands`: every command's own help, as it is printed."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable
from unittest import mock

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from lg_field.cli import COMMANDS, crop_scene, extend_scene, main

COLUMNS = "108"
"""Characters of a line of help."""


def help_of(entry: Callable[[], None], *words: str) -> str:
    """What a program prints when it is asked for help.

    Args:
        entry: its entry point.
        words: its name, and that of a subcommand.
    """
    printed = io.StringIO()
    asked = mock.patch.object(sys, "argv", [*words, "--help"])
    width = mock.patch.dict(os.environ, {"COLUMNS": COLUMNS, "NO_COLOR": "1"})
    with asked, width, contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        entry()
    return printed.getvalue().rstrip()


def all_help() -> dict[str, str]:
    """Command -> its help, in the order in which `lg-field --help` lists them."""
    found = {f"lg-field {name}": help_of(main, "lg-field", name) for name in COMMANDS}
    return found | {
        "crop-scene": help_of(crop_scene.main, "crop-scene"),
        "extend-scene": help_of(extend_scene.main, "extend-scene"),
    }


class CommandReference(SphinxDirective):
    """A section for each command."""

    def run(self) -> list[nodes.Node]:
        """The sections."""
        sections: list[nodes.Node] = []
        for name, text in all_help().items():
            section = nodes.section(ids=[nodes.make_id(name)], names=[name])
            section += nodes.title("", name)
            section += nodes.literal_block(text, text, language="text")
            self.state.document.note_explicit_target(section, section)
            sections.append(section)
        return sections


def setup(app: object) -> dict[str, bool]:
    """Tell Sphinx of the directive."""
    app.add_directive("lg-commands", CommandReference)  # type: ignore[attr-defined]
    return {"parallel_read_safe": True}
