"""How far groups differ live: surely broken, surely kept, or not known, and never by looking often."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from loopwright.monitor.fairness_drift import FairnessDrift, fairness_drift
from loopwright.problem import FairnessLimit, class_answers


def made_case(
    seed: int, *, gap: float, n: int = 2_000
) -> tuple[pl.DataFrame, np.ndarray, np.ndarray]:
    """Group b is said to be positive less often by `gap`."""
    rng = np.random.default_rng(seed)
    group = rng.choice(["a", "b"], n)
    said = rng.random(n) < np.where(group == "a", 0.5, 0.5 - gap)
    y = (rng.random(n) < 0.5) * 1.0
    return pl.DataFrame({"group": group}), said * 1.0, y


def rated(seed: int, *, gap: float, n: int = 2_000, look: int = 1, **limit: float) -> FairnessDrift:
    frame, said, _ = made_case(seed, gap=gap, n=n)
    stated = FairnessLimit(column="group", metric="selection_rate", **limit)
    return fairness_drift(frame, None, class_answers(said), [stated], look=look)[0]


def test_a_gap_far_beyond_the_limit_is_missed_without_labels() -> None:
    found = rated(1, gap=0.3, at_most_gap=0.1)

    assert found.verdict == "missed"
    assert not found.needs_labels
    assert found.gap == pytest.approx(0.3, abs=0.06)
    assert found.gap_lower is not None
    assert found.gap_lower > 0.1
    assert (found.high, found.low) == ("a", "b")
    assert "surely more than is allowed" in found.message


def test_a_gap_far_within_the_limit_holds_and_one_near_it_is_undecided() -> None:
    verdicts = [rated(2, gap=gap, at_most_gap=0.2).verdict for gap in (0.0, 0.18)]

    assert verdicts == ["holds", "undecided"]


def test_a_ratio_far_below_the_limit_is_missed() -> None:
    assert rated(3, gap=0.3, at_least_ratio=0.8).verdict == "missed"
    assert rated(3, gap=0.0, at_least_ratio=0.8).verdict != "missed"


def test_groups_of_a_few_rows_are_not_compared() -> None:
    found = rated(4, gap=0.3, n=40, at_most_gap=0.1)

    assert found.gap is None
    assert found.verdict == "undecided"


def test_figures_that_need_the_truth_wait_for_it() -> None:
    frame, said, y = made_case(5, gap=0.3)
    limits = [
        FairnessLimit(column="group", metric=metric, at_most_gap=0.1)
        for metric in ("selection_rate", "recall")
    ]

    without = fairness_drift(frame, None, class_answers(said), limits)
    with_labels = fairness_drift(frame, y, class_answers(said), limits)

    assert [each.metric for each in without] == ["selection_rate"]
    assert [each.metric for each in with_labels] == ["recall"]
    assert with_labels[0].verdict == "missed"


def test_a_column_that_requests_do_not_hold_is_left_out() -> None:
    frame, said, _ = made_case(6, gap=0.3)
    limit = FairnessLimit(column="age", metric="selection_rate", at_most_gap=0.1)

    assert fairness_drift(frame, None, class_answers(said), [limit]) == ()


def test_groups_at_the_limit_are_hardly_ever_called_unfair_however_often_one_looks() -> None:
    missed = [
        rated(100 + life * 10 + look, gap=0.1, n=600, look=look, at_most_gap=0.1).verdict
        == "missed"
        for life in range(8)
        for look in range(1, 6)
    ]

    assert sum(missed) <= 1
