"""What a run of nerfbaselines may set, by flat names: `steps`, `sizes.grid_nodes`, `training.split_steps`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, get_args

from lg_field.radiance.sizes import RadianceSizes
from lg_field.radiance.training import TrainingSettings
from lg_field.training.methods import FIRST_CELLS, METHODS
from lg_field.training.place import Space

DEFAULT = "lg-field"
"""The method of a run that says nothing else."""
OLDER = {"box": "bounded"}
"""Other words for a `space`."""
YES, NO = ("true", "1", "yes"), ("false", "0", "no")


@dataclass(frozen=True)
class Settings:
    """A run; what it says nothing of is the method's."""

    method: str
    """Key of `METHODS`."""
    steps: int
    """Training steps."""
    rays: int
    """Rays a step."""
    fields_lr: float
    """Learning rate of networks."""
    grids_lr: float
    """Learning rate of feature grids."""
    lr_factor: float
    """Both fall to this part."""
    sizes: RadianceSizes
    """What rows and shared part hold."""
    training: TrainingSettings
    """What training does when."""
    cells: int = FIRST_CELLS
    """Cells at first, about."""
    space: Space = "auto"
    """bounded: the scene is what all cut-out images leave of it; contracted: it goes on for ever; auto: bounded where
    images have alpha."""
    seed: int = 0
    """Of everything random."""

    @staticmethod
    def of(method: str = DEFAULT) -> Settings:
        """What a method says.

        Raises:
            ValueError: there is none of that name.
        """
        if method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
        of = METHODS[method]
        return Settings(method, of.steps, of.rays, of.fields_lr, of.grids_lr, of.lr_factor, of.sizes, of.training)


def flat(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Every entry by its flat name."""
    found: dict[str, Any] = {}
    for entry in fields(settings):
        value = getattr(settings, entry.name)
        inner = is_dataclass(value) and not isinstance(value, type)
        found |= flat(value, f"{prefix}{entry.name}.") if inner else {prefix + entry.name: value}
    return found


def overridden(overrides: Mapping[str, Any]) -> Settings:
    """The settings with some entries changed.

    Args:
        overrides: by flat name; text is read as what the entry is.

    Raises:
        ValueError: an unknown name, or a value that makes no sense.
    """
    settings = Settings.of(str(overrides.get("method", DEFAULT)))
    known = flat(settings)
    for name, value in overrides.items():
        if name not in known:
            raise ValueError(f"lg-field has no setting {name!r}; it has {', '.join(known)}")
        value = OLDER.get(value, value) if name == "space" else value
        settings = _with(settings, name.split("."), _read(name, value, known[name]))
    if settings.space not in get_args(Space):
        raise ValueError(f"space must be one of {', '.join(get_args(Space))}, got {settings.space!r}")
    for name in ("steps", "rays", "cells"):
        if getattr(settings, name) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(settings, name)}")
    settings.training.check()
    return settings


def _with(settings: Any, path: list[str], value: Any) -> Any:
    first, *rest = path
    return replace(settings, **{first: _with(getattr(settings, first), rest, value) if rest else value})


def _read(name: str, value: Any, default: Any) -> Any:
    """A value, perhaps as text, as what the entry's default is."""
    try:
        if isinstance(default, bool):
            if str(value).lower() not in YES + NO:
                raise ValueError("true or false is needed")
            return str(value).lower() in YES
        if isinstance(default, tuple):
            parts = value.replace(",", " ").split() if isinstance(value, str) else value
            return tuple(float(p) if "." in str(p) else int(p) for p in parts)
        return type(default)(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} takes {type(default).__name__}, got {value!r}") from error


def as_plain(settings: Settings) -> dict[str, Any]:
    """Plain data, for JSON, that `overridden` takes again as flat names."""
    return {name: list(v) if isinstance(v, tuple) else v for name, v in flat(settings).items()}
