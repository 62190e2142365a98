from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from loopwright.evaluate import figure
from loopwright.evaluate.feasibility import Feasibility, feasibilities
from loopwright.problem import Criterion, class_answers, metric_named

rng = np.random.default_rng(5)


def asked(y: np.ndarray, *, classes: int = 2, payoff: Any = None, **criterion: Any) -> Feasibility:
    stated = Criterion(**criterion)
    metric = metric_named(stated.metric, payoff=payoff)
    return feasibilities([stated], [metric], y, n_classes=classes)[0]


def positives(n: int, of: int) -> np.ndarray:
    y = np.zeros(of)
    y[:n] = 1
    return y


def test_an_accuracy_that_all_right_would_not_show_is_impossible_with_the_rows_needed() -> None:
    found = asked(positives(50, 100), metric="accuracy", at_least=0.99)

    assert not found.is_possible
    # 0.99 ** 299 is the first below 0.05
    assert found.rows_needed == 299
    assert "even all right would show no more than at least 0.97" in found.told


def test_recall_counts_only_the_positive_rows() -> None:
    found = asked(positives(20, 400), metric="recall", at_least=0.9)

    assert not found.is_possible
    # 29 positives all found show 0.9; a twentieth of the rows are positive
    assert found.rows_needed == 569
    assert asked(positives(29, 400), metric="recall", at_least=0.9).is_possible


def test_a_false_alarm_rate_is_asked_from_the_other_side() -> None:
    found = asked(positives(50, 100), metric="false_positive_rate", at_most=0.01)

    assert not found.is_possible
    assert found.rows_needed == 597  # 298.07 negatives, half of the rows
    assert asked(positives(50, 1_000), metric="false_positive_rate", at_most=0.01).is_possible


@pytest.mark.parametrize(("n", "target"), [(200, 0.3), (1_000, 0.7), (50, 0.9)])
def test_the_share_needed_is_the_least_whose_exact_bound_meets(n: int, target: float) -> None:
    needed = asked(rng.normal(size=n), classes=0, metric="share_within_5_percent", at_least=target)

    k = round((needed.value_needed or 0) * n)
    bound = binomtest(k, n, alternative="greater").proportion_ci(0.95).low
    below = binomtest(k - 1, n, alternative="greater").proportion_ci(0.95).low
    assert below < target <= bound


def test_a_class_of_too_few_rows_shows_no_ranking() -> None:
    found = asked(positives(4, 100), metric="roc_auc", at_least=0.7)

    assert not found.is_possible
    assert found.rows_needed == 250
    assert "rarest class has 4 row(s)" in found.told


def test_the_area_needed_has_its_bound_at_the_target() -> None:
    y = positives(60, 400)
    needed = asked(y, metric="roc_auc", at_least=0.8).value_needed
    assert needed is not None
    # two normal scores apart so far that the area is what is needed
    from statistics import NormalDist

    gap = NormalDist().inv_cdf(needed) * 2**0.5
    lowers = []
    for seed in range(20):
        score = np.random.default_rng(seed).normal(size=400) + gap * y
        answers = class_answers(1 / (1 + np.exp(-score)))
        lowers.append(figure(metric_named("roc_auc"), y, answers).lower)

    assert np.mean(lowers) == pytest.approx(0.8, abs=0.02)


def test_a_profit_beyond_perfect_answers_is_impossible_however_many_rows() -> None:
    payoff = {"true_positive": 160.0, "false_positive": -20.0, "false_negative": -400.0}

    found = asked(positives(100, 1_000), payoff=payoff, metric="profit_per_case", at_least=20)
    within = asked(positives(100, 1_000), payoff=payoff, metric="profit_per_case", at_least=5)

    assert not found.is_possible
    assert found.rows_needed is None
    assert "would be 16" in found.told  # a tenth of the cases earn 160 at best
    assert within.is_possible
    assert within.value_needed is not None
    assert within.value_needed > 5


def test_an_error_leaves_less_room_the_fewer_rows_judge() -> None:
    def needed(n: int) -> Feasibility:
        y = np.random.default_rng(3).lognormal(12, 0.6, size=n)
        return asked(y, classes=0, metric="mape", at_most=0.15)

    few, many = needed(40), needed(40_000)

    assert few.is_possible
    assert few.value_needed is not None
    assert many.value_needed is not None
    assert few.value_needed < many.value_needed < 0.15
    assert many.told == ""


def test_a_criterion_that_few_rows_make_hard_is_said_with_rows_that_would_do() -> None:
    found = asked(positives(20, 60), metric="accuracy", at_least=0.9)

    assert found.is_possible
    assert found.rows_needed is not None
    assert found.rows_needed > 60
    easier = asked(
        positives(found.rows_needed // 3, found.rows_needed), metric="accuracy", at_least=0.9
    )
    assert easier.told == ""


def test_what_is_not_known_is_left_open() -> None:
    y = rng.lognormal(size=300)

    found = asked(y, classes=0, metric="r2", at_least=0.7)

    assert (found.is_possible, found.value_needed, found.told) == (True, None, "")
