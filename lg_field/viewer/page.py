"""A viser page that stays on this machine (no analytics tag, no remote logo, no share button) and outlives errors."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import socket
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lg_field.errors import report, traceback_wanted

POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src data: blob:; worker-src 'self' blob:; font-src 'self' data:; "
    "connect-src 'self' ws: data: blob:"
)
"""What the page may load: only what its own server serves."""
REMOTE_SCRIPT = re.compile(
    r"<script[^>]*src=\"https?://[^>]*>\s*</script>\s*<script>.*?</script>|<!-- Google tag.*?-->", re.S
)


def open_server(port: int, label: str) -> Any:
    """A viser server on 127.0.0.1.

    Args:
        port: the first port tried; 0 and taken ones give the next free one.
        label: shown above the panel.

    Raises:
        ImportError: viser is missing.
    """
    try:
        import viser
    except ImportError as error:
        raise ImportError("the viewer needs viser: pip install 'lg-field[viewer]'") from error
    keep_pages_quiet()
    with open(os.devnull, "w") as silence, contextlib.redirect_stdout(silence):
        server = viser.ViserServer("127.0.0.1", port or free_port(), label=label, verbose=False)
    stay_home(server, show_share_button=False)
    return server


def stay_home(server: Any, **theme: Any) -> None:
    """Take away a viser page's remote logo.

    Args:
        server: viser's.
        theme: what else its `configure_theme` takes.
    """
    server.gui.configure_theme(
        control_layout="collapsible", control_width="large", dark_mode=True, show_logo=False, **theme
    )


def free_port() -> int:
    """A port of 127.0.0.1 that no one listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def keep_pages_quiet() -> None:
    """From now on, viser servers of this process serve viser's page without its analytics tag."""
    from viser import infra

    plain = infra.WebsockServer.__init__
    if hasattr(plain, "__wrapped__"):
        return

    @functools.wraps(plain)
    def initialize(self: Any, *args: Any, **kwargs: Any) -> None:
        root = kwargs.get("http_server_root")
        plain(self, *args, **kwargs | ({} if root is None else {"http_server_root": QuietRoot(root)}))

    infra.WebsockServer.__init__ = initialize  # type: ignore[method-assign]


@dataclass(frozen=True)
class QuietRoot:
    """The folder of viser's page as its server sees it: nothing above it, and an index.html that stays at home."""

    folder: Path

    def __truediv__(self, name: str) -> Path | QuietIndex:
        path = (self.folder / name).resolve()
        if not path.is_relative_to(self.folder.resolve()):
            return self.folder / "not-here"
        return QuietIndex(path) if name == "index.html" else path


@dataclass(frozen=True)
class QuietIndex:
    """An index.html that loads nothing from elsewhere; as much of a path as viser's server asks for."""

    path: Path

    def exists(self) -> bool:
        """Whether it is there."""
        return self.path.exists()

    def read_bytes(self) -> bytes:
        """The page without remote scripts, and with a policy that forbids all others."""
        page = REMOTE_SCRIPT.sub("", self.path.read_text("utf8"))
        meta = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}" />'
        return page.replace("<head>", f"<head>{meta}", 1).encode()


@contextlib.contextmanager
def keeps_going(say: Callable[[str], None]) -> Iterator[None]:
    """Context for all that a page's threads and callbacks do: an error becomes a line on the page, never their end.

    Bugs, which `errors.report` has no line for, also print their traceback where the program runs.

    Args:
        say: shows a line of markdown on the page; what it raises itself (the browser has gone) is dropped.
    """
    try:
        yield
    except Exception as error:
        line = report(error)
        if line is None or traceback_wanted():
            traceback.print_exc()
        with contextlib.suppress(Exception):
            say(f"**{plain(line or f'{type(error).__name__}: {error}')}**")


def plain(text: str) -> str:
    """Text that markdown shows as it is: the page would run what stands in braces or tags."""
    return "".join(c if c.isalnum() or c in " .,:;/-+%()=" else f"&#{ord(c)};" for c in text)
