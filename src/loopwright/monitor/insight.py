"""What the monitor understands beyond whether something moved: why, for whom, and how good it still is."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from loopwright.monitor.attribution import Attribution
from loopwright.monitor.estimate import Estimate
from loopwright.monitor.estimate_check import EstimateCheck
from loopwright.monitor.explanation_drift import ExplanationDrift
from loopwright.monitor.fairness_drift import FairnessDrift
from loopwright.monitor.skew import ServingSkew
from loopwright.monitor.weak_slice import WeakSlice


@dataclass(frozen=True, slots=True, kw_only=True)
class TrailPoint:
    """Where one look stood, for plots over time.

    Parameters
    ----------
    at
        Time of the newest prediction.
    data, error
        Evidence of the detectors in nats.
    data_threshold, error_threshold
        Evidence that raises an alarm.
    gaps
        Gap between groups with its bounds, by the words of the limit: (gap, lower, upper).
    """

    at: datetime | None
    data: float
    error: float
    data_threshold: float
    error_threshold: float
    gaps: dict[str, tuple[float, float | None, float | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Insight:
    """Explanations and estimates of one look.

    Parameters
    ----------
    estimates
        The criteria without labels; see `Estimate`.
    checks
        What came of earlier estimates, newest last.
    attributions
        What is behind each open alarm, by its kind and number, such as `data 1`.
    explanation, fairness, skew, slices
        Drift of the explanations, gaps between groups, differences between training and serving,
        and the rows that are answered worst.
    told_apart
        Chance that a live row is told from a held-out one by all columns together; None where it
        was not asked.
    told_apart_error
        Its standard error.
    trail
        The last looks, oldest first.
    n_rows
        Newest predictions that the estimates are about.
    cpu_s
        Processor time it took, in seconds.
    problems
        What could not be found out in this look, and why.
    """

    estimates: tuple[Estimate, ...] = ()
    checks: tuple[EstimateCheck, ...] = ()
    attributions: dict[str, Attribution] = field(default_factory=dict)
    explanation: ExplanationDrift | None = None
    fairness: tuple[FairnessDrift, ...] = ()
    skew: ServingSkew | None = None
    slices: tuple[WeakSlice, ...] = ()
    told_apart: float | None = None
    told_apart_error: float | None = None
    trail: tuple[TrailPoint, ...] = ()
    n_rows: int = 0
    cpu_s: float = 0.0
    problems: tuple[str, ...] = ()

    @property
    def estimated_misses(self) -> tuple[Estimate, ...]:
        """The criteria that are surely missed by estimates which were never found wrong."""
        return tuple(each for each in self.estimates if each.is_missed)
