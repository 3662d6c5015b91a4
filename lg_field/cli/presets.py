"""Presets: YAML files of settings in configs/. What a command line says wins over what a preset says."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from lg_field.signals.encode import FIT_DEFAULTS, NetworkConfig
from lg_field.signals.occupancy import ShapeConfig
from lg_field.training import FitConfig

CONFIGS = Path(__file__).parents[2] / "configs"


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything that decides what `lg-field encode` makes of a file; a preset is a YAML file of these entries."""

    network: Annotated[NetworkConfig, tyro.conf.arg(name="")] = dataclasses.field(default_factory=NetworkConfig)
    """Which network."""
    fit: Annotated[FitConfig, tyro.conf.arg(name="")] = dataclasses.field(default_factory=FitConfig)
    """How to train it."""
    shape: Annotated[ShapeConfig, tyro.conf.arg(name="")] = dataclasses.field(default_factory=ShapeConfig)
    """Meshes: which voxels."""


def settings_from_arguments(arguments: Sequence[str]) -> Settings:
    """Defaults for a command line: of the kind of file it names, and of the preset or config it names.

    Raises:
        ValueError: unknown preset, or a file of other entries.
        FileNotFoundError: no such config.
    """
    settings = Settings()
    kinds = [k for a in arguments if not a.startswith("-") and (k := kind_of(a))]
    if kinds:
        settings = dataclasses.replace(settings, fit=FitConfig(**FIT_DEFAULTS[kinds[0]]))
    chosen = {name: value for name in ("preset", "config") if (value := _value(arguments, name)) is not None}
    if len(chosen) > 1:
        raise ValueError("give either --preset or --config")
    if "preset" in chosen:
        path = CONFIGS / f"{chosen['preset']}.yaml"
        if not path.is_file():
            names = sorted(p.stem for p in CONFIGS.glob("*.yaml"))
            raise ValueError(f"no preset {chosen['preset']!r}; there are {', '.join(names) or 'none'} in {CONFIGS}")
        return read_settings(path, settings)
    return read_settings(Path(chosen["config"]), settings) if "config" in chosen else settings


def kind_of(name: str) -> str | None:
    """Kind of signal a file name stands for, None if none."""
    from lg_field.signals import data

    kinds = {"image": data.IMAGES, "audio": data.SOUNDS, "video": data.VIDEOS, "occupancy": data.MESHES}
    suffix = Path(name).suffix.lower()
    if suffix in data.ARRAYS:
        return "occupancy" if data.holds_booleans(Path(name)) else "volume"
    return next((kind for kind, suffixes in kinds.items() if suffix in suffixes), None)


def read_settings(path: Path, base: Settings) -> Settings:
    """`base` with what a YAML file says.

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
    parts = {name: _with_entries(getattr(base, name), entries or {}, path) for name, entries in data.items()}
    return dataclasses.replace(base, **parts)


def _with_entries(part: Any, entries: dict[str, Any], path: Path) -> Any:
    known = {f.name: f for f in dataclasses.fields(part)}
    if not isinstance(entries, dict) or not entries.keys() <= known.keys():
        odd = sorted(set(entries) - set(known)) if isinstance(entries, dict) else entries
        raise ValueError(f"{path}: unknown settings {odd}; known are {', '.join(known)}")
    values = {}
    for name, value in entries.items():
        kind = type(getattr(part, name))
        try:
            values[name] = tuple(int(v) for v in value) if kind is tuple else kind(value)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: {name} must be of type {kind.__name__}, got {value!r}") from error
    return dataclasses.replace(part, **values)


def _value(arguments: Sequence[str], name: str) -> str | None:
    """What follows --name on a command line."""
    for k, argument in enumerate(arguments):
        if argument == f"--{name}":
            return arguments[k + 1] if k + 1 < len(arguments) else None
        if argument.startswith(f"--{name}="):
            return argument.split("=", 1)[1]
    return None
