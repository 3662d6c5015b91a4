"""Commands. Each is a thin tyro function over the library; heavy imports wait until a command runs."""

from __future__ import annotations

import tyro

from lg_field.errors import entry_point


def main() -> None:
    """Entry point of `lg-field`."""
    with entry_point("lg-field"):
        tyro.extras.subcommand_cli_from_dict(
            commands(),  # type: ignore[arg-type]
            prog="lg-field",
            description="Local-Global neural fields that can be cropped.",
            config=(tyro.conf.OmitArgPrefixes,),
        )


def commands() -> dict[str, object]:
    """The subcommands."""
    from lg_field.cli.decode import decode
    from lg_field.cli.edit import crop, extend, merge, prune
    from lg_field.cli.encode import encode
    from lg_field.cli.info import info, validate
    from lg_field.cli.mesh import mesh
    from lg_field.cli.restore import denoise, reconstruct_ct, super_resolve
    from lg_field.cli.scene import pack, render
    from lg_field.cli.view import view

    return {
        "encode": encode,
        "decode": decode,
        "info": info,
        "validate": validate,
        "crop": crop,
        "extend": extend,
        "prune": prune,
        "merge": merge,
        "pack": pack,
        "render": render,
        "mesh": mesh,
        "super-resolve": super_resolve,
        "denoise": denoise,
        "reconstruct-ct": reconstruct_ct,
        "view": view,
    }
