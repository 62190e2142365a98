"""How far groups of people differ live, held against what was agreed, as often as one looks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Literal

from loopwright.core.lazy import LazyModule
from loopwright.evaluate.fairness import LEAST_ROWS, compared_metric, protected_groups
from loopwright.evaluate.figure import Figure, figure
from loopwright.problem import SELECTION_RATE, Amounts, Answers, FairnessLimit

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]
else:
    np = LazyModule("numpy")

MOST_ROWS = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveGroup:
    """One group: its live rows, and the metric with its bounds."""

    name: str
    n_rows: int
    value: float
    lower: float | None
    upper: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FairnessDrift:
    """How far groups differ live, beside what the problem allows.

    Parameters
    ----------
    limit
        In words.
    groups
        Those with at least 30 live rows.
    gap, gap_lower, gap_upper
        Greatest difference between two groups and its bounds; None where two cannot be compared.
    ratio, ratio_upper
        Least group divided by the greatest, and what it surely does not exceed.
    high, low
        These two groups.
    verdict
        `missed`: a limit is surely broken; `holds`: the gap is surely within it; else `undecided`.
    needs_labels
        Whether it rests on labelled rows alone.
    """

    limit: str
    column: str
    metric: str
    groups: tuple[LiveGroup, ...]
    gap: float | None
    gap_lower: float | None
    gap_upper: float | None
    ratio: float | None
    ratio_upper: float | None
    high: str
    low: str
    verdict: Literal["holds", "missed", "undecided"]
    needs_labels: bool
    n_rows: int
    message: str


def fairness_drift(
    frame: pl.DataFrame,
    y: Numbers | None,
    answers: Answers,
    limits: Sequence[FairnessLimit],
    *,
    payoff: Amounts | None = None,
    confidence: float = 0.95,
    look: int = 1,
    seed: int = 0,
) -> tuple[FairnessDrift, ...]:
    """Return how far groups differ in live rows.

    A limit whose column the requests do not hold is left out, and so is one that needs the truth
    where there is none; the share of rows said to be positive needs none.

    Parameters
    ----------
    frame, answers
        Live rows with the protected columns, and what was said.
    y
        The truth, (n_rows,); None for rows without labels.
    look
        Which look this is, from 1: the k-th may err with probability alpha / (k (k + 1)).

    Notes
    -----
    Each group's bounds are those of `figure`; the bounds of a difference come from them by the
    square-and-add method (Zou and Donner, Statistics in Medicine 27, 2008). The level is divided by
    the number of pairs, because the pair that differs most is looked at.
    """
    found = []
    for limit in limits:
        needs_labels = limit.metric != SELECTION_RATE
        if limit.column not in frame.columns or needs_labels == (y is None):
            continue
        truth = np.zeros(frame.height) if y is None else y
        found.append(
            _held(limit, frame, truth, answers, payoff, confidence, look, seed, needs_labels)
        )
    return tuple(found)


def _held(
    limit: FairnessLimit,
    frame: pl.DataFrame,
    y: Numbers,
    answers: Answers,
    payoff: Amounts | None,
    confidence: float,
    look: int,
    seed: int,
    needs_labels: bool,
) -> FairnessDrift:
    names, of_row = protected_groups(frame, limit.column, cuts=limit.cuts)
    metric = compared_metric(limit.metric, payoff)
    rows_of = {name: np.flatnonzero(of_row == at) for at, name in enumerate(names)}
    judged = {name: rows for name, rows in rows_of.items() if len(rows) >= LEAST_ROWS}
    n_pairs = max(1, len(judged) * (len(judged) - 1) // 2)
    alpha = (1 - confidence) / max(1, look * (look + 1)) / n_pairs
    figures: dict[str, Figure] = {}
    for name, rows in judged.items():
        each = figure(metric, y[rows], answers.rows(rows), confidence=1 - alpha / 2, seed=seed)
        if math.isfinite(each.value):
            figures[name] = each
    groups = tuple(
        LiveGroup(
            name=name,
            n_rows=each.n_rows,
            value=each.value,
            lower=_known(each.lower),
            upper=_known(each.upper),
        )
        for name, each in figures.items()
    )
    gap = gap_lower = gap_upper = ratio = ratio_upper = None
    high = low = ""
    if len(figures) > 1:
        high = max(figures, key=lambda name: figures[name].value)
        low = min(figures, key=lambda name: figures[name].value)
        top, bottom = figures[high], figures[low]
        gap = top.value - bottom.value
        gap_lower = max(0.0, -_difference_upper(bottom, top))
        gap_upper = max(
            max(_difference_upper(a, b), _difference_upper(b, a))
            for a, b in combinations(figures.values(), 2)
        )
        ratio = bottom.value / top.value if top.value > 0 else None
        ratio_upper = bottom.upper / top.lower if top.lower > 0 else None
    verdict = _verdict(limit, gap_lower, gap_upper, ratio_upper)
    return FairnessDrift(
        limit=str(limit),
        column=limit.column,
        metric=limit.metric,
        groups=groups,
        gap=gap,
        gap_lower=_known(gap_lower),
        gap_upper=_known(gap_upper),
        ratio=ratio,
        ratio_upper=_known(ratio_upper),
        high=high,
        low=low,
        verdict=verdict,
        needs_labels=needs_labels,
        n_rows=frame.height,
        message=_told(limit, gap, gap_lower, gap_upper, high, low, verdict),
    )


def _verdict(
    limit: FairnessLimit,
    gap_lower: float | None,
    gap_upper: float | None,
    ratio_upper: float | None,
) -> Literal["holds", "missed", "undecided"]:
    if gap_lower is None or gap_upper is None:
        return "undecided"
    if limit.at_most_gap is not None and gap_lower > limit.at_most_gap:
        return "missed"
    least = limit.at_least_ratio
    if least is not None and ratio_upper is not None and ratio_upper < least:
        return "missed"
    if limit.at_least_ratio is None and gap_upper <= (limit.at_most_gap or 0.0):
        return "holds"
    return "undecided"


def _difference_upper(a: Figure, b: Figure) -> float:
    """Return the upper bound of `a` less `b`."""
    return a.value - b.value + math.hypot(a.upper - a.value, b.value - b.lower)


def _known(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _told(
    limit: FairnessLimit,
    gap: float | None,
    gap_lower: float | None,
    gap_upper: float | None,
    high: str,
    low: str,
    verdict: str,
) -> str:
    if gap is None or gap_lower is None or gap_upper is None:
        return f"{limit}: fewer than two groups have {LEAST_ROWS} live rows to compare."
    end = {
        "missed": "surely more than is allowed.",
        "holds": "surely within what is allowed.",
        "undecided": "undecided.",
    }[verdict]
    bounds = f"{gap_lower:.3g} to {gap_upper:.3g}" if math.isfinite(gap_upper) else "no bounds"
    return f"{limit}: {gap:.3g} between {high} and {low} ({bounds}), {end}"
