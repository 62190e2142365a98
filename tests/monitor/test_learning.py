"""References: how much room a column is given, and large tables by a sample."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.monitor import build_reference
from loopwright.monitor.learning import N_MOST_ROWS, tolerance_for


def test_a_column_of_average_importance_or_more_has_the_least_tolerance() -> None:
    importances = {"a": 0.6, "b": 0.3, "c": 0.1}

    assert tolerance_for("a", importances) == 0.02
    # 0.3 is nine tenths of the average, 0.1 three tenths
    assert tolerance_for("b", importances) == pytest.approx(0.02 / 0.9, abs=1e-6)
    assert tolerance_for("c", importances) == pytest.approx(0.02 / 0.3, abs=1e-6)


@pytest.mark.parametrize("unknown", [None, {}, {"a": 0.0}])
def test_without_importances_all_columns_are_alike(unknown: dict[str, float] | None) -> None:
    assert tolerance_for("a", unknown) == 0.02


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.sampled_from("abcdef"), st.floats(0, 1e6), min_size=1))
def test_a_tolerance_is_always_within_its_bounds(importances: dict[str, float]) -> None:
    for column in "abcdefg":
        assert 0.02 <= tolerance_for(column, importances) <= 0.2


def test_a_small_shift_of_a_column_that_hardly_counts_is_tolerated() -> None:
    rng = np.random.default_rng(0)
    rows = pl.DataFrame({"a": rng.normal(size=3_000), "b": rng.normal(size=3_000)})
    kinds = {"a": "number", "b": "number"}

    reference = build_reference(rows, rows["a"].to_numpy(), None, kinds, importances={"a": 1.0})

    assert {s.key: s.tolerance for s in reference.inputs} == {"a": 0.02, "b": 0.2}


def test_a_large_table_is_learnt_from_a_sample_that_is_always_the_same() -> None:
    rows = pl.DataFrame({"a": np.arange(N_MOST_ROWS + 5_000) * 1.0})
    kinds = {"a": "number"}

    first = build_reference(rows, rows["a"].to_numpy(), None, kinds, window_rows=5_000)
    second = build_reference(rows, rows["a"].to_numpy(), None, kinds, window_rows=5_000)

    assert first == second
    assert first.n_rows == rows.height
    assert [stream.n_rows for stream in first.streams] == [N_MOST_ROWS] * 2
