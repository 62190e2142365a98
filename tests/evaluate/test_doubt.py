from __future__ import annotations

import numpy as np

from loopwright.evaluate.doubt import doubts
from loopwright.problem import class_answers, metric_named, value_answers

rng = np.random.default_rng(3)


def test_one_heavy_row_makes_a_squared_error_doubtful_and_a_share_not() -> None:
    y = rng.normal(100, 1, size=100)
    said = y + rng.normal(0, 1, size=100)
    said[7] += 30
    metrics = [metric_named(name) for name in ("rmse", "share_within_5_percent")]

    found = doubts(metrics, y, value_answers(said))

    assert len(found) == 1
    assert "of the variance of rmse" in found[0]


def test_normal_errors_are_not_doubtful() -> None:
    y = rng.normal(100, 1, size=100)

    assert doubts([metric_named("mae")], y, value_answers(y + rng.normal(size=100))) == []


def test_a_share_of_few_cases_has_an_exact_bound_and_no_doubt() -> None:
    y = np.array([1.0] * 28 + [0.0] * 272)
    said = np.where(np.arange(300) < 26, 0.9, 0.1)

    answers = class_answers(np.column_stack([1 - said, said]))

    assert doubts([metric_named("recall"), metric_named("precision")], y, answers) == []


def test_an_average_precision_of_few_positives_says_how_often_it_was_wrong() -> None:
    y = np.array([1.0, 0.0] * 40)
    p = rng.random(80)

    found = doubts(
        [metric_named("average_precision")], y, class_answers(np.column_stack([1 - p, p]))
    )

    assert "goes by 40 positive rows" in found[0]
    assert "twice as often" in found[0]
