"""A figure with its uncertainty: a metric on some rows, and where it may truly lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from loopwright.core.lazy import LazyModule
from loopwright.problem import Answers, Criterion, Metric

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]
else:
    np = LazyModule("numpy")

N_RESAMPLES = 1_000
_ROWS_AT_A_TIME = 4_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A metric's value on `n_rows` rows with one-sided bounds, each at `confidence`."""

    metric: str
    value: float
    lower: float
    upper: float
    n_rows: int
    confidence: float

    def to_json(self) -> dict[str, Any]:
        """Return the figure as JSON types."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a criterion holds: its bound must meet the target, not only its value."""

    criterion: str
    figure: Figure
    bound: float
    target: float
    holds: bool

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as JSON types."""
        return {
            "criterion": self.criterion,
            "bound": self.bound,
            "target": self.target,
            "holds": self.holds,
            **self.figure.to_json(),
        }


@lru_cache(maxsize=2)
def resample_counts(n_rows: int, *, n_resamples: int, seed: int) -> Array:
    """Return how often each row is drawn in each resample, `(n_resamples, n_rows)`.

    Rows are drawn with replacement, `n_rows` times: Efron's bootstrap (Annals of Statistics 7,
    1979). The last two results are kept, since every metric of every candidate asks for the same.
    """
    rng = np.random.default_rng(seed)
    draws = rng.integers(0, n_rows, size=(n_resamples, n_rows), dtype=np.int64)
    offsets = np.arange(n_resamples, dtype=np.int64)[:, None] * n_rows
    counts = np.bincount((draws + offsets).ravel(), minlength=n_resamples * n_rows)
    drawn: Array = counts.reshape(n_resamples, n_rows).astype(np.float64)
    drawn.flags.writeable = False
    return drawn


def _resampled(metric: Metric, y: Array, answers: Answers, *, seed: int) -> Array:
    """Return `N_RESAMPLES` values of the metric, drawn in pieces that fit in memory."""
    piece = max(1, min(N_RESAMPLES, _ROWS_AT_A_TIME // max(1, len(y))))
    values = []
    for start in range(0, N_RESAMPLES, piece):
        n = min(piece, N_RESAMPLES - start)
        counts = resample_counts(len(y), n_resamples=n, seed=seed + start)
        values.append(metric.resampled(y, answers, counts))
    return np.concatenate(values)


def figure(
    metric: Metric, y: Array, answers: Answers, *, confidence: float = 0.95, seed: int = 0
) -> Figure:
    """Return a metric's value with its bootstrap bounds.

    Parameters
    ----------
    metric
        What to measure.
    y
        The truth, `(n_rows,)`: values, or class indices.
    answers
        What was said on the same rows.
    confidence
        Level of each one-sided bound, 0.5 to below 1.
    seed
        Of the resampling.

    Notes
    -----
    The bounds are percentiles of 1,000 resamples. A resample on which the metric is not defined
    (one class only) is left out.
    """
    value = float(metric.resampled(y, answers, np.ones((1, len(y))))[0])
    drawn = _resampled(metric, y, answers, seed=seed)
    drawn = drawn[np.isfinite(drawn)]
    lower, upper = (
        np.quantile(drawn, [1 - confidence, confidence]) if len(drawn) else (value, value)
    )
    return Figure(
        metric=metric.name,
        value=value,
        lower=min(float(lower), value),
        upper=max(float(upper), value),
        n_rows=len(y),
        confidence=confidence,
    )


def resampled_deviation(
    metric: Metric, y: Array, answers: Answers, *, seed: int = 0
) -> tuple[float, float]:
    """Return a metric's value and the standard deviation of its bootstrap resamples."""
    value = float(metric.resampled(y, answers, np.ones((1, len(y))))[0])
    drawn = _resampled(metric, y, answers, seed=seed)
    drawn = drawn[np.isfinite(drawn)]
    return value, float(np.std(drawn)) if len(drawn) else 0.0


def verdicts(
    criteria: Sequence[Criterion],
    metrics: Sequence[Metric],
    y: Array,
    answers: Answers,
    *,
    confidence: float,
    seed: int = 0,
) -> list[Verdict]:
    """Return, for each criterion, whether its confidence bound meets the target."""
    found = []
    for criterion, metric in zip(criteria, metrics, strict=True):
        measured = figure(metric, y, answers, confidence=confidence, seed=seed)
        bound = measured.upper if criterion.wants_low else measured.lower
        found.append(
            Verdict(
                criterion=str(criterion),
                figure=measured,
                bound=bound,
                target=criterion.target,
                holds=criterion.holds_for(bound),
            )
        )
    return found
