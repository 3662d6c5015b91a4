"""Ranges of files far away: what is fetched for what is wanted, together and in advance, and servers that fail."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lg_field.errors import Notice
from lg_field.files import ranges
from lg_field.files.ranges import (
    FIRST_BYTES,
    GAP_SHARE,
    REQUEST_BYTES,
    TRIES,
    Ahead,
    FarRanges,
    Ranges,
    merged,
    open_ranges,
)

RANGES = st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 300)), max_size=30)


# -- which ranges are fetched


@given(RANGES)
def test_merged_ranges_hold_all_that_is_wanted_and_little_more(ranges: list[tuple[int, int]]) -> None:
    found = merged(ranges)
    wanted = {at for start, count in ranges for at in range(start, start + count)}
    fetched = [at for start, count in found for at in range(start, start + count)]
    assert wanted <= set(fetched) and len(fetched) == len(set(fetched)) and fetched == sorted(fetched)
    assert len(fetched) <= (1 + GAP_SHARE) * len(wanted) and len(found) <= len(ranges)
    assert merged(found)[0:0] == [] and all(count > 0 for _, count in found)


def test_gaps_are_closed_where_that_costs_less_than_a_request() -> None:
    large = 100 * REQUEST_BYTES
    near, far = large + REQUEST_BYTES, 3 * large
    assert merged([(0, large), (near, large), (far, large)]) == [(0, near + large), (far, large)]
    assert len(merged([(0, large), (large + REQUEST_BYTES + 1, large)])) == 2, "the gap costs more"
    assert len(merged([(0, 10), (12, 10)])) == 2, "what is wanted is so little"


# -- servers that fail


class Fails:
    """A file system in memory whose requests fail for some time."""

    async_impl = False

    def __init__(self, data: bytes, error: Exception, times: int) -> None:
        self.data, self.error, self.times = data, error, times
        self.asked: list[int] = []

    def info(self, path: str) -> dict[str, Any]:
        return {"size": len(self.data)}

    def cat_ranges(self, paths: list[str], starts: list[int], ends: list[int], on_error: str) -> list[Any]:
        self.asked.append(len(paths))
        found: list[Any] = [self.data[a:b] for a, b in zip(starts, ends)]
        if len(self.asked) > 1 and self.times > 0:  # opening goes well
            self.times -= 1
            found[-1] = self.error
        return found


class Status(Exception):
    """As http clients raise it."""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status


APART = [(start, 100) for start in range(10_000, 90_000, 1000)]


@pytest.mark.parametrize("error", [Status(503), Status(429), ConnectionResetError("reset"), TimeoutError()])
def test_what_failed_is_asked_for_again_fewer_at_a_time(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "PAUSE", 0.0)
    data = np.random.default_rng(0).bytes(100_000)
    system = Fails(data, error, 2)
    far = FarRanges(system, "f")
    with pytest.warns(Notice, match=r"1 of 80 requests failed .*, 20 at a time"):
        far.prefetch(APART)
    assert all(far.read(start, count) == data[start : start + count] for start, count in APART)
    assert system.asked == [1, 80, 1, 1] and far.bytes_read == FIRST_BYTES + 8000


@pytest.mark.parametrize(("error", "asked"), [(FileNotFoundError("gone"), 1), (Status(403), 1), (Status(500), TRIES)])
def test_what_fails_for_good_is_an_error(error: Exception, asked: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "PAUSE", 0.0)
    system = Fails(bytes(100_000), error, 100)
    far = FarRanges(system, "f")
    kind = type(error) if isinstance(error, OSError) else OSError  # which commands say in a line
    with pytest.raises(kind, match=str(error)), warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)
        far.prefetch(APART)
    assert len(system.asked) == 1 + asked


# -- what is read next


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.integers(1, 200), st.data())
def test_what_comes_next_is_fetched_together_in_pieces(sizes: list[int], ahead: int, data: st.DataObject) -> None:
    """Whatever is read of what was foretold is here then; in its order everything is fetched once."""
    places = [sum(sizes[:k]) + 3 * k for k in range(len(sizes))]
    told, fetched = list(zip(places, sizes)), []
    source = Ranges()
    source.prefetch = lambda some: fetched.append(list(some))  # type: ignore[method-assign]
    with patch.object(ranges, "AHEAD_BYTES", ahead):
        plan = Ahead(source, told)
        for one in told:
            assert plan.at([one]) and one in fetched[-1]
        assert [one for some in fetched for one in some] == told
        assert all(sum(n for _, n in some[:-1]) < ahead for some in fetched)
        first = data.draw(st.integers(0, len(told) - 1))
        some = told[first : data.draw(st.integers(first + 1, len(told)))]
        assert plan.at(some) and set(some) <= set(fetched[-1])
        count = len(fetched)
        assert not plan.at([]) and not plan.at([(1, 10_000)]) and len(fetched) == count


def test_ranges_read_together_are_fetched_together_and_let_go() -> None:
    data = np.random.default_rng(0).bytes(100_000)
    system = Fails(data, Status(500), 0)
    far = FarRanges(system, "f")
    far.prefetch(APART[:10])
    with far.together(APART):
        assert all(far.read(*one) == data[one[0] : sum(one)] for one in APART)
    assert system.asked == [1, 10, 70]
    far.prefetch(APART[5:15])
    assert system.asked[3:] == [5], "of what is here only the rest is fetched"
    assert far.read(*APART[20]) == data[APART[20][0] : sum(APART[20])] and system.asked[4:] == [1]


def test_what_was_not_foretold_is_read_all_the_same(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    data = np.random.default_rng(0).bytes(5000)
    fsspec.filesystem("memory").pipe("/ranges", data)
    with open_ranges("memory://ranges") as far:
        far.prefetch([(100, 50), (400, 1000)])
        for start, count in ((0, 10), (110, 20), (140, 40), (390, 20), (1300, 300), (4990, 100), (6000, 5)):
            assert bytes(far.read(start, count)) == data[start : start + count]
        before = far.requests
        far.prefetch([(0, 5000)])
        assert bytes(far.read(7, 4000)) == data[7:4007] and far.requests == before + 1
    with pytest.raises(FileNotFoundError), open_ranges("memory://gone"):
        pass
