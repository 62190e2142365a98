"""What an answer is worth: truths and answers side by side, in the problem's own metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule
from loopwright.loop.sourcing import Target
from loopwright.problem import (
    Answers,
    Metric,
    Problem,
    checked_problem,
    class_answers,
    metric_named,
    value_answers,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

_CONTINUOUS_LOSSES = ("mape", "mae", "log_loss", "brier")


def loss_metric(problem: Problem, *, task: str) -> Metric:
    """Return the loss that the monitor follows row by row.

    The first criterion that is a continuous loss, because it shows a change with the fewest rows;
    else the absolute error, or the logarithmic loss of classes.
    """
    for metric in checked_problem(problem, task=task):
        if metric.name in _CONTINUOUS_LOSSES:
            return metric
    return metric_named("mae" if task == "regression" else "log_loss")


def as_answers(
    raw: npt.NDArray[np.float64],
    target: Target,
    *,
    threshold: float,
    money: npt.NDArray[np.float64] | None = None,
) -> Answers:
    """Return what a predictor's numbers say; see `Predictor.predict_raw` and `Answers.money`."""
    if not target.classes:
        return value_answers(raw)
    return class_answers(raw, threshold=threshold, money=money)


def captured_answers(
    frame: pl.DataFrame,
    target: Target,
    *,
    threshold: float,
    money: npt.NDArray[np.float64] | None = None,
) -> Answers:
    """Return the answers in captured predictions."""
    if not target.classes:
        return value_answers(frame["prediction"].cast(pl.Float64).to_numpy())
    if target.task == "binary":
        return class_answers(frame["probability"].to_numpy(), threshold=threshold, money=money)
    held = frame["probabilities"]
    if held.dtype == pl.String:
        fields = [pl.Field(name, pl.Float64) for name in target.classes]
        held = held.str.json_decode(pl.Struct(fields))
    shares = held.struct.unnest()
    stacked = np.stack([shares[name].to_numpy() for name in target.classes], axis=1)
    return class_answers(stacked, money=money)
