"""Broken files of every format that lg-field reads: each gives a signal or one line that names the file.

    python scripts/fuzz.py --minutes 10

Valid small files are damaged (bytes changed, cut, repeated, spliced) and read in a process of its own, which has little
memory and little time. Whatever is neither a signal nor a line is a finding: it is shown, and its file is kept.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import resource
import select
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1] / "tests"
"""Where the files come from that are damaged."""
MEMORY = 3 << 30
"""Bytes of address space that the reading process may take beyond what it has when it starts."""
SECONDS = 120.0
"""Seconds that a file may take."""
ODD = (0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
"""Numbers that sizes and counts are replaced by."""


def turned_bit(data: bytearray, at: int, other: bytes, draw: random.Random) -> None:
    """One bit, or where there is none a piece of the other file."""
    if not data:
        return piece_of_another(data, at, other, draw)
    data[at] ^= 1 << draw.randrange(8)


def other_byte(data: bytearray, at: int, _: bytes, draw: random.Random) -> None:
    """One byte."""
    data[at : at + 1] = bytes([draw.randrange(256)])


def odd_number(data: bytearray, at: int, _: bytes, draw: random.Random) -> None:
    """A number of 1 to 4 bytes that is at an end of what such can hold, or nearly."""
    form = draw.choice(("<H", ">H", "<I", ">I", "B"))
    number = draw.choice(ODD) & ((1 << 8 * struct.calcsize(form)) - 1)
    data[at : at + struct.calcsize(form)] = struct.pack(form, number)


def lost_end(data: bytearray, _: int, __: bytes, draw: random.Random) -> None:
    """Everything from somewhere on."""
    del data[draw.randrange(len(data) + 1) :]


def lost_piece(data: bytearray, at: int, _: bytes, draw: random.Random) -> None:
    """Some bytes."""
    del data[at : at + draw.randrange(1, 64)]


def repeated_piece(data: bytearray, at: int, _: bytes, draw: random.Random) -> None:
    """Some bytes once more, or often."""
    data[at:at] = data[at : at + draw.randrange(1, 64)] * draw.choice((1, 2, 50))


def piece_of_another(data: bytearray, at: int, other: bytes, draw: random.Random) -> None:
    """Some bytes of the other file."""
    start = draw.randrange(max(1, len(other)))
    data[at : at + 64] = other[start : start + draw.randrange(64)]


FAULTS = (turned_bit, other_byte, odd_number, lost_end, lost_piece, repeated_piece, piece_of_another)
"""What happens to a file at a place, in place."""


def damaged(data: bytes, other: bytes, draw: random.Random) -> bytes:
    """A file with one to four faults.

    Args:
        data: a valid file.
        other: another one, to take pieces of.
        draw: what is drawn from.
    """
    result = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 3, 4))):
        near = min(len(result), draw.choice((32, 256, 4096, len(result))))  # most of what counts is in front
        at = draw.randrange(max(1, near))
        draw.choice(FAULTS)(result, at, other, draw)
    return bytes(result)


def outcome(path: Path) -> str:
    """ "" if a file is read or refused in a line that names it, else what went wrong."""
    from lg_field.errors import report
    from lg_field.signals import read_signal
    from lg_field.signals.registry import KINDS
    from lg_field.signals.settings import ShapeConfig

    try:
        for name in (name for name, kind in KINDS.items() if path.name.endswith(kind.on_request)):
            with contextlib.suppress(ValueError):
                read_signal(path, ShapeConfig(resolution=16), name).slab(0, 1)
        read_signal(path, ShapeConfig(resolution=16)).slab(0, 1)
    except Exception as error:
        place = [line for line in traceback.extract_tb(error.__traceback__) if "lg_field" in line.filename]
        where = f"{Path(place[-1].filename).name}:{place[-1].lineno}" if place else "?"
        words = f"{type(error).__name__} at {where}: {' '.join(str(error).split())[:300]}"
        line = report(error) if isinstance(error, (ValueError, OSError, ImportError)) else None
        if line is None:
            return words
        return "" if str(path) in line and len(line) < 1000 else f"its line names no file or is long: {words}"
    return ""


def work() -> None:
    """Read the files that are named on standard input, one a line, and answer each with its outcome."""
    import lg_field.signals.kinds  # noqa: F401

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever libraries print
    with open("/proc/self/statm") as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        answers.write(json.dumps(outcome(Path(line[:-1]))) + "\n")
        answers.flush()


@dataclass
class Reader:
    """The process that reads, started again when it is gone."""

    process: Any = None

    def read(self, path: Path) -> str:
        """The outcome of a file; a crash or a standstill is one, too."""
        if self.process is None:
            command = [sys.executable, "-W", "ignore", __file__, "--work"]
            quiet: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
            self.process = subprocess.Popen(command, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, **quiet)
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(f"{path}\n")
            self.process.stdin.flush()
        if not select.select([self.process.stdout], [], [], SECONDS + 40.0 * (not self.warm))[0]:
            self.stop()
            return f"no end after {SECONDS:g} s"
        self.warm = True
        answer = self.process.stdout.readline()
        if not answer:
            status = self.process.wait()
            self.process = None
            return f"the process ended with status {status}"
        return str(json.loads(answer))

    warm: bool = field(default=False)
    """Whether its libraries are imported: it has answered once."""

    def stop(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process, self.warm = None, False


def fuzz(seconds: float, seed: int, keep: Path, rounds: int = 0, only: str = "") -> dict[str, Path]:
    """Damage and read files for so long.

    Args:
        seconds: time to take.
        seed: of what is drawn.
        keep: folder for the files of findings.
        rounds: files at most; 0 = no limit.
        only: part of the names of the files to begin with.

    Returns:
        Finding -> the first file that has it.
    """
    sys.path.append(str(TESTS))
    from fuzz_seeds import seeds

    findings: dict[str, Path] = {}
    draw, reader, count, began = random.Random(seed), Reader(), 0, time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        files = [path for path in seeds(Path(name) / "seeds") if only in path.name]
        for path in files:
            if found := reader.read(path):
                findings[f"valid {path.name}: {found}"] = path
        while time.monotonic() - began < seconds and not (rounds and count >= rounds):
            path, other, count = draw.choice(files), draw.choice(files), count + 1
            bad = Path(name) / f"bad{''.join(path.suffixes)}"
            bad.write_bytes(damaged(path.read_bytes(), other.read_bytes(), draw))
            found = reader.read(bad)
            key = f"{bad.name}: {found.split(': ')[0]}"
            if found and key not in findings:
                keep.mkdir(parents=True, exist_ok=True)
                findings[key] = keep / f"{len(findings)}-{bad.name}"
                findings[key].write_bytes(bad.read_bytes())
                print(f"{findings[key]} (from {path.name}): {found}", flush=True)
    reader.stop()
    print(f"{count:,} files in {time.monotonic() - began:.0f} s, {len(findings)} findings")
    return findings


def main() -> None:
    """Read the command line; exit with status 1 if there are findings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="part of the names of the files to begin with, such as .mp4")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"), help="folder for the files of findings")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        return work()
    found = fuzz(options.minutes * 60.0, options.seed, options.keep, only=options.only)
    raise SystemExit(1 if found else 0)


if __name__ == "__main__":
    main()
