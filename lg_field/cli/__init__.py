"""Commands. Each is a thin tyro function over the library, imported only when it is asked for."""

from __future__ import annotations

import sys
from collections.abc import Callable

from lg_field.errors import entry_point

COMMANDS = {
    "encode": "lg_field.cli.encode:encode",
    "decode": "lg_field.cli.decode:decode",
    "info": "lg_field.cli.info:info",
    "validate": "lg_field.cli.info:validate",
    "crop": "lg_field.cli.edit:crop",
    "clean": "lg_field.cli.clean:clean",
    "compose": "lg_field.cli.compose:compose",
    "extend": "lg_field.cli.extend:extend",
    "prune": "lg_field.cli.edit:prune",
    "merge": "lg_field.cli.edit:merge",
    "compress": "lg_field.cli.compress:compress",
    "decompress": "lg_field.cli.compress:decompress",
    "train": "lg_field.cli.train:train",
    "pack": "lg_field.cli.scene:pack",
    "render": "lg_field.cli.scene:render",
    "mesh": "lg_field.cli.mesh:mesh",
    "photos": "lg_field.cli.photos:photos",
    "super-resolve": "lg_field.cli.restore:super_resolve",
    "denoise": "lg_field.cli.restore:denoise",
    "reconstruct-ct": "lg_field.cli.restore:reconstruct_ct",
    "view": "lg_field.cli.view:view",
    "publish": "lg_field.cli.publish:publish",
}
"""Subcommand -> module:function, in the order of the help."""


def main() -> None:
    """Entry point of `lg-field`."""
    from lg_field.cli.running import run_command

    with entry_point("lg-field"):
        run_command("lg-field", needed(sys.argv[1] if len(sys.argv) > 1 else ""))


def commands() -> dict[str, Callable[..., None]]:
    """The subcommands by name, all of them imported."""
    from lg_field.cli.lazy import function_at

    return {name: function_at(place) for name, place in COMMANDS.items()}


def needed(first: str) -> dict[str, Callable[..., None]]:
    """The subcommands that a command line needs to know, imported only as far as it does.

    Args:
        first: its first word. The name of a command: that command. A wish for a shell's completions, which list every
            option: all of them. Anything else is answered from the commands' docstrings.
    """
    from lg_field.cli.lazy import function_at, only_described

    name = first.replace("_", "-")
    if name in COMMANDS:
        return {name: function_at(COMMANDS[name])}
    if first.startswith("--tyro-"):
        return commands()
    return {known: only_described(place) for known, place in COMMANDS.items()}
