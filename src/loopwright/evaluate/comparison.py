"""Two models on the same rows: which is better, by how much, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core.lazy import LazyModule
from loopwright.evaluate.examination import SegmentComparison
from loopwright.evaluate.resampling import measured, resampled
from loopwright.evaluate.segment import units_of
from loopwright.problem import Answers, Metric

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]
    Units = npt.NDArray[np.int64]
else:
    np = LazyModule("numpy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A challenger beside a champion, paired row by row.

    `gain` is positive when the challenger is better, in units of the metric; `lower` and `upper`
    are its one-sided bounds at `confidence`; `probability_better` is the share of resamples in
    which the challenger is ahead, 0 to 1; `segments` are those that are guarded.
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
    segments: tuple[SegmentComparison, ...] = ()

    @property
    def is_better(self) -> bool:
        """Whether the challenger is better beyond doubt at the stated confidence."""
        return self.lower > 0

    @property
    def is_worse(self) -> bool:
        """Whether the challenger is worse beyond doubt at the stated confidence."""
        return self.upper < 0

    @property
    def maybe_worse_in(self) -> tuple[str, ...]:
        """The guarded segments in which the challenger was not shown to be no worse."""
        return tuple(each.name for each in self.segments if each.not_worse is False)

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as JSON types."""
        return {name: getattr(self, name) for name in self.__slots__} | {
            "segments": msgspec.to_builtins(self.segments),
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
    units: Units | None = None,
) -> Comparison:
    """Return how a challenger does beside a champion on the same rows, by a paired bootstrap.

    Every resample draws the same rows for both, so what is common to them cancels; far fewer rows
    show a difference than two separate figures would need. Where rows are not independent, whole
    `units` of them are drawn; see `resampled`.
    """
    sign = 1.0 if metric.higher_is_better else -1.0
    old, new = measured(metric, y, champion), measured(metric, y, challenger)
    drawn = sign * (
        resampled(metric, y, challenger, seed=seed, units=units)
        - resampled(metric, y, champion, seed=seed, units=units)
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


_FEWEST_IN_SEGMENT = 50


def guarded(
    metric: Metric,
    y: Array,
    *,
    champion: Answers,
    challenger: Answers,
    segments: Mapping[str, npt.NDArray[np.bool_]],
    margin: float,
    confidence: float = 0.95,
    seed: int = 0,
    units: Units | None = None,
) -> tuple[SegmentComparison, ...]:
    """Return whether a challenger is not worse than the champion in each guarded segment.

    Parameters
    ----------
    metric, y, champion, challenger, confidence, seed, units
        See `compare`.
    segments
        Which rows are in each, by name.
    margin
        How much worse still counts as not worse, as a share of the champion's figure there.

    Notes
    -----
    A test of non-inferiority: the challenger is not worse when the lower bound of its gain lies
    above the margin, so that too little evidence does not pass for "no worse". Below 50 rows, or
    where the metric is not defined, nothing is said.
    """
    found = []
    for name, mask in segments.items():
        rows = np.flatnonzero(mask)
        compared = None
        if len(rows) >= _FEWEST_IN_SEGMENT:
            compared = compare(
                metric,
                y[rows],
                champion=champion.rows(rows),
                challenger=challenger.rows(rows),
                confidence=confidence,
                seed=seed,
                units=units_of(units, rows),
            )
        if compared is None or not np.isfinite([compared.champion, compared.challenger]).all():
            found.append(
                SegmentComparison(
                    name=name,
                    n_rows=len(rows),
                    champion=None,
                    challenger=None,
                    gain=None,
                    lower=None,
                    margin=margin,
                    not_worse=None,
                )
            )
            continue
        found.append(
            SegmentComparison(
                name=name,
                n_rows=len(rows),
                champion=compared.champion,
                challenger=compared.challenger,
                gain=compared.gain,
                lower=compared.lower,
                margin=margin,
                not_worse=compared.lower >= -margin * abs(compared.champion),
            )
        )
    return tuple(found)
