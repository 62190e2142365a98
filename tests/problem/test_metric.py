from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sklearn.metrics as trusted
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.core.errors import InvalidInputError
from loopwright.problem import (
    METRIC_EXAMPLES,
    METRICS,
    class_answers,
    in_range,
    metric_named,
    value_answers,
)

rng = np.random.default_rng(7)
Y = rng.lognormal(size=400)
SAID = value_answers(Y * rng.normal(1.0, 0.2, size=400))
HIT = (rng.random(400) < 0.3).astype(float)
P = class_answers(np.clip(0.1 * HIT + 0.9 * rng.random(400), 0.01, 0.99).round(2))
KIND = rng.integers(0, 3, size=400).astype(float)
P3 = class_answers(rng.dirichlet([1, 1, 1], size=400))
PAYOFF = {"true_positive": 160.0, "false_positive": -20.0, "false_negative": -400.0}
NAMES = sorted({*METRICS, *METRIC_EXAMPLES})


def rows_for(name: str) -> tuple[np.ndarray, Any]:
    """Return a truth and answers that the metric can judge."""
    tasks = metric_named(name, payoff=PAYOFF).tasks
    if "regression" in tasks:
        return Y, SAID
    return (HIT, P) if "binary" in tasks else (KIND, P3)


def value(name: str, y: np.ndarray, answers: object, **options: object) -> float:
    metric = metric_named(name, **options)  # type: ignore[arg-type]
    return float(metric.resampled(y, answers, np.ones((1, len(y))))[0])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mae", trusted.mean_absolute_error(Y, SAID.values)),
        ("mape", trusted.mean_absolute_percentage_error(Y, SAID.values)),
        ("rmse", trusted.root_mean_squared_error(Y, SAID.values)),
        ("r2", trusted.r2_score(Y, SAID.values)),
        ("medae", trusted.median_absolute_error(Y, SAID.values)),
        ("absolute_error_of_95_percent", np.quantile(np.abs(Y - SAID.values), 0.95)),
        ("rmsle", trusted.root_mean_squared_log_error(Y, SAID.values)),
        ("pinball_at_90_percent", trusted.mean_pinball_loss(Y, SAID.values, alpha=0.9)),
        ("wape", np.abs(Y - SAID.values).sum() / Y.sum()),
        ("smape", np.mean(2 * np.abs(Y - SAID.values) / (Y + SAID.values))),
    ],
)
def test_regression_metrics_agree_with_scikit_learn(name: str, expected: float) -> None:
    assert value(name, Y, SAID) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("accuracy", trusted.accuracy_score(HIT, P.labels)),
        ("precision", trusted.precision_score(HIT, P.labels)),
        ("recall", trusted.recall_score(HIT, P.labels)),
        ("f1", trusted.f1_score(HIT, P.labels)),
        ("macro_f1", trusted.f1_score(HIT, P.labels, average="macro")),
        ("balanced_accuracy", trusted.balanced_accuracy_score(HIT, P.labels)),
        ("roc_auc", trusted.roc_auc_score(HIT, P.probability())),
        ("log_loss", trusted.log_loss(HIT, P.probabilities)),
        ("brier", trusted.brier_score_loss(HIT, P.probability())),
        ("specificity", trusted.recall_score(HIT, P.labels, pos_label=0)),
        ("negative_predictive_value", trusted.precision_score(HIT, P.labels, pos_label=0)),
        ("false_positive_rate", 1 - trusted.recall_score(HIT, P.labels, pos_label=0)),
        ("average_precision", trusted.average_precision_score(HIT, P.probability())),
        ("mcc", trusted.matthews_corrcoef(HIT, P.labels)),
        ("cohen_kappa", trusted.cohen_kappa_score(HIT, P.labels)),
    ],
)
def test_binary_metrics_agree_with_scikit_learn(name: str, expected: float) -> None:
    assert value(name, HIT, P) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("accuracy", trusted.accuracy_score(KIND, P3.labels)),
        ("macro_f1", trusted.f1_score(KIND, P3.labels, average="macro")),
        ("balanced_accuracy", trusted.balanced_accuracy_score(KIND, P3.labels)),
        ("log_loss", trusted.log_loss(KIND, P3.probabilities)),
        ("weighted_f1", trusted.f1_score(KIND, P3.labels, average="weighted")),
        ("macro_precision", trusted.precision_score(KIND, P3.labels, average="macro")),
        ("mcc", trusted.matthews_corrcoef(KIND, P3.labels)),
        ("cohen_kappa", trusted.cohen_kappa_score(KIND, P3.labels)),
        ("top_2_accuracy", trusted.top_k_accuracy_score(KIND, P3.probabilities, k=2)),
        ("top_1_accuracy", trusted.accuracy_score(KIND, P3.labels)),
    ],
)
def test_multiclass_metrics_agree_with_scikit_learn(name: str, expected: float) -> None:
    assert value(name, KIND, P3) == pytest.approx(expected, rel=1e-12)


def test_share_within_counts_rows_by_hand() -> None:
    # relative errors 0.04, 0.05, 0.06 and 0: three of four are within 5 percent
    y = np.array([100.0, 100.0, 100.0, 100.0])
    said = value_answers([104.0, 95.0, 106.0, 100.0])

    assert value("share_within_5_percent", y, said) == 0.75


def test_profit_adds_what_each_outcome_earns() -> None:
    # one true positive 160, one false positive -20, one false negative -400, one true negative 0
    y = np.array([1.0, 0.0, 1.0, 0.0])
    said = class_answers([0.9, 0.8, 0.1, 0.2])
    payoff = {"true_positive": 160.0, "false_positive": -20.0, "false_negative": -400.0}

    assert value("profit_per_case", y, said, payoff=payoff) == (160 - 20 - 400) / 4


def test_money_may_differ_by_row() -> None:
    # the customers are worth 100, 10, 40 and 5; a kept one brings half, a call costs 20
    y, said = np.array([1.0, 0.0, 1.0, 0.0]), np.array([0.9, 0.8, 0.1, 0.2])
    worth = np.array([100.0, 10.0, 40.0, 5.0])
    money = np.zeros((4, 2, 2))
    money[:, 1, 1], money[:, 0, 1], money[:, 1, 0] = 0.5 * worth - 20, -20, -0.5 * worth
    answers = class_answers(said, money=money)
    payoff = {"true_positive": "0.5 * worth - 20", "false_positive": -20.0}

    earned = value("profit_per_case", y, answers, payoff=payoff)

    # caught 30, false alarm -20, missed -20, left alone 0
    assert earned == (30 - 20 - 20) / 4
    assert value("expected_profit_per_thousand", y, answers, payoff=payoff) == 1_000 * earned
    assert value("cost_per_case", y, answers, payoff=payoff) == -earned
    chosen = np.array([0, 2])
    assert value("profit_per_case", y[chosen], answers.rows(chosen), payoff=payoff) == 5
    with pytest.raises(InvalidInputError, match="came without"):
        value("profit_per_case", y, class_answers(said), payoff=payoff)


def test_one_table_of_money_for_all_rows_is_not_copied_for_each() -> None:
    table = np.arange(4.0).reshape(2, 2)
    answers = class_answers(np.full(1_000, 0.7), money=np.broadcast_to(table, (1_000, 2, 2)))

    some = answers.rows(np.arange(300))

    assert some.money is not None
    assert some.money.shape == (300, 2, 2)
    assert some.money.strides[0] == 0


def test_the_top_decile_is_counted_by_hand() -> None:
    # the two highest of twenty rows hold one of four positives: precision 1/2, average 1/5
    y = np.zeros(20)
    y[[0, 5, 6, 7]] = 1
    said = class_answers(np.linspace(1, 0, 20))

    assert value("precision_at_top_10_percent", y, said) == pytest.approx(0.5)
    assert value("lift_in_top_decile", y, said) == pytest.approx(2.5)
    # three rows of twenty are 15 percent; at 12.5 percent the third counts half: 1 of 2.5
    assert value("precision_at_top_12.5_percent", y, said) == pytest.approx(1 / 2.5)


def test_rows_of_one_probability_share_the_places_at_the_top() -> None:
    y = np.array([1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0])
    said = class_answers(np.full(10, 0.3))

    assert value("precision_at_top_10_percent", y, said) == pytest.approx(0.2)
    assert value("lift_in_top_decile", y, said) == pytest.approx(1.0)


@given(seed=st.integers(0, 1_000), name=st.sampled_from(NAMES))
@settings(max_examples=60, deadline=None)
def test_counting_a_row_twice_equals_repeating_it(seed: int, name: str) -> None:
    draw = np.random.default_rng(seed)
    counts = draw.integers(0, 3, size=60)
    counts[:3] = 1
    metric = metric_named(name, payoff=PAYOFF)
    y, answers = rows_for(name)
    y, answers = y[:60], answers.rows(np.arange(60))
    if "regression" not in metric.tasks:
        y = np.r_[0.0, 1.0, y.max(), y[3:]]  # every class is there
    repeated = np.repeat(np.arange(60), counts)

    weighted = metric.resampled(y, answers, counts[None, :].astype(float))[0]
    plain = metric.resampled(y[repeated], answers.rows(repeated), np.ones((1, len(repeated))))[0]

    assert weighted == pytest.approx(plain, rel=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_values_per_row_average_to_the_metric(name: str) -> None:
    metric = metric_named(name, payoff=PAYOFF)
    y, answers = rows_for(name)

    per_row = metric.per_row(y, answers)

    if per_row is not None:
        assert per_row.mean() == pytest.approx(value(name, y, answers, payoff=PAYOFF), rel=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_the_means_of_a_linearised_metric_spread_as_resamples_do(name: str) -> None:
    draw = np.random.default_rng(3)
    metric = metric_named(name, payoff=PAYOFF)
    y, answers = rows_for(name)
    n = len(y)
    counts = draw.multinomial(n, np.full(n, 1 / n), size=600).astype(float)

    columns, of_means = metric.linearised(y, answers)
    straight = of_means(counts @ columns / n)
    exact = metric.resampled(y, answers, counts)

    at = of_means(columns.mean(axis=0)[None, :])[0]
    assert at == pytest.approx(value(name, y, answers, payoff=PAYOFF), abs=0.02, rel=0.03)
    assert straight.std() == pytest.approx(exact.std(), rel=0.3)


@pytest.mark.parametrize("name", NAMES)
def test_no_answers_are_better_than_the_best_and_perfect_ones_reach_it(name: str) -> None:
    metric = metric_named(name, payoff=PAYOFF)
    y, answers = rows_for(name)
    if metric.best is None:
        return
    top = max(1, round(0.1 * len(y)))
    if name == "lift_in_top_decile":
        y = np.r_[np.ones(top), np.zeros(len(y) - top)]
    perfect = (
        value_answers(y)
        if "regression" in metric.tasks
        else class_answers(np.eye(answers.probabilities.shape[1])[y.astype(int)])
    )

    assert value(name, y, perfect) == pytest.approx(metric.best, abs=1e-12)
    gap = metric.best - value(name, y, answers)
    assert (gap >= 0) == metric.higher_is_better or gap == 0


def test_an_unknown_metric_is_answered_with_the_nearest() -> None:
    with pytest.raises(InvalidInputError, match="Did you mean 'mape'"):
        metric_named("mappe")
    with pytest.raises(InvalidInputError, match="needs a payoff"):
        metric_named("profit_per_case")
    with pytest.raises(InvalidInputError, match="more than 0 and less than 100"):
        metric_named("absolute_error_of_100_percent")


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("recall", 1.018, 1.0),
        ("recall", -0.02, 0.0),
        ("roc_auc", 0.7, 0.7),
        ("mcc", -0.3, -0.3),
        ("r2", -4.0, -4.0),
        ("rmse", -3.0, 0.0),
        ("rmse", 1e9, 1e9),
        ("lift_in_top_decile", 10.4, 10.0),
    ],
)
def test_a_bound_is_never_beyond_what_a_metric_can_be(
    name: str, value: float, wanted: float
) -> None:
    assert in_range(metric_named(name), value) == wanted
