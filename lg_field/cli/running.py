"""How every command starts: its arguments read, paths with `~` expanded, errors turned into lines at its end."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from lg_field.errors import entry_point, notices_shown

OPTIONS = (tyro.conf.OmitArgPrefixes, tyro.conf.DisallowNone)
"""Of every command: flags have no prefix, and an option that may be left out shows the type it takes."""
PATHS = ConstructorRegistry()
"""Reads paths for tyro."""


@PATHS.primitive_rule
def path_rule(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Path] | None:
    """Paths with a leading `~` or `~name` expanded, also where quotes kept the shell from doing so."""
    if info.type is not Path:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=lambda words: Path(os.path.expanduser(words[0])),
        is_instance=lambda value: isinstance(value, Path),
        str_from_instance=lambda path: [str(path)],
    )


def run_command(prog: str, command: Callable[..., None] | Mapping[str, Callable[..., None]]) -> None:
    """Read the command line and run what it asks for; the entry point of every program of ours.

    Args:
        prog: its name.
        command: a function whose arguments become the options, or one for each subcommand.

    Raises:
        SystemExit: the command failed (1), was interrupted (130), or its arguments make no sense (2).
    """
    show_everything()
    with entry_point(prog), notices_shown(prog):
        if callable(command):
            tyro.cli(command, prog=prog, config=OPTIONS, registry=PATHS)
            return
        tyro.extras.subcommand_cli_from_dict(
            dict(command),
            prog=prog,
            description="Local-Global neural fields that can be cropped.",
            config=OPTIONS,
            registry=PATHS,
        )


def show_everything() -> None:
    """Characters that the terminal's encoding lacks are shown as escapes; printing never fails because of one."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure: Any = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
