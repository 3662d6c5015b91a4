"""Builds the CPU kernels with the system's C++ compiler at first use and keeps them in a cache folder."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import itertools
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCE, HEADER = (Path(__file__).with_name(name) for name in ("chain.cpp", "products.h"))
FLAGS = ["-std=c++17", "-O3", "-ffp-contract=fast", "-fno-strict-aliasing", "-shared", "-fPIC", "-pthread"]
SAME_ROUNDING = ["--param=avoid-fma-max-bits=0"]
"""For GCC, which on some processors fuses multiply and add in some blocks of a product and not in others: the value
of a point would depend on how many points there are beside it."""
NATIVE = ("-march=native", "-mcpu=native")
"""Not every compiler knows the first on every processor."""
logger = logging.getLogger(__name__)


@functools.cache
def library(name: str = "chain") -> ctypes.CDLL | str:
    """A kernel, built if no cached one fits source, compiler and processor; or one line that says why there is none.

    A build takes some seconds, once. The file appears whole or not at all, so processes may build at the same time.

    Args:
        name: of the .cpp file beside this one.
    """
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++"))), None)
    if compiler is None:
        return "there is no C++ compiler: install g++ or clang, or name one in CXX"
    source = SOURCE.with_name(f"{name}.cpp")
    try:
        path = cache_folder() / f"{name}-{_key(compiler, source)}.so"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _compile(compiler, source, path)
        return ctypes.CDLL(str(path))
    except (OSError, RuntimeError) as error:
        reason = f"it cannot be built with {compiler}: {error}"
        logger.warning("lg_field is slower than it could be, its CPU kernel is not there: %s", reason)
        return reason


def cache_folder() -> Path:
    """Where built kernels are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lg-field"


def _compile(compiler: str, source: Path, path: Path) -> None:
    logger.info("building the CPU kernel into %s", path)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        result = Path(folder, path.name)
        for rounding, native in itertools.product((SAME_ROUNDING, []), NATIVE):
            command = [compiler, *FLAGS, *rounding, native, str(source), "-o", str(result)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode == 0:
                result.replace(path)
                return
    lines = [line for line in done.stderr.splitlines() if "error" in line] or [f"it returned {done.returncode}"]
    raise RuntimeError(lines[0][:200])


def _key(compiler: str, source: Path) -> str:
    real = Path(compiler).resolve()
    headers = sorted(source.parent.glob("*.h"))
    code = [source.read_text(), *(header.read_text() for header in headers), *FLAGS, *SAME_ROUNDING]
    parts = [*code, str(real), str(real.stat().st_size), str(real.stat().st_mtime_ns), processor()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:20]


def processor() -> str:
    """What tells processors apart whose instructions differ."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = ("model name", "flags", "Features", "CPU part")
    return "\n".join([platform.machine(), platform.processor(), *sorted({s for s in lines if s.startswith(names)})])
