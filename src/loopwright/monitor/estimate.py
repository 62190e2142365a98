"""What a criterion would come to on live rows without labels, if only the inputs moved."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import TYPE_CHECKING, Literal

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.monitor.class_estimate import class_draws
from loopwright.monitor.likeness import Likeness, likeness
from loopwright.monitor.number_estimate import number_draws
from loopwright.monitor.reference_rows import ReferenceRows
from loopwright.problem import MONEY_METRICS, Answers, Criterion, Metric, in_range

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = LazyModule("numpy")

ASSUMES = "assumes that only the inputs moved"
LEAST_LIVE_ROWS = 100
_LEAST_EFFECTIVE = 50.0
_MOST_TOLD_APART = 0.98

Standing = Literal["unchecked", "held", "wrong"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A criterion estimated without labels; it assumes that only the inputs moved.

    A change of what is true for the same inputs (concept drift) cannot show in it.

    Parameters
    ----------
    value, lower, upper
        The estimate and its bounds at `confidence`; None where `reason` says why there is none.
    reference
        The metric on the held-out rows of the model's release.
    target, direction
        The criterion.
    verdict
        `holds` or `missed` where the bounds lie on one side of the target, else `undecided`.
    n_rows, n_effective
        Live rows it is about; how many reference rows it rests on, weighted to be like them.
    method
        `calibrated probabilities` or `modelled loss`.
    standing
        What came of comparing earlier estimates with the truth: `held`, `wrong`, or `unchecked`.
    """

    metric: str
    value: float | None
    lower: float | None
    upper: float | None
    reference: float | None
    target: float
    direction: Literal["at_most", "at_least"]
    verdict: Literal["holds", "missed", "undecided"]
    confidence: float
    n_rows: int
    n_effective: float
    method: str
    reason: str = ""
    standing: Standing = "unchecked"
    assumes: str = ASSUMES

    @property
    def is_missed(self) -> bool:
        """Whether the criterion is surely missed by an estimate that was never found wrong."""
        return self.verdict == "missed" and self.standing != "wrong"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Unlabelled:
    """Live rows without their truth.

    Parameters
    ----------
    codes
        Their bins, (n_rows, n_streams); see `row_codes`.
    answers
        What was said of them.
    """

    codes: NDArray[np.uint8]
    answers: Answers


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Estimation:
    """Estimates of several criteria on the same live rows.

    `deviations` are the standard errors of the estimates, in the same order; NaN where there is none.
    """

    estimates: tuple[Estimate, ...]
    deviations: tuple[float, ...]
    likeness: Likeness


def estimation(
    rows: ReferenceRows,
    reference_answers: Answers,
    live: Unlabelled,
    criteria: Sequence[Criterion],
    metrics: Sequence[Metric],
    *,
    ordered: NDArray[np.bool_],
    confidence: float = 0.95,
    look: int = 1,
    seed: int = 0,
) -> Estimation:
    """Return every criterion as it would stand on live rows if only the inputs moved.

    Parameters
    ----------
    rows, reference_answers
        Held-out rows of the model, and what was said of them, with the same threshold and money.
    live
        At least 100 rows; fewer, and rows that have nothing in common with the reference, are not
        estimated, with the reason.
    criteria, metrics
        The criteria and their metrics, in the same order.
    ordered
        See `ordered_streams`.
    look
        Which look this is, from 1. The k-th may err with probability alpha / (k (k + 1)), which adds
        up to alpha over all looks, so that looking often does not make a false verdict likelier.
    seed
        Of folds and draws: same rows, same seed, same numbers.

    Notes
    -----
    Reference rows are weighted to be like the live ones (`likeness`). Classes: the probabilities
    are repaired on the weighted rows, and every metric is taken in expectation over classes drawn
    from them (CBPE and, with the weights, PAPE: Kivimaeki et al., arXiv 2401.08348). Numbers: the
    columns a metric is made of are modelled row by row and the model's remaining error, weighted, is
    added (DLE made doubly robust: Reddi, Poczos and Smola, AAAI 2015).
    """
    n = len(live.codes)
    found = Likeness(
        weights=np.ones(rows.n_rows),
        told_apart=0.5,
        told_apart_error=1.0,
        n_effective=float(rows.n_rows),
    )
    why = f"{n:,} rows came since; {LEAST_LIVE_ROWS} are needed" if n < LEAST_LIVE_ROWS else ""
    if not why:
        found = likeness(rows.codes, live.codes, ordered=ordered, seed=seed)
        why = _unlike(found)
    alpha = (1 - confidence) / max(1, look * (look + 1))
    estimates, deviations = [], []
    for criterion, metric in zip(criteria, metrics, strict=True):
        at_release = _measured(metric, rows.y, reference_answers)
        blank = Estimate(
            metric=metric.name,
            value=None,
            lower=None,
            upper=None,
            reference=at_release,
            target=criterion.target,
            direction="at_most" if criterion.wants_low else "at_least",
            verdict="undecided",
            confidence=confidence,
            n_rows=n,
            n_effective=round(found.n_effective, 1),
            method="calibrated probabilities"
            if live.answers.probabilities.size
            else "modelled loss",
            reason=why or _uncountable(metric, live.answers, at_release),
        )
        if blank.reason:
            estimates.append(blank)
            deviations.append(math.nan)
            continue
        drawn = class_draws if live.answers.probabilities.size else number_draws
        value, deviation = drawn(
            metric,
            rows,
            reference_answers,
            live.codes,
            live.answers,
            weights=found.weights,
            ordered=ordered,
            seed=seed,
        )
        estimates.append(_judged(blank, criterion, metric, value, deviation, alpha))
        deviations.append(deviation)
    return Estimation(estimates=tuple(estimates), deviations=tuple(deviations), likeness=found)


def _judged(
    blank: Estimate,
    criterion: Criterion,
    metric: Metric,
    value: float,
    deviation: float,
    alpha: float,
) -> Estimate:
    if not math.isfinite(value) or not math.isfinite(deviation):
        return replace(blank, reason="it is not defined on these rows")
    radius = NormalDist().inv_cdf(1 - alpha / 2) * deviation
    lower, upper = in_range(metric, value - radius), in_range(metric, value + radius)
    verdict: Literal["holds", "missed", "undecided"] = "undecided"
    if deviation > 0 and criterion.holds_for(lower) == criterion.holds_for(upper):
        verdict = "holds" if criterion.holds_for(lower) else "missed"
    return replace(blank, value=value, lower=lower, upper=upper, verdict=verdict)


def _unlike(found: Likeness) -> str:
    if found.n_effective >= _LEAST_EFFECTIVE and found.told_apart <= _MOST_TOLD_APART:
        return ""
    return (
        "the live rows have too little in common with those the model was tested on (they are told "
        f"apart in {found.told_apart:.1%} of pairs, and {found.n_effective:,.0f} of those are like "
        "the live ones)"
    )


def _uncountable(metric: Metric, answers: Answers, at_release: float | None) -> str:
    if metric.name in MONEY_METRICS and answers.money is not None:
        return "" if np.isfinite(answers.money).all() else "what some rows are worth is not known"
    if at_release is None and metric.name in MONEY_METRICS:
        return "what the rows are worth is not known"
    if at_release is None:
        return "it is not defined on the rows the model was tested on"
    return ""


def _measured(metric: Metric, y: NDArray[np.float64], answers: Answers) -> float | None:
    try:
        value = float(metric.resampled(y, answers, np.ones((1, len(y))))[0])
    except InvalidInputError:  # what these rows are worth is not known
        return None
    return value if math.isfinite(value) else None
