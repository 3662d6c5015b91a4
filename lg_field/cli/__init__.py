"""Commands. Each is a thin tyro function over the library; heavy imports wait until a command runs."""

from __future__ import annotations

import sys

import tyro


def main() -> None:
    """Entry point of `lg-field`."""
    from lg_field.cli.mesh import mesh

    with user_errors("lg-field"):
        tyro.extras.subcommand_cli_from_dict({"mesh": mesh}, prog="lg-field", description="Local-Global fields.")


class user_errors:
    """Context: expected errors (bad input, existing files, missing packages, full disks) print one line and exit 1."""

    def __init__(self, prog: str) -> None:
        self.prog = prog

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, KeyboardInterrupt):
            print(f"{self.prog}: interrupted, nothing was changed", file=sys.stderr)
            raise SystemExit(130) from None
        if isinstance(error, (ValueError, OSError, ImportError)):
            print(f"{self.prog}: {error}", file=sys.stderr)
            raise SystemExit(1) from None
