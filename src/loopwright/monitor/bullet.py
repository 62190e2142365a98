"""A figure beside its target as a bullet chart: an estimate, its bounds and a line to reach."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from loopwright.monitor.quality import LiveFigure

Standing = Literal["holds", "missed", "undecided"]

_SMALLEST_ROOM = 1e-250

_SHARES = {
    "mape",
    "smape",
    "wape",
    "accuracy",
    "precision",
    "recall",
    "specificity",
    "negative_predictive_value",
    "false_positive_rate",
    "balanced_accuracy",
    "macro_precision",
}
# no shares, but never more than 1
_MOST_ONE = {"roc_auc", "average_precision", "f1", "macro_f1", "r2", "mcc"}
# metrics that hold a number: their words, and whether their values are shares
_NUMBERED: tuple[tuple[re.Pattern[str], str, bool], ...] = (
    (re.compile(r"share_within_([\d.]+)_percent"), "answers within {}% of the truth", True),
    (
        re.compile(r"precision_at_top_([\d.]+)_percent"),
        "positive cases among the top {}%",
        True,
    ),
    (re.compile(r"top_(\d+)_accuracy"), "cases whose class is among the first {}", True),
    (
        re.compile(r"absolute_error_of_([\d.]+)_percent"),
        "error that {}% of the answers stay within",
        False,
    ),
    (re.compile(r"pinball_at_([\d.]+)_percent"), "loss of the {}% quantile (pinball)", False),
)
_WORDS = {
    "mape": "average error, in percent",
    "smape": "average error, in percent of truth and answer",
    "wape": "all errors, in percent of all truth",
    "mae": "average error",
    "medae": "error of the middle answer",
    "rmse": "typical error, where large ones count more",
    "rmsle": "typical error of the logarithm",
    "r2": "share of the differences that is explained",
    "accuracy": "answers that are right",
    "balanced_accuracy": "answers that are right, every class counting alike",
    "precision": "cases called positive that are",
    "recall": "positive cases that are found",
    "specificity": "negative cases that are left alone",
    "negative_predictive_value": "cases left alone that are negative",
    "false_positive_rate": "negative cases called positive",
    "macro_precision": "precision, every class counting alike",
    "weighted_f1": "F1, every class counting by its cases",
    "mcc": "correlation of what is said and true (MCC)",
    "cohen_kappa": "agreement beyond chance (kappa)",
    "average_precision": "precision over the ranks of the positive cases",
    "lift_in_top_decile": "positive cases in the top tenth, as times the average",
    "f1": "precision and recall in one (F1)",
    "macro_f1": "F1, every class counting alike",
    "roc_auc": "pairs of cases put in the right order",
    "log_loss": "surprise at the truth (log loss)",
    "brier": "squared error of the probability",
    "profit_per_case": "profit per case",
    "expected_profit_per_thousand": "profit per thousand cases",
    "cost_per_case": "cost per case",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bullet:
    """A figure beside its target, ready to be drawn.

    Parameters
    ----------
    title, metric, note
        The metric in words, its name, and what the figure rests on.
    value, bounds, target
        The numbers as text; `bounds` and `target` are empty where there are none.
    low, high
        The ends of the axis as text.
    at, target_at
        Places of the estimate and the target on the axis, 0 to 100; None where there are none.
    span, good
        Start and width of the interval, and of the side of the target that is wanted; 0 to 100.
    """

    title: str
    metric: str
    standing: Standing
    note: str
    value: str
    bounds: str
    target: str
    low: str
    high: str
    at: float | None
    target_at: float | None
    span: tuple[float, float] | None
    good: tuple[float, float] | None


def bullet(
    metric: str,
    *,
    estimate: float | None,
    lower: float | None = None,
    upper: float | None = None,
    target: float | None = None,
    wants_low: bool = True,
    standing: Standing = "undecided",
    note: str = "",
    axis: tuple[float, float] | None = None,
) -> Bullet:
    """Return a figure beside its target.

    Parameters
    ----------
    axis
        The ends, for charts to be compared with each other; see `common_axis`. None: its own.
    """
    start, end = axis or common_axis([estimate, lower, upper, target])
    end = axis_end(metric, end, [estimate, target])

    def place(value: float | None) -> float | None:
        if value is None or not math.isfinite(value):
            return None
        return round(100 * min(max((value - start) / (end - start), 0.0), 1.0), 2)

    at, line, left, right = map(place, (estimate, target, lower, upper))
    good = None
    if line is not None:
        good = (0.0, line) if wants_low else (line, round(100 - line, 2))
    return Bullet(
        title=metric_words(metric),
        metric=metric,
        standing=standing,
        note=note,
        value=told_value(metric, estimate),
        bounds=""
        if left is None or right is None
        else f"{told_value(metric, lower)} to {told_value(metric, upper)}",
        target=""
        if target is None
        else f"{'at most' if wants_low else 'at least'} {told_value(metric, target)}",
        low=told_value(metric, start),
        high=told_value(metric, end),
        at=at,
        target_at=line,
        span=None if left is None or right is None else (left, round(right - left, 2)),
        good=good,
    )


def live_bullets(figures: Sequence[LiveFigure]) -> list[Bullet]:
    """Return live figures as bullets; those of one metric share an axis."""
    axes = {
        metric: common_axis(
            value
            for figure in figures
            if figure.metric == metric
            for value in (figure.estimate, figure.lower, figure.upper, figure.target)
        )
        for metric in {figure.metric for figure in figures}
    }
    return [
        bullet(
            figure.metric,
            estimate=figure.estimate,
            lower=figure.lower,
            upper=figure.upper,
            target=figure.target,
            wants_low=figure.direction == "at_most",
            standing=figure.verdict,
            note=_live_note(figure),
            axis=axes[figure.metric],
        )
        for figure in figures
    ]


def common_axis(values: Iterable[float | None]) -> tuple[float, float]:
    """Return the ends of an axis that shows all values, from 0 where that is not too far off.

    Examples
    --------
    >>> common_axis([0.1, 0.15])
    (0.0, 0.1725)
    >>> common_axis([None])
    (0.0, 1.0)
    """
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return 0.0, 1.0
    low, high = min(known), max(known)
    room = (high - low) or abs(high)
    if room < _SMALLEST_ROOM:  # a span of next to nothing cannot be divided by
        room = 1.0
    if 0 <= low <= 0.8 * high and high > 0:
        return 0.0, high * 1.15
    return low - 0.4 * room, high + 0.4 * room


def axis_end(metric: str, end: float, values: Iterable[float | None]) -> float:
    """Return the end of a metric's axis: no more than all there is, where that is what is shown.

    Examples
    --------
    >>> [axis_end("recall", 1.1, [0.95]), axis_end("mape", 1.3, [1.2]), axis_end("mae", 1.1, [0.9])]
    [1.0, 1.3, 1.1]
    """
    is_share = metric in _MOST_ONE or told_value(metric, 1.0) == "100%"
    known = [value for value in values if value is not None]
    return min(end, 1.0) if is_share and all(value < 1.0 for value in known) else end


def metric_words(metric: str) -> str:
    """Return what a metric says, for people who do not know its name.

    Examples
    --------
    >>> metric_words("share_within_5_percent")
    'answers within 5% of the truth'
    """
    for pattern, words, _ in _NUMBERED:
        if match := pattern.fullmatch(metric):
            return words.format(match[1])
    return _WORDS.get(metric, metric)


def told_value(metric: str, value: float | None) -> str:
    """Return a value of a metric in few characters; shares are percentages.

    Examples
    --------
    >>> [told_value("mape", 0.1186), told_value("mae", 66430.2), told_value("r2", None)]
    ['11.9%', '66,430', '–']
    """
    if value is None or not math.isfinite(value):
        return "–"
    numbered = any(pattern.fullmatch(metric) for pattern, _, is_share in _NUMBERED if is_share)
    if metric in _SHARES or numbered:
        return f"{value:.1%}".replace(".0%", "%")
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.4g}"


def _live_note(figure: LiveFigure) -> str:
    if not figure.n:
        return f"{figure.period}: no labels yet"
    few = "; too few for bounds" if figure.lower is None else ""
    return f"{figure.period}, {figure.n:,} labelled rows{few}"
