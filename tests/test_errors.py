"""Errors: values deep inside, one line at the entry points, tracebacks for bugs only."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from forked import forked
from hypothesis import given
from hypothesis import strategies as st

from lg_field.errors import TRACEBACK, UserError, chain, doing, entry_point, report

ROOT = Path(__file__).parents[1]
ALONE = f"from runpy import run_path; globals().update(run_path({str(ROOT / 'lg_field/errors.py')!r}))"
"""The module without the package around it: a process starts in no time."""
EXPECTED = [ValueError, UserError, OSError, FileNotFoundError, ImportError, UnicodeError]
FAILURES = [RuntimeError, OverflowError, MemoryError, RecursionError]
BUGS = [KeyError, TypeError, AttributeError, IndexError, AssertionError, ZeroDivisionError, NotImplementedError]
texts = st.text(st.characters(codec="utf-8", categories=("L", "N", "Zs")) | st.just("\n"), max_size=60)


def python(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program of a few lines in a process of its own."""
    here = {**os.environ, "PYTHONPATH": str(ROOT), TRACEBACK: "", **environment}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=here, timeout=200
    )


def ended(error: BaseException, capsys: pytest.CaptureFixture[str]) -> tuple[object, str]:
    """Exit status and standard error of a command that raises this."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop, entry_point("prog"):
        raise error
    return stop.value.code, capsys.readouterr().err


def test_a_user_error_is_a_value_that_can_be_caught():
    try:
        raise UserError("no such scene")
    except Exception as error:
        assert isinstance(error, ValueError) and str(error) == "no such scene"
    assert not issubclass(UserError, SystemExit)


@given(kind=st.sampled_from(EXPECTED), words=texts)
def test_expected_errors_say_their_own_words_in_one_line(kind, words):
    line = report(kind(words))
    assert line is not None and "\n" not in line and line == (" ".join(words.split()) or kind.__name__)


@given(kind=st.sampled_from(FAILURES), words=texts, steps=st.lists(st.sampled_from(["encoding a", "saving b"])))
def test_failures_say_what_was_being_done_from_the_outside_in(kind, words, steps):
    def fail(rest: list[str]) -> None:
        if not rest:
            raise kind(words)
        with doing(rest[0]):
            fail(rest[1:])

    with pytest.raises(kind) as caught:
        fail(steps)
    line = report(caught.value)
    assert chain(caught.value) == steps[::-1]
    assert line is not None and "\n" not in line and f"{TRACEBACK}=1" in line
    assert (f" while {', '.join(steps)}" in line) == bool(steps) and " ".join(words.split()) in line


@pytest.mark.parametrize("kind", BUGS)
def test_any_other_error_is_a_bug_and_keeps_its_traceback(kind):
    with pytest.raises(kind), entry_point("prog"), doing("something"):
        raise kind("oh")
    assert report(kind("oh")) is None


@pytest.mark.parametrize("kind", EXPECTED + FAILURES)
def test_a_command_ends_in_one_line_and_status_1(kind, capsys):
    status, printed = ended(kind("first\nsecond"), capsys)
    assert status == 1 and printed.startswith("prog: ") and printed.count("\n") == 1 and printed.endswith("\n")


def test_interruption_is_status_130(capsys):
    assert ended(KeyboardInterrupt(), capsys) == (130, "prog: interrupted\n")


def test_out_of_memory_is_said_in_words():
    import torch

    assert (report(MemoryError()) or "").startswith("out of memory (")
    assert (report(torch.OutOfMemoryError("CUDA out of memory")) or "").startswith("out of memory: CUDA")
    long = report(RuntimeError("x" * 10_000))
    assert long is not None and len(long) < 500


def test_a_long_value_in_the_middle_leaves_what_was_wrong_and_the_cure():
    line = report(ValueError(f"x.nrrd: 3 numbers expected, got {'left-posterior ' * 1000}: name the axis")) or ""
    assert len(line) < 900 and line.startswith("x.nrrd: 3 numbers") and line.endswith("name the axis")


def test_other_exits_and_results_pass_through():
    with pytest.raises(SystemExit) as stop, entry_point("prog"):
        raise SystemExit(2)
    assert stop.value.code == 2

    @entry_point("prog")
    def command(value: int) -> int:
        return value + 1

    assert command(1) == 2 and command(2) == 3


@pytest.mark.parametrize("wanted", ["", "0", "1"])
def test_the_traceback_is_shown_where_it_is_asked_for(wanted):
    code = f"{ALONE}\nwith entry_point('prog'), doing('x'):\n    raise RuntimeError('broken')"
    done = python(code, **{TRACEBACK: wanted})
    assert done.returncode == 1 and ("Traceback" in done.stderr) == (wanted == "1")
    assert done.stderr.splitlines()[-1].startswith("prog: failed while x: broken")


HOOKED = f"""
{ALONE}
import sys
def before(kind, error, where): print("before:", kind.__name__, file=sys.stderr)
sys.excepthook = before
hook_errors_and_notices(); hook_errors_and_notices()
raise {{0}}("bad input\\nof two lines")
"""


def test_the_hook_prints_user_errors_and_hands_on_the_rest():
    done = python(HOOKED.format("UserError"))
    assert (done.returncode, done.stderr) == (1, "lg-field: bad input of two lines\n")
    for other in ("ValueError", "KeyError", "RuntimeError"):
        done = python(HOOKED.format(other))
        assert (done.returncode, done.stderr) == (1, f"before: {other}\n")
    assert python(HOOKED.format("UserError"), **{TRACEBACK: "1"}).stderr == "before: UserError\n"


def test_a_notice_is_one_line_in_programs_that_are_not_ours():
    code = "import warnings\nnotice('left out:\\nsome')\nwarnings.warn('theirs')\n"
    plain, hooked = (python(f"{ALONE}\n{more}{code}").stderr for more in ("", 2 * "hook_errors_and_notices()\n"))
    assert ": Notice: left out: some\n" in plain, "and where it came from"
    assert hooked.startswith("lg-field: left out: some\n") and "Notice" not in hooked
    ours = python(f"{ALONE}\nwith notices_shown('lg-field'):\n    notice('left out:\\nsome')").stderr
    assert ours == hooked.splitlines(keepends=True)[0], "the same line in a program of ours"
    assert hooked.count("UserWarning: theirs\n") == plain.count("UserWarning: theirs\n") == 1


def test_the_module_imports_nothing_heavy():
    done = python(f"{ALONE}\nimport sys; print(*sys.modules)")
    assert done.returncode == 0 and not {"torch", "numpy", "tyro", "rich", "lg_field"} & set(done.stdout.split())


def test_nerfstudio_ends_in_the_line_of_a_user_error(tmp_path: Path):
    """ns-train, with the plugin loaded as nerfstudio loads it."""
    pytest.importorskip("nerfstudio", reason="the plugin needs nerfstudio")
    words = ("lg-field", "--data", "/nonexistent/scene", "--vis", "tensorboard")
    printed = forked("ns-train", *words, cwd=tmp_path, fails=1)
    assert "Traceback" not in printed
    assert printed.splitlines()[-1] == (
        "lg-field: /nonexistent/scene does not exist; --data takes the folder of a scene"
    )
