"""Presets: YAML files of settings, in configs/ and in the installed package."""

from __future__ import annotations

import dataclasses
import importlib.util
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from lg_field.signals.settings import Settings


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
    known = [f.name for f in dataclasses.fields(Settings)]
    if not isinstance(data, dict) or not data.keys() <= set(known):
        raise ValueError(f"{path}: settings have the parts {', '.join(known)}")
    empty = Settings()
    said = {
        name: dataclasses.replace(getattr(empty, name), **_entries(type(getattr(empty, name)), entries or {}, path))
        for name, entries in data.items()
    }
    return dataclasses.replace(empty, **said)


@cache
def entry_types(config: type) -> dict[str, Any]:
    """Name -> type of each entry of a class of settings, where it is said."""
    hints = get_type_hints(config)
    names = [f.name for f in dataclasses.fields(config)]
    return {name: next(t for t in get_args(hints[name]) if t is not NoneType) for name in names}


def _entries(config: type, entries: Any, path: Path) -> dict[str, Any]:
    """What a part of a file says, each entry of the type that it has where it is said.

    Raises:
        ValueError: unknown entries, or of another type.
    """
    types = entry_types(config)
    if not isinstance(entries, dict) or not entries.keys() <= types.keys():
        odd = sorted(map(str, set(entries) - set(types))) if isinstance(entries, dict) else entries
        raise ValueError(f"{path}: unknown settings {odd}; known are {', '.join(types)}")
    values = {}
    for name, value in entries.items():
        try:
            values[name] = _converted(value, types[name])
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{path}: {name} must be {_described(types[name])}, got {value!r}") from error
    return values


def _converted(value: Any, kind: Any) -> Any:
    """A value from YAML as one of this type; raises TypeError or ValueError if it is none."""
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ValueError
        return value
    if get_origin(kind) is tuple:
        return tuple(_converted(item, int) for item in value)
    if isinstance(value, bool) != (kind is bool) or isinstance(value, str) < (kind is str):
        raise TypeError
    if kind is int and int(value) != float(value):
        raise ValueError
    return kind(value)


def _described(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    return "a list of whole numbers" if get_origin(kind) is tuple else f"of type {kind.__name__}"
