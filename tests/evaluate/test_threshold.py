"""Thresholds are chosen as the problem asks, and curves agree with counting."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import precision_score, recall_score

from loopwright.core.errors import InvalidInputError
from loopwright.evaluate import best_threshold, chosen_threshold
from loopwright.evaluate.threshold import counts_at, share_bounds_at, values_at
from loopwright.evaluate.tradeoff import gain_points, threshold_points
from loopwright.problem import (
    Problem,
    ThresholdPolicy,
    checked_problem,
    class_answers,
    metric_named,
)

PAYOFF = {"true_positive": 160.0, "false_positive": -20.0, "false_negative": -400.0}
PROFIT = metric_named("profit_per_case", payoff=PAYOFF)


def rows(n: int = 800, seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    p = rng.beta(1, 2, n)
    return (rng.random(n) < p).astype(float), p


def chosen(policy: Any, *, profit: Any = None, n: int = 800) -> Any:
    y, p = rows(n)
    return chosen_threshold(policy, y, class_answers(p), profit=profit, confidence=0.95)


@settings(max_examples=20)
@given(
    seed=st.integers(0, 1_000),
    cuts=st.lists(st.floats(0, 1), min_size=1, max_size=6, unique=True).map(sorted),
)
def test_the_curve_is_what_each_threshold_gives_by_itself(seed: int, cuts: list[float]) -> None:
    y, p = rows(60, seed)

    quick = values_at(PROFIT, y, class_answers(p), np.array(cuts))

    ones = np.ones((1, 60))
    slow = [PROFIT.resampled(y, class_answers(p, threshold=cut), ones)[0] for cut in cuts]
    assert quick == pytest.approx(slow)


def test_counts_are_those_of_scikit_learn() -> None:
    y, p = rows()

    positive, said, hit = counts_at(y, p, np.array([0.25, 0.6]))

    for place, cut in enumerate((0.25, 0.6)):
        assert hit[place] / said[place] == precision_score(y, p >= cut)
        assert hit[place] / positive == recall_score(y, p >= cut)


def test_what_each_row_is_worth_moves_the_threshold() -> None:
    y, p = rows()
    table = np.array([[0.0, -20.0], [-400.0, 160.0]])
    money = np.broadcast_to(table, (len(y), 2, 2)).copy()
    money[y == 0, 0, 1] = -2_000.0

    dear = best_threshold(PROFIT, y, p, money=money)

    assert best_threshold(PROFIT, y, p, money=np.broadcast_to(table, (len(y), 2, 2))) < dear


def test_a_wanted_precision_is_reached_beyond_doubt_with_the_most_recall() -> None:
    y, p = rows()

    found = chosen(ThresholdPolicy(by="precision", at_least=0.6))

    _, said, hit = counts_at(y, p, np.array([found.threshold]))
    assert share_bounds_at(hit, said, confidence=0.95)[0][0] >= 0.6
    assert found.by == "precision"
    assert "beyond doubt" in found.reason
    assert found.threshold < 0.75


def test_a_wanted_recall_takes_the_highest_threshold_that_reaches_it() -> None:
    y, p = rows()

    found = chosen(ThresholdPolicy(by="recall", at_least=0.8))

    positive, _, hit = counts_at(y, p, np.array([found.threshold]))
    assert share_bounds_at(hit, np.array([positive]), confidence=0.95)[0][0] >= 0.8
    assert hit[0] / positive < 0.9


def test_what_no_threshold_reaches_is_said() -> None:
    found = chosen(ThresholdPolicy(by="precision", at_least=0.999), n=40)

    assert "no threshold" in found.reason or "not beyond doubt" in found.reason


@pytest.mark.parametrize(
    ("policy", "profit", "by", "threshold"),
    [(None, None, "half", 0.5), (0.7, PROFIT, "hand", 0.7), (0, None, "hand", 0.0)],
)
def test_a_number_by_hand_wins_and_one_half_is_the_rest(
    policy: Any, profit: Any, by: str, threshold: float
) -> None:
    found = chosen(policy, profit=profit)

    assert (found.by, found.threshold) == (by, threshold)


def test_a_payoff_is_gone_by_when_nothing_is_said() -> None:
    y, p = rows()

    found = chosen(None, profit=PROFIT)

    assert found == chosen(ThresholdPolicy(by="payoff"), profit=PROFIT)
    assert found.threshold == best_threshold(PROFIT, y, p)


@pytest.mark.parametrize(
    ("threshold", "more", "message"),
    [
        (70, {}, "no probability"),
        (0.5, {"task": "regression"}, "for binary problems"),
        (ThresholdPolicy(by="precision"), {}, "says not how much"),
        (ThresholdPolicy(by="recall", at_least=1.0), {}, "wants 1 of it"),
        (ThresholdPolicy(by="payoff"), {}, "problem.payoff is not there"),
        (ThresholdPolicy(by="payoff", at_least=0.3), {"payoff": PAYOFF}, "as much as possible"),
    ],
)
def test_a_threshold_that_cannot_be_gone_by_is_refused(
    threshold: Any, more: dict[str, Any], message: str
) -> None:
    task = more.pop("task", "binary")

    with pytest.raises(InvalidInputError, match=message):
        checked_problem(Problem(target="y", threshold=threshold, **more), task=task)


def test_points_run_from_always_to_never_and_hold_the_one_in_force() -> None:
    y, p = rows()

    points = threshold_points(y, class_answers(p, threshold=0.123), profit=PROFIT, confidence=0.95)

    assert (points[0].share_said, points[0].recall) == (1.0, 1.0)
    assert (points[-1].share_said, points[-1].precision) == (0.0, None)
    assert any(point.threshold == 0.123 for point in points)
    said = np.array([point.share_said for point in points])
    assert (np.diff(said) <= 0).all()
    for point in points[:-1]:
        assert point.precision_lower <= point.precision <= point.precision_upper
        assert point.profit_lower <= point.profit <= point.profit_upper


def test_the_highest_tenth_holds_its_share_of_the_positives() -> None:
    y, p = rows(1_000)

    tenth = next(
        point for point in gain_points(y, p, confidence=0.95) if point.share == pytest.approx(0.1)
    )

    top = np.argsort(-p)[:100]
    assert tenth.captured == pytest.approx(y[top].sum() / y.sum())
    assert tenth.lift == pytest.approx(y[top].mean() / y.mean())


def test_equal_probabilities_hold_positives_evenly() -> None:
    y = np.array([1.0, 0.0] * 50)

    points = gain_points(y, np.full(100, 0.5), confidence=0.95)

    assert [point.lift for point in points] == pytest.approx([1.0] * len(points))
