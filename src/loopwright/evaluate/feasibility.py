"""Whether rows could ever show that a criterion holds: asked before anything is trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from loopwright.core.lazy import LazyModule
from loopwright.evaluate.bound import LEAST_OF_A_CLASS, clopper_pearson
from loopwright.evaluate.figure import figure
from loopwright.problem import (
    MONEY_METRICS,
    Answers,
    Criterion,
    MeanMetric,
    Metric,
    class_answers,
    value_answers,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]
    Units = npt.NDArray[np.int64]
else:
    np = LazyModule("numpy")

# a criterion that leaves less than half of the room to the best value is hard for want of rows
_TIGHT = 0.5
_EASY = 0.25
_STEPS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Feasibility:
    """What some rows can show of a criterion.

    Parameters
    ----------
    criterion
        In words.
    n_rows
        How many rows will judge.
    is_possible
        Whether the criterion could be shown if every answer were right.
    value_needed
        What the metric must come out at for its bound to meet the target; None where unknown.
    rows_needed
        How many rows would judge well enough; None where these do, or no number would.
    told
        The same for people; empty where these rows are enough.
    """

    criterion: str
    n_rows: int
    is_possible: bool
    value_needed: float | None
    rows_needed: int | None
    told: str

    def to_json(self) -> dict[str, Any]:
        """Return the answer as JSON types."""
        return {name: getattr(self, name) for name in self.__slots__}


def feasibilities(
    criteria: Sequence[Criterion],
    metrics: Sequence[Metric],
    y: Array,
    *,
    n_classes: int,
    money: Array | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    units: Units | None = None,
) -> list[Feasibility]:
    """Return for each criterion whether rows with this truth could ever show that it holds.

    Parameters
    ----------
    criteria, metrics
        What must hold, in the same order.
    y
        The truth of the rows that will judge, `(n_rows,)`: values, or class indices.
    n_classes
        How many classes there are; 0 for regression.
    money
        What each row earns; see `Answers`.
    confidence
        Of every verdict.
    seed, units
        Of the resampling; see `figure`.

    Notes
    -----
    Perfect answers are judged as a model's would be: where even they miss, nothing can hold. How
    good a model must come out follows exactly from the binomial distribution for shares, from
    Hanley and McNeil (Radiology 143, 1982) for the area under the ROC curve, and for other means
    from the spread that a constant answer has, as a share of its mean; for money from that of
    perfect answers.
    """
    perfect = (
        class_answers(np.eye(n_classes)[y.astype(np.int64)], money=money)
        if n_classes
        else value_answers(y)
    )
    found = []
    for criterion, metric in zip(criteria, metrics, strict=True):
        best = figure(metric, y, perfect, confidence=confidence, seed=seed, units=units)
        bound = best.upper if criterion.wants_low else best.lower
        if not criterion.holds_for(bound):
            found.append(_impossible(criterion, metric, y, perfect, best.value, confidence))
            continue
        needed = _value_needed(criterion, metric, y, perfect, confidence, n_classes)
        found.append(_possible(criterion, metric, len(y), needed))
    return found


def _impossible(
    criterion: Criterion,
    metric: Metric,
    y: Array,
    perfect: Answers,
    value: float,
    confidence: float,
) -> Feasibility:
    n, needed = len(y), None
    if metric.name in MONEY_METRICS and not criterion.holds_for(value):
        told = f"even if every answer were right, {metric.name} would be {value:.4g}"
    elif isinstance(metric, MeanMetric) and metric.share_of is not None:
        _, counted = metric.counted(y, perfect) or (0.0, 0.0)
        least = _least_counted(criterion, confidence)
        needed = math.ceil(least * n / counted) if counted else None
        told = (
            f"of {counted:,.0f} row(s) that count, even all right would show no more than "
            f"{_told_best(criterion, counted, confidence)}"
        )
    elif perfect.probabilities.size:
        present = np.bincount(y.astype(np.int64))
        rarest = int(present[present > 0].min())
        needed = math.ceil(LEAST_OF_A_CLASS * n / rarest)
        told = f"its rarest class has {rarest} row(s), and {LEAST_OF_A_CLASS} are the least that show anything"
        if (present > 0).sum() < 2:
            needed, told = None, "they are all of one class"
    else:
        told = f"even if every answer were right, {metric.name} would be {value:.4g}"
    if needed is not None and needed <= n:  # rows of one unit say one thing only
        needed = None
    return Feasibility(
        criterion=str(criterion),
        n_rows=n,
        is_possible=False,
        value_needed=None,
        rows_needed=needed,
        told=f"{criterion} cannot be shown on {n:,} rows: {told}",
    )


def _least_counted(criterion: Criterion, confidence: float) -> float:
    """Return of how many rows none may be wrong for the bound of a share to meet the target."""
    share = 1 - criterion.target if criterion.wants_low else criterion.target
    return math.log(1 - confidence) / math.log(share)


def _told_best(criterion: Criterion, n: float, confidence: float) -> str:
    if criterion.wants_low:
        return f"at most {clopper_pearson(0, n, confidence=confidence)[1]:.3g}"
    return f"at least {clopper_pearson(n, n, confidence=confidence)[0]:.3g}"


def _possible(criterion: Criterion, metric: Metric, n: int, needed: float | None) -> Feasibility:
    rows, told = None, ""
    if needed is not None and metric.best is not None:
        room, margin = abs(metric.best - criterion.target), abs(needed - criterion.target)
        if room > 0 and margin > _TIGHT * room:
            # how far a bound lies off shrinks with the root of the rows
            rows = math.ceil(n * (margin / (_EASY * room)) ** 2)
            told = (
                f"{criterion} asks for {needed:.3g} on these {n:,} rows, for a bound that meets it; "
                f"about {rows:,} rows would ask for less"
            )
    return Feasibility(
        criterion=str(criterion),
        n_rows=n,
        is_possible=True,
        value_needed=needed,
        rows_needed=rows,
        told=told,
    )


def _value_needed(
    criterion: Criterion,
    metric: Metric,
    y: Array,
    perfect: Answers,
    confidence: float,
    n_classes: int,
) -> float | None:
    """Return what the metric must come out at; None where that is not known."""
    if isinstance(metric, MeanMetric) and metric.share_of is not None:
        _, n = metric.counted(y, perfect) or (0.0, 0.0)
        return _share_needed(criterion, round(n), confidence)
    z = NormalDist().inv_cdf(confidence)
    if metric.name == "roc_auc":
        n_positive = float((y == 1).sum())
        return _area_needed(criterion.target, z, n_positive, len(y) - n_positive)
    # one answer for all may earn nothing anywhere; what there is to earn varies all the same
    is_money = metric.name in MONEY_METRICS
    values = metric.per_row(y, perfect if is_money else _constant(y, n_classes))
    if values is None or len(values) < 2:
        return None
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    if is_money:
        return criterion.target + (-z if criterion.wants_low else z) * error
    mean = float(values.mean())
    if mean <= 0 or not criterion.wants_low:
        return None
    return criterion.target / (1 + z * error / mean)


def _share_needed(criterion: Criterion, n: int, confidence: float) -> float | None:
    """Return the share of `n` rows whose exact bound meets the target."""

    def meets(k: int) -> bool:
        lower, upper = clopper_pearson(k, n, confidence=confidence)
        return criterion.holds_for(upper if criterion.wants_low else lower)

    return _first(lambda wrong: meets(wrong if criterion.wants_low else n - wrong), n, criterion)


def _first(meets: Callable[[int], bool], n: int, criterion: Criterion) -> float | None:
    """Return the share with the most wrong rows that still meets, by bisection."""
    if n < 1 or not meets(0):
        return None
    low, high = 0, n
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if meets(middle) else (low, middle - 1)
    return low / n if criterion.wants_low else (n - low) / n


def _area_needed(target: float, z: float, n_positive: float, n_negative: float) -> float | None:
    """Return the area whose lower bound is the target, by the errors of Hanley and McNeil."""
    if min(n_positive, n_negative) < 1:
        return None

    def lower(area: float) -> float:
        q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
        variance = area * (1 - area)
        variance += (n_positive - 1) * (q1 - area**2) + (n_negative - 1) * (q2 - area**2)
        return area - z * math.sqrt(max(0.0, variance) / (n_positive * n_negative))

    low, high = target, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if lower(middle) >= target else (middle, high)
    return high


def _constant(y: Array, n_classes: int) -> Answers:
    """Return one answer for all rows."""
    if not n_classes:
        return value_answers(np.full(len(y), float(np.median(y))))
    shares = np.bincount(y.astype(np.int64), minlength=n_classes) / len(y)
    return class_answers(np.tile(shares, (len(y), 1)))
