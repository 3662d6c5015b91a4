"""Errors a user can act on, and the line that a command ends in instead of a traceback.

Deep inside, bad input is a `ValueError` (`UserError` is one). Only the entry points of programs turn errors into lines:
our own commands with `entry_point`, nerfstudio's with `hook_errors_and_notices`.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from types import TracebackType
from typing import Any

PROG = "lg-field"
"""Who says a line in programs that are not ours."""
TRACEBACK = "LG_FIELD_TRACEBACK"
"""Environment variable; "1" shows tracebacks as well."""
FAILURES = (RuntimeError, OverflowError, MemoryError)
"""Errors that no check foresaw but that the machine or the input may well cause: a line says what was being done."""
EXTRAS = {
    "PIL": ("Pillow", "signals"),
    "av": ("PyAV", "signals"),
    "cv2": ("OpenCV", "signals"),
    "imagecodecs": ("imagecodecs", "signals"),
    "mcubes": ("PyMCubes", "mesh"),
    "nerfstudio": ("nerfstudio", "nerfstudio"),
    "open3d": ("open3d", "mesh"),
    "pycolmap": ("pycolmap", "photos"),
    "scipy": ("scipy", "mesh"),
    "skimage": ("scikit-image", "restoration"),
    "soundfile": ("soundfile", "signals"),
    "tensorboard": ("tensorboard", "signals"),
    "tifffile": ("tifffile", "signals"),
    "torchmetrics": ("torchmetrics", "signals"),
    "torchvision": ("torchvision", "restoration"),
    "trimesh": ("trimesh", "mesh"),
    "viser": ("viser", "viewer"),
    "yaml": ("PyYAML", "signals"),
}
"""Optional package by the name it is imported by -> what it is called, and the extra that installs it."""
LONGEST = 400
"""Characters of an error's own words in such a line; twice as many of one that says itself what is wrong."""


def tell(line: str) -> None:
    """Say on standard error, in one line, what of an input is left out or taken as something else."""
    print(" ".join(line.split()), file=sys.stderr)


class UserError(ValueError):
    """Bad input to a nerfstudio script: it ends in this one line (`hook_errors_and_notices`), not in a
    traceback."""


class Notice(UserWarning):
    """What a user should know of a result that is right as far as it goes: what was left out, changed or assumed."""


def notice(line: str) -> None:
    """Say in one line what is left out or changed. A program of ours shows it on stderr (`notices_shown`), nerfstudio's
    too (`hook_errors_and_notices`), elsewhere it is a Python warning."""
    warnings.warn(" ".join(line.split()), Notice, stacklevel=2)


def said_by(prog: str, words: object) -> str:
    """The line in which a program says something: an error that it ends in, or a notice."""
    return f"{prog}: {words}"


def notice_line(prog: str, message: Warning | str, category: type[Warning]) -> str | None:
    """The line in which a program says a warning that is a `Notice`; None for every other warning."""
    return said_by(prog, message) if issubclass(category, Notice) else None


@contextlib.contextmanager
def notices_shown(prog: str) -> Iterator[None]:
    """Context: every `notice` is one line on stderr that begins with the program's name; other warnings stay."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", Notice)
        before = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            line = notice_line(prog, message, category)
            if line is None:
                before(message, category, *where, **more)
            else:
                print(line, file=sys.stderr)

        warnings.showwarning = show
        yield


@contextlib.contextmanager
def doing(what: str) -> Iterator[None]:
    """Context: errors raised inside carry along what was being done; `report` says it.

    Args:
        what: goes on after "while", e.g. "encoding photo.png".
    """
    try:
        yield
    except Exception as error:
        error.__dict__.setdefault("doing", []).append(what)
        raise


def chain(error: BaseException) -> list[str]:
    """What was being done when an error was raised, the innermost `doing` first."""
    return list(error.__dict__.get("doing", []))


def report(error: BaseException) -> str | None:
    """The line that a command ends in, without the command's name.

    Args:
        error: what was raised.

    Returns:
        Errors that say themselves what is wrong (ValueError, OSError, ImportError): their own words. A missing package
        of `EXTRAS`: what needs it, and the command that installs it. `FAILURES`: what
        failed, while what, and the error's words. None for every other error: that is a bug and needs its traceback.
    """
    words = " ".join(str(error).split())
    missing = EXTRAS.get((error.name or "").split(".")[0]) if isinstance(error, ModuleNotFoundError) else None
    if missing is not None:
        return f"{(chain(error) or ['this'])[-1]} needs {missing[0]}: pip install 'lg-field[{missing[1]}]'"
    if isinstance(error, (ValueError, OSError, ImportError)):
        return shortened(words, 2 * LONGEST) or type(error).__name__
    if not isinstance(error, FAILURES) or isinstance(error, NotImplementedError):
        return None
    words = shortened(words, LONGEST)
    steps = ", ".join(reversed(chain(error)))
    while_ = f" while {steps}" if steps else ""
    return f"{failure(error)}{while_}{': ' if words else ''}{words} ({TRACEBACK}=1 shows where)"


def shortened(words: str, longest: int) -> str:
    """Words of about `longest` characters: more is left out in the middle, where a file's own long values stand, so
    that what was wrong and the cure remain."""
    half = longest // 2
    return words if len(words) <= longest else f"{words[:half]} [...] {words[-half:]}"


def failure(error: BaseException) -> str:
    """One of `FAILURES` in words."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's is a RuntimeError
        return "out of memory"
    if isinstance(error, OverflowError):
        return "a number is too large"
    return "something is nested too deeply" if isinstance(error, RecursionError) else "failed"


def traceback_wanted() -> bool:
    """Whether the environment asks for tracebacks."""
    return os.environ.get(TRACEBACK, "") not in ("", "0")


class entry_point(contextlib.ContextDecorator):
    """Context or decorator around a command: errors print one line and exit with status 1, Ctrl-C with 130.

    Errors for which `report` has no line pass through. With LG_FIELD_TRACEBACK=1 the traceback comes before the line.
    """

    def __init__(self, prog: str) -> None:
        """
        Args:
            prog: name of the command; the line begins with it.
        """
        self.prog = prog

    def __enter__(self) -> entry_point:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        interrupted = isinstance(error, KeyboardInterrupt)
        line = "interrupted" if interrupted else None if error is None else report(error)
        if error is None or line is None:
            return
        if traceback_wanted():
            traceback.print_exception(kind, error, where)
        print(said_by(self.prog, line), file=sys.stderr)
        raise SystemExit(130 if interrupted else 1) from None


class _Hook:
    """Prints the line of a `UserError`; the hook that was there before sees everything else."""

    def __init__(self) -> None:
        self.before = sys.excepthook

    def __call__(self, kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
        if isinstance(error, UserError) and not traceback_wanted():
            print(said_by(PROG, report(error)), file=sys.stderr)
        else:
            self.before(kind, error, where)


def hook_errors_and_notices() -> None:
    """From here on a `UserError` that nobody catches ends any program in one line; the exit status stays 1. A
    `notice` is one line, without the place in the code that it came from.

    For programs that are not ours (ns-train, ns-eval, ...) and print tracebacks. Installed once, however often called.
    """
    if isinstance(sys.excepthook, _Hook):
        return
    sys.excepthook, before = _Hook(), warnings.formatwarning

    def line_of(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> str:
        line = notice_line(PROG, message, category)
        return before(message, category, *where, **more) if line is None else f"{line}\n"

    warnings.formatwarning = line_of
