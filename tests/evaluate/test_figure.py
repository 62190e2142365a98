from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from loopwright.evaluate import compare, figure, verdicts
from loopwright.problem import Criterion, class_answers, metric_named, value_answers


def test_bounds_of_a_mean_agree_with_student_and_with_scipy() -> None:
    rng = np.random.default_rng(1)
    y = np.zeros(800)
    said = value_answers(rng.normal(3.0, 1.0, size=800))
    errors = np.abs(said.values)

    found = figure(metric_named("mae"), y, said, confidence=0.95, seed=3)
    reference = stats.bootstrap(
        (errors,), np.mean, confidence_level=0.9, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval

    assert found.value == pytest.approx(errors.mean())
    assert found.lower == pytest.approx(reference.low, abs=0.01)
    assert found.upper == pytest.approx(reference.high, abs=0.01)


def test_a_criterion_holds_only_when_its_bound_does() -> None:
    rng = np.random.default_rng(2)
    y = np.full(400, 100.0)
    said = value_answers(y * rng.normal(1.0, 0.1, size=400))
    metric = metric_named("mape")
    value = figure(metric, y, said).value

    tight = Criterion(metric="mape", at_most=value * 1.001)
    loose = Criterion(metric="mape", at_most=value * 1.3)
    judged = verdicts([tight, loose], [metric, metric], y, said, confidence=0.95)

    assert [verdict.holds for verdict in judged] == [False, True]
    assert judged[0].bound > judged[0].figure.value


def test_the_same_seed_gives_the_same_figure() -> None:
    y = np.arange(50.0)
    said = value_answers(y + 1 + y % 3)

    assert figure(metric_named("rmse"), y, said) == figure(metric_named("rmse"), y, said)


def test_a_ranking_of_a_single_positive_row_proves_nothing() -> None:
    y = np.r_[1.0, np.zeros(99)]
    said = class_answers(np.linspace(0.9, 0.1, 100))
    criterion = Criterion(metric="roc_auc", at_least=0.6)

    (judged,) = verdicts([criterion], [metric_named("roc_auc")], y, said, confidence=0.95)

    assert judged.figure.value == 1.0
    assert not judged.holds
    assert judged.to_json()["bound"] is None


@pytest.mark.parametrize(("n", "exact"), [(15, 0.819), (50, 0.942)])
def test_all_right_on_few_rows_is_no_certainty(n: int, exact: float) -> None:
    y = np.arange(n) % 2.0

    found = figure(metric_named("accuracy"), y, class_answers(y), confidence=0.95)

    # Clopper and Pearson: 0.05 ** (1 / n)
    assert found.lower == pytest.approx(exact, abs=0.001)


@pytest.mark.parametrize(
    ("n", "sigma", "most"), [(60, 1.2, 0.14), (150, 0.7, 0.09)], ids=["long tail", "mild tail"]
)
def test_an_upper_bound_follows_a_long_tail(n: int, sigma: float, most: float) -> None:
    rng = np.random.default_rng(21)
    truth, too_low = float(np.exp(sigma**2 / 2)), 0
    for number in range(300):
        said = value_answers(rng.lognormal(0, sigma, size=n))
        found = figure(metric_named("mae"), np.zeros(n), said, confidence=0.95, seed=number)
        too_low += found.upper < truth

    # the percentile bootstrap alone is wrong in 17 of 100 for the long tail
    assert too_low / 300 <= most


def test_a_bound_of_a_share_is_wrong_no_more_often_than_it_says() -> None:
    rng = np.random.default_rng(22)
    wrong = 0
    for number in range(400):
        right = rng.random(60) < 0.97
        found = figure(
            metric_named("accuracy"), np.ones(60), class_answers(right * 1.0), seed=number
        )
        wrong += found.lower > 0.97

    assert wrong / 400 <= 0.05


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    metric = metric_named("mae")
    covered = 0
    for number in range(200):
        said = value_answers(rng.exponential(size=150))
        found = figure(metric, np.zeros(150), said, confidence=0.95, seed=number)
        covered += found.lower <= 1.0 <= found.upper

    # two one-sided bounds of 95 percent: 90 percent of the intervals, give or take
    assert 0.83 <= covered / 200 <= 0.96


def test_an_equal_challenger_is_not_better_and_a_better_one_is() -> None:
    rng = np.random.default_rng(3)
    y = rng.normal(size=1_000)
    champion = value_answers(y + rng.normal(0, 0.50, size=1_000))
    equal = value_answers(y + rng.normal(0, 0.50, size=1_000))
    better = value_answers(y + rng.normal(0, 0.40, size=1_000))
    metric = metric_named("mae")

    same = compare(metric, y, champion=champion, challenger=equal)
    gain = compare(metric, y, champion=champion, challenger=better)
    loss = compare(metric, y, champion=better, challenger=champion)

    assert not same.is_better
    assert not same.is_worse
    assert gain.is_better
    assert gain.gain > 0
    assert loss.is_worse


def test_an_equal_challenger_passes_for_better_in_about_one_case_of_twenty() -> None:
    rng = np.random.default_rng(11)
    metric = metric_named("mae")
    passed = 0
    for number in range(200):
        y = np.zeros(200)
        old, new = (value_answers(rng.normal(size=200)) for _ in range(2))
        passed += compare(metric, y, champion=old, challenger=new, seed=number).is_better

    assert passed / 200 <= 0.11


def test_bounds_on_many_rows_are_those_of_a_plain_bootstrap() -> None:
    rng = np.random.default_rng(8)
    y = rng.lognormal(size=9_000)
    said = value_answers(y * rng.lognormal(0, 0.3, size=9_000))
    errors = np.abs(said.values - y) / y

    found = figure(metric_named("mape"), y, said, confidence=0.95)
    means = [rng.choice(errors, size=9_000).mean() for _ in range(1_000)]

    assert found.lower == pytest.approx(np.quantile(means, 0.05), rel=0.004)
    assert found.upper == pytest.approx(np.quantile(means, 0.95), rel=0.004)


def test_a_ranking_of_many_rows_has_the_bounds_of_hanley_and_mcneil() -> None:
    rng = np.random.default_rng(9)
    y = (rng.random(12_000) < 0.3).astype(float)
    said = class_answers(np.clip(0.5 + 0.15 * y + rng.normal(0, 0.15, 12_000), 0, 1))

    found = figure(metric_named("roc_auc"), y, said, confidence=0.95)
    a, n1, n0 = found.value, y.sum(), (1 - y).sum()
    q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
    variance = (a * (1 - a) + (n1 - 1) * (q1 - a * a) + (n0 - 1) * (q2 - a * a)) / (n1 * n0)

    width = (found.upper - found.lower) / 2
    assert width == pytest.approx(1.645 * variance**0.5, rel=0.15)
