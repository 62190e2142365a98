"""Metrics of numbers without the truth: the loss as a model of the row, with its error added back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule
from loopwright.monitor.boosting import boosted
from loopwright.monitor.reference_rows import ReferenceRows
from loopwright.problem import Answers, MeanMetric, Metric

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Codes = NDArray[np.uint8]
    Numbers = NDArray[np.float64]
else:
    np = LazyModule("numpy")

_N_TREES = 40
_N_FOLDS = 3
_N_DRAWS = 200


def number_draws(
    metric: Metric,
    rows: ReferenceRows,
    reference_answers: Answers,
    live_codes: Codes,
    live: Answers,
    *,
    weights: Numbers,
    ordered: NDArray[np.bool_],
    seed: int = 0,
) -> tuple[float, float]:
    """Return the expected metric on live rows and its standard error.

    Parameters
    ----------
    weights
        Of the reference rows, (n_reference,): under them they are like the live rows.

    Notes
    -----
    Most metrics are a function of means of columns. A mean is estimated as the mean of a model of
    the column over live rows, plus the weighted mean of the model's error on reference rows it did
    not learn from: right if either the model or the weights are. The variance is that of both sums;
    the metric's error comes from 200 draws of the means. A quantile of errors is that of the
    weighted reference rows, its error from 200 Bayesian bootstrap draws.
    """
    del live  # the truth is modelled from the row; what was said stands among its codes
    rng = np.random.default_rng(seed)
    if not isinstance(metric, MeanMetric):
        counts = weights * rng.exponential(size=(_N_DRAWS, rows.n_rows))
        value = float(metric.resampled(rows.y, reference_answers, weights[None])[0])
        return value, _spread(metric.resampled(rows.y, reference_answers, counts))
    columns = metric.columns(rows.y, reference_answers)
    means, covariance = column_means(
        rows.codes, columns, live_codes, weights=weights, ordered=ordered, seed=seed
    )
    values, vectors = np.linalg.eigh(covariance)
    drawn = (
        means
        + rng.normal(size=(_N_DRAWS, len(means))) @ (vectors * np.sqrt(np.maximum(values, 0.0))).T
    )
    return float(metric.of_means(means[None])[0]), _spread(metric.of_means(drawn))


def column_means(
    reference: Codes,
    columns: Numbers,
    live: Codes,
    *,
    weights: Numbers,
    ordered: NDArray[np.bool_],
    seed: int = 0,
) -> tuple[Numbers, Numbers]:
    """Return the means of some columns over live rows, and their covariance.

    Parameters
    ----------
    columns
        (n_reference, m), known for the reference rows.
    """
    folds = np.random.default_rng(seed).permutation(len(reference)) % _N_FOLDS
    said_live = np.zeros((len(live), columns.shape[1]))
    left = np.empty_like(columns)
    for at in range(columns.shape[1]):
        for fold in range(_N_FOLDS):
            held = folds == fold
            model = boosted(reference[~held], columns[~held, at], ordered=ordered, n_trees=_N_TREES)
            left[held, at] = columns[held, at] - model.values(reference[held])
            said_live[:, at] += model.values(live) / _N_FOLDS
    share = weights / weights.sum()
    remaining = share @ left
    apart, off = said_live - said_live.mean(axis=0), left - remaining
    covariance = apart.T @ apart / len(live) ** 2 + (off * share[:, None] ** 2).T @ off
    return said_live.mean(axis=0) + remaining, covariance


def _spread(drawn: Numbers) -> float:
    finite = drawn[np.isfinite(drawn)]
    return float(finite.std()) if len(finite) > 1 else float("nan")
