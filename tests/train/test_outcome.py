"""Numbers become answers in the words of the problem."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from loopwright.core.errors import InvalidInputError
from loopwright.train import Outcome, class_text, named_outcome

CHURN = Outcome(task="binary", classes=("No", "Yes"), threshold=0.3)
COLOURS = Outcome(task="multiclass", classes=("blue", "green", "red"))


def test_a_value_is_answered_as_it_is() -> None:
    answers = Outcome(task="regression").answers(np.array([1.5, 2.0]))

    assert answers == [{"prediction": 1.5}, {"prediction": 2.0}]


def test_the_positive_class_is_said_from_the_threshold_on() -> None:
    assert CHURN.answers(np.array([0.29, 0.3])) == [
        {"prediction": "No", "probability": 0.29},
        {"prediction": "Yes", "probability": 0.3},
    ]


def test_the_likeliest_class_is_said_with_all_probabilities() -> None:
    assert COLOURS.answers(np.array([[0.2, 0.5, 0.3]])) == [
        {"prediction": "green", "probabilities": {"blue": 0.2, "green": 0.5, "red": 0.3}}
    ]


def test_the_positive_class_is_put_last() -> None:
    assert named_outcome("binary", ["Yes", "No"], positive="Yes").classes == ("No", "Yes")


def test_an_unknown_positive_class_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="Did you mean 'Yes'"):
        named_outcome("binary", ["Yes", "No"], positive="Yess")


def test_values_are_matched_with_classes_by_their_text() -> None:
    outcome = Outcome(task="multiclass", classes=("1", "true", "2.5"))

    assert outcome.indices([1, 1.0, True, 2.5, "1"]).tolist() == [0, 0, 1, 2, 0]


@pytest.mark.parametrize("value", [None, "Maybe", 1])
def test_a_value_that_is_no_class_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInputError, match="target of row 1 is"):
        CHURN.indices(["Yes", value])


def test_class_texts_are_plain() -> None:
    assert [class_text(v) for v in (True, 1, 1.0, 1.5, "a")] == ["true", "1", "1", "1.5", "a"]


@pytest.mark.parametrize("outcome", [Outcome(task="regression"), CHURN, COLOURS])
def test_an_outcome_comes_back_from_json(outcome: Outcome) -> None:
    assert Outcome.from_json(outcome.to_json()) == outcome


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"task": "regression", "classes": ["a"], "threshold": 0.5},
        {"task": "binary", "classes": ["a"], "threshold": 0.5},
        {"task": "binary", "classes": ["a", "a"], "threshold": 0.5},
        {"task": "binary", "classes": [1, 2], "threshold": 0.5},
        {"task": "binary", "classes": ["a", "b"], "threshold": 1.5},
        {"task": "binary", "classes": ["a", "b"], "threshold": "x"},
        {"task": "binary", "classes": None, "threshold": 0.5},
        {"task": "regresion", "classes": [], "threshold": 0.5},
        {"task": [], "classes": [], "threshold": 0.5},
    ],
)
def test_what_is_no_outcome_is_refused(value: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        Outcome.from_json(value)
