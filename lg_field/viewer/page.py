"""A viser page that stays on this machine: no analytics tag, no remote logo, no share button."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import socket
import tempfile
from pathlib import Path
from typing import Any

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
        plain(self, *args, **kwargs | ({} if root is None else {"http_server_root": quiet_root(root)}))

    infra.WebsockServer.__init__ = initialize  # type: ignore[method-assign]


_folders: dict[Path, tempfile.TemporaryDirectory] = {}


def quiet_root(root: Path) -> Path:
    """A folder like `root` whose index.html loads nothing from elsewhere; it goes when the process ends."""
    if root not in _folders:
        folder = _folders[root] = tempfile.TemporaryDirectory(prefix="lg-field-page-")
        for entry in root.iterdir():
            if entry.name != "index.html":
                (Path(folder.name) / entry.name).symlink_to(entry)
        page = REMOTE_SCRIPT.sub("", (root / "index.html").read_text("utf8"))
        meta = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}" />'
        (Path(folder.name) / "index.html").write_text(page.replace("<head>", f"<head>{meta}", 1), "utf8")
    return Path(_folders[root].name)
