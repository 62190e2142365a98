"""Success criteria: what must hold, on rows the model never saw, before a model may go live."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.problem.mean import MeanMetric, Metric
from loopwright.problem.metric import metric_named
from loopwright.problem.money import Amounts


class Criterion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One condition: a metric that is to be at most, or at least, a target."""

    metric: str
    at_most: float | None = None
    at_least: float | None = None

    @property
    def target(self) -> float:
        """The value to reach."""
        return self.at_most if self.at_most is not None else self.at_least or 0.0

    @property
    def wants_low(self) -> bool:
        """Whether low values are wanted."""
        return self.at_most is not None

    def holds_for(self, value: float) -> bool:
        """Return whether a value of the metric meets the target; NaN never does."""
        return value <= self.target if self.wants_low else value >= self.target

    def __str__(self) -> str:
        return f"{self.metric} {'at most' if self.wants_low else 'at least'} {self.target:g}"


def checked_criteria(
    criteria: Sequence[Criterion], *, task: str, payoff: Amounts | None
) -> list[Metric]:
    """Return the criteria's metrics, in order.

    Raises
    ------
    InvalidInputError
        If a metric is unknown or does not fit the task, if a criterion has no target, two targets
        or one that points the wrong way, or if two criteria contradict each other.
    """
    metrics = []
    for number, criterion in enumerate(criteria):
        field = f"problem.criteria[{number}]"
        metric = _named(criterion.metric, payoff, field)
        if task not in metric.tasks:
            raise InvalidInputError(
                f"{field}: the metric {metric.name!r} does not fit a {task} problem; "
                f"it judges {' and '.join(sorted(metric.tasks))}.",
                hint="Choose a metric for this task, or state problem.task.",
                field=field,
                value=criterion.metric,
            )
        if (criterion.at_most is None) == (criterion.at_least is None):
            raise InvalidInputError(
                f"{field} ({criterion.metric}) needs exactly one of at_most and at_least.",
                hint="Write, for example, {metric: mape, at_most: 0.15}.",
                field=field,
                value=criterion.metric,
            )
        if criterion.wants_low == metric.higher_is_better:
            wanted = "at_least" if metric.higher_is_better else "at_most"
            raise InvalidInputError(
                f"{field}: {metric.name} is better when "
                f"{'higher' if metric.higher_is_better else 'lower'}, so a bound on the other side "
                "would ask for a bad model.",
                hint=f"Write {wanted}: {criterion.target:g}.",
                field=field,
                value=criterion.target,
            )
        if any(criterion.metric == other.metric for other in criteria[:number]):
            raise InvalidInputError(
                f"{field}: {criterion.metric} has a criterion already.",
                hint="Keep the stricter of the two.",
                field=field,
                value=criterion.metric,
            )
        _check_reachable(criterion, metric, field)
        metrics.append(metric)
    _check_implied(criteria)
    return metrics


def _named(name: str, payoff: Amounts | None, field: str) -> Metric:
    """Return the metric of a criterion; what is wrong with its name is told with its place."""
    try:
        return metric_named(name, payoff=payoff)
    except InvalidInputError as error:
        place = f"{field}.metric" if error.facts.get("field") == "metric" else field
        raise InvalidInputError(
            f"{place}: {error.message}", hint=error.hint, **{**error.facts, "field": place}
        ) from error


def _check_reachable(criterion: Criterion, metric: Metric, field: str) -> None:
    """Refuse a target that not even perfect answers could be shown to meet."""
    if metric.best is None:
        return
    if not criterion.holds_for(metric.best):
        raise InvalidInputError(
            f"{field}: no answers can have {criterion}; the best {metric.name} there is "
            f"is {metric.best:g}.",
            hint="A share is written from 0 to 1: 30 percent is 0.30."
            if metric.best == 1 and criterion.target > 1
            else "Ask for less.",
            field=field,
            value=criterion.target,
        )
    if (
        isinstance(metric, MeanMetric)
        and metric.share_of is not None
        and criterion.target == metric.best
    ):
        raise InvalidInputError(
            f"{field}: {criterion} can never be shown: however many rows are right, the next one "
            "may be wrong.",
            hint="Ask for a little less, such as "
            f"{'0.01' if criterion.wants_low else '0.99'}, which "
            "a few hundred rows can show.",
            field=field,
            value=criterion.target,
        )


_NESTED = (
    # of two criteria of one family the one with the smaller number is harder to meet
    (re.compile(r"share_within_([\d.]+)_percent"), 1),
    (re.compile(r"top_(\d+)_accuracy"), 1),
    # here the one with the greater number is
    (re.compile(r"absolute_error_of_([\d.]+)_percent"), -1),
)


def _check_implied(criteria: Sequence[Criterion]) -> None:
    """Refuse a criterion that another one always brings with it: one of the two is a slip."""
    for pattern, sign in _NESTED:
        family = [
            (sign * float(match[1]), number, criterion)
            for number, criterion in enumerate(criteria)
            if (match := pattern.fullmatch(criterion.metric))
        ]
        family.sort(key=lambda each: each[:2])
        for (_, at, hard), (_, number, easy) in pairwise(family):
            if sign * easy.target <= sign * hard.target:
                field = f"problem.criteria[{max(at, number)}]"
                raise InvalidInputError(
                    f"{field}: {hard} already brings {easy} with it, so the two contradict what "
                    "they are meant to say.",
                    hint="Swap the two targets, or remove the one that asks for nothing more.",
                    field=field,
                    value=str(easy),
                )
