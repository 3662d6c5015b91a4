"""One page of all tables that have been made.

    python scripts/tables/page.py outputs/tables -o outputs/results.md

Every results.md below the folder becomes a section, in the order of their folders' names; its CSV and plot go beside
the page, in a folder of the page's name.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from lg_field.files import atomic_write


@dataclass
class Args:
    """Make the page."""

    tables: Annotated[Path, tyro.conf.Positional]
    """Folder of tables."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("docs/results.md")
    """The page; written anew."""
    title: str = "Results"
    """Its heading."""


def section(table: Path, root: Path, beside: Path) -> str:
    """A table as a section; its CSV and plot are copied to `beside`."""
    name = "-".join(table.parent.relative_to(root).parts) or table.parent.name
    lines = [f"## {name}", "", table.read_text().strip(), ""]
    for kept, said in (("results.csv", "[CSV]({})"), ("curves.png", "![PSNR by steps and seconds]({})")):
        if (table.parent / kept).exists():
            copy = beside / f"{name}{Path(kept).suffix}"
            shutil.copyfile(table.parent / kept, copy)
            lines += [said.format(f"{beside.name}/{copy.name}"), ""]
    return "\n".join(lines)


def main(args: Args) -> None:
    """Write the page."""
    found = sorted(args.tables.rglob("results.md"))
    if not found:
        raise SystemExit(f"{args.tables}: no results.md below it; the scripts of scripts/tables write them")
    beside = args.output.with_suffix("")
    beside.mkdir(parents=True, exist_ok=True)
    sections = [section(table, args.tables, beside) for table in found]
    with atomic_write(args.output, overwrite=True) as temporary:
        temporary.write_text("\n".join([f"# {args.title}", "", *sections]))
    print(f"{args.output}: {len(found)} tables")


if __name__ == "__main__":
    main(tyro.cli(Args))
