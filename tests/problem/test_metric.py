from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics as trusted
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.core.errors import InvalidInputError
from loopwright.problem import METRICS, class_answers, metric_named, value_answers

rng = np.random.default_rng(7)
Y = rng.lognormal(size=400)
SAID = value_answers(Y * rng.normal(1.0, 0.2, size=400))
HIT = (rng.random(400) < 0.3).astype(float)
P = class_answers(np.clip(0.3 * HIT + 0.7 * rng.random(400), 0.01, 0.99).round(2))
KIND = rng.integers(0, 3, size=400).astype(float)
P3 = class_answers(rng.dirichlet([1, 1, 1], size=400))


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


@given(seed=st.integers(0, 1_000), name=st.sampled_from(sorted(METRICS)))
@settings(max_examples=40, deadline=None)
def test_counting_a_row_twice_equals_repeating_it(seed: int, name: str) -> None:
    draw = np.random.default_rng(seed)
    counts = draw.integers(0, 3, size=60)
    counts[:2] = 1
    metric = metric_named(name)
    y, answers = (
        (Y[:60], SAID.rows(np.arange(60)))
        if "regression" in metric.tasks
        else (np.r_[0.0, 1.0, HIT[2:60]], P.rows(np.arange(60)))
    )
    repeated = np.repeat(np.arange(60), counts)

    weighted = metric.resampled(y, answers, counts[None, :].astype(float))[0]
    plain = metric.resampled(y[repeated], answers.rows(repeated), np.ones((1, len(repeated))))[0]

    assert weighted == pytest.approx(plain, rel=1e-9)


@pytest.mark.parametrize("name", sorted(METRICS))
def test_values_per_row_average_to_the_metric(name: str) -> None:
    metric = metric_named(name)
    y, answers = (Y, SAID) if "regression" in metric.tasks else (HIT, P)

    per_row = metric.per_row(y, answers)

    if per_row is not None:
        assert per_row.mean() == pytest.approx(value(name, y, answers), rel=1e-12)


def test_an_unknown_metric_is_answered_with_the_nearest() -> None:
    with pytest.raises(InvalidInputError, match="Did you mean 'mape'"):
        metric_named("mappe")
    with pytest.raises(InvalidInputError, match="needs a payoff"):
        metric_named("profit_per_case")
