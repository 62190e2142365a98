"""The business problem: the question, what is done with the answer, and when it is good enough."""

from __future__ import annotations

from typing import Literal

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.core.names import did_you_mean
from loopwright.problem.constraint import Constraints, checked_constraints
from loopwright.problem.criterion import Criterion, checked_criteria
from loopwright.problem.mean import TASKS, Metric
from loopwright.problem.metric import DEFAULT_METRIC, metric_named
from loopwright.problem.money import Payoff, checked_payoff
from loopwright.problem.threshold_policy import ThresholdPolicy, check_threshold

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


class Person(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A person who agrees with the criteria.

    Parameters
    ----------
    name
        Who it is.
    role
        What they answer for, such as `head of retention`.
    """

    name: str
    role: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.role})" if self.role else self.name


class Problem(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `problem:` block of a loop file; docs/reference/loop-file.md explains every key."""

    target: str
    question: str = ""
    action: str = ""
    today: Today | None = None
    task: str | None = None
    positive: str | int | float | bool | None = None
    payoff: Payoff | None = None
    threshold: float | ThresholdPolicy | None = None
    criteria: tuple[Criterion, ...] = ()
    confidence: float = 0.95
    constraints: Constraints | None = None
    people: tuple[Person | str, ...] = ()
    test_rows: Literal["counted", "once"] = "counted"


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
    if problem.payoff:
        checked_payoff(problem.payoff, task=task)
    if problem.threshold is not None:
        check_threshold(problem.threshold, task=task, payoff=problem.payoff)
    if problem.constraints is not None:
        checked_constraints(problem.constraints, task=task, payoff=problem.payoff)
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
