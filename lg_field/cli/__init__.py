"""Commands. Each is a thin tyro function over the library; heavy imports wait until a command runs."""

from __future__ import annotations

import sys

import tyro

from lg_field.errors import entry_point


def main() -> None:
    """Entry point of `lg-field`."""
    with entry_point("lg-field"):
        arguments = sys.argv[1:]
        tyro.extras.subcommand_cli_from_dict(
            commands(arguments),  # type: ignore[arg-type]
            prog="lg-field",
            description="Local-Global neural fields that can be cropped.",
            config=(tyro.conf.OmitArgPrefixes,),
        )


def commands(arguments: list[str]) -> dict[str, object]:
    """The subcommands. The arguments are looked through for presets and kinds of files, which set the defaults."""
    from lg_field.cli.decode import decode
    from lg_field.cli.edit import crop, extend_command, merge, prune
    from lg_field.cli.encode import encode_command
    from lg_field.cli.info import info, validate
    from lg_field.cli.mesh import mesh
    from lg_field.cli.presets import settings_from_arguments
    from lg_field.cli.restore import denoise_command, reconstruct_ct_command, super_resolve_command
    from lg_field.cli.restoring import RestoreOptions
    from lg_field.cli.scene import pack, render
    from lg_field.cli.view import view

    settings = settings_from_arguments(arguments)
    return {
        "encode": encode_command(settings),
        "decode": decode,
        "info": info,
        "validate": validate,
        "crop": crop,
        "extend": extend_command(settings.fit),
        "prune": prune,
        "merge": merge,
        "pack": pack,
        "render": render,
        "mesh": mesh,
        "super-resolve": super_resolve_command(RestoreOptions(settings)),
        "denoise": denoise_command(RestoreOptions(settings)),
        "reconstruct-ct": reconstruct_ct_command(RestoreOptions(settings)),
        "view": view,
    }
