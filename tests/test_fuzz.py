"""Broken files of every format: a signal, or one line that names the file. `scripts/fuzz.py` for seconds."""

from __future__ import annotations

import random
from pathlib import Path

import fuzz
from fuzz_seeds import seeds

from lg_field.signals import read_signal
from lg_field.signals.settings import ShapeConfig


def test_every_seed_is_read(tmp_path: Path) -> None:
    for path in seeds(tmp_path):
        kind = "volume" if path.name == "stack.tif" else ""
        assert read_signal(path, ShapeConfig(resolution=16), kind).signal.num_samples > 0, path.name


def test_nothing_but_signals_and_lines_comes_of_damaged_files(tmp_path: Path) -> None:
    assert fuzz.fuzz(60.0, seed=20, keep=tmp_path / "findings", rounds=300) == {}


def test_damage_is_drawn_from_the_seed_alone() -> None:
    data, other = bytes(range(256)) * 3, b"other" * 30
    first, second = ([fuzz.damaged(data, other, random.Random(k)) for k in range(50)] for _ in range(2))
    assert first == second and sum(one != data for one in first) > 40
    assert isinstance(fuzz.damaged(b"", b"", random.Random(1)), bytes)


def test_a_crash_and_a_standstill_are_findings(tmp_path: Path, monkeypatch) -> None:
    script = tmp_path / "reads.py"
    monkeypatch.setattr(fuzz, "__file__", str(script))
    reader = fuzz.Reader()
    script.write_text("import os, sys\nsys.stdin.readline()\nos.abort()\n")
    assert "ended with status -6" in reader.read(tmp_path / "a")
    script.write_text("import time\nprint('\"\"', flush=True)\ntime.sleep(60)\n")
    assert reader.read(tmp_path / "a") == ""
    monkeypatch.setattr(fuzz, "SECONDS", 0.2)
    assert "no end after 0.2 s" in reader.read(tmp_path / "b")
