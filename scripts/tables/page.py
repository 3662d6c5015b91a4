"""One page of all tables that have been made.

    python scripts/tables/page.py --around scripts/tables/results.md
    python scripts/tables/page.py outputs/tables -o outputs/results.md --rows none

First every table that has finished rows below `--rows` is written anew of them, to the folder of tables. Then every
results.md below that folder becomes a section, in the order of their folders' names; its CSV and plot go beside the
page, in a folder of the page's name. `--around` is a page with places for tables, `{{signals/images}}` for that of the
folder signals/images: what is said around them stays, and tables that it has no place for come last. A table that is
not there, but stands in the page that is written anew, stays in it; that is said. `{{signals/images?}}` is a place for
a table that may not have been made yet: then the paragraph that the place stands in is left out, and that is said.
Such a place is the only one of its paragraph; another one there is an error.
"""

from __future__ import annotations

import importlib
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rows import ROWS

from lg_field.files import atomic_write


@dataclass
class Args:
    """Make the page."""

    tables: Annotated[Path, tyro.conf.Positional] = Path("outputs/tables")
    """Folder of tables."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("docs/results.md")
    """The page; written anew."""
    around: Path | None = None
    """A page with places for the tables; None = one section for each."""
    rows: Path = ROWS
    """Folder of finished rows."""
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


def from_rows(rows: Path, tables: Path) -> None:
    """Write the tables of finished rows: `rows`/signals/images.jsonl by signals.py, to `tables`/signals/images."""
    for path in sorted(rows.rglob("*.jsonl")):
        name = path.relative_to(rows).with_suffix("")
        importlib.import_module(name.parts[0]).from_rows(path, tables / name)


def marked(name: str, text: str) -> str:
    """A table between comments that tell where it begins and ends."""
    return f"<!-- {name} -->\n\n{text}\n\n<!-- end of {name} -->"


def standing(page: Path) -> dict[str, str]:
    """The tables that stand in a page, by name."""
    text = page.read_text() if page.exists() else ""
    return dict(re.findall(r"<!-- (\S+) -->\n\n(.*?)\n\n<!-- end of \1 -->", text, re.DOTALL))


def settled(page: str, tables: set[str], path: Path | None) -> tuple[str, list[str]]:
    """A page in which places for tables that may be missing are plain places, or gone with their paragraphs where
    these tables do not have them; and the names of those.

    Args:
        page: its text.
        tables: names of those that are there.
        path: where the page was read.

    Raises:
        SystemExit: a paragraph has such a place beside another one, whose table would be gone with it.
    """
    kept, empty = [], []
    line = 1
    for text in page.split("\n\n"):
        places = re.findall(r"\{\{(.*?)\}\}", text)
        missing = [name[:-1] for name in places if name.endswith("?") and name[:-1] not in tables]
        if len(places) > 1 and any(name.endswith("?") for name in places):
            at = line + text[: text.index("{{")].count("\n")
            raise SystemExit(
                f"{path}, line {at}: the paragraph has places for {', '.join(places)}: one that ends in ? goes with "
                "its paragraph, so it must be the only one there; put an empty line between them"
            )
        line += text.count("\n") + 2
        empty += missing
        kept += [] if missing else [text.replace("?}}", "}}")]
    return "\n\n".join(kept).rstrip("\n") + "\n", empty


def main(args: Args) -> None:
    """Write the page."""
    from_rows(args.rows, args.tables)
    files = {t.parent.relative_to(args.tables).as_posix(): t for t in sorted(args.tables.rglob("results.md"))}
    if not files:
        raise SystemExit(f"{args.tables}: no results.md below it; the scripts of scripts/tables write them")
    page, before = f"# {args.title}\n" if args.around is None else args.around.read_text(), standing(args.output)
    page, empty = settled(page, {*files, *before}, args.around)
    places = set(re.findall(r"\{\{(.*?)\}\}", page))
    missing = sorted(places - {*files, *before})
    if missing:
        raise SystemExit(f"{args.around} has places for {', '.join(missing)}, which are not in {args.tables}")
    beside = args.output.with_suffix("")
    beside.mkdir(parents=True, exist_ok=True)
    stays = {name: before[name] for name in sorted(places - files.keys())}
    for name, text in (stays | {name: content(table, name, beside) for name, table in files.items()}).items():
        place, table = "{{" + name + "}}", marked(name, text)
        page = page.replace(place, table) if place in page else f"{page}\n## {name.replace('/', '-')}\n\n{table}\n"
    with atomic_write(args.output, overwrite=True) as temporary:
        temporary.write_text(page)
    told = {"left as they were": list(stays), "not made yet": empty}
    print(f"{args.output}: {len(files)} tables" + "".join(f"; {k}: {', '.join(v)}" for k, v in told.items() if v))


if __name__ == "__main__":
    main(tyro.cli(Args))
