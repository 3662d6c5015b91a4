"""Fields of a signal that were never trained, on disk at once: for laws of files, not of fits."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from lg_field.files import save
from lg_field.signals.encode import build_network
from lg_field.signals.settings import NetworkConfig
from lg_field.signals.signal import Signal

SMALL = NetworkConfig(local_width=3, global_width=4, hidden_layers=1)


def field_file(signal: Signal, path: Path) -> Path:
    """Write an untrained field of a signal, of few cells."""
    counts = tuple(min(2, n) for n in signal.shape)
    save(build_network(signal, dataclasses.replace(SMALL, counts=counts)), path)
    return path
