"""One page of all tables that have been made.

    python scripts/tables/page.py outputs/tables -o outputs/results.md
    python scripts/tables/page.py outputs/tables --around scripts/tables/results.md -o docs/results.md

Every results.md below the folder becomes a section, in the order of their folders' names; its CSV and plot go beside
the page, in a folder of the page's name. `--around` is a page with places for tables, `{{signals/images}}` for that of
the folder signals/images: what is said around them stays, and tables that it has no place for come last.
"""

from __future__ import annotations

import re
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
    around: Path | None = None
    """A page with places for the tables; None = one section for each."""
    title: str = "Results"
    """Its heading, without `--around`."""


PLOTS = {"curves.png": "PSNR by steps and seconds", "proportion.png": "kept bytes by kept cells"}
"""Pictures beside a table, and what they show."""


def content(table: Path, name: str, beside: Path) -> str:
    """What a results.md says, with links to its CSV and plots, which are copied to `beside`."""
    lines = [table.read_text().strip(), ""]
    links = {"results.csv": "[CSV]({})"} | {k: f"![{v}]({{}})" for k, v in PLOTS.items()}
    for kept, said in links.items():
        if (table.parent / kept).exists():
            copy = beside / f"{name.replace('/', '-')}{Path(kept).suffix}"
            shutil.copyfile(table.parent / kept, copy)
            lines += [said.format(f"{beside.name}/{copy.name}"), ""]
    return "\n".join(lines).strip()


def main(args: Args) -> None:
    """Write the page."""
    found = {t.parent.relative_to(args.tables).as_posix(): t for t in sorted(args.tables.rglob("results.md"))}
    if not found:
        raise SystemExit(f"{args.tables}: no results.md below it; the scripts of scripts/tables write them")
    page = f"# {args.title}\n" if args.around is None else args.around.read_text()
    missing = sorted(set(re.findall(r"\{\{(.*?)\}\}", page)) - set(found))
    if missing:
        raise SystemExit(f"{args.around} has places for {', '.join(missing)}, which are not in {args.tables}")
    beside = args.output.with_suffix("")
    beside.mkdir(parents=True, exist_ok=True)
    for name, table in found.items():
        place, text = "{{" + name + "}}", content(table, name, beside)
        page = page.replace(place, text) if place in page else f"{page}\n## {name.replace('/', '-')}\n\n{text}\n"
    with atomic_write(args.output, overwrite=True) as temporary:
        temporary.write_text(page)
    print(f"{args.output}: {len(found)} tables")


if __name__ == "__main__":
    main(tyro.cli(Args))
