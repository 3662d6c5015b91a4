"""Settings: flags win over a preset or config, that over the task, that over the kind, that over the general ones."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
import tyro
import yaml
from commands import lg, picture
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import lg_field
from lg_field.cli.presets import NOTHING_SAID, chosen_settings
from lg_field.cli.running import OPTIONS
from lg_field.cli.setting_flags import PARTS, default_words, setting_flags, words
from lg_field.restoration.tasks import TASKS
from lg_field.signals.encode import build_network
from lg_field.signals.presets import CONFIGS, entry_types, read_settings
from lg_field.signals.registry import KINDS
from lg_field.signals.settings import (
    INSTEAD,
    OF_PLAIN_NETWORKS,
    CompleteSettings,
    FitConfig,
    NetworkConfig,
    Settings,
    resolve,
)
from lg_field.signals.signal import Signal

ENTRIES = [(part, f.name) for part, config in PARTS.items() for f in fields(config)]
DISTINCT: dict[Any, Any] = {
    int: (3, 4, 5),
    float: (0.25, 0.5, 0.75),
    bool: (True, False, True),
    str: ("sine", "incode", "relu"),
}
"""Three values of each type, one for each place that says something."""


def values_of(part: str, name: str) -> tuple[Any, Any, Any]:
    """Three values of an entry, neighbours different."""
    kind = entry_types(PARTS[part])[name]
    if kind in DISTINCT:
        return DISTINCT[kind]
    if get_args(kind)[-1] is Ellipsis:
        return (1, 2), (3, 4), (5, 6)
    first, second, *_ = get_args(kind)
    return first, second, first


def saying(part: str, name: str, value: Any) -> Settings:
    return replace(Settings(), **{part: PARTS[part](**{name: value})})


def entry(of: Settings, part: str, name: str) -> Any:
    return getattr(getattr(of, part), name)


flags_of = cache(setting_flags)


def parsed(*arguments: object, task: Settings = NOTHING_SAID) -> Settings:
    """What a command with these flags would be given."""
    return tyro.cli(flags_of(task), args=[str(a) for a in arguments], config=OPTIONS)


def flags(name: str, value: Any) -> list[object]:
    if isinstance(value, bool):
        return [f"--{'' if value else 'no-'}{name}"]
    return [f"--{name}", *(value if isinstance(value, tuple) else (value,))]


def written(path: Path, part: str, name: str, value: Any) -> Path:
    path.write_text(yaml.safe_dump({part: {name: list(value) if isinstance(value, tuple) else value}}))
    return path


@pytest.mark.parametrize(("part", "name"), ENTRIES)
@pytest.mark.parametrize("spelling", ["-", "_"])
def test_every_flag_is_read_in_both_spellings(part: str, name: str, spelling: str):
    for value in values_of(part, name)[:2]:
        said = parsed(*flags(name.replace("_", spelling), value))
        assert [e for e in ENTRIES if entry(said, *e) is not None] == [(part, name)]
        assert entry(said, part, name) == value


def test_what_no_flag_says_is_not_said():
    said = parsed()
    assert all(entry(said, *e) is None for e in ENTRIES)


@pytest.mark.parametrize(("part", "name"), ENTRIES)
def test_the_nearest_that_says_something_wins(part: str, name: str, tmp_path: Path):
    by_flag, by_preset, by_task = values_of(part, name)
    config, task = written(tmp_path / "c.yaml", part, name, by_preset), saying(part, name, by_task)
    said, preset = parsed(*flags(name, by_flag)), chosen_settings(None, config)
    for kind in KINDS.values():
        own = getattr(kind, part, {}).get(name)
        general = entry(CompleteSettings(), part, name)
        layers = ((said, by_flag), (preset, by_preset), (task, by_task))
        for first in range(3):
            for rest in ([], [Settings()], [s for s, _ in layers[first + 1 :]]):
                chosen = resolve(kind, *[s for s, _ in layers[first:][:1]], *rest)
                assert entry(chosen, part, name) == layers[first][1]
        assert entry(resolve(kind, Settings(), Settings()), part, name) == (general if own is None else own)


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_rate_of_incode_is_its_kinds_where_none_is_said(kind: str):
    sine, incode = Settings(), Settings(NetworkConfig(activation="incode"))
    factor = 1.0 if kind in ("audio", "video", "occupancy") else 0.25
    assert resolve(kind, incode).fit.lr == factor * resolve(kind, sine).fit.lr
    assert resolve(kind, replace(incode, fit=FitConfig(lr=0.125))).fit.lr == 0.125
    assert resolve(kind, incode, Settings(fit=FitConfig(lr=0.125))).fit.lr == 0.125


@given(data=st.data(), kind=st.sampled_from(list(KINDS)))
@settings(max_examples=60)
def test_every_entry_comes_from_the_first_that_says_it_and_is_not_void(data: st.DataObject, kind: str):
    """Any entries said anywhere: the first layer that says one wins, unless a layer before said what replaces it."""
    layers = []
    for value in range(3):
        said = data.draw(st.sets(st.sampled_from(ENTRIES), max_size=8))
        layer: Settings = Settings()
        for part, name in said:
            of_part = replace(getattr(layer, part), **{name: values_of(part, name)[value]})
            layer = replace(layer, **{part: of_part})
        layers.append(layer)
    chosen = resolve(kind, *layers)
    for part, name in ENTRIES:
        wanted: Any = None
        for layer in layers:
            if entry(layer, part, name) is not None:
                wanted = entry(layer, part, name)
                break
            if any(
                name in void and entry(layer, part, other) is not None
                for other, void in INSTEAD.items()
                if (part, other) in ENTRIES
            ):
                wanted = entry(CompleteSettings(), part, name)
                break
        if wanted is None:
            own = getattr(KINDS[kind], part, {}).get(name)
            if name in OF_PLAIN_NETWORKS and chosen.network.activation == "incode":
                own = None
            wanted = entry(CompleteSettings(), part, name) if own is None else own
            if name == "lr" and chosen.network.activation == "incode":
                wanted *= KINDS[kind].incode_rate
        assert entry(chosen, part, name) == wanted, (part, name, layers)


@pytest.mark.parametrize("command", ["encode", *TASKS])
def test_help_says_every_default(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "400")
    text = re.sub(r"[│\s]+", " ", lg(command, "--help", cwd=tmp_path))
    task = TASKS.get(command, Settings())
    for part, name in ENTRIES:
        after = text.split(f"--{name.replace('_', '-')}")[1:]
        defaults = [rest.split("(default: ", 1)[1] for rest in after if "(default: " in rest]
        assert any(d.startswith(f"{default_words(part, name, task)})") for d in defaults), (name, defaults)
    for kind in KINDS.values():
        for part in ("fit", "network"):
            for name, value in getattr(kind, part).items():
                if value != entry(CompleteSettings(), part, name):
                    assert words(value) in default_words(part, name) and kind.name in default_words(part, name)


@pytest.mark.parametrize("command", list(TASKS))
def test_presets_of_a_task_say_all_that_it_does(command: str):
    """Under its task a preset makes the network and the training that it makes alone."""
    stem = {"super-resolve": "super-resolution", "denoise": "denoising", "reconstruct-ct": "ct"}[command]
    signal = Signal("image", (24, 32), 3)
    paths = sorted(CONFIGS.glob(f"{stem}*.yaml"))
    assert len(paths) == 4
    for path in paths:
        preset = read_settings(path)
        under, alone = resolve("image", Settings(), preset, TASKS[command]), resolve("image", preset)
        assert under.fit == alone.fit, path
        a, b = (build_network(signal, s.network) for s in (under, alone))
        assert (a.sizes, a.grid) == (b.sizes, b.grid), path
        names = ["activation", "w0", "first_w0", "coordinate_scale"]
        names += [
            f.name
            for f in fields(PARTS["network"])
            if f.name.startswith("harm") and alone.network.activation == "incode"
        ]
        assert all(getattr(under.network, n) == getattr(alone.network, n) for n in names), path


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda p: p.stem)
def test_presets_are_read_by_name_as_by_path_and_say_what_they_hold(path: Path):
    said, data = chosen_settings(path.stem, None), yaml.safe_load(path.read_text())
    assert said == chosen_settings(None, path)
    for part, name in ENTRIES:
        value = data.get(part, {}).get(name)
        assert entry(said, part, name) == (tuple(value) if isinstance(value, list) else value)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("network: {colour: 1}", "unknown settings \\['colour'\\]"),
        ("networks: {}", "have the parts network, fit, shape"),
        ("[1, 2]", "have the parts"),
        ("network: 5", "unknown settings 5"),
        ("{", "is not YAML"),
        ("fit: {steps: many}", "steps must be of type int, got 'many'"),
        ("fit: {steps: 2.5}", "steps must be of type int, got 2.5"),
        ("fit: {steps: true}", "steps must be of type int, got True"),
        ("fit: {steps: .inf}", "steps must be of type int"),
        ("fit: {lr: [1]}", "lr must be of type float"),
        ("network: {counts: 3}", "counts must be a list of whole numbers, got 3"),
        ("network: {counts: [1.5]}", "counts must be a list of whole numbers"),
        ("network: {merge: max}", "merge must be one of concat, add, got 'max'"),
        ("network: {activation: 3}", "activation must be of type str, got 3"),
        ("network: {harmonizer_norm: 1}", "harmonizer_norm must be of type bool, got 1"),
    ],
)
def test_bad_settings_are_named(text: str, match: str, tmp_path: Path):
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(ValueError, match=match):
        read_settings(tmp_path / "bad.yaml")


def test_presets_that_are_not_there_are_named(tmp_path: Path):
    with pytest.raises(ValueError, match=r"no preset 'nope'; there are .*audio, audio-global"):
        chosen_settings("nope", None)
    with pytest.raises(ValueError, match="no preset"):
        chosen_settings("../configs/audio", None)
    with pytest.raises(ValueError, match="either --preset or --config"):
        chosen_settings("audio", tmp_path / "c.yaml")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        chosen_settings(None, tmp_path / "c.yaml")


def test_commands_resolve_after_parsing(tmp_path: Path):
    """Whatever the order and the spelling of flags, and whatever else on the line looks like a file or a preset."""
    Image.fromarray(picture(24, 32)).save(tmp_path / "a.png")
    config = written(tmp_path / "c.yaml", "network", "counts", (3, 2))
    common = ("encode", "a.png", "--steps", 1, "--parameters", 3000)
    lg(*common, "-o", "song.wav.safetensors", "--config", config, cwd=tmp_path)
    assert lg_field.load(tmp_path / "song.wav.safetensors").grid.counts == (3, 2)
    lg(*common, "-o", "two", f"--config={config}", "--cell_size", 24, 16, cwd=tmp_path)
    assert lg_field.load(tmp_path / "two").grid.counts == (1, 2)
    text = lg(
        "denoise",
        "a.png",
        "-o",
        "b.png",
        "--local_width",
        4,
        "--global_width",
        4,
        "--cell_size",
        12,
        16,
        "--steps",
        1,
        cwd=tmp_path,
    )
    assert "cells 2 x 2, local width 4, global width 4" in text and "lr 0.00015" in text
