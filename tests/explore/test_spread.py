from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.explore import spread
from loopwright.explore.spread import are_whole, histogram, largest_gap, number_summary, runs


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-5, 5), min_size=1, max_size=60), st.integers(1, 12), st.integers(1, 9))
def test_runs_are_the_counts_of_the_values_however_they_are_cut(
    values: list[int], n_top: int, block: int
):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spread, "_BLOCK", block)
        found = runs(np.sort(np.array(values)), n_top)

    by_hand = sorted(Counter(values).items(), key=lambda each: (-each[1], each[0]))
    assert found.n_distinct == len(by_hand)
    assert list(found.top) == by_hand[:n_top]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50), st.integers(1, 9))
def test_moments_gaps_and_wholeness_do_not_depend_on_the_blocks(values: list[float], block: int):
    ordered = np.sort(np.array(values))
    days = np.sort(ordered.astype(np.int64))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spread, "_BLOCK", block)
        cut = number_summary(ordered, 0)
        gap, whole = largest_gap(days), are_whole(ordered)

    assert cut.mean == number_summary(ordered, 0).mean
    assert (cut.sd or 0.0) == pytest.approx(ordered.std(ddof=1) if len(values) > 1 else 0, abs=1e-6)
    assert gap == (int(np.diff(days).max()) if len(values) > 1 else 0)
    assert whole == bool((np.floor(ordered) == ordered).all())


def test_values_that_span_nearly_all_floats_overflow_nowhere():
    wide = histogram(np.array([0.0, 1.7976931348623157e308]))

    assert wide is not None
    assert sum(wide.counts) == 2
    assert np.isfinite(wide.edges).all()
    assert histogram(np.array([-1e308, 1e308])) is None
    assert number_summary(np.array([-1e308, 1e308]), 0).sd is None
