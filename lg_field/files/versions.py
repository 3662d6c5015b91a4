"""Whether a far file is still the one that was opened: one that is replaced between two requests would give bytes of
both.

Servers say with every answer which version of a file it is of (`ETag`, or `Last-Modified`) and how long that is. What
says nothing with its answers (object stores, by fsspec) is asked for it after each reading.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ANSWERED, TOO_FAR = (200, 206), 416
"""Statuses of answers that hold a file or a range of it, and of those that say that a range lies behind its end."""
NAMES = (
    "ETag",
    "etag",
    "generation",
    "md5Hash",
    "Last-Modified",
    "LastModified",
    "last_modified",
    "updated",
    "mtime",
    "created",
)
"""Under which fsspec's file systems say which version of a file they have, the surest first."""
LENGTH = "length"


class Version:
    """What is known of the version of one file."""

    def __init__(self, path: str) -> None:
        """
        Args:
            path: of the file, for messages.
        """
        self.path = path
        self._known: dict[str, str] = {}
        self._other: tuple[str, str] | None = None

    @property
    def named(self) -> bool:
        """Whether anything but its length tells it from others."""
        return any(name != LENGTH for name in self._known)

    def answered(self, status: int, headers: Mapping[str, str]) -> None:
        """Note what an answer over http says.

        Args:
            status: of the answer.
            headers: its own; names in any case if the mapping finds them so.
        """
        total = headers.get("Content-Range", "").rpartition("/")[2]
        if total.isdigit() and status in (206, TOO_FAR):
            self._note(LENGTH, total)
        if status not in ANSWERED:
            return
        for name in ("ETag", "Last-Modified"):
            if value := headers.get(name):
                self._note(name, value.removeprefix("W/"))
                return

    def described(self, info: Mapping[str, Any]) -> None:
        """Note what a file system says of the file (fsspec's `info`)."""
        name = next((name for name in NAMES if info.get(name) is not None), None)
        if name is not None:
            self._note(name, str(info[name]).removeprefix("W/"))
        if info.get("size") is not None:
            self._note(LENGTH, str(info["size"]))

    def _note(self, name: str, value: str) -> None:
        if self._known.setdefault(name, value) != value and self._other is None:
            self._other = name, value

    def check(self) -> None:
        """
        Raises:
            OSError: two answers were of two versions.
        """
        if self._other is not None:
            name, value = self._other
            raise OSError(
                f"{self.path} was replaced while it was read (its {name} was {self._known[name][:60]} and is "
                f"{value[:60]} now): read it again, or download it first"
            )
