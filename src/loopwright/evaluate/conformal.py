"""Prediction intervals from validation rows, right whatever the model (split conformal prediction)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule
from loopwright.train import Interval
from loopwright.train.interval import IntervalScale

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]
else:
    np = LazyModule("numpy")

INTERVAL_CONFIDENCE = 0.9
_FEWEST_TO_CHOOSE = 150
_ROWS_A_KNOT = 25
_MOST_KNOTS = 10
_LEAST_SPREAD = 0.1
# 0.9 / 0.1 is a little more than 9 in floats
_ROUNDING = 1e-9


def fitted_interval(
    y: Array, said: Array, *, confidence: float = INTERVAL_CONFIDENCE, seed: int = 0
) -> tuple[Interval | None, str]:
    """Return what makes intervals that hold the truth of new rows with a confidence, and why so.

    Parameters
    ----------
    y, said
        The truth and the predictions for validation rows, `(n_rows,)`, which the model did not
        learn from.
    confidence
        Share of new cases whose truth is to lie inside, above 0 and below 1.
    seed
        Of the division of the rows.

    Notes
    -----
    Split conformal prediction (Papadopoulos et al., ECML 2002; Lei et al., JASA 113, 2018): of n
    scores |truth - prediction| / spread the one of rank ceil((n + 1) confidence) is the reach, so
    that a new row's truth lies inside with at least the confidence, whatever the distribution, as
    long as new rows are like these. From 150 rows on, a third of them chooses between the value
    and its logarithm, and between a spread that is the same everywhere and one that goes with the
    prediction, by the interval score of Gneiting and Raftery (JASA 102, 2007); the reach is then
    taken from rows that had no part in the spread.
    """
    n = len(y)
    fewest = math.ceil(confidence / (1 - confidence) - _ROUNDING)
    if n < fewest:
        return None, (
            f"{n} validation rows are too few for intervals at {confidence:.0%}; "
            f"it takes {fewest} at least"
        )
    scales: list[IntervalScale] = ["value"]
    if (y > 0).all() and (said > 0).all():
        scales.append("logarithm")
    ways = [(scale, normalised) for scale in scales for normalised in (False, True)]
    if n < _FEWEST_TO_CHOOSE:
        scale, normalised = scales[-1], False
        third = np.empty(0, dtype=np.int64)
    else:
        order = np.random.default_rng(seed).permutation(n)
        third = order[: n // 3]
        scale, normalised = min(
            ways, key=lambda way: _interval_score(y[third], said[third], way, confidence)
        )
    if not normalised:
        # a choice among a few scales costs nothing worth a third of the rows
        made = _made(y, said, Interval(confidence=confidence, reach=0.0, scale=scale))
    else:
        rest = np.setdiff1d(np.arange(n), third)
        shape = _shaped(y[third], said[third], scale, confidence)
        made = _made(y[rest], said[rest], shape)
    if made is None:
        return None, "the spread of the residuals cannot be told"
    width = "goes with the prediction" if normalised else "is the same everywhere"
    of = "a factor" if scale == "logarithm" else "an amount"
    return made, f"from {n:,} validation rows; the reach is {of} that {width}"


def _interval_score(
    y: Array, said: Array, way: tuple[IntervalScale, bool], confidence: float
) -> float:
    """Return the mean width and the cost of misses, each half judged by what the other makes."""
    half = len(y) // 2
    total = 0.0
    for learnt, judged in (
        (slice(0, half), slice(half, None)),
        (slice(half, None), slice(0, half)),
    ):
        scale, normalised = way
        shape = Interval(confidence=confidence, reach=0.0, scale=scale)
        if normalised:
            shape = _shaped(y[learnt], said[learnt], scale, confidence)
        made = _made(y[learnt], said[learnt], shape)
        if made is None:
            return math.inf
        lower, upper = made.bounds(said[judged])
        missed = np.maximum(lower - y[judged], 0) + np.maximum(y[judged] - upper, 0)
        total += float((upper - lower + 2 / (1 - confidence) * missed).sum())
    return total / len(y)


def _on_scale(values: Array, scale: str) -> Array:
    return np.log(np.maximum(values, np.finfo(np.float64).tiny)) if scale == "logarithm" else values


def _shaped(y: Array, said: Array, scale: IntervalScale, confidence: float) -> Interval:
    """Return an interval whose spread is the mean absolute residual near each prediction."""
    position, truth = _on_scale(said, scale), _on_scale(y, scale)
    away = np.abs(truth - position)
    n_knots = max(1, min(_MOST_KNOTS, len(y) // _ROWS_A_KNOT))
    order = np.argsort(position, kind="stable")
    parts = np.array_split(order, n_knots)
    knots = np.array([position[part].mean() for part in parts])
    spread = np.array([away[part].mean() for part in parts])
    kept = np.concatenate([[True], np.diff(knots) > 1e-9 * max(1.0, float(np.abs(knots).max()))])
    floor = _LEAST_SPREAD * float(away.mean())
    if floor <= 0 or kept.sum() < 2:
        return Interval(confidence=confidence, reach=0.0, scale=scale)
    return Interval(
        confidence=confidence,
        reach=0.0,
        scale=scale,
        said=tuple(knots[kept].tolist()),
        spread=tuple(np.maximum(spread[kept], floor).tolist()),
    )


def _made(y: Array, said: Array, shape: Interval) -> Interval | None:
    """Return the interval of a shape with the reach that these rows need; None if it is infinite."""
    rank = math.ceil((len(y) + 1) * shape.confidence - _ROUNDING)
    if rank > len(y):
        return None
    position = _on_scale(said, shape.scale)
    away = np.abs(_on_scale(y, shape.scale) - position)
    if shape.said:
        away = away / np.interp(position, np.array(shape.said), np.array(shape.spread))
    reach = float(np.partition(away, rank - 1)[rank - 1])
    if not math.isfinite(reach):
        return None
    return Interval(
        confidence=shape.confidence,
        reach=reach,
        scale=shape.scale,
        said=shape.said,
        spread=shape.spread,
    )
