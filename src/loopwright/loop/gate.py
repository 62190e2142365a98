"""The gate between a challenger and the champion's place: what must be shown, and the evidence.

Evidence is numbers alone and is kept, so that every decision can be made again from what is on
record.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from loopwright.core.lazy import LazyModule
from loopwright.evaluate import SegmentComparison
from loopwright.evaluate.resampling import measured, resampled
from loopwright.evaluate.segment import units_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from loopwright.problem import Answers, Metric
else:
    np = LazyModule("numpy")

ALPHA = 0.05
FEWEST_ROWS = 50
_NORMAL = NormalDist()


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """What a challenger must show.

    Parameters
    ----------
    kind
        `superiority`: better beyond doubt on the newest rows the champion has not seen.
        `non_inferiority`: not worse than the champion by more than `margin` on those, and better
        beyond doubt on the rows since the harm began.
    trial
        Which challenger of the present champion it is, from 1.
    margin
        How much worse still counts as not worse, as a share of the champion's figure.
    """

    kind: Literal["superiority", "non_inferiority"] = "superiority"
    trial: int = 1
    margin: float = 0.01

    @property
    def alpha(self) -> float:
        """The most this trial may err with; over all trials of a champion that adds up to 5 %."""
        return spent_alpha(self.trial)


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A challenger beside the champion on some rows, paired.

    `gain` is positive where the challenger is better, in units of the metric; `lower` is its
    one-sided bound at the rule's level.
    """

    n_rows: int
    champion: float
    challenger: float
    gain: float
    lower: float


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """All numbers that the gate decides by.

    Parameters
    ----------
    newest, recent
        On the newest rows, and on those of them since the harm began.
    segments
        In every guarded segment.
    golden
        On the rows whose truth is certain; None where there are none.
    """

    rule: Rule
    metric: str
    newest: Held
    recent: Held
    segments: tuple[SegmentComparison, ...] = ()
    golden: Held | None = None


class Passage(msgspec.Struct, frozen=True, kw_only=True):
    """What the gate says.

    Parameters
    ----------
    passes
        Whether the challenger may replace the champion.
    in_doubt
        Guarded segments in which it was not shown to be no worse.
    harmed
        Those of them in which it is worse beyond doubt (Holm's correction, 5 % together).
    but_for_segments
        Whether it would pass if no segment were guarded.
    reasons
        Why not, in words; empty where it passes.
    """

    passes: bool
    in_doubt: tuple[str, ...]
    harmed: tuple[str, ...]
    but_for_segments: bool
    reasons: tuple[str, ...]


def spent_alpha(trial: int) -> float:
    """Return the level of the k-th challenger of a champion.

    Notes
    -----
    alpha_k = 0.05 * 6 / (pi^2 k^2); the sum over all k is 0.05 (Euler), so trying again and again
    does not buy a promotion: one that is no better replaces the champion in at most 5 % of cases,
    however many are tried.

    Examples
    --------
    >>> round(spent_alpha(1), 4), round(spent_alpha(2), 4)
    (0.0304, 0.0076)
    """
    return ALPHA * 6 / (math.pi * max(1, trial)) ** 2


def measured_evidence(
    metric: Metric,
    y: npt.NDArray[np.float64],
    *,
    champion: Answers,
    challenger: Answers,
    rule: Rule,
    recent: npt.NDArray[np.bool_] | None = None,
    segments: Sequence[SegmentComparison] = (),
    golden: Held | None = None,
    seed: int = 0,
    units: npt.NDArray[np.int64] | None = None,
) -> Evidence:
    """Return the evidence for a challenger, paired row by row.

    Parameters
    ----------
    y, champion, challenger
        The truth, `(n_rows,)`, and what both said on the newest rows.
    recent
        Which rows are from after the harm began; all where that is not known, or for fewer than 50.
    segments, golden
        As they were measured.
    units
        See `loopwright.evaluate.resampling.resampled`.
    """
    newest = held(metric, y, champion, challenger, alpha=rule.alpha, seed=seed, units=units)
    later = newest
    if recent is not None and FEWEST_ROWS <= int(recent.sum()) < len(y):
        rows = np.flatnonzero(recent)
        later = held(
            metric,
            y[rows],
            champion.rows(rows),
            challenger.rows(rows),
            alpha=rule.alpha,
            seed=seed,
            units=units_of(units, rows),
        )
    return Evidence(
        rule=rule,
        metric=metric.name,
        newest=newest,
        recent=later,
        segments=tuple(segments),
        golden=golden,
    )


def held(
    metric: Metric,
    y: npt.NDArray[np.float64],
    champion: Answers,
    challenger: Answers,
    *,
    alpha: float,
    seed: int = 0,
    units: npt.NDArray[np.int64] | None = None,
) -> Held:
    """Return a challenger beside the champion, with a one-sided bound of its gain.

    Notes
    -----
    A paired bootstrap; the bound is the lower one of its quantile and of the normal approximation
    with its deviation: at the small levels of later trials 1,000 resamples have no quantile left,
    and a normal bound alone forgets a long tail.
    """
    sign = 1.0 if metric.higher_is_better else -1.0
    old, new = measured(metric, y, champion), measured(metric, y, challenger)
    drawn = sign * (
        resampled(metric, y, challenger, seed=seed, units=units)
        - resampled(metric, y, champion, seed=seed, units=units)
    )
    drawn = drawn[np.isfinite(drawn)]
    gain, lower = sign * (new - old), -math.inf
    if len(drawn) > 1 and math.isfinite(gain):
        normal = gain - _NORMAL.inv_cdf(1 - alpha) * float(drawn.std(ddof=1))
        lower = min(float(np.quantile(drawn, alpha)), normal)
    # a record cannot hold an infinite number; so large a loss says the same
    lower = lower if math.isfinite(lower) else -1e300
    return Held(
        n_rows=len(y),
        champion=_finite(old),
        challenger=_finite(new),
        gain=_finite(gain),
        lower=lower,
    )


def _finite(value: float) -> float:
    return float(value) if math.isfinite(value) else 0.0


def passage(evidence: Evidence) -> Passage:
    """Return what the gate says to some evidence; the same evidence gives the same answer.

    Every guarded segment must be shown to be no worse, each at the problem's confidence: all of
    them must pass, so no correction is needed for a challenger that harms one (an
    intersection-union test, Berger 1982). To be called harmed, a segment must be worse beyond doubt
    among all that were looked at.
    """
    rule, newest, recent = evidence.rule, evidence.newest, evidence.recent
    reasons = []
    if rule.kind == "superiority":
        if not newest.lower > 0:
            reasons.append("it is not better beyond doubt")
    else:
        if not newest.lower >= -rule.margin * abs(newest.champion):
            reasons.append(f"it may be worse by more than {rule.margin:.0%}")
        if not recent.lower > 0:
            reasons.append("it is not better beyond doubt on the recent rows")
    golden = evidence.golden
    if golden is not None and golden.lower < -rule.margin * abs(golden.champion):
        reasons.append(
            f"on the {golden.n_rows:,} golden rows ({evidence.metric} {golden.challenger:.4g}, the "
            f"champion's {golden.champion:.4g}) it was not shown to stay within {rule.margin:.0%}"
        )
    doubt = tuple(each.name for each in evidence.segments if each.not_worse is False)
    but_for_segments = not reasons
    if doubt:
        named = ", ".join(repr(name) for name in doubt)
        reasons.append(f"it was not shown to be no worse in the guarded {named}")
    return Passage(
        passes=not reasons,
        in_doubt=doubt,
        harmed=harmed(evidence.segments),
        but_for_segments=but_for_segments,
        reasons=tuple(reasons),
    )


def harmed(segments: Sequence[SegmentComparison], *, confidence: float = 0.95) -> tuple[str, ...]:
    """Return the segments in which a challenger is worse than the margin beyond doubt.

    Parameters
    ----------
    confidence
        Of the bounds in `segments`.

    Notes
    -----
    Holm's step-down (Scandinavian Journal of Statistics 6, 1979) at 5 % over all segments, with
    normal p-values from each bound.
    """
    z = _NORMAL.inv_cdf(confidence)
    tested = []
    for each in segments:
        if each.gain is None or each.lower is None or each.champion is None:
            continue
        deviation = (each.gain - each.lower) / z
        allowed = -each.margin * abs(each.champion)
        if deviation > 0:
            tested.append((_NORMAL.cdf((each.gain - allowed) / deviation), each.name))
    found = []
    for place, (p, name) in enumerate(sorted(tested)):
        if p > ALPHA / (len(tested) - place):
            break
        found.append(name)
    return tuple(found)


def to_record(evidence: Evidence) -> dict[str, Any]:
    """Return the evidence and what the gate says to it, as JSON types."""
    said = passage(evidence)
    record: dict[str, Any] = {
        "evidence": msgspec.to_builtins(evidence),
        "alpha": evidence.rule.alpha,
        **msgspec.to_builtins(said),
    }
    return record


def recomputed(record: Mapping[str, Any]) -> Passage:
    """Return what the gate says to evidence on record."""
    return passage(msgspec.convert(record["evidence"], Evidence))
