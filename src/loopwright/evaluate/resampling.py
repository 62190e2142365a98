"""The bootstrap behind every bound: metrics on resampled rows, quick for any number of rows.

Where rows are not independent, because several are of one customer or follow each other in time,
whole units of rows are drawn instead: groups, or blocks of time.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule
from loopwright.problem import Answers, MeanMetric, Metric

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]
    Units = npt.NDArray[np.int64]
else:
    np = LazyModule("numpy")

N_RESAMPLES = 1_000
MOST_UNITS = 2_000


def resampled(
    metric: Metric, y: Array, answers: Answers, *, seed: int = 0, units: Units | None = None
) -> Array:
    """Return a metric on resamples of the rows, `(n_resamples,)`; NaN where it is not defined.

    Equal numbers of rows (or equal units) and equal seeds give the same resamples, so that two
    models on the same rows are resampled in pairs.

    Parameters
    ----------
    metric
        What to measure.
    y
        The truth, `(n_rows,)`.
    answers
        What was said on the same rows.
    seed
        Of the draws.
    units
        The unit of each row, `(n_rows,)`, counted from 0 without gaps: rows of one unit are drawn
        together. Nothing draws rows one by one.

    Notes
    -----
    Efron's bootstrap (Annals of Statistics 7, 1979), 1,000 resamples; by units the cluster
    bootstrap (Davison and Hinkley 1997, chapter 3.8). Above 2,000 units these are first dealt at
    random into 2,000 sets of equal size, and sets are drawn: sums over random sets vary as sums
    over units do, so the spread of a mean is the same, at a cost that does not grow with resamples
    times rows. Rankings are then taken to the first order.
    """
    unit, n_units = drawn_units(len(y), units, seed)
    counts = drawn_counts(n_units, N_RESAMPLES, seed)
    if len(y) <= MOST_UNITS and not isinstance(metric, MeanMetric):
        return metric.resampled(y, answers, counts if units is None else counts[:, unit])
    columns, of_means = metric.linearised(y, answers)
    sums = np.stack(
        [np.bincount(unit, weights=column, minlength=n_units) for column in columns.T], axis=1
    )
    sizes = np.bincount(unit, minlength=n_units).astype(np.float64)
    return of_means((counts @ sums) / (counts @ sizes)[:, None])


def mean_bounds(
    values: Array, *, confidence: float, seed: int = 0, units: Units | None = None
) -> tuple[float, float]:
    """Return a lower and an upper bound of a mean, each at `confidence`, for values that may be skew.

    Notes
    -----
    The bootstrap-t (Efron 1982; Hall, Annals of Statistics 16, 1988): the studentised mean is
    resampled, so that a long tail widens the bound on its side. Hall's transformed statistic is
    wrong a little less often on few rows, but a single row can double its bounds.
    """
    unit, n_units = drawn_units(len(values), units, seed)
    if n_units < 2:
        return -np.inf, np.inf
    mean = float(values.mean())
    n = np.bincount(unit, minlength=n_units).astype(np.float64)
    s = np.bincount(unit, weights=values - mean, minlength=n_units).astype(np.float64)
    counts = drawn_counts(n_units, N_RESAMPLES, seed)
    # one product for all sums: the counts are read once
    columns = np.stack([n, s, s**2, s * n, n**2], axis=1)
    rows, S, SS, SN, NN = (counts @ columns).T
    M = S / rows
    second = SS - 2 * M * SN + M**2 * NN
    spread = float((s**2).sum())
    known = second > 1e-12 * spread
    if not known.any():
        return mean, mean
    few = n_units / (n_units - 1)
    t = M[known] * rows[known] / np.sqrt(second[known] * few)
    low, high = (float(q) for q in np.quantile(t, [1 - confidence, confidence]))
    error = float(np.sqrt(spread * few)) / len(values)
    return mean - high * error, mean - low * error


def standard_error(values: Array, *, units: Units | None = None) -> float:
    """Return the standard error of a mean over rows that are independent, or whose units are."""
    n = len(values)
    if units is None:
        return float(values.std(ddof=1)) / float(np.sqrt(n)) if n > 1 else 0.0
    n_units = int(units.max()) + 1
    sizes = np.bincount(units, minlength=n_units).astype(np.float64)
    sums = np.bincount(units, weights=values, minlength=n_units).astype(np.float64)
    once = np.ones((1, n_units))
    return float(_unit_errors(sums, sizes, once, np.array([values.mean()]), np.array([n]))[0])


def measured(metric: Metric, y: Array, answers: Answers) -> float:
    """Return a metric on the rows as they are."""
    return float(metric.resampled(y, answers, np.ones((1, len(y))))[0])


def drawn_units(n_rows: int, units: Units | None, seed: int) -> tuple[Units, int]:
    """Return the unit that each row is drawn with, and how many there are, at most 2,000."""
    n_given = n_rows if units is None else int(units.max()) + 1
    n_units = min(n_given, MOST_UNITS)
    dealt = _dealt(n_given, n_units, seed)
    return (dealt if units is None else dealt[units]), n_units


def _unit_errors(sums: Array, sizes: Array, counts: Array, means: Array, n: Array) -> Array:
    """Return standard errors of means over units: those of a ratio of two sums, linearised."""
    squares = (
        counts @ sums**2 - 2 * means * (counts @ (sums * sizes)) + means**2 * (counts @ sizes**2)
    )
    n_units = len(sums)
    errors: Array = np.sqrt(np.maximum(squares, 0) * n_units / max(1, n_units - 1)) / n
    return errors


@lru_cache(maxsize=4)
def _dealt(n_rows: int, n_units: int, seed: int) -> npt.NDArray[np.int64]:
    """Return the unit of each row; the row itself while there are no more rows than units."""
    order = np.arange(n_rows, dtype=np.int64)
    if n_rows > n_units:
        order = np.random.default_rng(seed).permutation(n_rows) % n_units
    order.flags.writeable = False
    return order


@lru_cache(maxsize=2)
def drawn_counts(n_units: int, n_resamples: int, seed: int) -> Array:
    """Return how often each unit is drawn in each resample, `(n_resamples, n_units)`, read-only."""
    rng = np.random.default_rng(seed)
    draws = rng.integers(0, n_units, size=(n_resamples, n_units), dtype=np.int64)
    draws += np.arange(n_resamples, dtype=np.int64)[:, None] * n_units
    counts = np.bincount(draws.ravel(), minlength=n_resamples * n_units)
    drawn: Array = counts.reshape(n_resamples, n_units).astype(np.float64)
    drawn.flags.writeable = False
    return drawn
