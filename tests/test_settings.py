"""How what was not said is filled in: flags before presets before kinds before general defaults, voids and all."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lg_field.restoration.tasks import TASKS, same_detail
from lg_field.signals.kinds import KINDS, kind_named
from lg_field.signals.presets import CONFIGS, preset_names, read_preset, read_settings
from lg_field.signals.settings import (
    INSTEAD,
    CompleteFit,
    CompleteNetwork,
    CompleteSettings,
    FitConfig,
    NetworkConfig,
    Settings,
    ShapeConfig,
    resolve,
    resolve_fit,
    resolve_network,
    resolve_shape,
)

fits = st.builds(
    FitConfig,
    steps=st.none() | st.integers(1, 99),
    lr=st.none() | st.floats(1e-6, 1e-1),
    sample_fraction=st.none() | st.floats(0.1, 1.0),
    points=st.none() | st.integers(0, 99),
    overlap=st.none() | st.integers(0, 3),
    seed=st.none() | st.integers(0, 9),
)
networks = st.builds(
    NetworkConfig,
    counts=st.none() | st.just((2, 2)),
    cell_size=st.none() | st.just((8, 8)),
    parameters=st.none() | st.integers(0, 9999),
    local_width=st.none() | st.integers(0, 9),
    harmonizer_norm=st.none() | st.booleans(),
)
layers = st.lists(st.builds(Settings, network=networks, fit=fits), max_size=3)


def said(part: object) -> dict[str, object]:
    return {f.name: v for f in dataclasses.fields(part) if (v := getattr(part, f.name)) is not None}  # type: ignore[arg-type]


@given(kind=st.sampled_from(sorted(KINDS)), given_=layers)
def test_the_first_that_says_an_entry_wins_unless_it_is_void(kind: str, given_: list[Settings]) -> None:
    result = resolve(kind, *given_)
    defaults = {"network": kind_named(kind).network, "fit": kind_named(kind).fit}
    for part, general in (("network", CompleteNetwork()), ("fit", CompleteFit())):
        got = getattr(result, part)
        assert type(got) is type(general) and all(v is not None for v in dataclasses.asdict(got).values())
        for entry in (f.name for f in dataclasses.fields(got)):
            wanted = getattr(general, entry)
            for layer in (*(said(getattr(s, part)) for s in given_), defaults[part]):
                if entry in layer:
                    wanted = layer[entry]
                    break
                if any(entry in INSTEAD.get(name, ()) for name in layer):
                    break
            assert getattr(got, entry) == wanted, entry


@given(kind=st.sampled_from(sorted(KINDS)), given_=layers)
def test_what_is_resolved_stays_so(kind: str, given_: list[Settings]) -> None:
    once = resolve(kind, *given_)
    assert resolve(kind, once) == once and isinstance(once, CompleteSettings)
    assert resolve_fit(kind, once.fit) is once.fit and resolve_network(kind, once.network) is once.network
    assert resolve_shape(once.shape) is once.shape


def test_a_flag_voids_what_it_replaces() -> None:
    preset = Settings(NetworkConfig(counts=(4, 4), local_width=9, global_width=9), FitConfig(points=77))
    flags = Settings(NetworkConfig(cell_size=(8, 8), parameters=500), FitConfig(sample_fraction=0.5))
    got = resolve("image", flags, preset)
    assert (got.network.counts, got.network.cell_size) == ((), (8, 8))
    assert (got.network.local_width, got.network.parameters, got.fit.points) == (0, 500, 0)
    assert resolve("occupancy", Settings(fit=FitConfig(sample_fraction=0.1))).fit.points == 0
    assert resolve("image", preset).network.local_width == 9


def test_kinds_train_as_the_paper_does_but_for_falling_rates_centered_cells_and_samples_drawn() -> None:
    facts = {n: resolve(n).fit for n in KINDS}
    assert all(0.0 < f.lr * f.lr_factor < f.lr for f in facts.values())
    papers: dict[str, tuple[str, float, dict[str, int]]] = {
        "image-div2k": ("image", 5e-4, {"points": 1 << 18, "steps": 0}),
        "audio": ("audio", 1e-4, {}),
        "video": ("video", 1e-4, {}),
    }
    for name, (kind, rate, drawn) in papers.items():
        of_paper, ours = resolve(kind, read_preset(name)).fit, facts[kind]
        assert (of_paper.lr, of_paper.lr_factor, of_paper.center_cells) == (rate, 1.0, False)
        assert (of_paper.points, of_paper.stratified) == (0, False)
        falling = dataclasses.replace(of_paper, lr=ours.lr, lr_factor=ours.lr_factor, **drawn)
        assert dataclasses.replace(falling, center_cells=True, stratified=True) == ours
    assert (facts["video"].steps, facts["video"].sample_fraction, facts["video"].overlap) == (5000, 0.002, 2)
    assert facts["nifti"] == facts["volume"] and facts["occupancy"].points == 50_000
    assert KINDS["audio"].reach == 100.0 and resolve("image").network.harmonizer_bias == 0.312


def test_steps_follow_the_part_of_a_signal_that_each_draws() -> None:
    picture = resolve("image").fit
    for pixels, steps in ((100, 1000), (1 << 18, 1000), (1 << 20, 2000), (9 << 18, 3000)):
        fit = picture.of_size(pixels)
        assert fit.steps == steps and dataclasses.replace(fit, steps=0) == picture
    drawn = resolve("image", Settings(fit=FitConfig(sample_fraction=0.25))).fit
    assert drawn.points == 0 and drawn.of_size(10).steps == 2000
    assert resolve("audio").fit.share(1 << 24) == 1.0
    assert resolve("image", Settings(fit=FitConfig(steps=7))).fit.of_size(1 << 24).steps == 7
    assert resolve("video").fit.of_size(1 << 24).steps == 5000
    with pytest.raises(ValueError, match="sample_fraction must be in"):
        dataclasses.replace(picture, points=0, sample_fraction=0.0).of_size(10)


@pytest.mark.parametrize("name", preset_names())
def test_presets_say_only_settings_and_no_nones(name: str) -> None:
    settings = read_preset(name)
    assert said(settings.network) and said(settings.fit)
    kind = {"audio": "audio", "video": "video", "shape": "occupancy"}.get(name.split("-")[0], "image")
    complete = resolve(kind, settings)
    complete.fit.check()
    for part in ("network", "fit", "shape"):
        for entry, value in said(getattr(settings, part)).items():
            assert getattr(getattr(complete, part), entry) == value


def test_bad_files_of_settings_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    for text, match in (
        ("network: {colour: 1}", "unknown settings ['colour']"),
        ("nets: {}", "settings have the parts network, fit, shape"),
        ("fit: {steps: many}", "steps must be"),
        ("network: {counts: 3}", "counts must be"),
        ("fit: [1, 2]", "unknown settings [1, 2]"),
        ("{", "is not YAML"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError) as caught:
            read_settings(path)
        assert match in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)
    path.write_text("fit: {steps: 7}\nnetwork:\n")
    assert said(read_settings(path).fit) == {"steps": 7} and not said(read_settings(path).network)
    with pytest.raises(ValueError, match="no preset 'nope'; there are "):
        read_preset("nope")
    with pytest.raises(FileNotFoundError):
        read_settings(tmp_path / "none.yaml")
    assert CONFIGS.is_dir()


def test_tasks_are_settings_of_pictures() -> None:
    for settings in TASKS.values():
        resolve("image", settings).fit.check()
    network = resolve_network("image", TASKS["denoise"].network)
    assert same_detail(network, (100, 252), 504).coordinate_scale == 0.5
    assert same_detail(network, (100, 900), 504).coordinate_scale == 1.0
    for said in (NetworkConfig(coordinate_scale=0.7), NetworkConfig(coordinate_step=0.1)):
        chosen = resolve_network("image", said, TASKS["denoise"].network)
        assert same_detail(chosen, (100, 252), 504) is chosen
    assert resolve_shape(ShapeConfig(resolution=9)).margin == 1
