"""Whether an estimate made without labels was right, told when the labels are there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import NormalDist
from typing import Literal

from loopwright.monitor.estimate import Standing

_LEAST_ROWS = 100
_TOLERATED = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimateCheck:
    """An estimate beside what turned out to be true of the same rows.

    Parameters
    ----------
    at
        When it was checked.
    estimated, realised
        The metric on the same rows, without and with their labels.
    error
        Standard error of the difference.
    tolerated
        The difference that does not matter: a fifth of the way to the best value there is, or of
        the estimate where there is no best.
    verdict
        `wrong`: further apart than tolerated, beyond doubt; `held`: surely not further apart than
        twice that; else `undecided`.
    message
        All of this in a sentence.
    """

    metric: str
    at: datetime | None
    n_rows: int
    estimated: float
    realised: float
    error: float
    tolerated: float
    verdict: Literal["held", "wrong", "undecided"]
    message: str


def checked_estimate(
    metric: str,
    *,
    estimated: float,
    estimated_error: float,
    realised: float,
    realised_error: float,
    n_rows: int,
    best: float | None,
    at: datetime | None = None,
    confidence: float = 0.95,
    look: int = 1,
) -> EstimateCheck:
    """Return what comes of an estimate now that the labels of its rows are known.

    Parameters
    ----------
    estimated_error, realised_error
        Standard errors of both figures.
    best
        The best value the metric can have; None where there is none.
    look
        Which check this is, from 1: the k-th may err with probability alpha / (k (k + 1)).
    """
    alpha = (1 - confidence) / max(1, look * (look + 1))
    error = math.hypot(estimated_error, realised_error)
    radius = NormalDist().inv_cdf(1 - alpha / 2) * error
    apart = abs(realised - estimated)
    scale = abs(estimated if best is None else best - estimated)
    tolerated = _TOLERATED * scale
    verdict: Literal["held", "wrong", "undecided"] = "undecided"
    if n_rows >= _LEAST_ROWS and math.isfinite(radius):
        if apart - radius > tolerated:
            verdict = "wrong"
        elif apart + radius <= 2 * tolerated:
            verdict = "held"
    return EstimateCheck(
        metric=metric,
        at=at,
        n_rows=n_rows,
        estimated=estimated,
        realised=realised,
        error=error,
        tolerated=tolerated,
        verdict=verdict,
        message=_told(metric, estimated, realised, n_rows, verdict),
    )


def standing_after(checks: Sequence[EstimateCheck], metric: str) -> Standing:
    """Return where a metric's estimates stand: as the last check that decided says."""
    for check in reversed(checks):
        if check.metric == metric and check.verdict != "undecided":
            return check.verdict
    return "unchecked"


def _told(metric: str, estimated: float, realised: float, n_rows: int, verdict: str) -> str:
    figures = f"{metric} was estimated at {estimated:.4g} and turned out to be {realised:.4g}"
    end = {
        "held": "the estimate holds.",
        "wrong": "something else than the inputs moved, or the estimate is no good here; it has no "
        "say until it holds again.",
        "undecided": "too few rows to tell whether it holds.",
    }[verdict]
    return f"{figures} on {n_rows:,} rows with labels: {end}"
