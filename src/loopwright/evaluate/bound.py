"""One-sided bounds of a metric, with care for what the plain bootstrap gets wrong on few rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule
from loopwright.evaluate.resampling import mean_bounds, resampled
from loopwright.problem import Answers, MeanMetric, Metric
from loopwright.problem.regression import ErrorQuantile

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]
    Units = npt.NDArray[np.int64]
else:
    np = LazyModule("numpy")

# below so many rows of a class, what a ranking or a balance of classes shows is chance
LEAST_OF_A_CLASS = 10
# below so many units their spread is itself uncertain
_FEW_UNITS = 100
# a function of more means than this, such as a score over many classes, has no tangent taken
_MOST_COLUMNS = 12


def bounds(
    metric: Metric,
    y: Array,
    answers: Answers,
    *,
    value: float,
    confidence: float,
    seed: int,
    units: Units | None = None,
) -> tuple[float, float]:
    """Return a lower and an upper bound, each at `confidence`; infinite where nothing can be said.

    Parameters
    ----------
    metric, y, answers, value
        What was measured on which rows, and what came out.
    confidence
        Level of each bound, 0.5 to below 1.
    seed
        Of the resampling.
    units
        See `resampled`.

    Notes
    -----
    Shares (accuracy, share within, precision, recall) have the exact bounds of Clopper and Pearson
    (Biometrika 26, 1934): the bootstrap of "all right" has no width; by units, for the number of
    independent rows that would vary as much (Korn and Graubard, Survey Methodology 24, 1998).
    Quantiles of errors are bounded through shares, exactly. Other means, and functions of a few
    means through their tangent, take the wider of the percentile bootstrap and the bootstrap-t,
    which follows a long tail; see `mean_bounds`. All other metrics are percentiles of resamples, less
    what these are off on average; where they depend on classes, each class that occurs needs 10 rows, or there is no bound.
    """
    if math.isnan(value) or not len(y) or (units is not None and units.max() < 1):
        return -math.inf, math.inf
    if isinstance(metric, MeanMetric) and metric.share_of is not None:
        columns = metric.columns(y, answers)
        hit = columns[:, 0]
        counted = np.ones(len(y)) if metric.share_of < 0 else columns[:, metric.share_of]
        return share_bounds(hit, counted, confidence=confidence, units=units)
    if isinstance(metric, ErrorQuantile):
        return _quantile_bounds(metric, y, answers, confidence, units)
    values = influence(metric, y, answers, value)
    rests_on_classes = metric.per_row(y, answers) is None and answers.probabilities.size
    if rests_on_classes:
        present = np.bincount(y.astype(np.int64))
        if present[present > 0].min() < LEAST_OF_A_CLASS or (present > 0).sum() < 2:
            return -math.inf, math.inf
    drawn = resampled(metric, y, answers, seed=seed, units=units)
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return -math.inf, math.inf
    lower, upper = (float(q) for q in np.quantile(drawn, [1 - confidence, confidence]))
    if values is not None and len(values) > 1 and np.isfinite(values).all():
        low, high = mean_bounds(values, confidence=confidence, seed=seed, units=units)
        lower, upper = min(lower, low), max(upper, high)
    elif values is None:
        # rows that are drawn twice flatter a ranking: what resamples are off on average is taken off
        bias = float(drawn.mean()) - value
        lower, upper = min(lower, lower - bias), max(upper, upper - bias)
    reach = _reach_of_few(drawn, confidence, units)
    return min(lower, value - reach), max(upper, value + reach)


def influence(metric: Metric, y: Array, answers: Answers, value: float) -> Array | None:
    """Return values `(n_rows,)` whose mean is the metric and varies as it does; None for a ranking.

    Exact for a mean; for a function of means its tangent (the delta method).
    """
    if not isinstance(metric, MeanMetric):
        return None
    columns = metric.columns(y, answers)
    if metric.combine is None:
        return columns[:, 0]
    if columns.shape[1] > _MOST_COLUMNS:
        return None
    means = columns.mean(axis=0)
    step = 1e-6 * np.maximum(np.abs(means), columns.std(axis=0) + 1e-12)
    around = np.concatenate([means + np.diag(step), means - np.diag(step)])
    above, below = np.split(metric.of_means(around), 2)
    slope = (above - below) / (2 * step)
    tangent: Array = value + (columns - means) @ slope
    return tangent


def _quantile_bounds(
    metric: ErrorQuantile, y: Array, answers: Answers, confidence: float, units: Units | None
) -> tuple[float, float]:
    """Return the errors below which too few, or enough, of the rows lie beyond doubt.

    A quantile is at most a value when the share of rows up to it is at least the quantile's: bounds
    of shares make bounds of quantiles, whatever the distribution.
    """
    error = np.abs(answers.values - y)
    ordered = np.sort(error)
    ones = np.ones(len(error))

    def shares(value: float) -> tuple[float, float]:
        hit = (error <= value).astype(np.float64)
        return share_bounds(hit, ones, confidence=confidence, units=units)

    enough = _first(len(ordered), lambda place: shares(float(ordered[place]))[0] >= metric.share)
    maybe = _first(len(ordered), lambda place: shares(float(ordered[place]))[1] >= metric.share)
    upper = float(ordered[enough]) if enough < len(ordered) else math.inf
    return float(ordered[min(maybe, len(ordered) - 1)]), upper


def _first(n: int, holds: Callable[[int], bool]) -> int:
    """Return the first of n places at which something holds that then goes on holding; n for none."""
    low, high = 0, n
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low


def _reach_of_few(drawn: Array, confidence: float, units: Units | None) -> float:
    """Return how far bounds must reach at least where few units were drawn from: Student's t."""
    n_units = 0 if units is None else int(units.max()) + 1
    if not 2 <= n_units < _FEW_UNITS:
        return 0.0
    spread = float(np.std(drawn)) * math.sqrt(n_units / (n_units - 1))
    return student_quantile(confidence, n_units - 1) * spread


def share_bounds(
    hit: Array, counted: Array, *, confidence: float, units: Units | None = None
) -> tuple[float, float]:
    """Return bounds of a share of rows, from which rows count and which of those are hits.

    Parameters
    ----------
    hit, counted
        `(n_rows,)`, 0 or 1; a hit counts.
    confidence
        Level of each bound.
    units
        See `resampled`.
    """
    k, n = float(hit.sum()), float(counted.sum())
    if units is None or n <= 0:
        return clopper_pearson(k, n, confidence=confidence)
    sums = np.bincount(units, weights=counted)
    n_units = int((sums > 0).sum())
    if n_units < 2:
        return -math.inf, math.inf
    share = k / n
    independent = n
    if 0 < share < 1:
        apart = np.bincount(units, weights=hit - share * counted)
        variance = n_units / (n_units - 1) * float((apart**2).sum()) / n**2
        # units that happen to agree with each other are no better than rows
        independent = min(n, share * (1 - share) / max(variance, 1e-300))
        few = student_quantile(confidence, n - 1) / student_quantile(confidence, n_units - 1)
        independent *= min(1.0, few**2)
    elif sums.max() > 1:
        # where all rows agree nothing shows how alike rows of a unit are: each unit says one thing
        independent = float(n_units)
    return clopper_pearson(share * independent, independent, confidence=confidence)


def clopper_pearson(k: float, n: float, *, confidence: float) -> tuple[float, float]:
    """Return the bounds of Clopper and Pearson for `k` of `n`; both need not be whole numbers."""
    from scipy.special import betaincinv

    if n <= 0:
        return -math.inf, math.inf
    lower = 0.0 if k <= 0 else float(betaincinv(k, n - k + 1, 1 - confidence))
    upper = 1.0 if k >= n else float(betaincinv(k + 1, n - k, confidence))
    return lower, upper


def student_quantile(confidence: float, freedom: float) -> float:
    """Return the quantile of Student's distribution with some degrees of freedom, at least 1."""
    from scipy.special import stdtrit

    return float(stdtrit(max(1.0, freedom), confidence))
