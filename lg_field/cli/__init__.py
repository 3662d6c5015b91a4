"""Commands. Each is a thin tyro function over the library; heavy imports wait until a command runs."""

from __future__ import annotations

from collections.abc import Callable


def main() -> None:
    """Entry point of `lg-field`."""
    from lg_field.cli.running import run_command

    run_command("lg-field", commands())


def commands() -> dict[str, Callable[..., None]]:
    """The subcommands by name."""
    from lg_field.cli.clean import clean
    from lg_field.cli.compose import compose
    from lg_field.cli.decode import decode
    from lg_field.cli.edit import crop, merge, prune
    from lg_field.cli.encode import encode
    from lg_field.cli.extend import extend
    from lg_field.cli.info import info, validate
    from lg_field.cli.mesh import mesh
    from lg_field.cli.photos import photos
    from lg_field.cli.restore import denoise, reconstruct_ct, super_resolve
    from lg_field.cli.scene import pack, render
    from lg_field.cli.view import view

    return {
        "encode": encode,
        "decode": decode,
        "info": info,
        "validate": validate,
        "crop": crop,
        "clean": clean,
        "compose": compose,
        "extend": extend,
        "prune": prune,
        "merge": merge,
        "pack": pack,
        "render": render,
        "mesh": mesh,
        "photos": photos,
        "super-resolve": super_resolve,
        "denoise": denoise,
        "reconstruct-ct": reconstruct_ct,
        "view": view,
    }
