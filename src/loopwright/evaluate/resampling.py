"""The bootstrap behind every bound: metrics on resampled rows, quick for any number of rows."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule
from loopwright.problem import Answers, MeanMetric, Metric

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]
else:
    np = LazyModule("numpy")

N_RESAMPLES = 1_000
MOST_UNITS = 2_000


def resampled(metric: Metric, y: Array, answers: Answers, *, seed: int = 0) -> Array:
    """Return a metric on resamples of the rows, `(n_resamples,)`; NaN where it is not defined.

    Equal numbers of rows and equal seeds give the same resamples, so that two models on the same
    rows are resampled in pairs.

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

    Notes
    -----
    Efron's bootstrap (Annals of Statistics 7, 1979), 1,000 resamples. Above 2,000 rows the rows
    are first dealt at random into 2,000 groups of equal size, and groups are drawn: sums over
    random groups vary as sums over rows do, so the spread of a mean is the same, at a cost that
    does not grow with resamples times rows. Rankings are then taken to the first order.
    """
    n_units = min(len(y), MOST_UNITS)
    counts = _drawn(n_units, N_RESAMPLES, seed)
    if len(y) == n_units and not isinstance(metric, MeanMetric):
        return metric.resampled(y, answers, counts)
    columns, of_means = metric.linearised(y, answers)
    unit = _dealt(len(y), n_units, seed)
    sums = np.stack(
        [np.bincount(unit, weights=column, minlength=n_units) for column in columns.T], axis=1
    )
    sizes = np.bincount(unit, minlength=n_units).astype(np.float64)
    return of_means((counts @ sums) / (counts @ sizes)[:, None])


def resampled_t(values: Array, *, seed: int = 0) -> Array:
    """Return studentised means of resamples: how far each lies from the mean, in its own errors."""
    n_units = min(len(values), MOST_UNITS)
    unit = _dealt(len(values), n_units, seed)
    sizes = np.bincount(unit, minlength=n_units).astype(np.float64)
    sums = np.bincount(unit, weights=values, minlength=n_units)
    squares = np.bincount(unit, weights=values**2, minlength=n_units)
    counts = _drawn(n_units, N_RESAMPLES, seed)
    n = counts @ sizes
    means = (counts @ sums) / n
    spread = np.maximum((counts @ squares) / n - means**2, 0) * n / np.maximum(n - 1, 1)
    error = np.sqrt(spread / n)
    t: Array = (means - values.mean())[error > 0] / error[error > 0]
    return t if len(t) else np.zeros(1)


def measured(metric: Metric, y: Array, answers: Answers) -> float:
    """Return a metric on the rows as they are."""
    return float(metric.resampled(y, answers, np.ones((1, len(y))))[0])


@lru_cache(maxsize=4)
def _dealt(n_rows: int, n_units: int, seed: int) -> npt.NDArray[np.int64]:
    """Return the unit of each row; the row itself while there are no more rows than units."""
    order = np.arange(n_rows, dtype=np.int64)
    if n_rows > n_units:
        order = np.random.default_rng(seed).permutation(n_rows) % n_units
    order.flags.writeable = False
    return order


@lru_cache(maxsize=2)
def _drawn(n_units: int, n_resamples: int, seed: int) -> Array:
    """Return how often each unit is drawn in each resample, `(n_resamples, n_units)`."""
    rng = np.random.default_rng(seed)
    draws = rng.integers(0, n_units, size=(n_resamples, n_units), dtype=np.int64)
    draws += np.arange(n_resamples, dtype=np.int64)[:, None] * n_units
    counts = np.bincount(draws.ravel(), minlength=n_resamples * n_units)
    drawn: Array = counts.reshape(n_resamples, n_units).astype(np.float64)
    drawn.flags.writeable = False
    return drawn
