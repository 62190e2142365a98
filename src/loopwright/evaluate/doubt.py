"""Where a bound may hold less often than it says: few rows that decide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule
from loopwright.evaluate.bound import influence
from loopwright.evaluate.resampling import measured
from loopwright.problem import Answers, MeanMetric, Metric

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]
else:
    np = LazyModule("numpy")

_MUCH_OF_A_ROW = 0.1
# of few normal errors the largest has about so many parts of the whole by itself
_USUAL_PARTS = 30.0
_FEW_POSITIVE = 200


def doubts(metrics: Sequence[Metric], y: Array, answers: Answers) -> list[str]:
    """Return for which metrics the bound is doubtful on these rows, a sentence each.

    Parameters
    ----------
    metrics
        Those that criteria or figures go by.
    y
        The truth, `(n_rows,)`.
    answers
        What was said.

    Notes
    -----
    Shares of rows have exact bounds, whatever the rows. Elsewhere a resample can not know of rows
    heavier than those it draws from, so a bound is too narrow where one row makes much of the
    variance. How much too narrow is measured by `benchmarks/bench_evaluate.py`.
    """
    found = []
    for metric in metrics:
        if isinstance(metric, MeanMetric) and metric.share_of is not None:
            continue
        if metric.name == "average_precision":
            n_positive = int((y == 1).sum())
            if n_positive < _FEW_POSITIVE:
                found.append(
                    f"{metric.name} goes by {n_positive:,} positive rows: with so few its bound was "
                    "wrong about twice as often as it says, on samples of real tables."
                )
            continue
        heaviest = _heaviest(metric, y, answers)
        if heaviest > max(_MUCH_OF_A_ROW, _USUAL_PARTS / max(1, len(y))):
            found.append(
                f"A single row makes {heaviest:.0%} of the variance of {metric.name}: where few rows "
                "decide, a bound holds less often than it says. Prefer a share or a median as "
                "criterion."
            )
    return found


def _heaviest(metric: Metric, y: Array, answers: Answers) -> float:
    """Return how much of the variance of a metric one row makes, 0 to 1; 0 where unknown."""
    values = influence(metric, y, answers, measured(metric, y, answers))
    if values is None or not np.isfinite(values).all():
        return 0.0
    apart = (values - values.mean()) ** 2
    return float(apart.max() / max(apart.sum(), 1e-300))
