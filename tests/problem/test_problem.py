from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from loopwright.core.errors import InvalidInputError
from loopwright.problem import (
    Criterion,
    Problem,
    checked_problem,
    checked_task,
    inferred_task,
    primary_metric,
    sealed,
)

AT = datetime(2026, 1, 1, tzinfo=UTC)


def problem(**changes: Any) -> Problem:
    given: dict[str, Any] = {
        "target": "price",
        "criteria": (Criterion(metric="mape", at_most=0.15),),
    }
    return Problem(**(given | changes))


@pytest.mark.parametrize(
    ("changes", "task", "message"),
    [
        ({"criteria": (Criterion(metric="mape"),)}, "regression", "exactly one of"),
        (
            {"criteria": (Criterion(metric="mape", at_most=0.1, at_least=0.2),)},
            "regression",
            "exactly one of",
        ),
        ({"criteria": (Criterion(metric="mape", at_least=0.1),)}, "regression", "at_most: 0.1"),
        ({"criteria": (Criterion(metric="roc_auc", at_most=0.1),)}, "binary", "at_least: 0.1"),
        ({}, "binary", "does not fit a binary problem"),
        (
            {"criteria": (Criterion(metric="mape", at_most=0.1),) * 2},
            "regression",
            "has a criterion already",
        ),
        ({"confidence": 1.5}, "regression", "no level of confidence"),
        ({"payoff": {"true_postive": 1.0}}, "regression", "Did you mean 'true_positive'"),
        ({"payoff": {"true_positive": 1.0}}, "regression", "for binary problems"),
    ],
)
def test_a_problem_that_makes_no_sense_is_refused_with_the_remedy(
    changes: dict[str, Any], task: str, message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        checked_problem(problem(**changes), task=task)


@pytest.mark.parametrize(
    ("facts", "task"),
    [
        ({"is_numeric": True, "is_whole": True, "n_distinct": 2}, "binary"),
        ({"is_numeric": False, "is_whole": False, "n_distinct": 2}, "binary"),
        ({"is_numeric": False, "is_whole": False, "n_distinct": 5}, "multiclass"),
        ({"is_numeric": True, "is_whole": True, "n_distinct": 6}, "multiclass"),
        ({"is_numeric": True, "is_whole": True, "n_distinct": 600}, "regression"),
        ({"is_numeric": True, "is_whole": False, "n_distinct": 6}, "regression"),
    ],
)
def test_the_task_follows_from_the_values_of_the_target(facts: dict[str, Any], task: str) -> None:
    assert inferred_task(**facts)[0] == task


def test_a_planned_task_is_refused_as_not_there_yet() -> None:
    with pytest.raises(InvalidInputError, match="cannot solve yet"):
        checked_task("forecast")
    with pytest.raises(InvalidInputError, match="Did you mean 'regression'"):
        checked_task("regresion")


def test_a_moved_goalpost_changes_the_seal_and_a_new_question_does_not() -> None:
    first = sealed(problem(), name="ann", at=AT)

    reworded = sealed(problem(question="How much?"), name="bob", at=AT)
    moved = sealed(problem(criteria=(Criterion(metric="mape", at_most=0.2),)), name="ann", at=AT)

    assert reworded.digest == first.digest
    assert moved.digest != first.digest


def test_candidates_are_ranked_by_the_first_criterion_or_the_default_of_the_task() -> None:
    assert primary_metric(problem(), task="regression").name == "mape"
    assert primary_metric(problem(criteria=()), task="binary").name == "log_loss"
