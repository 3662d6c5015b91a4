"""The scripts of scripts/tables, run as anyone would."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile

SCRIPTS = Path(__file__).parents[1] / "scripts" / "tables"


def test_a_table_goes_on_where_it_stopped_and_compares_all_its_runs(tmp_path: Path):
    sound = tmp_path / "tone.wav"
    soundfile.write(sound, 0.5 * np.sin(np.arange(2000) / 20), 8000)

    def table(*flags: str) -> list[dict[str, str]]:
        command = [sys.executable, str(SCRIPTS / "signals.py"), "audio", "--data", str(sound), "--steps", "4"]
        subprocess.run([*command, "--output", str(tmp_path / "out"), *flags], check=True, capture_output=True)
        with open(tmp_path / "out" / "audio-4" / "results.csv", newline="") as file:
            return list(csv.DictReader(file))

    (first,) = table("--presets", "audio-per-partition")
    kept = tmp_path / "out" / "audio-4" / "runs" / "audio-per-partition.tone.0.json"
    made = kept.stat().st_mtime_ns
    rows = table()
    assert kept.stat().st_mtime_ns == made, "it was trained again"
    assert [r["preset"] for r in rows] == ["audio", "audio-per-partition", "audio-global"] and first in rows
    assert all(0.0 < float(r["PSNR"]) < 99.0 for r in rows)
    assert (tmp_path / "out" / "audio-4" / "curves.png").read_bytes().startswith(b"\x89PNG")
