"""Constraints: what a model must be like beside being right, whatever its figures are."""

from __future__ import annotations

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.problem.metric import metric_named
from loopwright.problem.money import Amounts

SELECTION_RATE = "selection_rate"
"""A rate that fairness may be asked of beside the metrics: the share of rows said to be positive."""


class FairnessLimit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far groups of people may differ in what a model does for them.

    Parameters
    ----------
    column
        The protected column. It may be kept from models under `prepare.drop`; it is read all the
        same to compare the groups.
    metric
        What is compared: a metric of the task, or `selection_rate`, the share of a group that is
        said to be positive.
    at_most_gap
        Largest difference between the best and the worst group.
    at_least_ratio
        Smallest worst group divided by the best, such as 0.8 for the four-fifths rule.
    cuts
        For a column of numbers: where one group ends and the next begins, rising; `[25, 60]` makes
        three groups.
    """

    column: str
    metric: str
    at_most_gap: float | None = None
    at_least_ratio: float | None = None
    cuts: tuple[float, ...] = ()

    def __str__(self) -> str:
        limits = []
        if self.at_most_gap is not None:
            limits.append(f"gap at most {self.at_most_gap:g}")
        if self.at_least_ratio is not None:
            limits.append(f"ratio at least {self.at_least_ratio:g}")
        return f"{self.metric} by {self.column}: {' and '.join(limits)}"


class Constraints(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a model must be like beside being right.

    Parameters
    ----------
    latency_ms
        Longest time in milliseconds in which 99 of 100 answers to one row are computed, measured
        on this machine before a release, without the network.
    size_mb
        Largest packed model, in megabytes of 1,000,000 bytes.
    explainable
        Whether only models that a person can read may be trained: `linear-learner`,
        `decision-tree` and rules.
    personal_data
        Whether models may see columns that hold personal data; `false` drops those the profile
        finds.
    fairness
        Limits to how far groups of people may differ; each is a criterion.
    """

    latency_ms: float | None = None
    size_mb: float | None = None
    explainable: bool = False
    personal_data: bool = True
    fairness: tuple[FairnessLimit, ...] = ()

    def stated(self) -> tuple[str, ...]:
        """Return what is asked for, in words."""
        found = []
        if self.latency_ms is not None:
            found.append(f"99 of 100 answers within {self.latency_ms:g} ms")
        if self.size_mb is not None:
            found.append(f"at most {self.size_mb:g} MB")
        if self.explainable:
            found.append("a model that a person can read")
        if not self.personal_data:
            found.append("no personal data")
        return (*found, *(str(limit) for limit in self.fairness))


def checked_constraints(constraints: Constraints, *, task: str, payoff: Amounts | None) -> None:
    """Check that constraints make sense for the task.

    Raises
    ------
    InvalidInputError
        With the field, the value and the remedy.
    """
    for key in ("latency_ms", "size_mb"):
        value = getattr(constraints, key)
        if value is not None and not value > 0:
            raise InvalidInputError(
                f"problem.constraints.{key} is {value:g}, which no model can keep.",
                hint="Give a number above 0, or remove it.",
                field=f"problem.constraints.{key}",
                value=value,
            )
    for number, limit in enumerate(constraints.fairness):
        _check_fairness(limit, f"problem.constraints.fairness[{number}]", task, payoff)


def _check_fairness(limit: FairnessLimit, field: str, task: str, payoff: Amounts | None) -> None:
    if limit.metric == SELECTION_RATE:
        fits = task == "binary"
    else:
        fits = task in metric_named(limit.metric, payoff=payoff).tasks
    if not fits:
        raise InvalidInputError(
            f"{field}: {limit.metric} does not fit a {task} problem.",
            hint="Choose a metric for this task.",
            field=f"{field}.metric",
            value=limit.metric,
        )
    if limit.at_most_gap is None and limit.at_least_ratio is None:
        raise InvalidInputError(
            f"{field} ({limit.metric} by {limit.column}) states no limit.",
            hint="Write at_most_gap: 0.1, or at_least_ratio: 0.8.",
            field=field,
            value=limit.metric,
        )
    if limit.at_most_gap is not None and not limit.at_most_gap >= 0:
        raise InvalidInputError(
            f"{field}: at_most_gap is {limit.at_most_gap:g}; a difference is never below 0.",
            hint="Give 0 or more.",
            field=f"{field}.at_most_gap",
            value=limit.at_most_gap,
        )
    if limit.at_least_ratio is not None and not 0 < limit.at_least_ratio <= 1:
        raise InvalidInputError(
            f"{field}: at_least_ratio is {limit.at_least_ratio:g}; the worst group divided by the "
            "best is above 0 and at most 1.",
            hint="Write 0.8 for four fifths.",
            field=f"{field}.at_least_ratio",
            value=limit.at_least_ratio,
        )
    if list(limit.cuts) != sorted(set(limit.cuts)):
        raise InvalidInputError(
            f"{field}: cuts are {list(limit.cuts)}, which do not rise.",
            hint="Write them from the smallest to the greatest, each once.",
            field=f"{field}.cuts",
            value=str(list(limit.cuts)),
        )
