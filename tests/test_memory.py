"""How much memory there is and was, and refusals before work that would not fit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lg_field.memory import available_bytes, check_memory, peak_bytes


def test_there_is_memory_and_some_was_used():
    assert 1 << 20 < peak_bytes() < 1 << 45
    assert 1 << 20 < available_bytes() < 1 << 50


@given(share=st.floats(0.0, 0.5))
def test_work_that_fits_is_begun(share):
    check_memory(int(share * available_bytes()), "the work", "do less")


@given(times=st.floats(2.0, 1e6))
def test_work_that_does_not_fit_is_refused_with_its_cure(times):
    with pytest.raises(ValueError, match=r"^a mesh needs about [\d,.]+ GB of memory, [\d,.]+ are free: mesh less$"):
        check_memory(int(times * available_bytes()), "a mesh", "mesh less")
