"""Presets: YAML files of settings, in configs/ and in the installed package."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from typing import Any

from lg_field.signals.settings import CompleteSettings, Settings


def presets_folder() -> Path:
    """Where presets lie: `lg_field.configs` of an installed package, else configs/ of the repository."""
    found = importlib.util.find_spec("lg_field.configs")
    if found is not None and found.submodule_search_locations:
        return Path(next(iter(found.submodule_search_locations)))
    return Path(__file__).parents[2] / "configs"


CONFIGS = presets_folder()


def preset_names() -> list[str]:
    """Names of all presets, sorted."""
    return sorted(p.stem for p in CONFIGS.glob("*.yaml"))


def read_preset(name: str) -> Settings:
    """The settings of a preset.

    Raises:
        ValueError: there is none of this name.
    """
    if name not in preset_names():
        raise ValueError(f"no preset {name!r}; there are {', '.join(preset_names()) or 'none'} in {CONFIGS}")
    return read_settings(CONFIGS / f"{name}.yaml")


def read_settings(path: Path) -> Settings:
    """What a YAML file says; the rest is None.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not YAML, or unknown entries.
    """
    import yaml

    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        data = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML: {str(error).splitlines()[0]}") from error
    parts = CompleteSettings()
    known = [f.name for f in dataclasses.fields(parts)]
    if not isinstance(data, dict) or not data.keys() <= set(known):
        raise ValueError(f"{path}: settings have the parts {', '.join(known)}")
    empty = Settings()
    said = {
        name: dataclasses.replace(getattr(empty, name), **_entries(getattr(parts, name), entries or {}, path))
        for name, entries in data.items()
    }
    return dataclasses.replace(empty, **said)


def _entries(complete: Any, entries: Any, path: Path) -> dict[str, Any]:
    """What a part of a file says, each entry of the type that it has where it is said.

    Raises:
        ValueError: unknown entries, or of another type.
    """
    known = [f.name for f in dataclasses.fields(complete)]
    if not isinstance(entries, dict) or not entries.keys() <= set(known):
        odd = sorted(set(entries) - set(known)) if isinstance(entries, dict) else entries
        raise ValueError(f"{path}: unknown settings {odd}; known are {', '.join(known)}")
    values = {}
    for name, value in entries.items():
        kind = type(getattr(complete, name))
        try:
            values[name] = tuple(int(v) for v in value) if kind is tuple else kind(value)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: {name} must be of type {kind.__name__}, got {value!r}") from error
    return values
