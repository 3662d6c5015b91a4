"""What the tables of the paper are of: parts of signals and settings beside the presets."""

from pathlib import Path

import pytest
import torch

SCRIPTS = Path(__file__).parents[1] / "scripts" / "tables"


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))


@pytest.mark.parametrize(
    "kind, shape, quick, first, last",
    [
        ("audio", (1000,), True, (0,), (249,)),
        ("image", (140, 130), True, (6, 1), (133, 128)),
        ("video", (70, 150, 200), True, (0, 3, 4), (63, 146, 195)),
        ("video", (70, 150, 200), False, (0, 0, 0), (63, 149, 199)),
        ("video", (60, 5, 4), False, (0, 0, 0), (59, 4, 3)),
        ("image", (140, 130), False, (0, 0), (139, 129)),
    ],
)
def test_a_table_is_of_a_beginning_or_of_the_middle(kind, shape, quick, first, last):
    """The quick part by kind, else the first frames that the table says; a signal that is smaller is whole."""
    from paper_tables import Table

    from lg_field.signals import SignalData
    from lg_field.signals.signal import Signal

    samples = torch.arange(torch.Size(shape).numel(), dtype=torch.float32).reshape(*shape, 1)
    part = Table((), (), frames=64).part(SignalData(samples, Signal(kind, shape, 1)), quick)
    assert part.signal.shape == tuple(b - a + 1 for a, b in zip(first, last)) == tuple(part.samples.shape[:-1])
    assert part.samples[(0,) * len(shape)] == samples[first] and part.samples[(-1,) * len(shape)] == samples[last]


def test_a_table_has_its_own_budget_and_its_rows_are_of_that():
    import signals
    from paper_tables import TABLES

    found = {"kind": "video", "preset": "video-small"}
    plain, own = (signals.differences(signals.Args(t, Path()), found) for t in ("video-small", "video-bikes-2-percent"))
    changed = {k: (plain.get(k), own[k]) for k in own if plain.get(k) != own[k]}
    assert changed == {"parameters": (60_000, 400_000), "sample_fraction": (0.002, 0.02)}
    budgets = {
        signals.settings_of(signals.Args("video-carphone", Path()), "video", p).network.parameters
        for p in TABLES["video-carphone"].presets
    }
    assert budgets == {120_000}, "baselines have the same"
