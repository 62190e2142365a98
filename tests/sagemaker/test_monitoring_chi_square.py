"""Categories compared by the chi-square test."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from loopwright.sagemaker.monitoring.chi_square import p_value
from loopwright.sagemaker.monitoring.column import column_of, statistics_of
from loopwright.sagemaker.monitoring.constraint import suggested, violations


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(40, 200), st.integers(40, 200)), min_size=2, max_size=6))
def test_frequent_categories_have_the_p_value_of_scipy(pairs: list[tuple[int, int]]) -> None:
    sample = {str(at): one for at, (one, _) in enumerate(pairs)}
    baseline = {str(at): other for at, (_, other) in enumerate(pairs)}
    n, m = sum(sample.values()), sum(baseline.values())

    found = p_value(sample, baseline)

    expected = [other / m * n for _, other in pairs]
    assert found == pytest.approx(chisquare([one for one, _ in pairs], expected).pvalue)


def test_rare_categories_are_put_together() -> None:
    # expected 60, 33, 4 and 3: two of four are below five, so that they are one of seven
    found = p_value({"a": 60, "b": 33, "c": 1, "d": 6}, {"a": 60, "b": 33, "c": 4, "d": 3})

    assert found == pytest.approx(1.0)


def test_nothing_to_test_is_no_drift() -> None:
    assert p_value({"a": 10}, {"a": 100}) == 1.0
    assert p_value({"z": 10}, {"a": 100, "b": 100}) == 1.0
    assert p_value({"a": 3, "b": 1}, {"a": 100, "b": 100}) == 1.0


def judged(method: str, live: list[str], **rules: Any) -> list[dict[str, str]]:
    before = [column_of(pl.Series("word", ["x"] * 500 + ["y"] * 500))]
    now = [column_of(pl.Series("word", live))]
    constraints = suggested(before, drift_method=method)
    constraints["monitoring_config"]["distribution_constraints"].update(rules)
    statistics = statistics_of(before, n_rows=1000)
    found, _ = violations(now, constraints, statistics, statistics_of(now, n_rows=len(live)))
    return [each for each in found if each["constraint_check_type"] == "baseline_drift_check"]


def test_a_shift_is_found_by_its_p_value_where_the_constraints_say_so() -> None:
    live = ["x"] * 560 + ["y"] * 440

    assert judged("LInfinity", live) == []
    (found,) = judged("ChiSquared", live)

    assert "p-value" in found["description"]
    assert judged("ChiSquared", ["x"] * 505 + ["y"] * 495) == []
    assert judged("ChiSquared", live, categorical_comparison_threshold=1e-6) == []
