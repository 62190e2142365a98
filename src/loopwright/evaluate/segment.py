"""Segments of the rows where a model is worse than elsewhere, found by themselves or named."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule
from loopwright.evaluate.condition import Condition, conditions_on
from loopwright.evaluate.examination import SegmentReading
from loopwright.evaluate.figure import figure
from loopwright.evaluate.resampling import measured
from loopwright.problem import Answers, Metric

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl

    Array = npt.NDArray[np.float64]
    Mask = npt.NDArray[np.bool_]
    Places = npt.NDArray[np.int64]
    Units = npt.NDArray[np.int64]
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

_MOST_CONDITIONS = 120
_MOST_SHOWN = 8
_FEWEST_ROWS, _SMALLEST_SHARE = 30, 0.01
# beside a part of it, a segment of two conditions must be worse by so many standard errors
_APART = 2.0
_SAME_ROWS = 0.7
SEGMENT_ROWS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Rows that meet one or two conditions, and how sure it is that the model is worse there.

    `q_value` is the least false discovery rate at which the segment counts as worse.
    """

    conditions: tuple[Condition, ...]
    q_value: float

    @property
    def text(self) -> str:
        """The conditions in words."""
        return " and ".join(condition.text for condition in self.conditions)

    def holds(self, frame: pl.DataFrame) -> Mask:
        """Return which rows are in the segment, `(n_rows,)`."""
        held = np.ones(frame.height, dtype=np.bool_)
        for condition in self.conditions:
            held &= condition.holds(frame)
        return held


def worse_segments(
    frame: pl.DataFrame,
    loss: Array,
    *,
    false_discovery_rate: float = 0.05,
    variation: float = 1.0,
    seed: int = 0,
) -> tuple[list[Segment], int]:
    """Return the segments of one or two conditions where the loss is higher, and how many were tried.

    Parameters
    ----------
    frame
        The columns to look at, `n_rows`.
    loss
        What each answer cost, `(n_rows,)`; the 0.5 % highest count as the least of them, so that one
        row makes no segment.
    false_discovery_rate
        Share of the segments returned that may be no worse in truth.
    variation
        How many times more means vary than those of independent rows.
    seed
        Of the 20,000 rows that are looked at where there are more.

    Notes
    -----
    Every segment with at least 30 rows and 1 % of all is compared with the other rows by Welch's
    test (Biometrika 34, 1947), one-sided; the false discovery rate is held by the procedure of
    Benjamini and Hochberg (JRSS B 57, 1995). A segment of two conditions must be worse than either
    of them alone, and one that holds nearly the same rows as a greater one is left out. The first
    are those with the most loss beyond the average in all (as in SliceFinder, Chung et al., ICDE
    2019).
    """
    if frame.height > SEGMENT_ROWS:
        rows = np.sort(np.random.default_rng(seed).permutation(frame.height)[:SEGMENT_ROWS])
        frame, loss = frame[rows.tolist()], loss[rows]
    n = frame.height
    min_rows = max(_FEWEST_ROWS, math.ceil(_SMALLEST_SHARE * n))
    conditions = conditions_on(frame, min_rows=min_rows, most=_MOST_CONDITIONS)
    if not conditions:
        return [], 0
    loss = np.minimum(loss, np.quantile(loss, 0.995))
    masks = np.stack([condition.holds(frame) for condition in conditions])
    tried = _tried(conditions, masks, loss, min_rows, variation)
    if tried is None:
        return [], 0
    first, second, q_values, excess = tried
    kept: list[Segment] = []
    kept_masks: list[Mask] = []
    for place in np.argsort(-excess, kind="stable"):
        if q_values[place] > false_discovery_rate or len(kept) == _MOST_SHOWN:
            continue
        i, j = int(first[place]), int(second[place])
        mask = masks[i] & masks[j]
        if any(_overlap(mask, other) > _SAME_ROWS for other in kept_masks):
            continue
        both = (conditions[i],) if i == j else (conditions[i], conditions[j])
        kept.append(Segment(conditions=both, q_value=float(q_values[place])))
        kept_masks.append(mask)
    return kept, len(first)


def _overlap(one: Mask, other: Mask) -> float:
    return float((one & other).sum() / max(1, (one | other).sum()))


def _tried(
    conditions: Sequence[Condition], masks: Mask, loss: Array, min_rows: int, variation: float
) -> tuple[Places, Places, Array, Array] | None:
    """Return pairs of conditions (one with itself stands alone), q-values, and excess losses."""
    centred = loss - loss.mean()
    M = masks.astype(np.float64)
    n, s, q = M @ M.T, (M * centred) @ M.T, (M * centred**2) @ M.T
    first, second = np.triu_indices(len(conditions))
    columns = np.unique([each.column for each in conditions], return_inverse=True)[1]
    rows = n[first, second]
    fits = (rows >= min_rows) & (rows <= len(loss) - min_rows)
    fits &= (first == second) | (columns[first] != columns[second])
    first, second = first[fits], second[fits]
    if not len(first):
        return None
    whole = (float(len(loss)), 0.0, float((centred**2).sum()))
    own = (n[first, second], s[first, second], q[first, second])
    t = _welch(own, tuple(w - o for w, o in zip(whole, own, strict=True)), variation)
    p = _upper_tail(t, own[0] - 1)
    single = first == second
    for part in (first, second):
        of_part = (n[part, part], s[part, part], q[part, part])
        rest = tuple(w - o for w, o in zip(of_part, own, strict=True))
        # a condition that adds nothing to the other is not worth saying
        p = np.where(single | (_welch(own, rest, variation) > _APART), p, 1.0)
    return first, second, adjusted(p), s[first, second]


def _welch(one: tuple[Array, ...], other: tuple[Array, ...], variation: float) -> Array:
    """Return Welch's statistic from counts, sums and sums of squares of two sets of rows."""
    means, errors = [], []
    for n, s, q in (one, other):
        count = np.maximum(n, 1)
        mean = s / count
        means.append(mean)
        errors.append(np.maximum(q / count - mean**2, 0) / np.maximum(count - 1, 1))
    spread = np.sqrt(np.maximum((errors[0] + errors[1]) * variation, 1e-300))
    t: Array = np.where((one[0] > 1) & (other[0] > 1), (means[0] - means[1]) / spread, 0.0)
    return t


def _upper_tail(t: Array, freedom: Array) -> Array:
    from scipy.special import stdtr

    tail: Array = stdtr(np.maximum(freedom, 1), -t)
    return tail


def adjusted(p: Array) -> Array:
    """Return the q-values of Benjamini and Hochberg for some p-values, in the same order."""
    order = np.argsort(p, kind="stable")
    scaled = p[order] * len(p) / np.arange(1, len(p) + 1)
    q = np.empty_like(p)
    q[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return q


def segment_readings(
    frame: pl.DataFrame,
    y: Array,
    answers: Answers,
    *,
    metric: Metric,
    found: Sequence[Segment],
    named: Mapping[str, tuple[str, Mask]],
    confidence: float,
    seed: int = 0,
    units: Units | None = None,
) -> tuple[SegmentReading, ...]:
    """Return how the model does in each segment, beside all rows outside it.

    Parameters
    ----------
    frame, y, answers
        The rows, the truth, and what was said.
    metric
        The main metric.
    found
        Segments that were looked for.
    named
        Those that the user guards: by name the expression and the rows that it holds for.
    confidence, seed, units
        See `figure`.
    """
    given = [(name, text, mask, None) for name, (text, mask) in named.items()]
    seen = [(each.text, each.text, each.holds(frame), each.q_value) for each in found]
    return tuple(
        _reading(
            name, text, mask, q_value, y, answers, metric, confidence, seed, units, q_value is None
        )
        for name, text, mask, q_value in [*given, *seen]
    )


def _reading(
    name: str,
    text: str,
    mask: Mask,
    q_value: float | None,
    y: Array,
    answers: Answers,
    metric: Metric,
    confidence: float,
    seed: int,
    units: Units | None,
    named: bool,
) -> SegmentReading:
    inside, outside = np.flatnonzero(mask), np.flatnonzero(~mask)
    value = difference = lower = upper = None
    is_worse = q_value is not None
    remark = _remark(y[inside], answers, metric)
    if len(inside):
        own = figure(
            metric,
            y[inside],
            answers.rows(inside),
            confidence=confidence,
            seed=seed,
            units=units_of(units, inside),
        )
        value, lower, upper = (_known(each) for each in (own.value, own.lower, own.upper))
        if lower is None and upper is None and _is_one_class(y[inside], answers):
            value = None  # such as a recall where there is nothing to be found
    if value is not None and len(outside):
        elsewhere = _known(measured(metric, y[outside], answers.rows(outside)))
        if elsewhere is not None:
            difference = value - elsewhere
            if named:
                bound = upper if metric.higher_is_better else lower
                beyond = bound is not None and (
                    bound < elsewhere if metric.higher_is_better else bound > elsewhere
                )
                is_worse = beyond
    return SegmentReading(
        name=name,
        condition=text,
        named=named,
        n_rows=len(inside),
        share=len(inside) / max(1, len(y)),
        metric=metric.name,
        value=value,
        lower=lower,
        upper=upper,
        difference=difference,
        is_worse=is_worse,
        q_value=q_value,
        remark=remark,
    )


def units_of(units: Units | None, rows: npt.NDArray[np.int64]) -> Units | None:
    """Return the units of some rows, counted anew from 0."""
    if units is None or not len(rows):
        return None
    return np.unique(units[rows], return_inverse=True)[1].astype(np.int64)


def _is_one_class(y: Array, answers: Answers) -> bool:
    return bool(answers.probabilities.size) and len(np.unique(y)) == 1


def _remark(y: Array, answers: Answers, metric: Metric) -> str:
    if not len(y):
        return "no rows"
    if len(y) > 1 and _is_one_class(y, answers):
        return f"all {len(y):,} rows are of one class, so {metric.name} says little here"
    return ""


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
