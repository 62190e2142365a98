"""Two models on the same rows: which is better, by how much, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loopwright.core.lazy import LazyModule
from loopwright.evaluate.resampling import measured, resampled
from loopwright.problem import Answers, Metric

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]
else:
    np = LazyModule("numpy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A challenger beside a champion, paired row by row.

    `gain` is positive when the challenger is better, in units of the metric; `lower` and `upper`
    are its one-sided bounds at `confidence`; `probability_better` is the share of resamples in
    which the challenger is ahead, 0 to 1.
    """

    metric: str
    champion: float
    challenger: float
    gain: float
    lower: float
    upper: float
    probability_better: float
    n_rows: int
    confidence: float

    @property
    def is_better(self) -> bool:
        """Whether the challenger is better beyond doubt at the stated confidence."""
        return self.lower > 0

    @property
    def is_worse(self) -> bool:
        """Whether the challenger is worse beyond doubt at the stated confidence."""
        return self.upper < 0

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as JSON types."""
        return {name: getattr(self, name) for name in self.__slots__} | {
            "is_better": self.is_better,
            "is_worse": self.is_worse,
        }


def compare(
    metric: Metric,
    y: Array,
    *,
    champion: Answers,
    challenger: Answers,
    confidence: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Return how a challenger does beside a champion on the same rows, by a paired bootstrap.

    Every resample draws the same rows for both, so what is common to them cancels; far fewer rows
    show a difference than two separate figures would need.
    """
    sign = 1.0 if metric.higher_is_better else -1.0
    old, new = measured(metric, y, champion), measured(metric, y, challenger)
    drawn = sign * (
        resampled(metric, y, challenger, seed=seed) - resampled(metric, y, champion, seed=seed)
    )
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        drawn = np.zeros(1)
    lower, upper = np.quantile(drawn, [1 - confidence, confidence])
    return Comparison(
        metric=metric.name,
        champion=old,
        challenger=new,
        gain=sign * (new - old),
        lower=float(lower),
        upper=float(upper),
        probability_better=float(np.mean(drawn > 0)),
        n_rows=len(y),
        confidence=confidence,
    )
