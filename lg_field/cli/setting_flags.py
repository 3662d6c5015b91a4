"""The settings of an encoding as flags, each with its default: it depends on the kind of signal and on the task."""

from __future__ import annotations

from dataclasses import field, fields, make_dataclass
from typing import Annotated, Any, get_type_hints

import tyro

from lg_field.cli.kind_facts import FACTS
from lg_field.cli.presets import NOTHING_SAID
from lg_field.signal_settings import CompleteSettings, FitConfig, NetworkConfig, Settings, ShapeConfig, filled

PARTS = {"network": NetworkConfig, "fit": FitConfig, "shape": ShapeConfig}


def setting_flags(task: Settings = NOTHING_SAID) -> type[Settings]:
    """`Settings` whose help says every entry's default.

    Args:
        task: what the command says where neither flags nor a preset say something.
    """
    entries: list[Any] = []
    for name, config in PARTS.items():
        flags = hinted(name, task)
        part = Annotated[config, tyro.conf.arg(name="", constructor=flags)]  # type: ignore[valid-type]
        entries.append((name, part, field(default_factory=flags)))
    return make_dataclass("Settings", entries, bases=(Settings,), frozen=True)


def hinted(part: str, task: Settings = NOTHING_SAID) -> type[Any]:
    """The settings of a part, "network", "fit" or "shape", with a help that says every entry's default."""
    config = PARTS[part]
    types = get_type_hints(config)
    entries: list[Any] = []
    for entry in fields(config):
        hint = tyro.conf.arg(help_behavior_hint=f"(default: {default_words(part, entry.name, task)})")
        entries.append((entry.name, Annotated[types[entry.name], hint], None))
    return make_dataclass(config.__name__, entries, bases=(config,), frozen=True)


def default_words(part: str, entry: str, task: Settings = NOTHING_SAID) -> str:
    """What an entry is where nothing is said: "1000; video 5000; volume 2000"."""
    by_task = getattr(getattr(task, part), entry)
    if by_task is not None:
        return words(by_task)
    general = getattr(getattr(CompleteSettings(), part), entry)
    others: dict[str, list[str]] = {}
    for kind in FACTS:
        value = getattr(filled(getattr(CompleteSettings(), part), (), getattr(kind, part, {})), entry)
        if value != general:
            others.setdefault(words(value), []).append(kind.name)
    return "; ".join([words(general), *(f"{', '.join(kinds)} {value}" for value, kinds in others.items())])


def words(value: Any) -> str:
    """A value as it is typed."""
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "by the kind of signal"
    return f"{value:g}" if isinstance(value, float) else str(value)
