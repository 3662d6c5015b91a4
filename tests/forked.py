"""Installed commands and scripts, each in a process of its own, forked from one which has imported what they need.

A command takes seconds to import torch and nerfstudio: here that is done once. Run as a program this is the process
that forks: it reads a command a line and answers with the exit status of each.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

BIN = Path(sys.executable).parent
IMPORTED = {
    "lg_field": (
        *("torch", "lg_field.cli.running", "lg_field.files", "lg_field.radiance.render", "lg_field.signals.kinds"),
        *("lg_field.cli.encode", "lg_field.cli.fitting", "torchmetrics"),
    ),
    "nerfstudio": (
        *(f"nerfstudio.scripts.{name}" for name in ("train", "eval", "render", "exporter")),
        *("lg_field.nerfstudio.config", "lg_field.nerfstudio.runs"),
    ),
}
"""What is imported before commands are forked: for those that read runs nerfstudio, too."""


def forked(program: str | Path, *arguments: object, cwd: Path, fails: int = 0) -> str:
    """Run a command; returns what it printed.

    Args:
        program: the name of an installed command, or the path of a script.
        arguments: its words.
        cwd: the folder it runs in.
        fails: the exit status that it is to have; True is 1.
    """
    words = [str(BIN / program), *map(str, arguments)]
    if sys.platform != "linux":
        return started(*words, cwd=cwd, fails=fails)
    with tempfile.NamedTemporaryFile("r") as output:
        server = _server("--load-config" in words or program in ("ns-train", "ns-viewer"))
        assert server.stdin is not None and server.stdout is not None
        try:
            server.stdin.write(json.dumps([str(cwd), output.name, dict(os.environ), words]) + "\n")
            server.stdin.flush()
            status = server.stdout.readline()
        except BaseException:  # a test that ran too long, or Ctrl-C: what it answers later is for nobody
            server.kill()
            _server.cache_clear()
            raise
        printed = output.read()
    assert status, "the process that commands are forked from has ended"
    assert int(status) == fails, (status, printed[-3000:])
    return printed


def started(program: str | Path, *arguments: object, cwd: Path, fails: int = 0) -> str:
    """The same by a program that is started, and imports what it needs itself."""
    path = BIN / program
    command = [str(word) for word in (*([sys.executable] if path.suffix == ".py" else []), path, *arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
    done = subprocess.run(command, cwd=cwd, text=True, timeout=280, **pipes)  # type: ignore[call-overload]
    assert done.returncode == fails, (done.returncode, done.stdout[-3000:])
    return done.stdout


@functools.cache
def _server(nerfstudio: bool) -> subprocess.Popen[str]:
    """Ends with this process, whose end closes its input."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    command = [sys.executable, __file__, *(list(IMPORTED) if nerfstudio else ["lg_field"])]
    return subprocess.Popen(command, text=True, **pipes)  # type: ignore[call-overload]


def _run(cwd: str, output: str, environment: dict[str, str], words: list[str]) -> int:
    """The command, in the process that was forked for it; its exit status."""
    written, nothing = os.open(output, os.O_WRONLY), os.open(os.devnull, os.O_RDONLY)
    for old, new in ((nothing, 0), (written, 1), (written, 2)):
        os.dup2(old, new)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # in its place among what is said of errors
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.argv, sys.path[0] = words, str(Path(words[0]).parent)
    try:
        runpy.run_path(words[0], run_name="__main__")
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        return 1
    return 0


def main() -> None:
    """Fork a process for each line, until there are no more."""
    for name in (name for chosen in sys.argv[1:] for name in IMPORTED[chosen]):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    for line in sys.stdin:
        process = os.fork()
        if process == 0:
            status = 1
            try:
                status = _run(*json.loads(line))
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(status)
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
