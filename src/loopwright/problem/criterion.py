"""Success criteria: what must hold, on rows the model never saw, before a model may go live."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.problem.metric import Metric, metric_named


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
    criteria: Sequence[Criterion], *, task: str, payoff: dict[str, float] | None
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
        metric = metric_named(criterion.metric, payoff=payoff)
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
        metrics.append(metric)
    return metrics
