from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, fbeta_score, precision_score, recall_score

from loopwright.sagemaker.algorithm import checked_hyperparameters
from loopwright.sagemaker.algorithm_threshold import CRITERION, chosen_threshold
from loopwright.sagemaker.error import ApiError

BINARY = {"predictor_type": "binary_classifier"}
ROWS = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from([0.05, 0.2, 0.35, 0.5, 0.7, 0.9])),
    min_size=2,
    max_size=40,
).filter(lambda rows: len({y for y, _ in rows}) == 2)


def parts(rows: list[tuple[int, float]]) -> tuple[Any, Any]:
    return np.array([y for y, _ in rows]), np.array([p for _, p in rows])


def best(score: Callable[..., float], y: Any, p: Any) -> float:
    return max(score(y, p >= cut) for cut in np.unique(p))


@settings(max_examples=50, deadline=None)
@given(rows=ROWS)
def test_no_threshold_has_a_better_f_score(rows: list[tuple[int, float]]) -> None:
    y, p = parts(rows)

    f1 = chosen_threshold({CRITERION: "f1"}, y, p)
    f2 = chosen_threshold({CRITERION: "f_beta", "f_beta": "2"}, y, p)

    assert f1_score(y, p >= f1) == pytest.approx(best(f1_score, y, p))
    assert fbeta_score(y, p >= f2, beta=2) == pytest.approx(
        best(lambda a, b: fbeta_score(a, b, beta=2), y, p)
    )


@settings(max_examples=50, deadline=None)
@given(rows=ROWS, target=st.sampled_from([0.3, 0.6, 0.8, 1.0]))
def test_the_target_is_reached_where_it_can_be_and_the_other_share_is_best_then(
    rows: list[tuple[int, float]], target: float
) -> None:
    y, p = parts(rows)

    at_recall = chosen_threshold(
        {CRITERION: "precision_at_target_recall", "target_recall": str(target)}, y, p
    )
    at_precision = chosen_threshold(
        {CRITERION: "recall_at_target_precision", "target_precision": str(target)}, y, p
    )

    cuts = np.unique(p)
    precision = np.array([precision_score(y, p >= cut, zero_division=0) for cut in cuts])
    recall = np.array([recall_score(y, p >= cut) for cut in cuts])
    chosen = list(cuts).index(at_recall)
    assert recall[chosen] >= target
    assert precision[chosen] == max(precision[recall >= target])
    chosen = list(cuts).index(at_precision)
    if (precision >= target).any():
        assert recall[chosen] == max(recall[precision >= target])
    else:
        assert precision[chosen] == max(precision)


@pytest.mark.parametrize("criterion", ["accuracy", "loss_function", "cross_entropy_loss"])
def test_the_threshold_stays_at_a_half_where_none_is_asked_for(criterion: str) -> None:
    y, p = np.array([0, 0, 1]), np.array([0.1, 0.2, 0.3])

    assert chosen_threshold({CRITERION: criterion}, y, p) == 0.5
    assert chosen_threshold({CRITERION: "f1"}, np.ones(3), p) == 0.5


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({CRITERION: "luck"}, "cannot be 'luck'"),
        ({CRITERION: "f_beta", "f_beta": "-1"}, "f_beta cannot be '-1'"),
        ({CRITERION: "recall_at_target_precision", "target_precision": "1.2"}, "cannot be '1.2'"),
        ({CRITERION: "precision_at_target_recall", "target_recall": "much"}, "cannot be 'much'"),
    ],
)
def test_what_makes_no_sense_is_refused_when_the_job_is_created(
    wrong: dict[str, str], said: str
) -> None:
    with pytest.raises(ApiError) as caught:
        checked_hyperparameters("linear-learner", {**BINARY, **wrong})

    assert said in caught.value.message


def test_f1_is_better_than_at_a_half_where_yes_is_rare() -> None:
    rng = np.random.default_rng(3)
    p = rng.beta(1, 9, size=2_000)
    y = (rng.random(2_000) < p).astype(int)

    threshold = chosen_threshold({CRITERION: "f1"}, y, p)

    assert f1_score(y, p >= threshold) > f1_score(y, p >= 0.5) + 0.1
    assert accuracy_score(y, p >= threshold) < accuracy_score(y, p >= 0.5)
