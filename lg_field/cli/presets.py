"""Settings from presets, which are YAML files in configs/, and from command lines; what is not said stays None."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from lg_field.signals.settings import Settings as Settings


def preset_folder() -> Path:
    """Where the presets are: the package lg_field.configs of an installed wheel, or configs/ of the repository."""
    spec = importlib.util.find_spec("lg_field.configs")
    if spec is not None and spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    return Path(__file__).parents[2] / "configs"


CONFIGS = preset_folder()
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
    if preset is not None and config is not None:
        raise ValueError("give either --preset or --config")
    if config is not None:
        return read_settings(config)
    return NOTHING_SAID if preset is None else read_settings(preset_path(preset))


def preset_path(name: str) -> Path:
    """The file of a preset.

    Raises:
        ValueError: there is none of this name.
    """
    presets = {path.stem: path for path in sorted(CONFIGS.glob("*.yaml"))}
    if name not in presets:
        raise ValueError(f"no preset {name!r}; there are {', '.join(presets) or 'none'} in {CONFIGS}")
    return presets[name]


def read_settings(path: Path, base: Settings = NOTHING_SAID) -> Settings:
    """What a YAML file says, in the place of what `base` says.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not YAML, unknown entries, or values of another type.
    """
    import yaml

    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        data = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML: {str(error).splitlines()[0]}") from error
    known = [f.name for f in dataclasses.fields(Settings)]
    if not isinstance(data, dict) or not data.keys() <= set(known):
        raise ValueError(f"{path}: settings have the parts {', '.join(known)}")
    parts = {name: _with_entries(getattr(base, name), entries or {}, path) for name, entries in data.items()}
    return dataclasses.replace(base, **parts)


def _with_entries(part: Any, entries: Mapping[str, Any], path: Path) -> Any:
    types = entry_types(type(part))
    if not isinstance(entries, dict) or not entries.keys() <= types.keys():
        odd = sorted(map(str, set(entries) - set(types))) if isinstance(entries, dict) else entries
        raise ValueError(f"{path}: unknown settings {odd}; known are {', '.join(types)}")
    values = {}
    for name, value in entries.items():
        try:
            values[name] = _converted(value, types[name])
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{path}: {name} must be {_described(types[name])}, got {value!r}") from error
    return dataclasses.replace(part, **values)


@cache
def entry_types(config: type) -> dict[str, Any]:
    """Name -> type of the entries of a class of settings, where they are said."""
    hints = get_type_hints(config)
    return {
        f.name: next(t for t in (*get_args(hints[f.name]), hints[f.name]) if t is not NoneType)
        for f in dataclasses.fields(config)
    }


def _converted(value: Any, kind: Any) -> Any:
    """A value from YAML as one of this type; raises TypeError or ValueError if it is none."""
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ValueError
        return value
    if get_origin(kind) is tuple:
        return tuple(_converted(item, int) for item in value)
    if isinstance(value, bool) != (kind is bool):
        raise TypeError
    if kind is int and int(value) != float(value):
        raise ValueError
    return kind(value)


def _described(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    return "a list of whole numbers" if get_origin(kind) is tuple else f"of type {kind.__name__}"
