"""Success metrics by the names that a loop file calls them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from loopwright.core.errors import InvalidInputError
from loopwright.core.names import did_you_mean
from loopwright.problem.classes import CLASS_METRICS, top_accuracy
from loopwright.problem.mean import Metric
from loopwright.problem.money import MONEY_METRICS, Amounts, money_metric
from loopwright.problem.ranking import RANKING_METRICS, TopShare
from loopwright.problem.regression import (
    REGRESSION_METRICS,
    ErrorQuantile,
    pinball,
    share_within,
)

_NUMBER = r"(\d+(?:\.\d+)?)"

_TEMPLATES: dict[str, tuple[re.Pattern[str], Callable[[str, float], Metric]]] = {
    "share_within_5_percent": (
        re.compile(rf"share_within_{_NUMBER}_percent"),
        lambda name, percent: share_within(name, percent / 100),
    ),
    "absolute_error_of_95_percent": (
        re.compile(rf"absolute_error_of_{_NUMBER}_percent"),
        lambda name, percent: ErrorQuantile(name=name, share=_part(name, percent)),
    ),
    "pinball_at_90_percent": (
        re.compile(rf"pinball_at_{_NUMBER}_percent"),
        lambda name, percent: pinball(name, _part(name, percent)),
    ),
    "precision_at_top_10_percent": (
        re.compile(rf"precision_at_top_{_NUMBER}_percent"),
        lambda name, percent: TopShare(name=name, share=_part(name, percent)),
    ),
    "top_3_accuracy": (
        re.compile(r"top_(\d+)_accuracy"),
        lambda name, k: top_accuracy(name, max(1, int(k))),
    ),
}

METRICS: dict[str, Metric] = {
    metric.name: metric for metric in (*REGRESSION_METRICS, *CLASS_METRICS, *RANKING_METRICS)
}

AT_A_THRESHOLD: frozenset[str] = frozenset(
    {*(metric.name for metric in CLASS_METRICS), *MONEY_METRICS} - {"log_loss", "brier"}
)
"""Metrics of the classes said, which for two classes move with the threshold."""

_MAY_BE_NEGATIVE = frozenset({"r2", "mcc", "cohen_kappa"})

METRIC_EXAMPLES: tuple[str, ...] = (*_TEMPLATES, *MONEY_METRICS)
"""Names beside those of `METRICS`: any number may stand in place of theirs, money needs a payoff."""

DEFAULT_METRIC: dict[str, str] = {
    "regression": "rmse",
    "binary": "log_loss",
    "multiclass": "log_loss",
}


def metric_named(name: str, *, payoff: Amounts | None = None) -> Metric:
    """Return the metric a loop file names.

    Parameters
    ----------
    name
        A name of `METRICS`, or one like those of `METRIC_EXAMPLES`.
    payoff
        What each outcome earns, in the user's money; needed by the metrics of money.

    Raises
    ------
    InvalidInputError
        If there is no such metric, with the nearest one; or if money is counted without a payoff.

    Examples
    --------
    >>> metric_named("mape").higher_is_better
    False
    >>> metric_named("share_within_2.5_percent").name
    'share_within_2.5_percent'
    """
    if name in METRICS:
        return METRICS[name]
    if name in MONEY_METRICS:
        return money_metric(name, payoff)
    for pattern, made in _TEMPLATES.values():
        if match := pattern.fullmatch(name):
            return made(name, float(match[1]))
    raise InvalidInputError(
        f"There is no metric {name!r}.",
        hint=did_you_mean(name, [*METRICS, *METRIC_EXAMPLES]),
        field="metric",
        value=name,
    )


def in_range(metric: Metric, value: float) -> float:
    """Return a bound of a metric, or the nearest value that any answers can have.

    A symmetric interval around a share of 98.9 % reaches beyond 100 %; nobody can believe that.

    Examples
    --------
    >>> in_range(metric_named("recall"), 1.018)
    1.0
    """
    if metric.best is None:
        return value
    if not metric.higher_is_better:
        return max(value, metric.best)
    lowest = 0.0 if metric.name not in _MAY_BE_NEGATIVE else -math.inf
    return min(max(value, lowest), metric.best)


def _part(name: str, percent: float) -> float:
    """Return a percentage as a share that is neither nothing nor all."""
    if not 0 < percent < 100:
        raise InvalidInputError(
            f"The metric {name!r} speaks of {percent:g} percent.",
            hint="Give more than 0 and less than 100.",
            field="metric",
            value=name,
        )
    return percent / 100
