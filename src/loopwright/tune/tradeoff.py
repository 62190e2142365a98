"""What a single model costs in accuracy beside a blend, what it gains in latency, and which is served."""

from __future__ import annotations

import time
from statistics import median
from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule
from loopwright.prepare import FittedRecipe, RecipeUnion, row_encoder
from loopwright.problem import Metric, class_answers, value_answers
from loopwright.train import Distill, Predictor
from loopwright.tune.weighting import room_below

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl
else:
    np = LazyModule("numpy")

_RESAMPLES = 400
_CONFIDENCE = 0.95
_TIMED_S, _TIMED_ROWS = 0.15, 1_000


def comparison(
    y: npt.NDArray[np.float64],
    blended: npt.NDArray[np.float64],
    single: npt.NDArray[np.float64],
    *,
    metric: Metric,
    is_class: bool,
    seed: int = 7,
) -> dict[str, float]:
    """Return what a single model costs in accuracy beside the blend, with 95 % confidence.

    Parameters
    ----------
    y
        The truth of rows that neither has learnt from, `(n_rows,)`.
    blended, single
        What both say about them; see `Predictor.predict_raw`.

    Returns
    -------
    dict
        `blend` and `single`: the metric of each. `cost`: by how much the single model is worse, in
        the metric's unit, with `cost_low` and `cost_high`, the ends of the interval that holds it
        in 95 of 100 cases (400 resamples of the rows, the same ones for both). `cost_share` and
        `cost_share_high`: the same as a share of how far the blend is from the best there can be.
    """
    counts = np.random.default_rng(seed).multinomial(
        len(y), np.full(len(y), 1 / len(y)), size=_RESAMPLES
    )
    answers = class_answers if is_class else value_answers
    sign = -1.0 if metric.higher_is_better else 1.0
    losses = {}
    for name, raw in (("blend", blended), ("single", single)):
        ones = np.ones((1, len(y)))
        losses[name] = sign * np.concatenate(
            [
                metric.resampled(y, answers(raw), ones),
                metric.resampled(y, answers(raw), counts.astype(np.float64)),
            ]
        )
    cost = losses["single"] - losses["blend"]
    known = cost[1:][np.isfinite(cost[1:])]
    outside = 100 * (1 - _CONFIDENCE) / 2
    low, high = np.percentile(known, [outside, 100 - outside]) if len(known) else (-np.inf, np.inf)
    room = room_below(metric, float(losses["blend"][0]))
    return {
        "blend": sign * float(losses["blend"][0]),
        "single": sign * float(losses["single"][0]),
        "cost": float(cost[0]),
        "cost_low": float(low),
        "cost_high": float(high),
        "cost_share": float(cost[0]) / room,
        "cost_share_high": float(high) / room,
    }


def answer_times(
    fitted: FittedRecipe | RecipeUnion, predictor: Predictor, frame: pl.DataFrame
) -> dict[str, float]:
    """Return microseconds a row, from the raw row to the answer: alone, and among many.

    Parameters
    ----------
    frame
        Raw rows; the first thousand are used.

    Returns
    -------
    dict
        `row_us`: the median of single rows, over some 0.15 seconds. `batch_us`: a row of one table.
    """
    some = frame.head(_TIMED_ROWS)
    rows = some.to_dicts()
    encoder = row_encoder(fitted)
    times: list[int] = []
    until = time.perf_counter() + _TIMED_S
    place = 0
    while len(times) < 3 or time.perf_counter() < until:
        started = time.perf_counter_ns()
        predictor.predict_raw(encoder.encode([rows[place % len(rows)]], today=fitted.today))
        times.append(time.perf_counter_ns() - started)
        place += 1
    started = time.perf_counter_ns()
    predictor.predict_raw(fitted.transform(some))
    batch_ns = (time.perf_counter_ns() - started) / len(rows)
    return {"row_us": round(median(times) / 1e3, 1), "batch_us": round(batch_ns / 1e3, 1)}


def takes_single(policy: Distill, costs: dict[str, float], *, may_cost: float) -> bool:
    """Return whether the single model is the one to serve.

    Parameters
    ----------
    policy
        `always`, `never`, or `if_as_good`: where with 95 % confidence it costs no more than it may.
    costs
        See `comparison`.
    may_cost
        As a share of how far the blend is from the best there can be, 0 or more.
    """
    if policy == "if_as_good":
        return costs["cost_share_high"] <= may_cost
    return policy == "always"
