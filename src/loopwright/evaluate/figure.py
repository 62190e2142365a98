"""A figure with its uncertainty: a metric on some rows, and where it may truly lie."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loopwright.core.lazy import LazyModule
from loopwright.evaluate.bound import bounds
from loopwright.evaluate.resampling import measured, resampled
from loopwright.problem import Answers, Criterion, Metric

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]
    Units = npt.NDArray[np.int64]
else:
    np = LazyModule("numpy")


def _json_number(value: Any) -> Any:
    """Return a value as JSON can say it."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


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
        """Return the figure as JSON types; what is not known, or infinite, is null."""
        return {name: _json_number(getattr(self, name)) for name in self.__slots__}


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
            "bound": _json_number(self.bound),
            "target": self.target,
            "holds": self.holds,
            **self.figure.to_json(),
        }


def figure(
    metric: Metric,
    y: Array,
    answers: Answers,
    *,
    confidence: float = 0.95,
    seed: int = 0,
    units: Units | None = None,
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
    units
        The unit of each row where rows are not independent; see `resampled`.

    Notes
    -----
    See `bounds` for how they are made.
    """
    value = measured(metric, y, answers)
    lower, upper = bounds(
        metric, y, answers, value=value, confidence=confidence, seed=seed, units=units
    )
    return Figure(
        metric=metric.name,
        value=value,
        lower=lower,
        upper=upper,
        n_rows=len(y),
        confidence=confidence,
    )


def resampled_deviation(
    metric: Metric, y: Array, answers: Answers, *, seed: int = 0, units: Units | None = None
) -> tuple[float, float]:
    """Return a metric's value and the standard deviation of its bootstrap resamples."""
    value = measured(metric, y, answers)
    drawn = resampled(metric, y, answers, seed=seed, units=units)
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
    units: Units | None = None,
) -> list[Verdict]:
    """Return, for each criterion, whether its confidence bound meets the target."""
    judged = []
    for criterion, metric in zip(criteria, metrics, strict=True):
        found = figure(metric, y, answers, confidence=confidence, seed=seed, units=units)
        bound = found.upper if criterion.wants_low else found.lower
        judged.append(
            Verdict(
                criterion=str(criterion),
                figure=found,
                bound=bound,
                target=criterion.target,
                holds=criterion.holds_for(bound),
            )
        )
    return judged
