"""Settings of a command line: its flags, then those of the preset, the config file or the task that it names."""

from __future__ import annotations

from pathlib import Path

from lg_field.signals.presets import read_preset, read_settings
from lg_field.signals.settings import CompleteSettings, Settings, resolve


def settings_for(
    kind: str, said: Settings, preset: str | None, config: Path | None, task: Settings | None = None
) -> CompleteSettings:
    """Everything that flags, preset or config, task and kind of signal say, in this order.

    Raises:
        ValueError: unknown preset, a file of other entries, or both a preset and a config.
        FileNotFoundError: no such config.
    """
    if preset is not None and config is not None:
        raise ValueError("give either --preset or --config")
    chosen = read_preset(preset) if preset is not None else read_settings(config) if config is not None else task
    return resolve(kind, said, *(() if chosen is None else (chosen,)))
