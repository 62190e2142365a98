from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from loopwright.core.errors import InvalidInputError
from loopwright.problem import (
    Constraints,
    Criterion,
    FairnessLimit,
    Person,
    Problem,
    checked_problem,
    checked_task,
    inferred_task,
    moves,
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


def _criteria(metric: str, **bound: float) -> dict[str, Any]:
    return {"criteria": (Criterion(metric=metric, **bound),)}


def _constraints(**given: Any) -> dict[str, Any]:
    return {"criteria": (), "constraints": Constraints(**given)}


def _fair(**given: Any) -> dict[str, Any]:
    return _constraints(fairness=(FairnessLimit(column="gender", **given),))


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
        (_criteria("accuracy", at_least=1.2), "binary", "the best accuracy there is is 1"),
        (_criteria("mae", at_most=-1.0), "regression", "the best mae there is is 0"),
        (_criteria("share_within_5_percent", at_least=1.0), "regression", "can never be shown"),
        (_criteria("false_positive_rate", at_most=0.0), "binary", "can never be shown"),
        (_criteria("lift_in_top_decile", at_least=11.0), "binary", "no answers can have"),
        (
            {
                "criteria": (
                    Criterion(metric="share_within_10_percent", at_least=0.5),
                    Criterion(metric="share_within_5_percent", at_least=0.6),
                )
            },
            "regression",
            "share_within_5_percent at least 0.6 already brings share_within_10_percent",
        ),
        (
            {
                "criteria": (
                    Criterion(metric="absolute_error_of_50_percent", at_most=20.0),
                    Criterion(metric="absolute_error_of_90_percent", at_most=10.0),
                )
            },
            "regression",
            "absolute_error_of_90_percent at most 10 already brings",
        ),
        (_constraints(latency_ms=0.0), "regression", "latency_ms is 0"),
        (_constraints(size_mb=-1.0), "regression", "size_mb is -1"),
        (_fair(metric="recall"), "binary", "states no limit"),
        (_fair(metric="recall", at_most_gap=-0.1), "binary", "never below 0"),
        (_fair(metric="recall", at_least_ratio=80.0), "binary", "four fifths"),
        (_fair(metric="recall", at_most_gap=0.1), "regression", "does not fit a regression"),
        (_fair(metric="selection_rate", at_most_gap=0.1), "multiclass", "does not fit"),
        (_fair(metric="recal", at_most_gap=0.1), "binary", "Did you mean 'recall'"),
        (_fair(metric="recall", at_most_gap=0.1, cuts=(60.0, 25.0)), "binary", "do not rise"),
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


def test_families_of_criteria_that_ask_for_more_each_are_accepted() -> None:
    stricter = (
        Criterion(metric="share_within_5_percent", at_least=0.3),
        Criterion(metric="share_within_10_percent", at_least=0.6),
        Criterion(metric="absolute_error_of_90_percent", at_most=50.0),
        Criterion(metric="absolute_error_of_50_percent", at_most=20.0),
    )

    assert len(checked_problem(problem(criteria=stricter), task="regression")) == 4


@pytest.mark.parametrize(
    ("payoff", "message"),
    [
        ({"true_positive": 160.0, "false_positive": 20.0}, "leaving a negative alone"),
        ({"true_positive": 160.0, "false_negative": 400.0}, "would earn less than missing it"),
        ({"true_positive": -5.0}, "naming a positive .true_positive -5. would earn less"),
        ({"true_positive": 0.0}, "right answer earns as much as a wrong one"),
        ({"true_positive": {"yes": 1.0}}, "is a block"),
    ],
)
def test_a_payoff_with_wrong_signs_is_refused(payoff: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message) as caught:
        checked_problem(problem(criteria=(), payoff=payoff), task="binary")

    assert str(caught.value.facts["field"]).startswith("problem.payoff")


@pytest.mark.parametrize(
    "payoff",
    [
        {"true_positive": 160.0, "false_positive": -20.0, "false_negative": -400.0},
        # costs only: a look costs 5 whatever it finds, what is missed costs 400
        {"true_positive": -5.0, "false_positive": -5.0, "false_negative": -400.0},
        {"true_positive": "0.5 * yearly_value - 20", "false_positive": -20.0},
    ],
)
def test_a_payoff_that_makes_sense_is_accepted(payoff: dict[str, Any]) -> None:
    assert checked_problem(problem(criteria=(), payoff=payoff), task="binary") == []


def test_a_matrix_by_which_a_wrong_class_earns_more_is_refused() -> None:
    payoff: Any = {"cat": {"cat": 1.0, "dog": -5.0}, "dog": {"cat": 3.0}}

    with pytest.raises(InvalidInputError, match="saying 'cat' would earn 3, more than the 0"):
        checked_problem(problem(criteria=(), payoff=payoff), task="multiclass")


def test_constraints_move_the_goalposts_and_people_do_not() -> None:
    first = sealed(problem(), name="ann", at=AT)
    limited = problem(constraints=Constraints(latency_ms=20.0))

    assert sealed(problem(constraints=Constraints()), name="ann", at=AT).digest == first.digest
    assert sealed(limited, name="ann", at=AT).digest != first.digest
    with_people = sealed(
        problem(people=(Person(name="Bo", role="sales"), "Ann")), name="ann", at=AT
    )
    assert with_people.digest == first.digest
    assert with_people.people == ("Bo (sales)", "Ann")


def test_a_seal_of_an_earlier_release_of_loopwright_has_the_same_digest() -> None:
    from loopwright.core.digest import digest_value

    agreed = {
        "target": "price",
        "confidence": 0.95,
        "payoff": None,
        "criteria": ["mape at most 0.15"],
    }

    assert sealed(problem(), name="ann", at=AT).digest == digest_value(agreed)


def test_what_moved_is_told_with_who_and_when() -> None:
    import msgspec

    softer = (Criterion(metric="mape", at_most=0.2),)
    history = [
        msgspec.json.decode(msgspec.json.encode(sealed(each, name="ann", at=AT)))
        for each in (problem(), problem(criteria=softer), problem(criteria=softer, confidence=0.8))
    ]
    del history[0]["terms"]  # as an earlier release wrote it

    first, second = moves(history)

    assert (first.before, first.after) == (("mape at most 0.15",), ("mape at most 0.2",))
    assert str(second) == "2026-01-01 00:00 by ann: confidence 0.95 became confidence 0.8"
    assert moves(history[:1]) == ()


def test_candidates_are_ranked_by_the_first_criterion_or_the_default_of_the_task() -> None:
    assert primary_metric(problem(), task="regression").name == "mape"
    assert primary_metric(problem(criteria=()), task="binary").name == "log_loss"
