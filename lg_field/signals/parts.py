"""One part of what holds several: `scan.npz:volume`, page 3 of `stack.tif:3`, frame 1 of `film.webp:1`, the second
series of a folder, `scans:2`."""

from __future__ import annotations

import re
from pathlib import Path

PARTED = re.compile(r"(.*\.(?:npz|tiff?|gif|webp|a?png|avif)):(.+)", re.IGNORECASE | re.DOTALL)
"""Names of files that may hold several things, and what follows to choose one."""


def split_part(path: Path) -> tuple[Path, str]:
    """A file or folder, and which of its parts is asked for; "" = none in particular."""
    if path.exists():
        return path, ""
    if found := PARTED.fullmatch(str(path)):
        return Path(found[1]), found[2]
    folder, colon, part = str(path).rpartition(":")
    return (Path(folder), part) if colon and Path(folder).is_dir() else (path, "")


def chosen_page(part: str, count: int, path: Path, what: str) -> int:
    """Which of a file's pages to read, from 0.

    Args:
        part: as `split_part` gives it: the page's number from 1, or "".
        count: pages of the file.
        path: of the file, for messages.
        what: the pages are called.

    Raises:
        ValueError: no such page, or none chosen of several.
    """
    if not part and count == 1:
        return 0
    if not part:
        raise ValueError(f"{path} holds {count} {what}: choose one, {path}:1 to {path}:{count}{CURES.get(what, '')}")
    if not part.isascii() or not part.isdigit() or not 1 <= int(part) <= count:
        raise ValueError(f"{path}:{part}: the file holds {count} {what}, numbered from 1 to {count}")
    return int(part) - 1


CURES = {
    "frames": ", or encode it as a video (--kind video)",
    "pages": ", or encode all of them as a volume (--kind volume)",
}
"""What else can be done with a file of several pages."""
