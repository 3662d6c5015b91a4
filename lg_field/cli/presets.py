"""Presets: YAML files of settings in configs/. What a command line says wins over what a preset says."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from lg_field.signals.encode import FIT_DEFAULTS, NETWORK_DEFAULTS, NetworkConfig
from lg_field.signals.fit import FitConfig
from lg_field.signals.shapes.occupancy import ShapeConfig

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


TASKS = {
    "super-resolve": Settings(
        # INCODE's usual start (0.312) makes noise of small pictures; the overlap keeps lines off the borders of cells,
        # where the picture is read between its samples.
        NetworkConfig(activation="incode", cell_size=(64, 64), parameters=0, global_share=0.12, harmonizer_bias=0.0005),
        FitConfig(steps=2001, lr=9e-4, lr_factor=0.1, global_lr_scale=1 / 1.8, points=65_536, overlap=2),
    ),
    "denoise": Settings(
        NetworkConfig(
            activation="incode",
            cell_size=(144, 128),
            global_share=0.18,
            first_w0=10.0,
            harmonizer=(32, 16, 12),
            harmonizer_bias=0.0005,
            harmonizer_norm=True,
        ),
        FitConfig(steps=401, lr=1.5e-4, lr_factor=0.1),
    ),
    "reconstruct-ct": Settings(
        NetworkConfig(activation="incode", counts=(1, 2), local_width=230, global_width=300, hidden_layers=1),
        FitConfig(steps=2001, lr=2e-4, lr_factor=0.4),
    ),
}
"""Defaults of the restoration commands: the published settings, with cells that follow the picture's size, and an
overlap where it shows. A preset or config takes their place as a whole."""
INSTEAD = {
    "counts": ("cell_size",),
    "cell_size": ("counts",),
    "parameters": ("local_width", "global_width"),
    "sample_fraction": ("points",),
}
"""Flags that, given, make the defaults of others void."""


def settings_from_arguments(arguments: Sequence[str]) -> Settings:
    """Defaults for a command line: of its task or the kind of file it names, and of the preset or config it names.

    Raises:
        ValueError: unknown preset, or a file of other entries.
        FileNotFoundError: no such config.
    """
    settings = _chosen_settings(arguments)
    given = [flag for flag in INSTEAD if _value(arguments, flag.replace("_", "-")) is not None]
    void = {name for flag in given for name in INSTEAD[flag]}

    def without(part: Any) -> Any:
        return dataclasses.replace(part, **{f.name: f.default for f in dataclasses.fields(part) if f.name in void})

    return dataclasses.replace(settings, network=without(settings.network), fit=without(settings.fit))


def _chosen_settings(arguments: Sequence[str]) -> Settings:
    kinds = [k for a in arguments if not a.startswith("-") and (k := kind_of(a))]
    task, settings = bool(arguments) and arguments[0] in TASKS, Settings()
    if kinds and not task:
        network, fit = (table.get(kinds[0], {}) for table in (NETWORK_DEFAULTS, FIT_DEFAULTS))
        settings = Settings(NetworkConfig(**network), FitConfig(**fit))
    chosen = {name: value for name in ("preset", "config") if (value := _value(arguments, name)) is not None}
    if len(chosen) > 1:
        raise ValueError("give either --preset or --config")
    if "preset" in chosen:
        path = CONFIGS / f"{chosen['preset']}.yaml"
        if not path.is_file():
            names = sorted(p.stem for p in CONFIGS.glob("*.yaml"))
            raise ValueError(f"no preset {chosen['preset']!r}; there are {', '.join(names) or 'none'} in {CONFIGS}")
        return read_settings(path, settings)
    if "config" in chosen:
        return read_settings(Path(chosen["config"]), settings)
    return TASKS[arguments[0]] if task else settings


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
