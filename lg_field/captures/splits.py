"""Which photos train and which test, where a capture does not say."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from lg_field.captures.capture import CaptureError

Splits = Mapping[str, tuple[int, ...]]


def by_fraction(count: int, train: float = 0.9) -> Splits:
    """Evenly spaced training photos from the first to the last, the others test (nerfstudio's `fraction`)."""
    chosen = math.ceil(count * train)
    kept = {int((count - 1) * k / (chosen - 1)) for k in range(chosen)} if chosen > 1 else {0}
    return both(tuple(sorted(kept)), tuple(k for k in range(count) if k not in kept))


def by_interval(count: int, every: int = 8) -> Splits:
    """Every so-manieth photo tests, the first among them (as papers on unbounded scenes do)."""
    test = tuple(range(0, count, every))
    return both(tuple(k for k in range(count) if k % every), test)


def by_lists(names: Sequence[str], lists: Mapping[str, Sequence[str]]) -> tuple[Splits, list[str]]:
    """The splits that lists of names make, and notes.

    Args:
        names: of all photos.
        lists: names for some of train, val and test; val and test stand in for each other.

    Raises:
        CaptureError: a list without any photo there is, or none for training.
    """
    place, notes = {name: k for k, name in enumerate(names)}, []
    found: dict[str, tuple[int, ...]] = {}
    for split, wanted in lists.items():
        found[split] = tuple(sorted(place[name] for name in wanted if name in place))
        absent = [name for name in wanted if name not in place]
        if absent:
            notes.append(f"{len(absent)} of {len(wanted)} names for {split} are no photos of it (e.g. {absent[0]})")
    if not found.get("train"):
        rest = tuple(k for k in range(len(names)) if k not in {k for part in found.values() for k in part})
        if not rest:
            raise CaptureError("the capture's lists of photos leave none to train on")
        found["train"] = rest
        notes.append(f"no list of photos to train on: the {len(rest)} that are in no other list are")
    test = found.get("test") or found.get("val") or ()
    return {"train": found["train"], "val": found.get("val") or test, "test": test}, notes


def both(train: tuple[int, ...], test: tuple[int, ...]) -> Splits:
    """Test photos are also those that are looked at while training."""
    return {"train": train, "val": test, "test": test}


def never_empty(splits: Splits) -> tuple[Splits, list[str]]:
    """Training photos stand in where no photo is left to test on, or the reverse."""
    train, test = splits["train"], splits["test"]
    if train and test:
        return splits, []
    every = train or test
    say = "none is left to test on" if train else "none is left to train on"
    return both(every, every), [f"of {len(every)} photos {say}: all are used for both, figures are of training photos"]
