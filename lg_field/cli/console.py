"""What commands show on a terminal: tables of sizes, progress bars, a line of facts."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text


def say(console: Console, text: str) -> None:
    """Print text as it is: no colours of its own, no lines broken."""
    console.print(text, highlight=False, soft_wrap=True, markup=False, emoji=False)


def print_sizes(console: Console, title: str, rows: Iterable[tuple[str, int, int]]) -> None:
    """A table of (name, before, after) with the part kept."""
    table = Table("", "before", "after", "kept", title=Text(title))
    for name, before, after in rows:
        table.add_row(name, f"{before:,}", f"{after:,}", f"{after / max(before, 1):.1%}")
    console.print(table)


def progress_bar(console: Console) -> Progress:
    """A bar that goes away when it is done; none where no one watches."""
    return Progress(console=console, transient=True, disable=not console.is_terminal)


def shows(console: Console, characters: str) -> bool:
    """Whether the terminal's encoding has these characters."""
    try:
        characters.encode(console.encoding or "ascii")
    except (UnicodeError, LookupError):
        return False
    return True
