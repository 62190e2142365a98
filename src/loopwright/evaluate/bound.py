"""One-sided bounds of a metric, with care for what the plain bootstrap gets wrong on few rows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule
from loopwright.evaluate.resampling import resampled, resampled_t
from loopwright.problem import Answers, MeanMetric, Metric

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]
else:
    np = LazyModule("numpy")

# below so many rows of a class, what a ranking or a balance of classes shows is chance
LEAST_OF_A_CLASS = 10


def bounds(
    metric: Metric, y: Array, answers: Answers, *, value: float, confidence: float, seed: int
) -> tuple[float, float]:
    """Return a lower and an upper bound, each at `confidence`; infinite where nothing can be said.

    Notes
    -----
    Shares (accuracy, share within, precision, recall) have the exact bounds of Clopper and Pearson
    (Biometrika 26, 1934): the bootstrap of "all right" has no width. Other means take the wider of
    the percentile bootstrap and the bootstrap-t (Efron 1982), which follows a long tail. All other
    metrics are percentiles of resamples; where they depend on classes, each class that occurs needs
    10 rows, or there is no bound.
    """
    if math.isnan(value):
        return -math.inf, math.inf
    if isinstance(metric, MeanMetric):
        counted = metric.counted(y, answers)
        if counted is not None:
            return _share_bounds(*counted, confidence=confidence)
    if answers.probabilities.size and metric.name not in ("log_loss", "brier", "profit_per_case"):
        present = np.bincount(y.astype(np.int64))
        if present[present > 0].min() < LEAST_OF_A_CLASS or (present > 0).sum() < 2:
            return -math.inf, math.inf
    drawn = resampled(metric, y, answers, seed=seed)
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return -math.inf, math.inf
    lower, upper = (float(q) for q in np.quantile(drawn, [1 - confidence, confidence]))
    values = metric.per_row(y, answers)
    if values is not None and len(values) > 1:
        t = resampled_t(values, seed=seed)
        error = float(values.std(ddof=1)) / math.sqrt(len(values))
        lower = min(lower, value - float(np.quantile(t, confidence)) * error)
        upper = max(upper, value - float(np.quantile(t, 1 - confidence)) * error)
    return min(lower, value), max(upper, value)


def _share_bounds(k: float, n: float, *, confidence: float) -> tuple[float, float]:
    """Return the bounds of Clopper and Pearson for `k` of `n`."""
    from scipy.special import betaincinv

    if n <= 0:
        return -math.inf, math.inf
    lower = 0.0 if k <= 0 else float(betaincinv(k, n - k + 1, 1 - confidence))
    upper = 1.0 if k >= n else float(betaincinv(k + 1, n - k, confidence))
    return lower, upper
