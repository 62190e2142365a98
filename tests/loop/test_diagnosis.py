"""What is the matter with a model is read from rows it learnt from and rows it did not."""

from __future__ import annotations

import json

import pytest

from loopwright.loop.diagnosis import Diagnosis, _fit, _weak_columns
from loopwright.problem import metric_named


@pytest.mark.parametrize(
    ("metric", "on_training", "on_validation", "fit"),
    [
        ("mape", 0.05, 0.15, "overfitting"),
        ("mape", 0.14, 0.15, "underfitting"),
        ("mape", 0.11, 0.15, "balanced"),
        # 1 is the best there is: 0.01 is left on known rows, 0.1 on new ones
        ("roc_auc", 0.99, 0.90, "overfitting"),
        ("roc_auc", 0.91, 0.90, "underfitting"),
        ("mape", float("nan"), 0.15, "unknown"),
    ],
)
def test_a_model_is_held_against_itself(
    metric: str, on_training: float, on_validation: float, fit: str
) -> None:
    assert _fit(metric_named(metric), on_training, on_validation) == fit


def test_columns_are_weak_by_all_of_their_features() -> None:
    importance = [("a", 0.6), ("b=x", 0.25), ("b=y", 0.149), ("c", 0.0005), ("d is 1", 0.0005)]
    inputs = {"a": 1, "b": 1, "c": 1, "d": 1, "e": 1}

    assert _weak_columns(importance, inputs) == ("c", "d", "e")


def test_nothing_is_called_weak_where_the_rest_is_not_told() -> None:
    assert _weak_columns([("a", 0.5), ("b", 0.3)], {"a": 1, "b": 1, "c": 1, "d": 1}) == ()
    assert _weak_columns([], {"a": 1}) == ()


def test_a_diagnosis_is_read_again_as_it_was_written() -> None:
    found = Diagnosis(
        metric="mape",
        on_training=0.1,
        on_validation=0.2,
        fit="overfitting",
        weak_columns=("a",),
        leaks=("b",),
        segments=("'c' is 'd'",),
        has_places=True,
    )

    assert Diagnosis.from_json(json.loads(json.dumps(found.to_json()))) == found
    assert "may be known only with the answer" in str(found)
