"""What a command line says of presets and files of settings."""

from __future__ import annotations

from pathlib import Path

from lg_field.signal_settings import Settings

NOTHING_SAID = Settings()
"""Settings that leave everything to the defaults."""


def chosen_settings(preset: str | None, config: Path | None) -> Settings:
    """What a preset or a file of settings says; nothing if neither is named.

    Args:
        preset: name of a preset: NAME for configs/NAME.yaml.
        config: a YAML file.

    Raises:
        ValueError: both, no such preset, or entries that are unknown or of another type.
        FileNotFoundError: no such file.
    """
    from lg_field.signals.presets import read_preset, read_settings

    if preset is not None and config is not None:
        raise ValueError("give either --preset or --config")
    if config is not None:
        return read_settings(config)
    return NOTHING_SAID if preset is None else read_preset(preset)
