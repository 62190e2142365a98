"""The business problem: the question, what is done with the answer, and when it is good enough."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from loopwright.core.digest import digest_value
from loopwright.core.errors import InvalidInputError
from loopwright.core.names import did_you_mean
from loopwright.problem.criterion import Criterion, checked_criteria
from loopwright.problem.metric import DEFAULT_METRIC, TASKS, Metric, metric_named

_OUTCOMES = ("true_positive", "false_positive", "true_negative", "false_negative")
_PLANNED_TASKS = ("multilabel", "forecast")


class Today(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How it is done today: what machine learning must beat.

    Parameters
    ----------
    does
        In words.
    cost_per_case
        What one case costs today, in the user's money.
    column
        A column with today's answers, if there is one: it is then judged like a model.
    """

    does: str = ""
    cost_per_case: float | None = None
    column: str | None = None


class Problem(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `problem:` block of a loop file; docs/reference/loop-file.md explains every key."""

    target: str
    question: str = ""
    action: str = ""
    today: Today | None = None
    task: str | None = None
    positive: str | int | float | bool | None = None
    payoff: dict[str, float] | None = None
    criteria: tuple[Criterion, ...] = ()
    confidence: float = 0.95


class Seal(msgspec.Struct, frozen=True, kw_only=True):
    """The criteria as they were agreed: their digest, who agreed, and when."""

    digest: str
    name: str
    at: datetime
    criteria: tuple[str, ...]


def checked_problem(problem: Problem, *, task: str) -> list[Metric]:
    """Return the metrics of the criteria, after checking the whole block.

    Raises
    ------
    InvalidInputError
        With the field, the value and the remedy.
    """
    if not 0.5 <= problem.confidence < 1:
        raise InvalidInputError(
            f"problem.confidence is {problem.confidence:g}, which is no level of confidence.",
            hint="Give a share from 0.5 to below 1, such as 0.95.",
            field="problem.confidence",
            value=problem.confidence,
        )
    for outcome in problem.payoff or {}:
        if outcome not in _OUTCOMES:
            raise InvalidInputError(
                f"problem.payoff has {outcome!r}, which is no outcome of a binary decision.",
                hint=did_you_mean(outcome, _OUTCOMES),
                field="problem.payoff",
                value=outcome,
            )
    if problem.payoff and task != "binary":
        raise InvalidInputError(
            f"problem.payoff is for binary problems; this one is {task}.",
            hint="Remove payoff, or state problem.task.",
            field="problem.payoff",
            value=task,
        )
    return checked_criteria(problem.criteria, task=task, payoff=problem.payoff)


def checked_task(task: str | None) -> None:
    """Check that a task stated in the loop file is one that can be solved.

    Raises
    ------
    InvalidInputError
        If it is unknown, or planned and not there yet.
    """
    if task is None or task in TASKS:
        return
    if task in _PLANNED_TASKS:
        raise InvalidInputError(
            f"problem.task is {task!r}, which this version cannot solve yet.",
            hint=f"It solves {', '.join(TASKS)}.",
            field="problem.task",
            value=task,
        )
    raise InvalidInputError(
        f"problem.task is {task!r}, which is no task.",
        hint=did_you_mean(task, TASKS),
        field="problem.task",
        value=task,
    )


def inferred_task(*, is_numeric: bool, is_whole: bool, n_distinct: int) -> tuple[str, str]:
    """Return the task a target column suggests, and why.

    Parameters
    ----------
    is_numeric
        Whether the target holds numbers.
    is_whole
        Whether all of them are whole.
    n_distinct
        How many different values it has, at least 2.
    """
    if n_distinct == 2:
        return "binary", "the target has two different values"
    if not is_numeric:
        return "multiclass", f"the target is text with {n_distinct} different values"
    if is_whole and n_distinct <= 10:
        return "multiclass", f"the target has only {n_distinct} different whole numbers"
    return "regression", f"the target is a number with {n_distinct:,} different values"


def primary_metric(problem: Problem, *, task: str) -> Metric:
    """Return the metric candidates are ranked by: the first criterion's, or the task's default."""
    if problem.criteria:
        return metric_named(problem.criteria[0].metric, payoff=problem.payoff)
    return metric_named(DEFAULT_METRIC[task])


def sealed(problem: Problem, *, name: str, at: datetime) -> Seal:
    """Return the seal of a problem's criteria: what was agreed cannot change unseen afterwards."""
    agreed: dict[str, Any] = {
        "target": problem.target,
        "confidence": problem.confidence,
        "payoff": problem.payoff,
        "criteria": [str(criterion) for criterion in problem.criteria],
    }
    return Seal(
        digest=digest_value(agreed),
        name=name,
        at=at,
        criteria=tuple(str(criterion) for criterion in problem.criteria),
    )
